"""Alerts open, go on, resolve and are withdrawn as the stored evaluations say, whatever order they arrive in."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete

from farm_intel.alerts.lifecycle import AlertOptions, fold
from farm_intel.domain.alerts import (
    LIVE,
    Alert,
    AlertState,
    EscalationStep,
    Evaluation,
    IllegalTransitionError,
    RuleVerdict,
    Severity,
)
from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.storage.alert_tables import alert_evaluations, alert_events, alerts
from farm_intel.storage.alert_work import SqlAlertWork
from farm_intel.storage.database import transaction
from farm_intel.storage.message_tables import outbox
from farm_intel_tests.alerts.lives import CLEAR, FARM, World, a_look, a_rule, a_subscription, looks


@pytest.fixture
def world(engine: Engine) -> World:
    return made(engine)


def made(engine: Engine, **changes: Any) -> World:
    world = World(engine, **changes)
    world.subscribe(a_subscription())
    return world


def spans_of(letters: str, to_open: int, to_resolve: int) -> list[tuple[int, int | None]]:
    """Return (first, resolved) of every span as places in the letters: another way to say what hysteresis is."""
    usable = [(place, letter.replace("e", "c")) for place, letter in enumerate(letters) if letter not in "?."]
    row = "".join(letter for _, letter in usable)
    found = re.finditer(rf"h{{{to_open}}}.*?(c{{{to_resolve}}}|$)", row)
    return [(usable[m.start()][0], usable[m.end() - 1][0] if m[1] else None) for m in found]


def test_a_look_that_holds_opens_one_alert_and_tells_once(world: World) -> None:
    report = world.absorb(looks(world.today, "h"))

    alert = world.only()
    assert (report.opened, report.messages) == (1, 1)
    assert alert.state is AlertState.NOTIFIED
    assert alert.event_key == world.today.isoformat()
    assert alert.next_at == world.clock.now() + timedelta(hours=2)
    assert world.said() == [("ama", "opened")]
    assert world.kinds(alert) == ["open", "sent", "notified"]


def test_the_notice_says_what_texts_need(world: World) -> None:
    world.absorb(looks(world.today - timedelta(days=2), "h"))

    (message,) = world.messages()
    said = json.loads(message.long)
    assert said["key"] == "alert_opened"
    assert said["farm_name"] == f"Farm {FARM}"
    assert (said["rule"], said["index"], said["value"], said["threshold"]) == ("dry", "a", 0.1, 0.2)
    assert (said["day"], said["days_open"], said["severity"]) == ("2026-05-30", 2, "warning")
    assert json.loads(message.data)["alert_id"] == world.only().alert_id


def test_an_alert_keeps_what_it_can_be_replayed_from(world: World) -> None:
    world.absorb(looks(world.today, "h"))

    evidence = world.only().evidence
    assert evidence["scenes"] == [f"s{world.today}"]
    assert evidence["rule"]["slug"] == "dry"  # type: ignore[index]  # JSON
    assert evidence["fingerprint"] == "holds"


def test_the_same_evaluations_again_change_nothing(world: World) -> None:
    world.absorb(looks(world.today - timedelta(days=3), "chh"))
    before = (world.only(), world.service.history(world.only().alert_id), world.messages())

    report = world.absorb(looks(world.today - timedelta(days=3), "chh"))

    assert report.stored == 0
    assert (world.only(), world.service.history(world.only().alert_id), world.messages()) == before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(letters=st.text("hcbe?.", max_size=14), to_open=st.integers(1, 3), to_resolve=st.integers(1, 3))
def test_looks_in_order_make_one_alert_per_span(
    sqlite_engine: Engine, letters: str, to_open: int, to_resolve: int
) -> None:
    world = emptied(sqlite_engine, options=AlertOptions(cool_down=timedelta()))
    rule = a_rule(looks_to_open=to_open, looks_to_resolve=to_resolve)
    start = world.today - timedelta(days=len(letters))

    for look in looks(start, letters):
        world.absorb([look], rule)

    found = [(date.fromisoformat(alert.event_key), alert.resolved_day) for alert in world.alerts()]
    expected = [
        (start + timedelta(days=first), None if end is None else start + timedelta(days=end))
        for first, end in spans_of(letters, to_open, to_resolve)
    ]
    assert found == expected


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), letters=st.text("hcb?", min_size=1, max_size=10))
def test_in_whatever_order_looks_arrive_there_is_a_live_alert_exactly_while_a_span_is_open(
    sqlite_engine: Engine, data: st.DataObject, letters: str
) -> None:
    world = emptied(sqlite_engine, options=AlertOptions(cool_down=timedelta()))
    start = world.today - timedelta(days=len(letters))
    arriving = data.draw(st.permutations(looks(start, letters)))

    for look in arriving:
        world.absorb([look])

    spans = fold(sorted(arriving, key=lambda look: look.day), a_rule())
    live = [alert for alert in world.alerts() if alert.state in LIVE]
    over = max((alert.resolved_day for alert in world.alerts() if alert.resolved_day), default=date.min)
    expected = bool(spans) and spans[-1].resolved is None and spans[-1].holding[-1].day > over
    assert len(live) == expected
    for alert in world.alerts():
        said = [occasion for _, occasion in world.said_of(alert)]
        assert sorted(said) in ([], ["opened"], ["opened", "resolved"])
        assert ("resolved" in said) == (alert.state is AlertState.RESOLVED and "opened" in said)


def emptied(engine: Engine, **changes: Any) -> World:
    """Return a world on a database without alerts; Hypothesis shares the fixture between examples."""
    with transaction(engine) as connection:
        for table in (alert_events, alerts, alert_evaluations, outbox):
            connection.execute(delete(table))
    return made(engine, **changes)


def test_a_clear_look_resolves_and_tells_those_who_were_told(world: World) -> None:
    world.absorb(looks(world.today - timedelta(days=1), "h"))
    world.subscribe(a_subscription("kofi"))  # after the opening: never heard of it

    report = world.absorb(looks(world.today, "c"))

    alert = world.only()
    assert (report.resolved, alert.state, alert.resolved_day) == (1, AlertState.RESOLVED, world.today)
    assert alert.next_at is None
    assert alert.reason.startswith("clear look: ")
    assert world.said() == [("ama", "opened"), ("ama", "resolved")]


def test_the_end_is_not_told_with_the_value_of_the_beginning(world: World) -> None:
    world.absorb(looks(world.today - timedelta(days=1), "h"))

    world.absorb([replace(look, value=None) for look in looks(world.today, "c")])

    opened, resolved = (json.loads(message.long) for message in world.messages())
    assert (opened["value"], resolved["key"], resolved["value"]) == (0.1, "alert_resolved", None)


def check_unknown_resolves_nothing(world: World) -> None:
    world.absorb(looks(world.today - timedelta(days=3), "h"))
    world.absorb(looks(world.today - timedelta(days=2), "??"))

    assert world.only().state is AlertState.NOTIFIED


class UnknownIsClear(SqlAlertWork):
    """Mutant: a day on which nothing was seen is taken for a clear one."""

    def record(self, evaluations: Sequence[Evaluation]) -> tuple[list[Evaluation], dict[str, date]]:
        return super().record(
            [a_look(one.day, CLEAR) if one.verdict is RuleVerdict.UNKNOWN else one for one in evaluations]
        )


def test_nothing_seen_resolves_nothing(world: World) -> None:
    check_unknown_resolves_nothing(world)


def test_nothing_seen_would_resolve_if_it_counted_as_clear(engine: Engine) -> None:
    with pytest.raises(AssertionError):
        check_unknown_resolves_nothing(made(engine, work_type=UnknownIsClear))


def test_a_look_explained_by_work_resolves(world: World) -> None:
    world.absorb(looks(world.today - timedelta(days=1), "he"))

    assert world.only().state is AlertState.RESOLVED


def test_a_late_look_that_moves_the_beginning_makes_no_second_alert(world: World) -> None:
    day = world.today - timedelta(days=3)
    world.absorb(looks(day, "h"))

    world.absorb([a_look(day - timedelta(days=2), RuleVerdict.HOLDS)])

    assert world.only().event_key == day.isoformat()
    assert world.said() == [("ama", "opened")]


def test_evidence_that_vanishes_withdraws_the_alert_and_says_so(world: World) -> None:
    world.absorb(looks(world.today, "h"))

    report = world.absorb([a_look(world.today, RuleVerdict.UNKNOWN)])

    alert = world.only()
    assert (report.withdrawn, alert.state) == (1, AlertState.RESOLVED)
    assert alert.reason.startswith("withdrawn: ")
    assert world.messages()[-1].title == "alert_withdrawn"


def test_a_withdrawn_alert_that_nobody_was_told_of_is_told_to_nobody(engine: Engine) -> None:
    world = World(engine)
    world.absorb(looks(world.today, "h"))
    world.subscribe(a_subscription())

    world.absorb([a_look(world.today, CLEAR)])

    assert world.only().reason.startswith("withdrawn: ")
    assert world.messages() == []


def test_a_resolved_event_is_never_opened_again(world: World) -> None:
    day = world.today - timedelta(days=5)
    world.absorb(looks(day, "hh"))
    world.service.resolve(world.only().alert_id, "ama", "the sensor was dirty")

    world.absorb(looks(day, "hhhhh"))

    assert world.only().state is AlertState.RESOLVED
    assert world.only().reason == "the sensor was dirty"


def test_an_event_that_goes_on_after_a_clear_look_was_corrected_is_told_as_a_new_one(engine: Engine) -> None:
    world = made(engine, options=AlertOptions(cool_down=timedelta()))
    day = world.today - timedelta(days=5)
    world.absorb(looks(day, "hhc"))

    world.absorb([a_look(day + timedelta(days=2), RuleVerdict.BETWEEN, fingerprint="again")])
    world.absorb(looks(day + timedelta(days=3), "h"))

    first, second = world.alerts()
    assert first.state is AlertState.RESOLVED
    assert (second.state, second.event_key) == (AlertState.NOTIFIED, (day + timedelta(days=3)).isoformat())


def test_the_past_pages_nobody_and_the_history_says_why(world: World) -> None:
    long_ago = world.today - timedelta(days=400)

    report = world.absorb([*looks(long_ago, "hhc"), *looks(world.today - timedelta(days=20), "h")])

    over, live = world.alerts()
    assert (over.state, live.state) == (AlertState.RESOLVED, AlertState.OPEN)
    assert report.untold == 2
    assert live.next_at is None
    assert world.messages() == []
    assert all("untold" in world.kinds(alert) for alert in (over, live))
    assert "old news" in next(e.note for e in world.service.history(live.alert_id) if e.kind == "untold")
    world.absorb(looks(world.today, "c"))
    assert world.messages() == []


@pytest.mark.parametrize(("days_ago", "messages"), [(13, 1), (14, 1), (15, 0)])
def test_old_news_begins_after_fourteen_days(world: World, days_ago: int, messages: int) -> None:
    world.absorb(looks(world.today - timedelta(days=days_ago), "h"))

    assert len(world.messages()) == messages


def test_what_is_over_before_it_is_found_is_told_to_nobody(world: World) -> None:
    world.absorb(looks(world.today - timedelta(days=3), "hc"))

    assert world.only().state is AlertState.RESOLVED
    assert world.messages() == []


def test_a_lesser_alert_of_the_same_class_is_recorded_as_a_duplicate(world: World) -> None:
    grave, lesser = a_rule("wilting", severity=Severity.CRITICAL), a_rule("dry")
    other = a_rule("silent", rule_class="data")

    day = world.today
    report = world.absorb(
        [*looks(day, "h", "dry"), *looks(day, "h", "wilting"), *looks(day, "h", "silent")], grave, lesser, other
    )

    states = {alert.rule: alert.state for alert in world.alerts()}
    assert report.suppressed == 1
    assert states == {
        "dry": AlertState.SUPPRESSED,
        "wilting": AlertState.NOTIFIED,
        "silent": AlertState.NOTIFIED,
    }
    by_rule = {alert.rule: alert for alert in world.alerts()}
    assert by_rule["dry"].duplicate_of == by_rule["wilting"].alert_id


def test_what_outlives_the_alert_it_duplicates_is_told_after_all(world: World) -> None:
    grave, lesser = a_rule("wilting", severity=Severity.CRITICAL), a_rule("dry")
    day = world.today - timedelta(days=3)
    world.absorb([*looks(day, "h", "dry"), *looks(day, "h", "wilting")], grave, lesser)

    world.absorb(looks(day + timedelta(days=1), "c", "wilting"), grave, lesser)
    world.absorb(looks(day + timedelta(days=2), "h", "dry"), grave, lesser)

    assert [a.state for a in world.alerts() if a.rule == "dry"] == [AlertState.SUPPRESSED, AlertState.NOTIFIED]


def test_a_rule_that_holds_again_within_the_cool_down_is_a_duplicate_until_it_is_over(world: World) -> None:
    rule = a_rule(parameters={"cool_down_days": 2.0})
    day = world.today - timedelta(days=6)
    for look in looks(day, "hchhh"):
        world.absorb([look], rule)

    assert [(a.state, a.opened_day - day) for a in world.alerts()] == [
        (AlertState.RESOLVED, timedelta(days=0)),
        (AlertState.SUPPRESSED, timedelta(days=2)),
        (AlertState.NOTIFIED, timedelta(days=4)),
    ]


def test_a_rule_that_is_not_in_the_table_stores_nothing(world: World) -> None:
    with pytest.raises(UnknownNameError, match="other"):
        world.absorb([*looks(world.today, "h"), *looks(world.today, "h", "other")])

    assert world.alerts() == []


class Stale(SqlAlertWork):
    """A reader who was first to look and last to write: it sees none of the farm's alerts and looks."""

    def record(self, evaluations: Sequence[Evaluation]) -> tuple[list[Evaluation], dict[str, date]]:
        new, _ = super().record(evaluations)
        return new, {one.rule: one.day for one in new}

    def of_farm(self, farm_id: str) -> list[Alert]:
        return []


