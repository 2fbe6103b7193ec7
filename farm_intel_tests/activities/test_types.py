"""Activity types are rows: the package's own, a user's, their forms, and drafts of activities."""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from farm_intel.activities.drafts import ActivityDraft, check_draft, draft_of
from farm_intel.activities.types import LANGUAGES, ActivityTypes, FarmosLog, load_activity_types
from farm_intel.domain.activities import FormValue, Schedule, ScheduleKind
from farm_intel.domain.errors import BadRequestError, UnknownNameError

TYPES = load_activity_types()
PROMISED = ("irrigation", "fertiliser", "vaccination", "scouting", "spraying", "harvest", "index_triggered")
MOWING = """
[[type]]
slug = "mowing"
label.en = "Mowing"
label.sw = "Kukata nyasi"
farmos = "activity"
explains = { facts = ["canopy_loss"], days = 30, source = "own records" }

[[type.field]]
slug = "height_cm"
label.en = "Height left"
kind = "number"
unit = "cm"
minimum = 2.0
required = true
"""


def with_file(tmp_path: Path, text: str) -> ActivityTypes:
    path = tmp_path / "ours.toml"
    path.write_text(text, encoding="utf-8")
    return load_activity_types((path,))


def draft(**changes: Any) -> ActivityDraft:
    start = datetime(2026, 1, 5, 6, 30, tzinfo=UTC).replace(tzinfo=None)
    schedule = Schedule(kind=ScheduleKind.EVERY_DAYS, text="3", start=start, time_zone="Africa/Nairobi")
    made = ActivityDraft(farm_id="plot-7", type="irrigation", title="Water the beans", schedule=schedule)
    return replace(made, **changes)


def test_every_promised_type_is_there_with_labels_in_every_language() -> None:
    assert {row.slug for row in TYPES.list()} >= set(PROMISED)
    for row in TYPES.list():
        labels = [row.labels, *(field.labels for field in row.fields.values())]
        labels += [choice for field in row.fields.values() for choice in field.choices.values()]
        assert all(set(label.texts) == set(LANGUAGES) for label in labels), row.slug
        assert row.source
        assert row.fields


def test_what_work_explains_are_facts_that_alert_rules_ask_for() -> None:
    """A fact no rule knows would explain nothing, silently."""
    rules = tomllib.loads((resources.files("farm_intel.alerts") / "rules.toml").read_text(encoding="utf-8"))
    asked = {
        fact.strip()
        for rule in rules["rule"]
        for key in ("explained_by", "without_log")
        for fact in str(rule["parameters"].get(key, "")).split(",")
    }
    explained = {row.slug: row.explains for row in TYPES.list() if row.explains}

    assert set(explained) == {"irrigation", "harvest"}
    assert all(change.facts <= asked and change.source for change in explained.values())


def test_a_user_type_needs_no_code(tmp_path: Path) -> None:
    types = with_file(tmp_path, MOWING)
    mowing = types.get("mowing")

    assert mowing.farmos is FarmosLog.ACTIVITY
    assert (mowing.acknowledge, mowing.acknowledge_within) == (True, timedelta(days=7))
    assert mowing.labels.text("sw-KE") == "Kukata nyasi"
    assert mowing.labels.text("fr") == "Mowing"
    assert mowing.explains is not None
    assert mowing.explains.days == 30
    assert types.check_form("mowing", {"height_cm": 5}, answered=True) == {"height_cm": 5.0}
    assert [row.slug for row in types.list()] == [*(row.slug for row in TYPES.list()), "mowing"]


