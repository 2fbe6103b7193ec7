"""Folding only the end of a history does what folding all of it does, in whatever order looks arrive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete

from farm_intel.alerts.lifecycle import AlertOptions, fold
from farm_intel.alerts.tails import tail
from farm_intel.domain.alerts import LIVE, Evaluation, Severity
from farm_intel.storage.alert_tables import alert_evaluations, alert_events, alerts, subscriptions
from farm_intel.storage.alert_work import SqlAlertWork
from farm_intel.storage.database import migrate, open_database, transaction
from farm_intel.storage.message_tables import outbox
from farm_intel_tests.alerts.lives import FARM, LETTERS, NOON, World, a_look, a_rule, a_subscription, looks

RULES = ("wilting", "dry")


class FoldsAll(SqlAlertWork):
    """The slow way: whatever is new, the rule's history may have turned from the first day on."""

    def record(self, evaluations: Sequence[Evaluation]) -> tuple[list[Evaluation], dict[str, date]]:
        new, _ = super().record(evaluations)
        return new, {one.rule: date.min for one in new}


class LooksTooLate(SqlAlertWork):
    """Mutant: the day that turned is taken for a later one."""

    def record(self, evaluations: Sequence[Evaluation]) -> tuple[list[Evaluation], dict[str, date]]:
        new, turned = super().record(evaluations)
        return new, {rule: day + timedelta(days=20) for rule, day in turned.items()}


class ForgetsDuplicates(SqlAlertWork):
    """Mutant: every duplicate is believed to have been looked at since its original ended."""

    def aligned(self, farm_id: str, rule: str) -> datetime | None:
        return datetime.max.replace(tzinfo=UTC) - timedelta(days=1)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Engine]]:
    folder: Path = tmp_path_factory.mktemp("tails")
    made = tuple(open_database(f"sqlite:///{folder / name}.db") for name in ("some", "all"))
    for engine in made:
        migrate(engine)
    yield made[0], made[1]
    for engine in made:
        engine.dispose()


def a_world(engine: Engine, work_type: type[SqlAlertWork], cool_down: int) -> World:
    with transaction(engine) as connection:
        for table in (alert_events, alerts, alert_evaluations, outbox, subscriptions):
            connection.execute(delete(table))
    options = AlertOptions(cool_down=timedelta(days=cool_down), old_news=timedelta(days=9999))
    world = World(engine, work_type=work_type, options=options)
    world.subscribe(a_subscription())
    return world


def everything(world: World) -> list[Any]:
    return [(alert, world.kinds(alert), world.said_of(alert)) for alert in world.alerts()]


HAPPENINGS = st.lists(
    st.one_of(
        st.tuples(st.just("looks"), st.lists(st.tuples(st.sampled_from(RULES), st.integers(0, 14)), max_size=6)),
        st.tuples(st.just("resolve"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.sampled_from((2, 30))),
    ),
    min_size=6,
    max_size=16,
)


def check_the_same(engines: tuple[Engine, Engine], work_type: type[SqlAlertWork], examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        happenings=HAPPENINGS,
        letters=st.text("hhhcccceb?", min_size=64, max_size=64),
        counts=st.tuples(st.integers(1, 2), st.integers(1, 3)),
        cool_down=st.sampled_from((0, 3)),
        apart=st.sampled_from((1, 1, 13)),
    )
    def check(happenings: Any, letters: str, counts: tuple[int, int], cool_down: int, apart: int) -> None:
        worlds = [a_world(engines[0], work_type, cool_down), a_world(engines[1], FoldsAll, cool_down)]
        grave = a_rule("wilting", severity=Severity.CRITICAL, looks_to_open=counts[0])
        lesser = a_rule("dry", looks_to_open=counts[0], looks_to_resolve=counts[1])
        start, drawn = NOON.date() - timedelta(days=15 * apart), iter(letters * 9)
        for number, (what, which) in enumerate(happenings):
            seen = [
                a_look(start + timedelta(days=day * apart), LETTERS[next(drawn)], rule, fingerprint=f"v{number}")
                for rule, day in (which if what == "looks" else ())
            ]
            for world in worlds:
                world.clock.move(hours=which if what == "wait" else 0, minutes=1)
                world.absorb(seen, grave, lesser)
                live = [alert for alert in world.alerts() if alert.state in LIVE]
                if what == "resolve" and which < len(live):
                    world.service.resolve(live[which].alert_id, "ama", "seen to")
            assert everything(worlds[0]) == everything(worlds[1])

    check()


def test_the_end_of_a_history_folds_into_what_all_of_it_folds_into(engines: tuple[Engine, Engine]) -> None:
    check_the_same(engines, SqlAlertWork, 60)


@pytest.mark.parametrize("mutant", [LooksTooLate, ForgetsDuplicates])
def test_it_would_be_seen_if_it_did_not(engines: tuple[Engine, Engine], mutant: type[SqlAlertWork]) -> None:
    with pytest.raises(AssertionError):
        check_the_same(engines, mutant, 300)


@settings(max_examples=300, deadline=None)
@given(
    letters=st.text("hcceb", max_size=20),
    counts=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    place=st.integers(0, 20),
    missing=st.integers(0, 20),
)
def test_a_tail_folds_into_the_last_spans(letters: str, counts: tuple[int, int], place: int, missing: int) -> None:
    """Wherever what is read begins, a tail that is found holds every span that is not over before it, whole."""
    rule = a_rule(looks_to_open=counts[0], looks_to_resolve=counts[1])
    day = NOON.date()
    history = looks(day, letters)

    found = tail(history[missing:], day + timedelta(days=place), rule)

    if found is not None:
        begins = found[0].day if found else date.max
        assert begins <= day + timedelta(days=min(place, len(letters))) or not found
        assert fold(found, rule) == [span for span in fold(history, rule) if span.last_day >= begins]


class CountsReads(SqlAlertWork):
    """Counts the looks that are read."""

    read = 0

    def verdicts(self, farm_id: str, *args: Any, **kwargs: Any) -> dict[str, list[Evaluation]]:
        found = super().verdicts(farm_id, *args, **kwargs)
        type(self).read += sum(map(len, found.values()))
        return found


def test_a_day_more_does_not_read_years(engines: tuple[Engine, Engine]) -> None:
    world = a_world(engines[0], CountsReads, 3)
    start = world.today - timedelta(days=700)
    world.absorb(looks(start, "hhcb" * 170 + "cc"))
    CountsReads.read = 0

    world.absorb([a_look(world.today, LETTERS["h"], farm_id=FARM)])

    assert [alert.state in LIVE for alert in world.alerts()][-1]
    assert 0 < CountsReads.read < 30