class WithoutUniqueEvent(Stale):
    """Mutant: whoever inserts believes to be the first."""

    def insert(self, alert: Alert) -> bool:
        super().insert(alert)
        return True


def check_one_alert_per_event(world: World) -> None:
    world.absorb([a_look(world.today, RuleVerdict.HOLDS)])
    world.absorb([a_look(world.today, RuleVerdict.HOLDS, fingerprint="seen by another")])

    assert world.kinds(world.only()).count("open") == 1
    assert world.said() == [("ama", "opened")]


def test_one_event_alerts_once_whoever_races(engine: Engine) -> None:
    check_one_alert_per_event(made(engine, work_type=Stale))


def test_without_the_unique_event_it_would_alert_twice(engine: Engine) -> None:
    with pytest.raises(AssertionError):
        check_one_alert_per_event(made(engine, work_type=WithoutUniqueEvent))


def test_evaluators_that_run_at_the_same_time_open_one_alert(engine: Engine) -> None:
    worlds = [made(engine) for _ in range(4)]
    with ThreadPoolExecutor(len(worlds)) as pool:
        reports = list(pool.map(lambda world: world.absorb(looks(world.today, "h")), worlds))

    assert sum(report.opened for report in reports) == 1
    assert worlds[0].said() == [("ama", "opened")]


