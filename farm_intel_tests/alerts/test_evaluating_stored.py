"""Evaluation over the real database says what it says over the stores in memory that alerts are scored on."""

from __future__ import annotations

import json

import pytest

from farm_intel.alerts.evaluating import DAILY_KINDS, AlertEvaluating
from farm_intel.alerts.facts import Explains, parse_cell
from farm_intel.alerts.reading import Nothing, Sources
from farm_intel.alerts.rules import load_alert_rules
from farm_intel.cli.alert_scoring import assess_seasons
from farm_intel.domain.alerts import RuleVerdict
from farm_intel.indices.registry import load_registry
from farm_intel.indices.state_rules import load_state_rules
from farm_intel.simulation.season_stores import SeasonAssessments, SeasonFarms, SeasonLogbook, SeasonObservations
from farm_intel.simulation.seasons import SeasonOptions, simulate_seasons
from farm_intel.storage.assessments import SqlAssessmentStore
from farm_intel.storage.database import migrate, open_database

RULES, REGISTRY, STATES = load_alert_rules(), load_registry(), load_state_rules()
FARMS = {
    farm.farm_id: farm for farm in simulate_seasons(SeasonOptions(seed=31, farms=2), REGISTRY.select(STATES.indices))
}


def evaluated(assessments):
    assess_seasons(FARMS, assessments, REGISTRY, STATES, RULES.indices)
    evaluating = AlertEvaluating(
        sources=Sources(
            farms=SeasonFarms(FARMS),
            observations=SeasonObservations(FARMS),
            assessments=assessments,
            logbook=SeasonLogbook(FARMS),
            weather=Nothing(),
            occurrences=Nothing(),
            pixels=Nothing(),
        ),
        rules=RULES,
        explains={"harvest": Explains(facts=frozenset({"canopy_loss"}), days=60)},
        state_indices=STATES.indices,
    )
    start, end = min(farm.start for farm in FARMS.values()), max(farm.end for farm in FARMS.values())
    rules = [rule for rule in RULES.rules if rule.kind not in DAILY_KINDS]
    return list(evaluating.evaluate(list(FARMS), (start, end), rules))


@pytest.fixture(scope="module")
def in_memory():
    return evaluated(SeasonAssessments())


def test_the_database_gives_the_same_evaluations(in_memory, tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'alerts.db'}")
    migrate(engine)
    stored = evaluated(SqlAssessmentStore(engine))
    assert [(e.farm_id, e.rule, e.day, e.verdict) for e in stored] == [
        (e.farm_id, e.rule, e.day, e.verdict) for e in in_memory
    ]
    # days of seasons keep six decimals in the database, and evaluations round to as many
    assert all(
        (one.value is None) is (other.value is None) and abs((one.value or 0.0) - (other.value or 0.0)) < 2e-6
        for one, other in zip(stored, in_memory, strict=True)
    )


def test_order_and_evidence(in_memory):
    assert {e.verdict for e in in_memory} >= {RuleVerdict.HOLDS, RuleVerdict.CLEAR, RuleVerdict.UNKNOWN}
    order = [rule.slug for rule in RULES.rules]
    keys = [(list(FARMS).index(e.farm_id), order.index(e.rule), e.day) for e in in_memory]
    assert keys == sorted(set(keys))
    for one in in_memory:
        assert json.loads(json.dumps(one.evidence)) == one.evidence
        if one.verdict is RuleVerdict.HOLDS:
            cells = [parse_cell(str(cell)) for cell in one.evidence["cells"]]
            assert cells
            assert all(cell.farm_id == one.farm_id and cell.solar_day <= one.day for cell in cells)
            assert one.evidence["scenes"]
