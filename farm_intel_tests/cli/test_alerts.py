"""Alerts as people meet them at the command line: who is told, what is shown, what may be done with one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from farm_intel.bootstrap import container_from_environment
from farm_intel.cli.evidence import show_evidence, show_history
from farm_intel.domain.alerts import Alert, AlertEvent, AlertState, Severity
from farm_intel.storage.database import transaction
from farm_intel_tests.cli.test_activities import rows, waiting

Cli = Callable[..., tuple[int, str, str]]
SUBSCRIBE = ("alerts", "subscribe", "--user", "anna", "--channel")
PUBLIC = "https://93.184.216.34/hook"


@pytest.fixture
def overdue(farmed: Cli) -> str:
    """Return the id of an alert: work that has waited for three days."""
    assert farmed(*SUBSCRIBE, "stream")[0] == 0
    waiting(farmed, days=3)
    code, out, err = farmed("alerts", "evaluate")
    assert code == 0, err
    assert "1 alerts recorded, 0 resolved" in out
    (found,) = rows(farmed, "alerts", "list")
    assert (found["rule"], found["farm_id"], found["state"]) == ("activity_overdue", "F1", "notified")
    return str(found["alert_id"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*SUBSCRIBE, "webhook", "--address", "https://10.0.0.1/x"), "not public"),
        ((*SUBSCRIBE, "webhook", "--address", "https://localhost/x"), "not public"),
        ((*SUBSCRIBE, "webhook", "--address", "http://93.184.216.34/x"), "https"),
        ((*SUBSCRIBE, "webhook"), "needs an address"),
        ((*SUBSCRIBE, "apprise", "--address", "nope://x"), "Services"),
        ((*SUBSCRIBE, "stream", "--language", "tlh"), "en, fr, sw"),
        ((*SUBSCRIBE, "stream", "--class", "stres"), "stress"),
        ((*SUBSCRIBE, "stream", "--farm", "F9"), "farms list"),
        ((*SUBSCRIBE, "stream", "--quiet", "21:00", "--farm", "F1"), "both, or neither"),
        ((*SUBSCRIBE, "stream", "--quiet", "21:00-06:00"), "--time-zone"),
        ((*SUBSCRIBE, "stream", "--quiet", "25:00-06:00", "--farm", "F1"), "25:00"),
        ((*SUBSCRIBE, "stream", "--quiet", "21:00-06:00", "--time-zone", "Mars/Olympus"), "Africa/Nairobi"),
        ((*SUBSCRIBE, "pigeon"), "stream"),
        (("alerts", "unsubscribe", "nope"), "alerts subscriptions"),
        (("alerts", "test", "nope"), "alerts subscriptions"),
        (("alerts", "show", "nope"), "alerts list --all"),
        (("alerts", "ack", "nope"), "alerts list --all"),
        (("alerts", "list", "--state", "bogus"), "acknowledged"),
        (("alerts", "list", "--rule", "bogus"), "drought_stress"),
        (("alerts", "list", "--farms", "F9"), "F9"),
        (("alerts", "evaluate", "--farms", "F9"), "F9"),
        (("alerts", "evaluate", "--from", "2026-02-02", "--to", "2026-02-01"), "before it starts"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(farmed: Cli, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = farmed(*arguments)

    assert code == 2
    assert words in err
    assert not out


def test_mail_without_a_server_names_the_settings(farmed: Cli) -> None:
    code, _, err = farmed(*SUBSCRIBE, "email", "--address", "anna@example.org")

    assert code == 1
    assert "FARM_INTEL_SMTP_HOST" in err


def test_an_empty_installation_says_where_to_go(farmed: Cli) -> None:
    assert "--all" in farmed("alerts", "list")[1]
    assert "alerts subscribe" in farmed("alerts", "subscriptions")[1]
    assert "anna is told of nothing" in farmed("alerts", "subscriptions", "--user", "anna")[2]
    assert farmed("alerts", "audit")[:2] == (0, "No alert is stuck.\n")


def test_a_webhooks_secret_is_shown_once_and_never_again(farmed: Cli) -> None:
    code, out, _ = farmed(*SUBSCRIBE, "webhook", "--address", PUBLIC)
    secret = re.search(r"whsec_\S+", out)

    assert code == 0
    assert secret is not None
    for command in (("alerts", "subscriptions"), ("alerts", "subscriptions", "--format", "json"), ("outbox", "list")):
        shown = farmed(*command)[1]
        assert secret[0] not in shown
        assert "93.184.216.34" not in shown


def test_quiet_hours_are_on_the_clocks_of_the_farms(farmed: Cli) -> None:
    assert farmed(*SUBSCRIBE, "stream", "--quiet", "21:00-06:00", "--farm", "F3")[0] == 0
    assert farmed(*SUBSCRIBE, "stream", "--quiet", "21:00-06:00", "--time-zone", "Europe/Paris")[0] == 0

    assert {row["farm"]: row["quiet"] for row in rows(farmed, "alerts", "subscriptions")} == {
        "F3": "21:00-06:00 Africa/Lagos",
        "*": "21:00-06:00 Europe/Paris",
    }


def test_a_subscription_is_tried_and_stopped(farmed: Cli) -> None:
    made = farmed(*SUBSCRIBE, "stream", "--language", "fr")[1].split()[0]

    code, out, _ = farmed("alerts", "test", made)
    assert code == 0
    assert "live channel of anna" in out
    (message,) = rows(farmed, "outbox", "list")
    assert (message["channel"], message["language"]) == ("speech", "fr")

    assert farmed("alerts", "unsubscribe", made)[0] == 0
    assert rows(farmed, "alerts", "subscriptions") == []


def test_an_alert_is_shown_acknowledged_and_told_no_more(farmed: Cli, overdue: str) -> None:
    code, out, _ = farmed("alerts", "show", overdue[:6])
    assert code == 0
    assert "subscribers are told again" in out
    assert "opened to anna/stream" in out
    assert "{" not in out, "no raw structures in the table form"
    evidence = rows(farmed, "alerts", "show", overdue)[0]["evidence"]
    assert evidence["rule"]["slug"] == "activity_overdue"
    assert farmed("alerts", "show", overdue, "--format", "csv")[0] == 2

    code, out, _ = farmed("alerts", "ack", overdue, "--by", "juma", "--note", "on my way")
    assert (code, "acknowledged" in out) == (0, True)
    code, _, err = farmed("alerts", "ack", overdue, "--by", "anna")
    assert (code, "Possible: resolved, snoozed" in err) == (1, True)
    (row,) = rows(farmed, "alerts", "list")
    assert (row["by"], row["next"]) == ("juma", None)


def test_a_snooze_has_an_end_and_a_limit(farmed: Cli, overdue: str) -> None:
    code, _, err = farmed("alerts", "snooze", overdue, "--for", "100d")
    assert (code, "60 days" in err) == (2, True)
    assert farmed("alerts", "snooze", overdue, "--for", "0h")[0] == 2

    code, out, _ = farmed("alerts", "snooze", overdue, "--for", "2h")
    (row,) = rows(farmed, "alerts", "list", "--state", "snoozed")

    assert code == 0
    assert "snoozed until" in out
    assert timedelta(hours=1) < datetime.fromisoformat(row["next"]) - datetime.now(UTC) < timedelta(hours=3)
    assert "the snooze is over" in farmed("alerts", "show", overdue)[1]


def test_an_alert_ends_by_hand_with_a_reason_and_stays_so(farmed: Cli, overdue: str) -> None:
    assert farmed("alerts", "resolve", overdue, "--reason", " ")[0] == 2
    assert farmed("alerts", "resolve", overdue, "--reason", "agreed by phone")[0] == 0
    assert farmed("alerts", "evaluate")[0] == 0

    assert rows(farmed, "alerts", "list") == []
    (row,) = rows(farmed, "alerts", "list", "--all")
    assert (row["state"], row["reason"]) == ("resolved", "agreed by phone")


def test_it_resolves_itself_once_the_work_is_answered(farmed: Cli, overdue: str) -> None:
    for row in rows(farmed, "activities", "occurrences", "--state", "waiting"):
        assert farmed("activities", "not-done", row["activity"], "--due", row["due"], "--reason", "rain")[0] == 0
    (before,) = rows(farmed, "alerts", "list")

    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    code, out, _ = farmed("alerts", "evaluate", "--from", tomorrow, "--to", tomorrow)

    assert code == 0
    assert before["alert_id"] == overdue
    assert "1 resolved" in out
    assert rows(farmed, "alerts", "list", "--all")[0]["by"] == "farm-intel"


def test_a_replay_holds_and_one_that_does_not_exits_1(farmed: Cli, overdue: str) -> None:
    code, out, err = farmed("alerts", "replay", overdue)
    assert code == 0, err
    assert "holds" in out

    # the row it rests on is gone: nothing is late any more
    with transaction(container_from_environment().database) as connection:
        connection.exec_driver_sql("DELETE FROM occurrences")
    code, _, err = farmed("alerts", "replay", overdue)
    assert code == 1
    assert "differs" in err


def test_rules_of_a_users_file_are_there_and_a_mistake_in_it_is_named(
    farmed: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.toml"
    text = (
        '[[rule]]\nslug = "thin"\nclass = "stress"\nkind = "threshold"\nseverity = "warning"\npolicy = "standard"\n'
        'index = "ndvi"\nsource = "our own"\nparameters = { enter = 0.3, leave = 0.4 }\n'
        '[[rule]]\nslug = "heat"\noff = "yes"\n'
    )
    file.write_text(text)
    monkeypatch.setenv("FARM_INTEL_ALERT_RULE_FILES", str(file))
    known = {row["rule"]: row for row in rows(farmed, "alerts", "rules")}
    assert known["thin"]["parameters"]["enter"] == 0.3
    assert "heat" not in known

    wrong = tmp_path / "flapping.toml"
    wrong.write_text(text.replace("leave = 0.4", "leave = 0.2"))
    monkeypatch.setenv("FARM_INTEL_ALERT_RULE_FILES", str(wrong))
    code, _, err = farmed("alerts", "rules")
    assert code == 2
    assert "flapping.toml" in err
    assert "leave" in err


def evidence_of(**more: object) -> Alert:
    cell = "F1|ndmi|stac|sentinel-2-l2a|2026-02-28"
    evidence = {
        "rule": {"kind": "threshold", "index": "ndmi", "source": "ours", "parameters": {"enter": 0.2, "of": ""}},
        "day": "2026-02-28",
        "value": 0.161123,
        "threshold": 0.2,
        "unit": "",
        "looks": [
            {"index": "ndmi", "day": "2026-02-28", "value": 0.161123, "confidence": 1.0, "flags": ["partly_cloudy"]}
        ],
        "cells": [cell],
        "rasters": [{"cell": cell, "sha256": "509aa20d9b97" + 52 * "0", "band": 3}],
        "scenes": ["S2C_37MAU_20260228_0_L2A"],
        "state": {"state": "full_canopy", "since": "2026-02-13", "event": "drought", "reasons": [{"fact": "dry"}]},
        **more,
    }
    now = datetime(2026, 2, 28, tzinfo=UTC)
    return Alert(
        alert_id="a", farm_id="F1", rule="dry", rule_class="stress", event_key="2026-02-28",
        severity=Severity.WARNING, state=AlertState.NOTIFIED, opened_day=date(2026, 2, 28),
        last_day=date(2026, 2, 28), evidence=evidence, rule_version="v", steps=(), opened_at=now, changed_at=now,
    )  # fmt: skip


def test_evidence_names_looks_rasters_scenes_and_reasons_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show_evidence(evidence_of(logged=["e1", "e2"], since_then={"cloudy": 4}))
    out = capsys.readouterr().out

    (look,) = [line for line in out.splitlines() if line.startswith("2026-02-28")]
    assert look.split() == ["2026-02-28", "ndmi", "0.1611", "1.0000", "partly_cloudy", "509aa20d9b97", "3"]
    for part in ("threshold ndmi: enter 0.2", "0.161123, threshold 0.2 on 2026-02-28", "S2C_37MAU_20260228_0_L2A"):
        assert part in out
    for part in ("full_canopy since 2026-02-13, event drought", "cloudy 4", "e1, e2", "dry"):
        assert part in out
    assert "{" not in out


def test_evidence_without_looks_or_with_anything_new_in_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show_evidence(evidence_of(looks=[], rasters=[], novelty={"deep": [{"a": 1.5}]}, state=None))

    out = capsys.readouterr().out
    assert "2026-02-28  ndmi" in out, "a cell without a look"
    assert "deep a 1.5" in out


def test_a_long_row_of_evaluations_is_told_by_its_ends(capsys: pytest.CaptureFixture[str]) -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    sent = json.dumps({"occasion": "opened", "to": ["anna/stream"], "later": ["bob/email"]})
    events = [AlertEvent(alert_id="a", number=1, at=at, kind="sent", note=sent)]
    events += [
        AlertEvent(alert_id="a", number=n, at=at, kind="evaluated", by="farm-intel", note=f"look {n}")
        for n in range(2, 12)
    ]
    show_history(events)

    out = capsys.readouterr().out
    assert "opened to anna/stream; after their quiet hours to bob/email" in out
    assert "8 more evaluations" in out
    assert [n for n in range(2, 12) if re.search(rf"look {n}\b", out)] == [2, 11]