def test_acknowledging_twice_by_the_same_user_is_once(world: World) -> None:
    world.absorb(looks(world.today, "h"))
    alert_id = world.only().alert_id

    first = world.service.acknowledge(alert_id, "ama", "on my way")
    again = world.service.acknowledge(alert_id, "ama")

    assert first == again
    assert world.kinds(first).count("acknowledged") == 1
    with pytest.raises(IllegalTransitionError, match="acknowledged"):
        world.service.acknowledge(alert_id, "kofi")


@pytest.mark.parametrize("by", ["", "  ", "farm-intel"])
def test_only_people_answer_alerts(world: World, by: str) -> None:
    world.absorb(looks(world.today, "h"))

    with pytest.raises(BadRequestError, match="no user"):
        world.service.acknowledge(world.only().alert_id, by)


def test_resolving_by_hand_needs_a_reason_and_is_told(world: World) -> None:
    world.absorb(looks(world.today, "h"))
    alert_id = world.only().alert_id
    with pytest.raises(BadRequestError, match="no reason"):
        world.service.resolve(alert_id, "ama", " ")

    after = world.service.resolve(alert_id, "ama", "irrigated")

    assert (after.state, after.by, after.reason) == (AlertState.RESOLVED, "ama", "irrigated")
    assert world.said() == [("ama", "opened"), ("ama", "resolved")]
    with pytest.raises(IllegalTransitionError, match="it is over"):
        world.service.snooze(alert_id, world.clock.now() + timedelta(hours=1), "ama")


@pytest.mark.parametrize("hours", [-1, 0, 24 * 61])
def test_a_snooze_ends_soon_and_not_before_now(world: World, hours: int) -> None:
    world.absorb(looks(world.today, "h"))

    with pytest.raises(BadRequestError, match="cannot be snoozed"):
        world.service.snooze(world.only().alert_id, world.clock.now() + timedelta(hours=hours), "ama")


def test_unknown_alerts_are_named(world: World) -> None:
    for ask in (world.service.get, world.service.history, lambda a: world.service.acknowledge(a, "ama")):
        with pytest.raises(UnknownNameError, match="there is no alert nix"):
            ask("nix")


def test_steps_for_graver_alerts_only_are_left_out(world: World) -> None:
    steps = (
        EscalationStep(after=timedelta(hours=1), min_severity=Severity.CRITICAL),
        EscalationStep(after=timedelta(hours=3)),
    )

    world.absorb(looks(world.today, "h"), a_rule(steps=steps))

    assert world.only().steps == steps[1:]
    assert world.only().next_at == world.clock.now() + timedelta(hours=3)
