"""The evaluate-rules use case: stored assets of farms in, one evaluation per farm, rule and day with a look out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, partial
from itertools import batched

from farm_intel.alerts import day_evaluators, index_evaluators
from farm_intel.alerts.explaining import LONGEST_DAYS
from farm_intel.alerts.facts import DayFacts, Explains, FarmFacts, OnDemand, group_looks, known_by
from farm_intel.alerts.judging import Finding, conclude
from farm_intel.alerts.reading import Sources
from farm_intel.alerts.rules import AlertRules
from farm_intel.domain.activities import LogEntry, Occurrence
from farm_intel.domain.alerts import AlertRule, Evaluation
from farm_intel.domain.assessment import FarmState, SeasonDay
from farm_intel.domain.farms import Farm
from farm_intel.domain.observations import Observation, ObservationKey, ObservationStatus

FARMS_AT_ONCE = 50
"""Farms that are read together: few enough for a laptop's memory, candidates and observations included."""
REACH_DAYS = 60
"""How far before the first day looks, calendar, weather and occurrences are read; no window of a rule may be longer."""
_MOST_OCCURRENCES = 100_000
"""Of one farm within the reach; more than any plan has."""
_COMPOSITE_DAYS = 31
"""A composite is filed under its window's first day, up to this long before the day its pixels were seen."""

type Evaluator = Callable[[AlertRule, DayFacts], Finding | None]

EVALUATORS: Mapping[str, Evaluator] = {
    "threshold": index_evaluators.threshold,
    "drop": index_evaluators.drop,
    "anomaly": index_evaluators.anomaly,
    "area_share": index_evaluators.area_share,
    "state": day_evaluators.state,
    "silence": day_evaluators.silence,
    "weather": day_evaluators.weather,
    "overdue": day_evaluators.overdue,
}
"""One per kind of rule. Returns None on a day that the rule says nothing of."""

DAILY_KINDS = frozenset({"silence", "weather", "overdue"})
"""Kinds that are evaluated on every day, also without a look."""
SEASON_KINDS = frozenset({"anomaly"})
"""Kinds that read stored seasons."""