def test_a_row_of_the_package_is_replaced_only_on_purpose(tmp_path: Path) -> None:
    text = MOWING.replace("mowing", "harvest")
    with pytest.raises(BadRequestError, match=r"ours\.toml, type 1 \(harvest\): there is already"):
        with_file(tmp_path, text)

    types = with_file(tmp_path, text.replace('farmos = "activity"', 'farmos = "activity"\nreplaces = true'))
    assert set(types.get("harvest").fields) == {"height_cm"}
    with pytest.raises(BadRequestError, match="there is no type 'mowing'"):
        with_file(tmp_path, MOWING.replace('farmos = "activity"', 'farmos = "activity"\nreplaces = true'))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('slug = "mowing"', 'slug = "Mowing!"', "type 1: slug"),
        ('label.en = "Mowing"\n', "", "type 1 (mowing), label: en is missing"),
        ('farmos = "activity"', 'farmos = "mow"', "type 1 (mowing): farmos = 'mow'"),
        ('farmos = "activity"', 'farmos = "activity"\ncolour = "red"', "type 1 (mowing): unknown key colour"),
        ("days = 30", "days = 1000", "type 1 (mowing), explains: days"),
        ("days = 30", "days = 1.5", "type 1 (mowing), explains: days"),
        ('kind = "number"', 'kind = "date"', "type 1 (mowing), field 1 (height_cm): kind"),
        ('kind = "number"\nunit = "cm"\nminimum = 2.0', 'kind = "choice"', "field 1 (height_cm): choices is missing"),
        ("minimum = 2.0", "minimum = 2.0\nmaximum = 1.0", "field 1 (height_cm): nothing could be entered"),
        ('unit = "cm"', 'unit = "cm"\nlenght = 1', "field 1 (height_cm): unknown key lenght"),
        ("required = true", 'required = "yes"', "field 1 (height_cm): required"),
        ('farmos = "activity"', 'farmos = "activity"\nacknowledge_within_days = 0', "acknowledge_within_days"),
        ("[[type]]", "[[type]", "ours.toml cannot be read"),
        ("[[type]]", "[[kind]]\na = 1\n[[type]]", "unknown key kind"),
    ],
)
def test_wrong_rows_are_named_by_file_and_place(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in MOWING
    with pytest.raises(BadRequestError, match=re.escape(says)) as refused:
        with_file(tmp_path, MOWING.replace(old, new, 1))

    assert "ours.toml" in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match=r"none\.toml cannot be read"):
        load_activity_types((tmp_path / "none.toml",))


@pytest.mark.parametrize(
    ("slug", "field", "value"),
    [
        ("irrigation", "amount_mm", -1),
        ("irrigation", "amount_mm", 501),
        ("irrigation", "amount_mm", True),
        ("irrigation", "amount_mm", "20"),
        ("irrigation", "amount_mm", math.nan),
        ("irrigation", "amount_mm", math.inf),
        ("irrigation", "amount_mm", 10**400),
        ("irrigation", "method", "hose"),
        ("irrigation", "litres", 5),
        ("fertiliser", "product", " "),
        ("fertiliser", "product", "x" * 2000),
        ("fertiliser", "product", 5),
        ("harvest", "whole_field", "yes"),
        ("harvest", "whole_field", 1),
    ],
)
def test_values_a_field_does_not_take_are_refused(slug: str, field: str, value: FormValue) -> None:
    with pytest.raises(BadRequestError, match=field) as refused:
        TYPES.check_form(slug, {field: value})

    assert refused.value.hint


def test_bounds_of_a_number_are_inside() -> None:
    for value in (0, 500):
        assert TYPES.check_form("irrigation", {"amount_mm": value}) == {"amount_mm": float(value)}


def test_an_unbounded_number_stays_a_number(tmp_path: Path) -> None:
    types = with_file(tmp_path, MOWING)

    for value in (math.inf, math.nan, 10**400):
        with pytest.raises(BadRequestError, match="height_cm"):
            types.check_form("mowing", {"height_cm": value})


def test_only_an_answer_needs_the_required_fields() -> None:
    assert TYPES.check_form("irrigation", {"method": "drip", "amount_mm": None}) == {"method": "drip"}
    with pytest.raises(BadRequestError, match="lacks amount_mm"):
        TYPES.check_form("irrigation", {"method": "drip", "amount_mm": None}, answered=True)


def test_an_unknown_type_is_told_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="irrigation, fertiliser"):
        TYPES.get("ploughing")


def test_a_draft_is_tidied() -> None:
    checked = check_draft(draft(title="  Water the beans ", form={"amount_mm": 20, "method": None}), TYPES)

    assert checked.title == "Water the beans"
    assert checked.form == {"amount_mm": 20.0}


def test_a_draft_of_a_type_carries_its_policy() -> None:
    made = draft_of(TYPES.get("irrigation"), farm_id="plot-7", title="", schedule=draft().schedule)

    assert made.title == "Irrigation"
    assert made.acknowledge_within == timedelta(days=3)
    assert check_draft(made, TYPES) == made


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"type": "ploughing"}, "ploughing"),
        ({"title": " "}, "title"),
        ({"title": "a\nb"}, "title"),
        ({"title": "a" * 201}, "title"),
        ({"farm_id": ""}, "farm"),
        ({"assignee": "a" * 129}, "assignee"),
        ({"form": {"amount_mm": -1}}, "amount_mm"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"catchup_window": timedelta(seconds=9)}, "catchup_window"),
        ({"acknowledge_within": timedelta(days=9999)}, "acknowledge_within"),
        ({"schedule": replace(draft().schedule, text="0")}, "no interval"),
        ({"schedule": replace(draft().schedule, time_zone="Mars/Phobos")}, "Mars/Phobos"),
    ],
)
def test_wrong_drafts_are_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(BadRequestError, match=says):
        check_draft(draft(**changes), TYPES)
