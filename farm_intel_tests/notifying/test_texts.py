"""Texts of messages: complete in every language, one text message long, and nothing a name could talk them into."""

from __future__ import annotations

import re
import tomllib
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm_intel.domain.alerts import Severity
from farm_intel.domain.errors import UnknownNameError
from farm_intel.domain.messages import Notice
from farm_intel.notifying.texts import NoVocabulary, TemplateRenderer
from farm_intel.notifying.texts.sms import cut, gsm, length
from farm_intel.notifying.texts.words import FOLDER, fill, languages, placeholders, words

ALERTS = ("alert_opened", "alert_escalated", "alert_resolved", "alert_withdrawn")
ACTIVITIES = ("activity_due", "activity_reminder", "activity_overdue", "activity_failed", "activity_proposed")
KEYS = (*ALERTS, *ACTIVITIES, "test")
STYLES = ("title", "short", "long", "spoken")
LANGUAGES = ("en", "fr", "sw")
LONG_TITLE = (
    "Water the maize on the lower terraces until the soil is wet to the depth of a hand, then look for leaks " * 3
)
Params = dict[str, str | float | int | None]


class Names(NoVocabulary):
    def farm_name(self, farm_id: str) -> str | None:
        return {"k1": "Shamba la Kijani"}.get(farm_id)

    def activity_type(self, slug: str, language: str) -> str | None:
        return "Beekeeping" if slug == "beekeeping" else None

    def form_field(self, activity_type: str, field: str, language: str) -> tuple[str, str] | None:
        return {"amount_mm": ("Water", "mm")}.get(field)


def alert(**changes: str | float | None) -> Params:
    return {
        "farm_name": "Kijani",
        "rule": "drought_stress",
        "index": "ndmi",
        "value": -0.125,
        "threshold": -0.05,
        "unit": "index units",
        "day": "2026-05-01",
        "opened_day": "2026-04-28",
        "days_open": 3,
        "severity": "critical",
        "step": 1,
        "reason": "",
        "by": "",
        **changes,
    }


def activity(**changes: str | float | None) -> Params:
    return {
        "title": "Water the maize",
        "activity_type": "irrigation",
        "farm_id": "k1",
        "day": "2026-05-02",
        "time": "06:30",
        "assignee": "Ama",
        "by_day": "2026-05-04",
        "error": "",
        **changes,
    }


def notice(key: str, params: Params, data: dict[str, object] | None = None) -> Notice:
    return Notice(
        subject="alert:1",
        occasion="opened",
        farm_id="k1",
        rule_class="stress",
        severity=Severity.CRITICAL,
        text_key=key,
        params=params,
        data=data or {},
    )


RENDERER = TemplateRenderer(Names())


def test_every_language_has_every_table_and_key_and_every_template_every_value() -> None:
    documents = {code: tomllib.loads((FOLDER / f"{code}.toml").read_text(encoding="utf-8")) for code in LANGUAGES}
    complete = documents["en"]

    assert languages() == LANGUAGES
    for code, document in documents.items():
        assert document.keys() == complete.keys(), code
        for name, table in complete.items():
            if isinstance(table, dict):
                assert document[name].keys() == table.keys(), (code, name)
        for key, style in product(KEYS, STYLES):
            assert placeholders(document[key][style]) == placeholders(complete[key][style]), (code, key, style)
        assert [len(document[name]) for name in ("months", "months_short")] == [12, 12]


def test_every_alert_rule_of_the_package_has_a_name_in_every_language() -> None:
    from farm_intel.alerts.rules import load_alert_rules

    slugs = {rule.slug for rule in load_alert_rules().rules}
    classes = {rule.rule_class for rule in load_alert_rules().rules}
    for code in LANGUAGES:
        assert slugs <= words(code).tables["rule"].keys(), code
        assert classes <= words(code).tables["advice"].keys(), code


def test_every_activity_type_of_the_package_has_a_name_in_every_language() -> None:
    path = FOLDER.parents[1] / "activities" / "types.toml"
    slugs = {row["slug"] for row in tomllib.loads(path.read_text(encoding="utf-8"))["type"]}
    for code in LANGUAGES:
        assert slugs <= words(code).tables["type"].keys(), code


