"""The farm-state use case: from stored fused observations and seasons to a state per farm and day, stored."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from hashlib import blake2b
from itertools import batched

from farm_intel.domain.assessment import FarmState, FusedObservation, Season, StateReason
from farm_intel.domain.farm_events import FarmEvent, detect_events
from farm_intel.domain.farm_state import RuleTable, StateCourse, classify, state_on
from farm_intel.domain.farms import Farm
from farm_intel.domain.ports import AssessmentStore, Clock, FarmStore
from farm_intel.domain.state_facts import Axis, build_facts, index_series
from farm_intel.indices.state_rules import StateRules

FARMS_AT_ONCE = 200
"""Farms that are read together: few enough for a laptop's memory."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FarmCourse:
    """Everything the states of one farm are told from."""

    farm_id: str
    table: RuleTable
    course: StateCourse
    events: tuple[FarmEvent, ...]
    inputs: tuple[tuple[date, str], ...]
    """(day, fingerprint) of everything used, ascending by day; rules and crop come first."""


class StatesService:
    """Tells states and events; the rules are data, see `indices/states.toml`."""

    def __init__(self, *, farms: FarmStore, assessments: AssessmentStore, rules: StateRules, clock: Clock) -> None:
        """Keep the ports and the rule tables."""
        self._farms = farms
        self._assessments = assessments
        self._rules = rules
        self._clock = clock

    def build_states(self, farm_ids: Sequence[str], *, start: date, end: date) -> Iterator[FarmState]:
        """Tell and store the states of farms on the days from `start` to `end`, ordered by batch, farm and day.

        A day's state rests on what was observed up to that day. What rests on the same as the stored one is left alone.
        A farm without any usable observation is `unknown`, and the reasons say so.

        Raises:
            StoreError: the store refused.

        """
        farms = {farm.farm_id: farm for farm in self._farms.list(include_inactive=True)}
        for batch in batched(dict.fromkeys(farm_ids), FARMS_AT_ONCE):
            stored = {
                (state.farm_id, state.day): state
                for state in self._assessments.states(farm_ids=batch, start=start, end=end)
            }
            told: list[FarmState] = []
            for course in self._courses(batch, end, farms):
                told += _states(course, start, end, stored)
            changed = [state for state in told if state is not stored.get((state.farm_id, state.day))]
            if changed:
                self._assessments.save_states(changed, recorded_at=self._clock.now())
            yield from told

    def events(self, farm_ids: Sequence[str], *, until: date) -> Iterator[tuple[str, FarmEvent]]:
        """Yield (farm, event) for everything that is told from the observations up to a day; stores nothing."""
        farms = {farm.farm_id: farm for farm in self._farms.list(include_inactive=True)}
        for batch in batched(dict.fromkeys(farm_ids), FARMS_AT_ONCE):
            for course in self._courses(batch, until, farms):
                for event in course.events:
                    yield course.farm_id, event

    def _courses(self, farm_ids: tuple[str, ...], end: date, farms: Mapping[str, Farm]) -> Iterator[FarmCourse]:
        fused: dict[str, dict[str, list[FusedObservation]]] = defaultdict(lambda: defaultdict(list))
        for item in self._assessments.fused(
            farm_ids=farm_ids, indices=self._rules.indices, end=end, usable=True, with_candidates=False
        ):
            fused[item.farm_id][item.index].append(item)
        seasons: dict[str, dict[str, Season]] = defaultdict(dict)
        for season in self._assessments.seasons(farm_ids=farm_ids, indices=self._canopy_indices()):
            seasons[season.farm_id][season.index] = season
        for farm_id in farm_ids:
            yield farm_course(farm_id, farms.get(farm_id), fused[farm_id], seasons[farm_id], self._rules)

    def _canopy_indices(self) -> list[str]:
        return [row.index for row in self._rules.generic.axes if row.axis is Axis.CANOPY]


def farm_course(
    farm_id: str,
    farm: Farm | None,
    fused: Mapping[str, Sequence[FusedObservation]],
    seasons: Mapping[str, Season],
    rules: StateRules,
) -> FarmCourse:
    """Return the course of a farm's state and its events.

    Args:
        farm_id: the farm.
        farm: its crop and planting day; None where it is not known any more.
        fused: index -> usable fused observations, ascending by day.
        seasons: index -> season, for the anomaly against earlier ones.
        rules: the rule tables.

    """
    table = rules.table(farm.crop if farm else None)
    series = {
        index: index_series(
            index,
            [
                (
                    item.solar_day.toordinal(),
                    item.value,
                    float("nan") if item.standard_error is None else item.standard_error,
                    item.confidence,
                )
                for item in items
                if item.value is not None
            ],
        )
        for index, items in fused.items()
    }
    plantings = (farm.planting_date.toordinal(),) if farm and farm.planting_date else ()
    canopy = next((row.index for row in table.axes if row.axis is Axis.CANOPY and row.index in series), None)
    anomalies = _anomalies(seasons.get(canopy) if canopy else None)
    facts = build_facts(
        series,
        table.axes,
        table.parameters,
        plantings=plantings,
        anomaly_z=anomalies,
        pair=table.brightness,
    )
    inputs = [(item.solar_day, f"{index} {item.fingerprint}") for index, items in fused.items() for item in items]
    inputs += [(date.fromordinal(day), f"anomaly {z:.4f}") for day, z in anomalies.items()]
    return FarmCourse(
        farm_id=farm_id,
        table=replace(table, crop=farm.crop if farm else None),
        course=classify(facts, table),
        events=detect_events(facts, table.events),
        inputs=((date.min, f"{table}{plantings}"), *sorted(inputs)),
    )


def _anomalies(season: Season | None) -> dict[int, float]:
    if season is None:
        return {}
    return {
        day.day.toordinal(): day.anomaly / day.baseline_spread
        for day in season.days
        if day.anomaly is not None and day.baseline_spread
    }


def _states(
    course: FarmCourse, start: date, end: date, stored: Mapping[tuple[str, date], FarmState]
) -> Iterator[FarmState]:
    """Yield the states of a farm, the stored one where it rests on the same."""
    digest = blake2b(digest_size=16)
    position = 0
    for number in range((end - start).days + 1):
        day = start + timedelta(days=number)
        while position < len(course.inputs) and course.inputs[position][0] <= day:
            digest.update(course.inputs[position][1].encode())
            position += 1
        events = [event for event in course.events if event.known <= day.toordinal()]
        recent = [event for event in events if day.toordinal() - event.known <= course.table.event_days]
        own = digest.copy()
        own.update(f"{day} {recent}".encode())
        fingerprint = own.hexdigest()
        before = stored.get((course.farm_id, day))
        if before is not None and before.fingerprint == fingerprint:
            yield before
            continue
        yield _with_event(state_on(course.course, course.table, farm_id=course.farm_id, day=day), recent, fingerprint)


def _with_event(state: FarmState, recent: Sequence[FarmEvent], fingerprint: str) -> FarmState:
    """Return the state with the latest of the events that have just become known."""
    if not recent:
        return replace(state, fingerprint=fingerprint)
    event = max(recent, key=lambda one: (one.day, one.name))
    reasons = (
        StateReason(index="", fact="event_days_ago", value=float(state.day.toordinal() - event.day)),
        StateReason(index="", fact="event_day_sigma_days", value=event.sigma_days),
        StateReason(index="", fact="event_strength", value=event.strength),
    )
    known = tuple(reason for reason in reasons if not math.isnan(reason.value))
    return replace(state, event=event.name, reasons=(*state.reasons, *known), fingerprint=fingerprint)
