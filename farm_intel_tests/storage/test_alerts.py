"""The store of alerts: pages, locks, fingerprints, and rows that come back as they went in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Engine

from farm_intel.domain.alerts import Alert, AlertState, EscalationStep, Evaluation, RuleVerdict, Severity
from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.storage.alerts import SqlAlertStore

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = date(2026, 6, 1)


@pytest.fixture
def alert_store(engine: Engine) -> SqlAlertStore:
    return SqlAlertStore(engine)


def an_alert(name: str, **changes: object) -> Alert:
    alert = Alert(
        alert_id=name,
        farm_id="farm-a",
        rule="dry",
        rule_class="water",
        event_key=name,
        severity=Severity.WARNING,
        state=AlertState.NOTIFIED,
        opened_day=DAY,
        last_day=DAY,
        evidence={"scenes": ["s1"], "value": 0.125},
        rule_version="v1",
        steps=(EscalationStep(after=timedelta(hours=1.5), audience="owner", min_severity=Severity.CRITICAL),),
        next_at=NOW + timedelta(hours=1),
        opened_at=NOW,
        changed_at=NOW,
    )
    return replace(alert, **changes)  # type: ignore[arg-type]  # a builder


def a_look(day: date, fingerprint: str, **changes: object) -> Evaluation:
    look = Evaluation(
        farm_id="farm-a",
        rule="dry",
        day=day,
        verdict=RuleVerdict.HOLDS,
        value=0.1,
        threshold=None,
        evidence={"looks": [day.isoformat()]},
        fingerprint=fingerprint,
    )
    return replace(look, **changes)  # type: ignore[arg-type]  # a builder


def insert(store: SqlAlertStore, *alerts: Alert) -> list[bool]:
    with store.work(now=NOW) as work:
        return [work.insert(alert) for alert in alerts]


def test_an_alert_comes_back_as_it_went_in(alert_store: SqlAlertStore) -> None:
    alert = an_alert("a", reason="nought", by="ama", duplicate_of="b", resolved_day=DAY, next_at=None)
    insert(alert_store, alert)

    assert alert_store.get("a") == alert
    with pytest.raises(UnknownNameError, match="no alert b"):
        alert_store.get("b")


def test_a_second_alert_of_an_event_is_not_stored(alert_store: SqlAlertStore) -> None:
    first = an_alert("a")
    assert insert(alert_store, first, replace(first, alert_id="b")) == [True, False]


def test_a_change_needs_the_version_that_was_read(alert_store: SqlAlertStore) -> None:
    alert = an_alert("a")
    insert(alert_store, alert)
    with alert_store.work(now=NOW) as work:
        assert work.update(alert, replace(alert, version=2, by="first"))
        assert not work.update(alert, replace(alert, version=2, by="second"))
    assert alert_store.get("a").by == "first"


def test_history_is_numbered_in_order(alert_store: SqlAlertStore) -> None:
    insert(alert_store, an_alert("a"), an_alert("b"))
    for kind in ("open", "notified"):
        with alert_store.work(now=NOW) as work:
            work.note("a", kind, by="x", note="y")
            work.note("b", kind)
    assert [(e.number, e.kind, e.by, e.note, e.at) for e in alert_store.history("a")] == [
        (1, "open", "x", "y", NOW),
        (2, "notified", "x", "y", NOW),
    ]


def test_evaluations_with_a_known_fingerprint_are_not_new(alert_store: SqlAlertStore) -> None:
    looks = [a_look(DAY, "1"), a_look(DAY + timedelta(days=1), "2")]
    with alert_store.work(now=NOW) as work:
        assert work.record(looks) == (looks, {"dry": DAY})
        changed = a_look(DAY, "3", verdict=RuleVerdict.CLEAR, value=None)
        assert work.record([changed, looks[1]]) == ([changed], {"dry": DAY})
        assert work.verdicts("farm-a", ["dry"], since=DAY) == {
            "dry": [replace(one, evidence={}) for one in (changed, looks[1])]
        }
        assert work.evaluation("farm-a", "dry", DAY) == changed
        assert work.evaluation("farm-a", "dry", DAY - timedelta(days=1)) is None
    assert list(alert_store.evaluations("farm-a", "dry", start=DAY, end=DAY)) == [changed]


def test_many_evaluations_are_recorded_at_once(alert_store: SqlAlertStore) -> None:
    looks = [a_look(DAY + timedelta(days=n), str(n)) for n in range(1201)]
    with alert_store.work(now=NOW) as work:
        assert len(work.record(looks)[0]) == 1201
        assert work.record(looks) == ([], {})


def test_pages_hold_every_alert_once_the_latest_first(alert_store: SqlAlertStore) -> None:
    made = [an_alert(f"a{n}", opened_at=NOW + timedelta(hours=n // 3)) for n in range(10)]
    insert(alert_store, *made)
    found: list[Alert] = []
    cursor = ""
    while True:
        page, cursor = alert_store.list(limit=3, cursor=cursor)
        found += page
        if not cursor:
            break
    assert found == sorted(made, key=lambda alert: (-alert.opened_at.timestamp(), alert.alert_id))


@pytest.mark.parametrize("cursor", ["x", "2026-06-01T12:00:00|a", "|a", "2026-06-01T12:00:00+00:00|"])
def test_a_made_up_cursor_is_refused(alert_store: SqlAlertStore, cursor: str) -> None:
    with pytest.raises(BadRequestError, match="cursor"):
        alert_store.list(cursor=cursor)


def test_filters_leave_out_the_others(alert_store: SqlAlertStore) -> None:
    wanted = an_alert("a")
    insert(
        alert_store,
        wanted,
        an_alert("b", farm_id="farm-b"),
        an_alert("c", state=AlertState.RESOLVED),
        an_alert("d", rule="wet"),
        an_alert("e", opened_day=DAY - timedelta(days=1)),
    )
    page, _ = alert_store.list(farm_ids=["farm-a"], states=[AlertState.NOTIFIED], rule="dry", since=DAY)
    assert page == [wanted]
    assert alert_store.list(farm_ids=[]) == ([], "")


def test_due_are_live_alerts_whose_time_has_come(alert_store: SqlAlertStore) -> None:
    late, soon = an_alert("a", next_at=NOW - timedelta(hours=1)), an_alert("b", next_at=NOW)
    insert(
        alert_store,
        soon,
        late,
        an_alert("c"),
        an_alert("d", next_at=None),
        an_alert("e", next_at=NOW, state=AlertState.RESOLVED),
    )
    assert list(alert_store.due(NOW, limit=9)) == [late, soon]
    assert list(alert_store.due(NOW, limit=1)) == [late]
    assert [alert.alert_id for alert in alert_store.live()] == ["a", "b", "c", "d"]


def test_work_on_one_farm_waits_for_the_work_before(alert_store: SqlAlertStore) -> None:
    """Each of 20 workers reads how many alerts there are and adds one named so: without turns, names would clash."""

    def add(_: int) -> bool:
        with alert_store.work(now=NOW, farm_id="farm-a") as work:
            return work.insert(an_alert(f"n{len(work.of_farm('farm-a'))}"))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(add, range(20)))
    assert len(alert_store.live()) == 20


def fail_midway(store: SqlAlertStore) -> None:
    with store.work(now=NOW) as work:
        work.insert(an_alert("a"))
        work.record([a_look(DAY, "1")])
        raise RuntimeError


def test_nothing_of_work_that_fails_is_kept(alert_store: SqlAlertStore) -> None:
    with pytest.raises(RuntimeError):
        fail_midway(alert_store)
    assert list(alert_store.live()) == []
    assert list(alert_store.evaluations("farm-a", "dry")) == []