@pytest.mark.parametrize(
    ("language", "short"),
    [
        ("en", "Kijani: Drought stress, NDMI -0.12 (limit -0.05), 1 May."),
        ("fr", "Kijani: Stress hydrique, NDMI -0,12 (limite -0,05), 1er mai."),
        ("sw", "Kijani: Ukame kwenye mimea, NDMI -0.12 (kikomo -0.05), 1 Mei."),
    ],
)
def test_an_alert_in_each_language(language: str, short: str) -> None:
    text = RENDERER.render(notice("alert_opened", alert()), language)

    assert (text.short, text.language) == (short, language)


def test_what_is_heard_is_words() -> None:
    heard = {code: RENDERER.render(notice("alert_opened", alert()), code).spoken for code in LANGUAGES}

    assert "Leaf moisture index is minus 0 point 1 2, and the limit is minus 0 point 0 5." in heard["en"]
    assert "Indice d'humidité des feuilles : moins 0 virgule 12, pour une limite de moins 0 virgule 0 5." in heard["fr"]
    assert "Kipimo cha unyevu wa majani ni hasi 0 nukta 1 2, na kikomo ni hasi 0 nukta 0 5." in heard["sw"]
    assert "1 May 2026" in heard["en"]
    assert "1er mai 2026" in heard["fr"]


@pytest.mark.parametrize(
    ("unit", "value", "threshold", "written", "said"),
    [
        (
            "share of pixels",
            0.31,
            0.25,
            "Share of the field 31% (limit 25%)",
            "31 percent, and the limit is 25 percent",
        ),
        ("temperature_min_c", -1.5, 1.0, "Lowest temperature -1.5 C (limit 1.0 C)", "minus 1 point 5 degrees Celsius"),
        ("days", 27.0, 25.0, "Days 27 (limit 25)", "Days is 27"),
        ("days since the event", 4.0, None, "Days since the first signs 4", "is 4"),
        ("never heard of", 3.0, 2.0, "Never heard of 3.00", "is 3"),
        ("days", None, 25.0, "Drought stress, 1 May", ""),
    ],
)
def test_each_unit_is_written_and_said_as_it_should(
    unit: str, value: float | None, threshold: float | None, written: str, said: str
) -> None:
    params = alert(index="", unit=unit, value=value, threshold=threshold)
    text = RENDERER.render(notice("alert_opened", params), "en")

    assert written in text.short
    assert said in text.spoken


def test_what_is_not_known_leaves_no_gap() -> None:
    bare = alert(value=None, threshold=None, days_open=0, index="")
    for code, key in product(LANGUAGES, KEYS):
        params = bare if key in ALERTS else activity(time="", assignee="", by_day=None)
        text = RENDERER.render(notice(key, params), code)
        for part in (text.title, text.short, text.long, text.spoken):
            assert part
            assert not re.search(r"[{}\[\]]|  |\(\)|None|nan|: \.|, \.|\s,|^\s|\s$", part), (code, key, part)


def test_a_farm_without_a_name_in_the_notice_is_named_by_the_vocabulary() -> None:
    text = RENDERER.render(notice("activity_due", activity(), {"form": {"amount_mm": 20.5, "whole_field": True}}), "en")

    assert text.short == "Shamba la Kijani: due 2 May 06:30: Water the maize (Water 20.5 mm, Whole field yes)."
    assert "Irrigation at Shamba la Kijani" in text.long


@pytest.mark.parametrize(
    ("language", "used"), [("fr-CA", "fr"), ("SW_tz", "sw"), ("de", "en"), ("", "en"), ("../en", "en")]
)
def test_a_language_that_is_not_there_is_english_and_says_so(language: str, used: str) -> None:
    assert RENDERER.render(notice("alert_opened", alert()), language).language == used


