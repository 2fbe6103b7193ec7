"""From a number and a rule's thresholds to an evaluation with its evidence; what all evaluators share."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from farm_intel.alerts.explaining import explain
from farm_intel.alerts.facts import DayFacts, cell_text
from farm_intel.alerts.kinds import BELOW
from farm_intel.domain.alerts import AlertRule, Evaluation, RuleVerdict
from farm_intel.domain.assessment import FarmState, FusedObservation
from farm_intel.domain.observations import ObservationKey

DECIMALS = 6
"""Values are rounded, so that equal input gives equal rows on every machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What an evaluator found, before explanations."""

    verdict: RuleVerdict
    value: float | None = None
    threshold: float | None = None
    unit: str = ""
    note: str = ""
    """Why nothing is known, or what the value is made of; for people who look into it."""
    looks: tuple[FusedObservation, ...] = ()
    """The looks it rests on."""
    state: FarmState | None = None
    details: dict[str, object] = field(default_factory=dict)
    """Further evidence, JSON-ready."""


def number(rule: AlertRule, name: str) -> float:
    """Return a numeric parameter; the table was checked when it was loaded."""
    return float(rule.parameters[name])


def text(rule: AlertRule, name: str) -> str:
    """Return a text parameter; the table was checked when it was loaded."""
    return str(rule.parameters[name])


def judge(value: float, enter: float, leave: float, direction: str) -> RuleVerdict:
    """Return on which side of the two thresholds a value is.

    Args:
        value: what was found.
        enter: beyond it the rule holds.
        leave: on the good side of it (or on it) it is clear.
        direction: `below` or `above`: where it holds.

    """
    sign = 1.0 if direction == BELOW else -1.0
    if sign * value < sign * enter:
        return RuleVerdict.HOLDS
    return RuleVerdict.BETWEEN if sign * value < sign * leave else RuleVerdict.CLEAR


def unknown(note: str, *, looks: Sequence[FusedObservation] = (), state: FarmState | None = None) -> Finding:
    """Return that nothing can be said, and why."""
    return Finding(verdict=RuleVerdict.UNKNOWN, note=note, looks=tuple(looks), state=state)


def gate(rule: AlertRule, facts: DayFacts) -> tuple[FusedObservation, float] | Finding | None:
    """Return the day's look at a rule's index and its value, where it can be judged.

    None without a look; a finding where the look is too unsure, or the crop is in no stage the rule is for.
    """
    look = facts.look(rule.index)
    if look is None:
        return None
    if look.value is None:
        return unknown(f"no usable look: {look.reason}", looks=[look])
    minimum = number(rule, "min_confidence")
    if look.confidence < minimum:
        return unknown(f"confidence {look.confidence:.3f} is below {minimum:g}", looks=[look])
    return outside_stages(rule, facts, [look]) or (look, look.value)


def outside_stages(rule: AlertRule, facts: DayFacts, looks: Sequence[FusedObservation]) -> Finding | None:
    """Return that a rule says nothing in the crop's present stage; None where it does."""
    if not rule.stages:
        return None
    stage = facts.stage()
    if stage is None:
        return unknown("the crop's stage is not known: give crop and planting date", looks=looks)
    if stage in rule.stages:
        return None
    return Finding(
        verdict=RuleVerdict.CLEAR, note=f"stage {stage}; the rule is for {', '.join(rule.stages)}", looks=tuple(looks)
    )


def conclude(rule: AlertRule, facts: DayFacts, finding: Finding) -> Evaluation:
    """Return the evaluation of a finding: explained where something explains it, with all its evidence."""
    verdict, evidence = finding.verdict, _evidence(rule, facts, finding)
    if verdict is RuleVerdict.HOLDS and (why := explain(rule, facts)):
        verdict = RuleVerdict.EXPLAINED
        evidence["explained_by_state"] = why.state
        evidence["log_entries"] = [
            {"entry_id": one.entry_id, "type": one.type, "done_at": one.done_at.isoformat()} for one in why.entries
        ]
    value, threshold = _rounded(finding.value), _rounded(finding.threshold)
    digest = blake2b(f"{rule.version} {facts.farm.farm_id} {facts.day} {verdict} {value} {threshold}\n".encode())
    digest.update(json.dumps(evidence, sort_keys=True).encode())
    return Evaluation(
        farm_id=facts.farm.farm_id,
        rule=rule.slug,
        day=facts.day,
        verdict=verdict,
        value=value,
        threshold=threshold,
        evidence=evidence,
        fingerprint=digest.hexdigest()[:32],
    )


def _evidence(rule: AlertRule, facts: DayFacts, finding: Finding) -> dict[str, object]:
    cells = list(dict.fromkeys(key for look in finding.looks for key in facts.cells(look)))
    evidence: dict[str, object] = {
        "index": rule.index,
        "unit": finding.unit,
        "note": finding.note,
        "confidence": _rounded(finding.looks[-1].confidence if finding.looks else None),
        "looks": [_look(look) for look in finding.looks],
        "cells": [cell_text(key) for key in cells],
        **_lineage(facts, cells),
        **finding.details,
    }
    if rule.stages:
        evidence["stage"] = facts.stage()
    if finding.state is not None:
        evidence["state"] = _state(finding.state)
        evidence["confidence"] = _rounded(finding.state.confidence)
    return evidence


def _look(look: FusedObservation) -> dict[str, object]:
    return {
        "index": look.index,
        "day": look.solar_day.isoformat(),
        "value": _rounded(look.value),
        "standard_error": _rounded(look.standard_error),
        "confidence": _rounded(look.confidence),
        "flags": list(look.flags),
        "fingerprint": look.fingerprint,
    }


def _lineage(facts: DayFacts, cells: Sequence[ObservationKey]) -> dict[str, object]:
    """Return scenes and rasters behind the cells."""
    scenes: dict[str, None] = {}
    rasters: list[dict[str, object]] = []
    for key in cells:
        seen = facts.farm.observations.get(key)
        if seen is None:
            continue
        scenes.update(dict.fromkeys(seen.scene_ids))
        if seen.raster_sha256:
            rasters.append({"cell": cell_text(key), "sha256": seen.raster_sha256, "band": seen.raster_band})
    return {"scenes": list(scenes), "rasters": rasters}


def _state(state: FarmState) -> dict[str, object]:
    return {
        "state": state.state,
        "event": state.event,
        "since": state.since.isoformat(),
        "rule_table": state.rule_table,
        "fingerprint": state.fingerprint,
        "reasons": [
            {
                "index": reason.index,
                "fact": reason.fact,
                "value": _rounded(reason.value),
                "threshold": _rounded(reason.threshold),
                "source": reason.source,
            }
            for reason in state.reasons
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, DECIMALS)
