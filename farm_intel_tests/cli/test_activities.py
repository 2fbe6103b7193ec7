"""Work as people plan and answer it at the command line: what is refused, what is said, what stays on record."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from icalendar import Calendar

Cli = Callable[..., tuple[int, str, str]]
NAIROBI = ZoneInfo("Africa/Nairobi")
ADD = ("activities", "add", "--farm", "F1", "--type", "irrigation")


def add(cli: Cli, *arguments: str, farm: str = "F1", kind: str = "irrigation") -> str:
    code, out, err = cli("activities", "add", "--farm", farm, "--type", kind, *arguments)
    assert code == 0, err
    return out.split()[0]


def rows(cli: Cli, *arguments: str) -> list[dict[str, Any]]:
    code, out, err = cli(*arguments, "--format", "json")
    assert code == 0, err
    found: list[dict[str, Any]] = json.loads(out)
    return found


def day(ago: int) -> str:
    return (datetime.now(UTC) - timedelta(days=ago)).astimezone(NAIROBI).date().isoformat()


def waiting(cli: Cli, *arguments: str, kind: str = "irrigation", days: int = 2) -> str:
    """Return a plan whose last so many days wait for an answer."""
    first = day(days)
    plan = add(cli, "--every", "1", "--start", f"{first}T00:00", "--overlap", "allow_all", *arguments, kind=kind)
    assert cli("activities", "backfill", plan, "--from", day(days + 1), "--to", day(0))[0] == 0
    assert cli("pump")[0] == 0
    return plan


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*ADD[:3], "F9", *ADD[4:], "--every", "3"), "farms list"),
        ((*ADD[:5], "irigation", "--every", "3"), "irrigation, fertiliser"),
        (ADD, "none of them"),
        ((*ADD, "--every", "3", "--cron", "30 6 * * 1"), "--every and --cron"),
        ((*ADD, "--cron", "0 30 6 * * 1"), "five fields"),
        ((*ADD, "--cron", "30 6 30 2 *"), "day of the month"),
        ((*ADD, "--cron", "@daily"), "'0 0 * * *'"),
        ((*ADD, "--rrule", "FREQ=WEEKLY;BYDAY=XX"), "no weekday"),
        ((*ADD, "--rrule", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"), "30"),
        ((*ADD, "--once", "2020-01-01T06:00"), "no date to come"),
        ((*ADD, "--once", "tomorrow"), "is not a time like"),
        ((*ADD, "--once", "2036-01-01T06:00Z"), "without Z or offset"),
        ((*ADD, "--every", "3", "--start", "2036-02-01", "--until", "2036-01-01"), "before it starts"),
        ((*ADD, "--every", "3", "--set", "amount=20"), "amount_mm"),
        ((*ADD, "--every", "3", "--set", "amount_mm=lots"), "0 to 500 mm"),
        ((*ADD, "--every", "3", "--set", "amount_mm"), "field=value"),
        ((*ADD, "--every", "3", "--set", "method=hose"), "surface, sprinkler"),
        ((*ADD, "--every", "3", "--catch-up", "forever"), "30m, 2h, 3d"),
        (("activities", "edit", "zzz", "--title", "x"), "activities list"),
        (("activities", "list", "--farms", "F9"), "F9"),
        (("activities", "plan", "--farms", "F9"), "F9"),
        (("activities", "occurrences", "--farms", "F9"), "F9"),
        (("activities", "occurrences", "--state", "late"), "waiting"),
        (("activities", "logbook", "--farms", "F9"), "F9"),
        (("activities", "log", "--farm", "F1", "--type", "harvest"), "amount_kg"),
        (
            ("activities", "log", "--farm", "F1", "--type", "harvest", "--set", "amount_kg=1", "--at", "2036-01-01"),
            "Plan",
        ),
        (("activities", "export", "--farms", "F9", "--to", "x.ics"), "F9"),
    ],
)
def test_a_mistake_is_told_with_what_to_do_and_changes_nothing(
    farmed: Cli, arguments: tuple[str, ...], words: str
) -> None:
    code, out, err = farmed(*arguments)

    assert code == 2
    assert words in err
    assert not out
    assert rows(farmed, "activities", "list", "--all") == []


def test_a_date_alone_is_the_morning_and_an_end_the_evening_on_the_farms_clocks(farmed: Cli) -> None:
    add(farmed, "--once", "2036-05-01", farm="F3")
    add(farmed, "--every", "1", "--start", "2036-05-01", "--until", "2036-05-02")

    plans = {row["farm_id"]: row for row in rows(farmed, "activities", "list")}

    assert plans["F3"]["next"] == "2036-05-01 06:00"
    assert plans["F3"]["time_zone"] == "Africa/Lagos"
    assert plans["F1"]["until"] == "2036-05-02T23:59"


def test_fields_are_read_by_their_kind_and_not_by_their_looks(farmed: Cli) -> None:
    add(
        farmed,
        "--every",
        "3",
        "--set",
        "vaccine=true",
        "--set",
        "batch=20451",
        "--set",
        "animals=12",
        kind="vaccination",
    )
    add(farmed, "--every", "3", "--set", "product=no", "--set", "protective_gear=yes", kind="spraying")

    forms = {row["type"]: row["form"] for row in rows(farmed, "activities", "list")}

    assert forms["vaccination"] == {"vaccine": "true", "batch": "20451", "animals": 12.0}
    assert forms["spraying"] == {"product": "no", "protective_gear": True}


def test_an_id_may_be_shortened_until_it_is_ambiguous(farmed: Cli) -> None:
    first, second = add(farmed, "--every", "3"), add(farmed, "--every", "4")

    assert farmed("activities", "show", first[:8])[0] == 0
    code, _, err = farmed("activities", "show", "")

    assert code == 2
    assert first[:12] in err
    assert second[:12] in err


def test_an_edit_changes_what_it_names_and_an_empty_one_is_refused(farmed: Cli) -> None:
    plan = add(farmed, "--once", "2036-05-01T07:30", "--assignee", "anna")

    code, _, err = farmed("activities", "edit", plan)
    assert (code, "nothing is to be changed" in err) == (2, True)

    assert farmed("activities", "edit", plan, "--start", "2036-06-01T08:00", "--assignee", "")[0] == 0
    (row,) = rows(farmed, "activities", "list")
    assert (row["next"], row["assignee"], row["title"]) == ("2036-06-01 08:00", "", "Irrigation")
    changes = rows(farmed, "activities", "show", plan)[0]["history"]
    assert [change["change"] for change in changes] == ["created", "edited: assignee, schedule"]


def test_a_pause_is_seen_in_the_plan_and_ends_by_resume(farmed: Cli) -> None:
    plan = add(farmed, "--every", "1")

    code, _, err = farmed("activities", "pause", plan, "--note", "rain", "--until", "2026-01-01")
    assert (code, "that is over" in err) == (2, True)
    assert farmed("activities", "pause", plan, "--note", "rain")[0] == 0
    assert {row["state"] for row in rows(farmed, "activities", "plan")} == {"paused"}

    assert farmed("activities", "resume", plan)[0] == 0
    assert {row["state"] for row in rows(farmed, "activities", "plan")} == {"planned"}


def test_work_falls_due_once_is_answered_by_local_date_and_stands_in_the_logbook(farmed: Cli) -> None:
    plan = waiting(farmed)
    again = rows(farmed, "pump")[0]
    open_rows = rows(farmed, "activities", "occurrences", "--state", "waiting")

    assert (again["fell due"], again["worked on"]) == (0, "none")
    assert {day(1), day(2)} <= {row["local"].split()[0] for row in open_rows}

    code, _, err = farmed("activities", "done", plan)
    assert code == 2
    assert "Say which by --due" in err
    code, _, err = farmed("activities", "done", plan, "--due", day(1))
    assert code == 2
    assert "amount_mm" in err, "a required field is named"
    code, _, err = farmed("activities", "done", plan, "--due", "2020-01-01")
    assert code == 2
    assert "activities log" in err

    assert farmed("activities", "done", plan, "--due", day(1), "--set", "amount_mm=20", "--by", "anna")[0] == 0
    assert farmed("activities", "not-done", plan, "--due", day(2), "--reason", "no water", "--by", "juma")[0] == 0
    code, _, err = farmed("activities", "done", plan, "--due", day(2), "--set", "amount_mm=20")
    assert code == 1
    assert "skipped" in err

    book = rows(farmed, "activities", "logbook")
    assert [(row["done"], row["by"], row["reason"]) for row in sorted(book, key=lambda row: str(row["by"]))] == [
        (True, "anna", ""),
        (False, "juma", "no water"),
    ]
    code, text, _ = farmed("activities", "logbook", "--format", "csv")
    assert {row["by"] for row in csv.DictReader(io.StringIO(text))} == {"anna", "juma"}
    code, text, _ = farmed("activities", "logbook", "--format", "farmos")
    kinds = {(row["type"], row["attributes"]["status"]) for row in json.loads(text)["data"]}
    assert ("log--input", "done") in kinds


def test_snooze_and_assign_reach_the_only_open_date(farmed: Cli) -> None:
    plan = waiting(farmed, days=1)
    for row in rows(farmed, "activities", "occurrences", "--state", "waiting")[1:]:
        assert farmed("activities", "not-done", plan, "--due", row["due"], "--reason", "test")[0] == 0

    assert farmed("activities", "assign", plan, "--to", "pete")[0] == 0
    code, out, _ = farmed("activities", "snooze", plan, "--for", "2h")

    assert code == 0
    assert "due" in out
    (row,) = rows(farmed, "activities", "occurrences", "--state", "due")
    assert row["assignee"] == "pete"


def test_a_backfill_that_finds_nothing_says_why(farmed: Cli) -> None:
    plan = add(farmed, "--every", "1", "--start", "2036-05-01")

    code, out, _ = farmed("activities", "backfill", plan, "--from", "2026-01-01", "--to", "2026-01-31")

    assert code == 0
    assert "starts 2036-05-01 06:00" in out


def test_a_finished_plan_is_over_and_a_removed_one_is_gone(farmed: Cli) -> None:
    plan = add(farmed, "--every", "3")

    assert farmed("activities", "remove", plan)[0] == 0
    code, _, err = farmed("activities", "remove", plan)

    assert (code, "is removed" in err) == (2, True)
    assert rows(farmed, "activities", "list") == []
    assert [row["state"] for row in rows(farmed, "activities", "list", "--all")] == ["removed"]


def test_an_exported_calendar_comes_back_once(farmed: Cli, tmp_path: Path) -> None:
    add(farmed, "--cron", "30 6 * * 1", "--title", "Walk the field", kind="scouting")
    file = tmp_path / "plan.ics"
    assert farmed("activities", "export", "--to", str(file))[0] == 0
    events = [str(event["SUMMARY"]) for event in Calendar.from_ical(file.read_bytes()).walk("VEVENT")]
    assert events == ["Walk the field"]
    command = ("activities", "import", str(file), "--farm", "F2", "--type", "scouting")

    assert "1 could be planned" in farmed(*command, "--dry-run")[1]
    assert "1 planned, 0 planned already" in farmed(*command)[1]
    assert "0 planned, 1 planned already" in farmed(*command)[1]
    (plan,) = [row for row in rows(farmed, "activities", "list") if row["farm_id"] == "F2"]
    assert plan["next"].endswith("06:30")


def test_a_trial_import_refuses_what_the_import_would(farmed: Cli, tmp_path: Path) -> None:
    file = tmp_path / "old.ics"
    file.write_text(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:1\r\nSUMMARY:Old\r\n"
        "DTSTART:20200101T060000\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    command = ("activities", "import", str(file), "--farm", "F1", "--type", "scouting")

    for arguments in (("--dry-run",), ()):
        code, _, err = farmed(*command, *arguments)
        assert code == 1
        assert "no date to come" in err

    file.write_text("no calendar")
    assert farmed(*command)[0] == 2


def test_types_of_a_users_file_are_there_and_a_mistake_in_it_is_named(
    farmed: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.toml"
    row = '[[type]]\nslug = "weeding"\nlabel.en = "Weeding"\nfarmos = "activity"\n'
    field = '[[type.field]]\nslug = "people"\nlabel.en = "People"\nkind = "number"\nrequired = true\n'
    file.write_text(row + field)
    monkeypatch.setenv("FARM_INTEL_ACTIVITY_TYPE_FILES", str(file))

    add(farmed, "--every", "7", "--set", "people=3", kind="weeding")
    assert "weeding" in {row["type"] for row in rows(farmed, "activities", "types")}

    file.write_text(row.replace("activity", "dancing"))
    code, _, err = farmed("activities", "types")
    assert code == 2
    assert "mine.toml" in err
    assert "dancing" in err
    assert "mine.toml" in json.loads(farmed("doctor", "--format", "json")[1])[-7]["detail"]