def test_an_unknown_template_is_told_with_what_to_do() -> None:
    for key in ("alert_sung", "rule", "", "months"):
        with pytest.raises(UnknownNameError, match="Add it"):
            RENDERER.render(notice(key, alert()), "en")


def test_slugs_nobody_named_are_readable() -> None:
    assert RENDERER.render(notice("alert_opened", alert(rule="late_blight")), "fr").title == "Late blight : Kijani"
    assert "Beekeeping" in RENDERER.render(notice("activity_due", activity(activity_type="beekeeping")), "sw").long
    assert "Goat yoga" in RENDERER.render(notice("activity_due", activity(activity_type="goat_yoga")), "en").long


@pytest.mark.parametrize("name", ["{value}", "{0.__class__}", "%s%n", "{farm_name!r:>1000}", "[{rule}]", "${x}", "{"])
def test_names_are_text_and_never_a_template(name: str) -> None:
    for code in LANGUAGES:
        text = RENDERER.render(notice("alert_opened", alert(farm_name=name)), code)
        assert text.title.endswith(name)
        assert text.short.startswith(name)
        assert name in text.long


def test_names_cannot_break_lines_or_speak_markup() -> None:
    text = RENDERER.render(notice("alert_opened", alert(farm_name="A\r\nBcc: x\u2028<speak>*B*")), "en")

    assert "\n" not in text.title + text.short + text.spoken
    assert "A Bcc: x <speak>*B*" in text.title
    assert not set("<>*") & set(text.spoken)


@pytest.mark.parametrize(("key", "language"), [*product(KEYS, LANGUAGES)])
def test_the_longest_names_leave_farm_number_and_day_whole(key: str, language: str) -> None:
    farm = "Shamba la Ushirika la Wakulima wa Kijiji cha Mto wa Mbu"
    rule = "a_rule_of_somebody_whose_name_fills_the_whole_column_" + "x" * 60
    params = (
        alert(farm_name=farm, rule=rule, value=-0.38, threshold=-0.25, reason="r " * 200, day="2026-09-30")
        if key in ALERTS
        else activity(farm_name=farm, title=LONG_TITLE, error="e " * 300, day="2026-09-30")
    )
    text = RENDERER.render(notice(key, params, {"form": {"note": "n " * 100}}), language)

    assert length(text.short) <= 160
    assert text.short == gsm(text.short)
    assert farm in text.short
    if key != "test":
        assert words(language).months_short[8].rstrip(".") in text.short
    if key in ("alert_opened", "alert_escalated", "alert_resolved"):
        assert words(language).number(-0.38, 2) in text.short
        assert "..." in text.short
    if key in ACTIVITIES:
        assert "..." in text.short


@given(
    st.sampled_from(KEYS),
    st.sampled_from(LANGUAGES),
    st.text(max_size=300),
    st.text(max_size=300),
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(min_value=-1e6, max_value=1e6),
)
def test_a_short_text_is_never_longer_than_one_message(
    key: str, language: str, name: str, title: str, value: float, threshold: float
) -> None:
    params = alert(farm_name=name, rule=title, value=value, threshold=threshold) | activity(title=title, error=name)
    text = RENDERER.render(notice(key, params, {"form": {"x": name}}), language)

    assert length(text.short) <= 160
    assert text.title
    assert 1 <= len(text.spoken) <= 600


@given(st.text(max_size=400), st.integers(min_value=0, max_value=200))
def test_a_cut_is_short_enough_and_a_beginning(text: str, longest: int) -> None:
    short = cut(text, longest)

    assert length(short) <= longest or not short
    assert text.startswith(short.removesuffix("..."))


def test_a_cut_ends_at_a_word() -> None:
    assert cut("water the maize today", 16) == "water the..."
    assert cut("water the maize today", 21) == "water the maize today"
    assert length("{}") == 4


def test_optional_parts_and_values_are_filled_in_one_pass() -> None:
    assert fill("a[ {x}] {y}", {"x": "", "y": "{x}[b]"}) == "a {x}[b]"
    assert fill("a[ {x}]", {"x": "[c]"}) == "a [c]"