class AlertEvaluating:
    """Evaluates rules over what is stored; stores nothing itself."""

    def __init__(
        self,
        *,
        sources: Sources,
        rules: AlertRules,
        explains: Mapping[str, Explains],
        state_indices: Sequence[str],
    ) -> None:
        """Keep the readers and the tables.

        Args:
            sources: everything that is read.
            rules: the rule table, with crop stages.
            explains: activity type -> what such work explains.
            state_indices: indices that farm states rest on (`StateRules.indices`).

        """
        self._sources = sources
        self.rules = rules
        self._explains = explains
        self._state_indices = tuple(state_indices)

    def evaluate(
        self,
        farm_ids: Sequence[str],
        days: tuple[date, date],
        rules: Sequence[AlertRule] | None = None,
        *,
        as_of: datetime | None = None,
    ) -> Iterator[Evaluation]:
        """Yield what every rule says of every farm on the days on which it says anything, by farm, rule and day.

        See `batches`.
        """
        for batch in self.batches(farm_ids, days, rules, as_of=as_of):
            yield from batch

    def batches(
        self,
        farm_ids: Sequence[str],
        days: tuple[date, date],
        rules: Sequence[AlertRule] | None = None,
        *,
        as_of: datetime | None = None,
    ) -> Iterator[list[Evaluation]]:
        """Yield evaluations of some farms at a time, by farm, rule and day: what is to be stored together.

        A day's evaluation rests on looks, states, weather and work of that day and before; what was recorded of that
        day later (a look that the next one confirmed, work that was logged late) counts, unless `as_of` says otherwise.

        Args:
            farm_ids: unknown ones are left out.
            days: first and last day.
            rules: None for all of the table.
            as_of: leave out log entries recorded after it.

        Raises:
            StoreError: a store could not be read.

        """
        chosen = self.rules.rules if rules is None else tuple(rules)
        farms = {farm.farm_id: farm for farm in self._sources.farms.list(include_inactive=True)}
        known = [farms[farm_id] for farm_id in dict.fromkeys(farm_ids) if farm_id in farms]
        for batch in batched(known, FARMS_AT_ONCE):
            yield [
                evaluation
                for facts in self._facts(batch, days, chosen, as_of)
                for rule in chosen
                for evaluation in evaluate_rule(rule, facts, days)
            ]

    def _facts(
        self, farms: Sequence[Farm], days: tuple[date, date], rules: Sequence[AlertRule], as_of: datetime | None
    ) -> Iterator[FarmFacts]:
        """Yield what is stored of farms, read in batches where the stores can."""
        farm_ids, indices = [farm.farm_id for farm in farms], self._indices(rules)
        first, last = _before(days[0], REACH_DAYS), days[1]
        read = self._sources.assessments
        # without a look on the days no rule asks for the looks before
        seen = {
            look.farm_id
            for look in read.fused(farm_ids=farm_ids, indices=indices, start=days[0], end=last, with_candidates=False)
        }
        looks = group_looks(list(read.fused(farm_ids=sorted(seen), indices=indices, start=first, end=last)))
        occurrences: dict[str, list[Occurrence]] = defaultdict(list)
        for one in self._sources.occurrences.find(
            farm_ids=farm_ids, start=first, end=last, limit=_MOST_OCCURRENCES * len(farm_ids)
        ):
            occurrences[one.farm_id].append(one)
        states: dict[str, list[FarmState]] = defaultdict(list)
        for state in read.states(farm_ids=farm_ids, start=days[0], end=last):
            states[state.farm_id].append(state)
        for farm in farms:
            farm_id = farm.farm_id
            yield FarmFacts(
                farm_id=farm_id,
                crop=farm.crop.strip().lower() if farm.crop else None,
                planted=farm.planting_date,
                looks=looks[farm_id],
                observations=OnDemand(partial(self._cells, farm_id, indices, (first, last))),
                seasons=OnDemand(partial(self._seasons, farm_id, rules)),
                states=states[farm_id],
                calendar=self._sources.observations.calendar(farm_id=farm_id, start=first, end=last),
                log=cache(partial(self._log, farm_id, days, as_of)),
                weather=self._sources.weather.daily(farm_id, first, last),
                has_weather=cache(partial(self._has_weather, farm_id)),
                occurrences=occurrences[farm_id],
                pixels=self._sources.pixels,
                explains=self._explains,
                stages=self.rules.stages_of(farm.crop),
            )

    def _indices(self, rules: Sequence[AlertRule]) -> list[str]:
        named = [rule.index for rule in rules if rule.index]
        return list(dict.fromkeys((*named, *self._state_indices)))

    def _cells(
        self, farm_id: str, indices: Sequence[str], days: tuple[date, date]
    ) -> Mapping[ObservationKey, Observation]:
        found = self._sources.observations.observations(
            farm_ids=[farm_id],
            indices=indices,
            start=_before(days[0], _COMPOSITE_DAYS),
            end=days[1],
            statuses=[ObservationStatus.OBSERVED],
        )
        return {seen.key: seen for seen in found}

    def _seasons(self, farm_id: str, rules: Sequence[AlertRule]) -> Mapping[str, Mapping[date, SeasonDay]]:
        wanted = list(dict.fromkeys(rule.index for rule in rules if rule.kind in SEASON_KINDS))
        found = self._sources.assessments.seasons(farm_ids=[farm_id], indices=wanted)
        return {season.index: {day.day: day for day in season.days} for season in found}

    def _log(self, farm_id: str, days: tuple[date, date], as_of: datetime | None) -> Sequence[LogEntry]:
        start, end = _midnight(_before(days[0], LONGEST_DAYS)), _midnight(days[1] + timedelta(days=1))
        return known_by(self._sources.logbook.explaining(farm_id, start, end), as_of)

    def _has_weather(self, farm_id: str) -> bool:
        return bool(self._sources.weather.daily(farm_id, date.min, date.max))


def evaluate_rule(rule: AlertRule, facts: FarmFacts, days: tuple[date, date]) -> Iterator[Evaluation]:
    """Yield what a rule says of a farm on the days from first to last on which it says anything."""
    if rule.crops and facts.crop not in rule.crops:
        return
    evaluator = EVALUATORS[rule.kind]
    for day in _days_of(rule, facts, days):
        on_day = facts.on(day)
        finding = evaluator(rule, on_day)
        if finding is not None:
            yield conclude(rule, on_day, finding)


def _days_of(rule: AlertRule, facts: FarmFacts, days: tuple[date, date]) -> Iterator[date]:
    first, last = days
    if rule.kind in DAILY_KINDS:
        for number in range((last - first).days + 1):
            yield first + timedelta(days=number)
        return
    looked = facts.look_days(rule.index) if rule.index else facts.any_look_days()
    yield from (day for day in looked if first <= day <= last)


def _before(day: date, days: int) -> date:
    return day - timedelta(days=min(days, (day - date.min).days))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


__all__ = ["DAILY_KINDS", "EVALUATORS", "AlertEvaluating", "evaluate_rule"]
