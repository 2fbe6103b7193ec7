"""The rule table: what ships is sound, what users write is merged, and every mistake is told with its place."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from farm_intel.alerts.evaluating import EVALUATORS, REACH_DAYS
from farm_intel.alerts.kinds import KINDS
from farm_intel.alerts.rules import OVER, load_alert_rules, rule_as_dict, rule_from_dict, stage_at
from farm_intel.domain.alerts import Severity
from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.indices.registry import load_registry
from farm_intel.indices.state_rules import load_state_rules

RULES = load_alert_rules()
ROW = """
[policy.mine]
steps = [{ after_h = 0.5 }, { after_h = 1.5, audience = "owner", min_severity = "critical" }]
[[rule]]
slug = "own"
class = "stress"
kind = "threshold"
severity = "warning"
policy = "mine"
index = "ndvi"
source = "our field book"
parameters = { enter = 0.4, leave = 0.5 }
"""


def written(tmp_path, text):
    path = tmp_path / "own.toml"
    path.write_text(text)
    return path


def test_every_kind_has_an_evaluator_and_a_shipped_rule():
    assert set(KINDS) == set(EVALUATORS) == {rule.kind for rule in RULES.rules}


def test_the_shipped_rules_name_indices_states_events_and_facts_that_exist():
    registry, states = load_registry(), load_state_rules()
    load_alert_rules(indices=[index.slug for index in registry.list()])
    facts = {f"{axis.value}_is_{rule.state}" for axis, rules in states.generic.rules.items() for rule in rules}
    for rule in RULES.rules:
        for name, known in (
            ("events", states.events),
            ("explaining_events", states.events),
            ("states", states.states),
            ("keeping_states", states.states),
            ("explaining_states", states.states),
            ("facts", facts),
            ("keeping_facts", facts),
        ):
            named = {part.strip() for part in str(rule.parameters.get(name, "")).split(",") if part.strip()}
            assert named <= set(known), (rule.slug, name)


def test_every_shipped_rule_says_where_its_numbers_come_from_and_reads_no_further_than_is_read():
    for rule in RULES.rules:
        assert len(rule.source) > 20, rule.slug
        assert all(step.after > timedelta() for step in rule.steps), "the opening itself is told without a step"
        for name in ("days", "window_days", "forget_days", "enter"):
            if rule.kind in {"drop", "weather", "overdue", "silence"}:
                assert float(rule.parameters.get(name, 0.0)) <= REACH_DAYS, rule.slug


def test_a_rule_survives_storage_as_json():
    for rule in RULES.rules:
        assert rule_from_dict(json.loads(json.dumps(rule_as_dict(rule)))) == rule


def test_the_version_changes_with_every_part_of_the_row(tmp_path):
    versions = {load_alert_rules([written(tmp_path, ROW)]).get("own").version}
    for number, (old, new) in enumerate(
        [("0.4", "0.41"), ("warning", "info"), ("1.5", "2"), ("field book", "neighbour"), ('"ndvi"', '"evi"')]
    ):
        path = tmp_path / f"{number}.toml"
        path.write_text(ROW.replace(old, new))
        versions.add(load_alert_rules([path]).get("own").version)
    assert len(versions) == 6


def test_a_users_file_adds_replaces_and_removes(tmp_path):
    text = ROW + ROW[ROW.index("[[rule]]") :].replace('"own"', '"flood"') + '[[rule]]\nslug = "frost"\noff = "yes"\n'
    rules = load_alert_rules([written(tmp_path, text)])
    assert rules.get("own").steps[1].after == timedelta(minutes=90)
    assert rules.get("own").steps[1].min_severity is Severity.CRITICAL
    assert rules.get("flood").kind == "threshold"
    assert len(rules.rules) == len(RULES.rules)
    with pytest.raises(UnknownNameError, match="drought_stress"):
        rules.get("frost")


def test_a_users_stages_replace_those_of_the_crop_only(tmp_path):
    text = '[[stage]]\ncrop = "Maize"\nname = "mid"\nfrom_day = 10\nto_day = 20\nsource = "here"\n'
    rules = load_alert_rules([written(tmp_path, text)])
    assert [stage_at(rules.stages_of(" maize "), day) for day in (-1, 9, 10, 19, 20)] == [
        None,
        OVER,
        "mid",
        "mid",
        OVER,
    ]
    assert rules.stages_of("wheat") == RULES.stages_of("wheat")
    assert rules.stages_of(None) == rules.stages_of("rice") == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("leave = 0.5", "leave = 0.3", "flaps"),
        ("enter = 0.4, ", "", "enter"),
        ("enter = 0.4", 'enter = "low"', "number"),
        ("leave = 0.5", "leave = 0.5, dayz = 3", "dayz"),
        ("leave = 0.5", 'leave = 0.5, direction = "left"', "direction"),
        ('kind = "threshold"', 'kind = "guess"', "guess"),
        ('index = "ndvi"\n', "", "needs an index"),
        ('index = "ndvi"', 'index = "nvdi"', "nvdi"),
        ('policy = "mine"', 'policy = "yours"', "yours"),
        ('severity = "warning"', 'severity = "bad"', "bad"),
        ('class = "stress"', 'class = "stress"\nstages = ["flowering"]', "flowering"),
        ('class = "stress"', 'class = "stress"\nlooks_to_open = 0', "looks_to_open"),
        ('class = "stress"', 'class = "stress"\nlook_to_open = 2', "look_to_open"),
        ('slug = "own"', 'slug = "Own rule"', "slug"),
        ("after_h = 1.5", "after_h = 0.5", "one after another"),
        ("after_h = 0.5 }", "after_h = 0 }", "not after the alert"),
        ('source = "our field book"\n', "", "source"),
        ("[policy.mine]", "[policy.mine", "TOML"),
    ],
)
def test_mistakes_are_told_with_file_and_key(tmp_path, old, new, said):
    assert old in ROW
    with pytest.raises(BadRequestError, match=said) as told:
        load_alert_rules([written(tmp_path, ROW.replace(old, new))], indices=["ndvi", *RULES.indices])
    assert "own" in str(told.value)


@pytest.mark.parametrize(
    ("kind", "parameters", "said"),
    [
        ("state", "{ keeping_states = 'dry' }", "nothing opens"),
        ("weather", "{ enter = 1, leave = 2 }", "variable"),
        ("silence", "{ enter = 5, leave = 9 }", "flaps"),
        ("overdue", "{ enter = 2, leave = 1, types = 3 }", "text"),
    ],
)
def test_kinds_check_what_they_need(tmp_path, kind, parameters, said):
    text = ROW.replace('"threshold"', f'"{kind}"').replace('index = "ndvi"\n', "")
    with pytest.raises(BadRequestError, match=said):
        load_alert_rules([written(tmp_path, text.replace("{ enter = 0.4, leave = 0.5 }", parameters))])


def test_one_slug_twice_in_a_file_is_refused(tmp_path):
    with pytest.raises(BadRequestError, match="twice"):
        load_alert_rules([written(tmp_path, ROW + ROW[ROW.index("[[rule]]") :])])
