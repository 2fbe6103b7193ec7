"""From decisions in columns to fused observations with their candidates and reasons."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from datetime import date
from hashlib import blake2b

import numpy as np

from farm_intel.domain.assessment import Candidate, Confidence, FusedObservation
from farm_intel.domain.confidence import COMPONENTS
from farm_intel.domain.fusion import (
    CHOSEN,
    COMBINED,
    CONTEXT_ONLY,
    DESPIKED,
    LOW_CONFIDENCE,
    VERDICTS,
    AssessmentRules,
    Decisions,
)
from farm_intel.domain.harmonisation import IDENTITY
from farm_intel.domain.looks import day_text

DISAGREEMENT = "provider_disagreement"
UNCONFIRMED = "unconfirmed_change"
"""The newest value departs like a cloud and nothing has confirmed it yet; it is judged again with the next look."""

_USED = (CHOSEN, COMBINED)
_METHODS = ("none", "single", "weighted")
"""By the number of looks in the value; more than two are weighted too."""


class _Columns:
    """The decisions as Python lists: reading numpy scalars one by one would cost more than everything else."""

    def __init__(self, decisions: Decisions) -> None:
        self.looks = decisions.looks.observations
        self.day = decisions.looks.day.tolist()
        self.farm = decisions.looks.farm.tolist()
        self.sensor = decisions.looks.sensor.tolist()
        self.harmonised = decisions.harmonised.tolist()
        self.sigma = decisions.sigma.tolist()
        self.components = np.round(decisions.components, 4).tolist()
        self.confidence = decisions.confidence.tolist()
        self.verdict = decisions.verdict.tolist()
        self.weight = decisions.weight.tolist()
        self.rival = decisions.rival.tolist()
        self.before = decisions.spikes.before.tolist()
        self.after = decisions.spikes.after.tolist()
        self.unconfirmed = decisions.spikes.unconfirmed.tolist()
        self.gsd_m = decisions.looks.gsd_m.tolist()
        self.fused = decisions.value.tolist()
        self.error = decisions.error.tolist()
        self.day_confidence = decisions.day_confidence.tolist()
        self.low = decisions.low.tolist()
        self.high = decisions.high.tolist()
        self.disagree = decisions.disagree.tolist()


def assemble(
    decisions: Decisions, rules: AssessmentRules, *, days: tuple[date, date] | None = None
) -> Iterator[FusedObservation]:
    """Yield one fused observation per farm and day, ordered by farm and day.

    Args:
        decisions: of one index.
        rules: they were made with.
        days: first and last day to yield; None for all.

    """
    columns = _Columns(decisions)
    bounds = [*decisions.first.tolist(), len(columns.looks)]
    low, high = (days[0].toordinal(), days[1].toordinal()) if days else (0, 1 << 30)
    for number, first in enumerate(bounds[:-1]):
        if low <= columns.day[first] <= high:
            yield _fused(columns, rules, number, range(first, bounds[number + 1]))


def _fused(columns: _Columns, rules: AssessmentRules, number: int, members: range) -> FusedObservation:
    observed = date.fromordinal(columns.day[members[0]])
    used = [k for k in members if columns.verdict[k] in _USED]
    flags: set[str] = set()
    for k in used:
        flags.update(columns.looks[k].flags)
        if columns.unconfirmed[k]:
            flags.add(UNCONFIRMED)
    reason = _day_reason(columns, members, used)
    if columns.disagree[number]:
        flags.add(DISAGREEMENT)
        reason += "; " + _disagreement(columns, columns.low[number], columns.high[number], rules)
    value, confidence = columns.fused[number], columns.day_confidence[number]
    key = columns.looks[members[0]].key
    return FusedObservation(
        farm_id=key.farm_id,
        index=key.index,
        solar_day=observed,
        value=value if used else None,
        standard_error=columns.error[number] if used else None,
        confidence=confidence,
        method=_METHODS[min(len(used), 2)],
        candidates=tuple([_candidate(columns, rules, k, observed) for k in members]),
        flags=tuple(sorted(flags)) if flags else (),
        reason=reason,
        fingerprint=_fingerprint(columns, rules, members, f"{value!r} {confidence!r} {reason}"),
    )


def _candidate(columns: _Columns, rules: AssessmentRules, k: int, observed: date) -> Candidate:
    look = columns.looks[k]
    line = rules.lines[columns.sensor[k]] if rules.lines and columns.sensor[k] >= 0 else IDENTITY
    return Candidate(
        key=look.key,
        observed_day=observed,
        value=look.statistics.mean if look.statistics else math.nan,
        harmonised=columns.harmonised[k],
        harmonisation=line.text,
        standard_error=columns.sigma[k],
        confidence=Confidence(
            value=columns.confidence[k], components=dict(zip(COMPONENTS, columns.components[k], strict=True))
        ),
        verdict=VERDICTS[columns.verdict[k]],
        reason=_reason(columns, rules, k),
        flags=tuple(look.flags),
    )


def _reason(columns: _Columns, rules: AssessmentRules, k: int) -> str:
    verdict = columns.verdict[k]
    if verdict == CHOSEN:
        return (
            "departs like a cloud, and one side in time is empty: to be judged again" if columns.unconfirmed[k] else ""
        )
    if verdict == COMBINED:
        return f"weight {columns.weight[k]:.2f}"
    if verdict == LOW_CONFIDENCE:
        weakest = min(range(len(COMPONENTS)), key=columns.components[k].__getitem__)
        return (
            f"confidence {columns.confidence[k]:.3f} is below {rules.confidence.minimum:.3f}, "
            f"most for {COMPONENTS[weakest]} ({columns.components[k][weakest]:.2f})"
        )
    if verdict == DESPIKED:
        return _spike(columns, k)
    if verdict == CONTEXT_ONLY:
        return f"no pixel of {columns.gsd_m[k]:g} m lies inside the field"
    return _outranked(columns, rules, k)


def _spike(columns: _Columns, k: int) -> str:
    around = " and ".join(
        f"{columns.harmonised[other]:.3f} on {day_text(columns.day[other])}"
        for other in (columns.before[k], columns.after[k])
        if other >= 0
    )
    return f"{columns.harmonised[k]:.3f} between {around}: like unmasked cloud or shadow"


def _outranked(columns: _Columns, rules: AssessmentRules, k: int) -> str:
    rival = columns.rival[k]
    apart = abs(columns.harmonised[k] - columns.harmonised[rival])
    surer = f"{columns.confidence[k]:.2f} against {columns.confidence[rival]:.2f}"
    if columns.verdict[rival] in _USED and apart > rules.fusion.tolerance:
        return f"differs by {apart:.3f} from {_name(columns, rival)}, which is surer ({surer})"
    return f"{_name(columns, rival)} is taken instead (confidence {surer}, {apart:.3f} apart)"


def _day_reason(columns: _Columns, members: range, used: Collection[int]) -> str:
    if not used:
        verdicts = sorted({VERDICTS[columns.verdict[k]].value for k in members})
        return f"none of {len(members)} candidates is usable: {', '.join(verdicts)}"
    if len(used) > 1:
        return f"average of {len(used)} acquisitions"
    if len(members) == 1:
        return "the only candidate"
    return f"{_name(columns, next(iter(used)))} is the surest of {len(members)} candidates"


def _disagreement(columns: _Columns, low: int, high: int, rules: AssessmentRules) -> str:
    apart = columns.harmonised[high] - columns.harmonised[low]
    return (
        f"{_name(columns, low)} and {_name(columns, high)} differ by {apart:.3f}, more than {rules.fusion.tolerance:g}"
    )


def _name(columns: _Columns, k: int) -> str:
    key = columns.looks[k].key
    return f"{key.provider}/{key.collection}"


def _fingerprint(columns: _Columns, rules: AssessmentRules, members: range, outcome: str) -> str:
    """Return what changes whenever an input of the day, a parameter or the judgement of its neighbours does."""
    parts = [rules.version, outcome]
    parts += [
        f"{columns.looks[k].fingerprint} {columns.verdict[k]} {columns.confidence[k]!r} {columns.harmonised[k]!r}"
        for k in members
    ]
    return blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()
