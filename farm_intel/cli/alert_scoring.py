"""The use cases over simulated seasons, in memory: what `farm-intel accuracy` scores alerts by."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from farm_intel.alerts.evaluating import AlertEvaluating
from farm_intel.alerts.facts import Explains
from farm_intel.alerts.reading import Nothing, Sources
from farm_intel.alerts.rules import AlertRules, stage_at
from farm_intel.alerts.spans import open_spans
from farm_intel.assessing.season import SeasonService
from farm_intel.assessing.service import AssessingService
from farm_intel.assessing.states import StatesService
from farm_intel.simulation.alert_accuracy import SCORED_SEEDS, AlertReport, ToldAlert, score_alerts
from farm_intel.simulation.alert_truth import is_scored
from farm_intel.simulation.season_stores import (
    SeasonAssessments,
    SeasonFarms,
    SeasonLogbook,
    SeasonObservations,
    SeasonTime,
)

if TYPE_CHECKING:
    from farm_intel.domain.ports import AssessmentStore
    from farm_intel.indices.registry import IndexRegistry
    from farm_intel.indices.state_rules import StateRules
    from farm_intel.simulation.seasons import SimulatedFarm


def score_alert_rules(
    rules: AlertRules,
    registry: IndexRegistry,
    state_rules: StateRules,
    explains: Mapping[str, Explains],
    *,
    seeds: Sequence[int] = SCORED_SEEDS,
    farms: int = 120,
) -> AlertReport:
    """Return the scoreboard of alerts on simulated seasons.

    Args:
        rules: the rule table.
        registry: the indices.
        state_rules: the farm-state rules.
        explains: activity type -> what such work explains; harvests are logged as type `harvest`.
        seeds: of the seasons.
        farms: per seed.

    """
    slugs = list(dict.fromkeys((*state_rules.indices, *rules.indices)))

    def tell(simulated: Mapping[str, SimulatedFarm]) -> Iterator[ToldAlert]:
        return tell_alerts(simulated, rules, registry, state_rules, explains)

    return score_alerts(
        tell,
        rules.rules,
        registry.select(slugs),
        stage_of=lambda crop, age: stage_at(rules.stages_of(crop), age),
        seeds=seeds,
        farms=farms,
    )


def tell_alerts(
    simulated: Mapping[str, SimulatedFarm],
    rules: AlertRules,
    registry: IndexRegistry,
    state_rules: StateRules,
    explains: Mapping[str, Explains],
) -> Iterator[ToldAlert]:
    """Assess simulated fields and yield the alerts that the rules open on them, by farm and rule."""
    farms, observations, assessments = SeasonFarms(simulated), SeasonObservations(simulated), SeasonAssessments()
    assess_seasons(simulated, assessments, registry, state_rules, rules.indices)
    sources = Sources(
        farms=farms,
        observations=observations,
        assessments=assessments,
        logbook=SeasonLogbook(simulated),
        weather=Nothing(),
        occurrences=Nothing(),
        pixels=Nothing(),
    )
    evaluating = AlertEvaluating(sources=sources, rules=rules, explains=explains, state_indices=state_rules.indices)
    scored = {rule.slug: rule for rule in rules.rules if is_scored(rule)}
    for farm in simulated.values():
        evaluations = evaluating.evaluate([farm.farm_id], (farm.start, farm.end), tuple(scored.values()))
        for slug, of_rule in groupby(evaluations, key=lambda one: one.rule):
            for opened, resolved in open_spans(of_rule, scored[slug]):
                yield ToldAlert(farm_id=farm.farm_id, rule=slug, opened=opened, resolved=resolved)


def assess_seasons(
    simulated: Mapping[str, SimulatedFarm],
    assessments: AssessmentStore,
    registry: IndexRegistry,
    state_rules: StateRules,
    rule_indices: Sequence[str],
) -> None:
    """Run the use cases that rules rest on, over all fields and days; what they yield is in the store."""
    farms, observations = SeasonFarms(simulated), SeasonObservations(simulated)
    clock, farm_ids = SeasonTime(), list(simulated)
    start, end = min(farm.start for farm in simulated.values()), max(farm.end for farm in simulated.values())
    assessing = AssessingService(observations=observations, assessments=assessments, registry=registry, clock=clock)
    slugs = list(dict.fromkeys((*state_rules.indices, *rule_indices)))
    _run(assessing.fuse(farm_ids, slugs, start=start, end=end))
    # States look at the seasons of the first canopy index that is there, which here is the first of all.
    seasonal = list(dict.fromkeys((state_rules.indices[0], *rule_indices)))
    _run(assessing.build_series(farm_ids, seasonal))
    seasons = SeasonService(farms=farms, assessments=assessments, registry=registry, rules=state_rules, clock=clock)
    _run(seasons.build_seasons(farm_ids, seasonal))
    states = StatesService(farms=farms, assessments=assessments, rules=state_rules, clock=clock)
    _run(states.build_states(farm_ids, start=start, end=end))


def _run(results: Iterator[object]) -> None:
    deque(results, maxlen=0)
