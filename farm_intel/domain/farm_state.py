"""The state of a farm from rule tables: hysteresis per axis, one combination over axes, nothing that knows an index.

Rules are data (`indices/states.toml`). A rule is a state and conditions on facts; a state is entered where all
conditions of one of its rules hold, and kept while they hold with the `leave` thresholds, unless a rule above it in the
table is entered. A new state must be seen on `persist` observations in a row. Rules stand in order of precedence, so a
falling canopy is told before a dense one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import numpy.typing as npt

from farm_intel.domain.assessment import FarmState, StateReason
from farm_intel.domain.state_facts import Axis, AxisIndex, BrightnessPair, Facts

BoolArray = npt.NDArray[np.bool_]
UNKNOWN = "unknown"
"""The state of a farm nothing recent is known of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One bound on one fact."""

    fact: str
    """`axis.fact`, one of `state_facts.FACTS`."""
    above: bool
    """True: the fact must be above the threshold; False: below."""
    enter: float
    leave: float
    """Threshold while the state is held; on the lenient side of `enter`."""
    source: str
    optional: bool = False
    """True: holds where the fact is unknown."""

    def holds(self, values: npt.NDArray[np.float64], *, held: bool) -> BoolArray:
        """Return where the condition holds; unknown facts fulfil only optional conditions."""
        threshold = self.leave if held else self.enter
        met = values > threshold if self.above else values < threshold
        return met | np.isnan(values) if self.optional else met


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRule:
    """A state and what must hold for it."""

    state: str
    conditions: tuple[Condition, ...]
    persist: int
    """Observations in a row that must agree before the state changes to this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """A farm's state from the states of its axes; axes that are not named do not matter."""

    state: str
    axes: Mapping[Axis, frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateText:
    """Keys of the texts of a farm state."""

    interpretation: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRule:
    """A dated event: what its first observation shows, and what those after it confirm."""

    name: str
    onset: tuple[Condition, ...]
    after: tuple[AfterCondition, ...]
    after_days: tuple[float, float]
    """Days after the onset that the confirmation looks at, (more than, up to)."""
    after_count: int
    """Observations the confirmation needs."""
    between: bool
    """True: dated midway between the last observation before and the first that shows it; False: the first."""
    quiet_days: float
    """The same event is not told again within so many days."""
    mutes: Mapping[str, float] = field(default_factory=dict)
    """Event -> days around this one in which that one is not told: what follows a flood is no hail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterCondition:
    """A bound on a statistic of a fact over the observations after an onset."""

    condition: Condition
    statistic: str
    """`median`, `minimum` or `maximum`."""
    change: bool = False
    """True: of the difference to the onset's value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTable:
    """Everything the classifier knows for one crop."""

    name: str
    """Table, version and crop."""
    crop: str | None
    axes: tuple[AxisIndex, ...]
    parameters: Mapping[str, float]
    rules: Mapping[Axis, tuple[StateRule, ...]]
    combinations: tuple[Combination, ...]
    events: tuple[EventRule, ...]
    texts: Mapping[str, StateText]
    brightness: BrightnessPair
    max_age_days: int
    """Days after the last usable observation for which a state is told."""
    event_days: int
    """Days for which an event is told with the state, from when it could be known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisCourse:
    """The state of one axis on every observation day."""

    states: tuple[str, ...]
    rules: tuple[StateRule | None, ...]
    """The rule each rests on; None where no rule holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateCourse:
    """The farm's state on every observation day."""

    facts: Facts
    axes: Mapping[Axis, AxisCourse]
    states: tuple[str, ...]
    since: tuple[int, ...]
    """Ordinal of the first observation of the unbroken run each state belongs to."""


def classify(facts: Facts, table: RuleTable) -> StateCourse:
    """Return the state on every observation day, each from what was known on that day."""
    axes = {axis: _axis_course(facts, table.rules[axis]) for axis in table.rules if axis in facts.indices}
    states: list[str] = []
    since: list[int] = []
    for i, day in enumerate(facts.days.tolist()):
        state = _combine({axis: course.states[i] for axis, course in axes.items()}, table.combinations)
        same = bool(states) and states[-1] == state and day - int(facts.days[i - 1]) <= table.max_age_days
        since.append(since[-1] if same else day)
        states.append(state)
    return StateCourse(facts=facts, axes=axes, states=tuple(states), since=tuple(since))


def _axis_course(facts: Facts, rules: Sequence[StateRule]) -> AxisCourse:
    count = facts.days.size
    enters = _matrix(facts, rules, held=False)
    holds = _matrix(facts, rules, held=True)
    known = np.zeros(count, np.bool_)
    for rule in rules:
        for condition in rule.conditions:
            known |= np.isfinite(facts.values[condition.fact])
    current: int | None = None
    waiting, seen = "", 0
    chosen: list[int | None] = []
    for i in range(count):
        if known[i]:
            wanted = _wanted(rules, current, enters[i], holds[i])
            if wanted is None or current is None or rules[wanted].state == rules[current].state:
                current, waiting, seen = wanted if wanted is not None else current, "", 0
            else:
                state = rules[wanted].state
                seen = seen + 1 if state == waiting else 1
                waiting = state
                if seen >= rules[wanted].persist:
                    current, waiting, seen = wanted, "", 0
        chosen.append(current)
    return AxisCourse(
        states=tuple(UNKNOWN if k is None else rules[k].state for k in chosen),
        rules=tuple(None if k is None else rules[k] for k in chosen),
    )


def _matrix(facts: Facts, rules: Sequence[StateRule], *, held: bool) -> list[list[bool]]:
    """Return [observation][rule] True where all conditions of the rule hold."""
    table = np.ones((len(rules), facts.days.size), np.bool_)
    for number, rule in enumerate(rules):
        for condition in rule.conditions:
            table[number] &= condition.holds(facts.values[condition.fact], held=held)
    rows: list[list[bool]] = table.T.tolist()
    return rows


def _wanted(
    rules: Sequence[StateRule], current: int | None, enters: Sequence[bool], holds: Sequence[bool]
) -> int | None:
    """Return the first rule that is entered or, for the present state, still holds; None where there is none."""
    state = None if current is None else rules[current].state
    return next((k for k, rule in enumerate(rules) if enters[k] or (rule.state == state and holds[k])), None)


def _combine(axes: Mapping[Axis, str], combinations: Sequence[Combination]) -> str:
    for row in combinations:
        if all(axes.get(axis, UNKNOWN) in states for axis, states in row.axes.items()):
            return row.state
    return UNKNOWN


def state_on(course: StateCourse, table: RuleTable, *, farm_id: str, day: date) -> FarmState:
    """Return the farm's state on a day: of the last observation by then, unknown where that is too old.

    Args:
        course: of `classify`.
        table: the one the course was classified by.
        farm_id: the farm.
        day: solar day.

    """
    number = int(np.searchsorted(course.facts.days, day.toordinal(), side="right")) - 1
    age = math.inf if number < 0 else day.toordinal() - int(course.facts.days[number])
    state = course.states[number] if age <= table.max_age_days else UNKNOWN
    texts = table.texts[state]
    if state == UNKNOWN:
        since = day if number < 0 else date.fromordinal(min(day.toordinal(), int(course.facts.days[number]) + 1))
        reasons, confidence = _why_unknown(age, table), 0.0
    else:
        since = date.fromordinal(course.since[number])
        reasons = _reasons(course, number)
        confidence = _confidence(course, number, age / (table.max_age_days + 1))
    return FarmState(
        farm_id=farm_id,
        day=day,
        state=state,
        since=since,
        confidence=confidence,
        reasons=reasons,
        interpretation=texts.interpretation,
        action=texts.action,
        crop=table.crop,
        rule_table=table.name,
    )


def _why_unknown(age: float, table: RuleTable) -> tuple[StateReason, ...]:
    if age <= table.max_age_days:
        return (StateReason(index="", fact="no_rule_applies", value=1.0),)
    if math.isinf(age):
        return (StateReason(index="", fact="never_observed", value=1.0),)
    return (StateReason(index="", fact="observation_age_days", value=float(age), threshold=float(table.max_age_days)),)


def _reasons(course: StateCourse, number: int) -> tuple[StateReason, ...]:
    """Return per axis its index's value, its state with value and bound, and the conditions it rests on."""
    reasons: list[StateReason] = []
    for axis, one in course.axes.items():
        rule, index = one.rules[number], course.facts.indices[axis]
        if rule is None:
            continue
        last = _last_value(course.facts, axis, number)
        reasons.append(StateReason(index=index.index, fact=f"{axis.value}_is_{rule.state}", value=last))
        for condition in rule.conditions:
            value = float(course.facts.values[condition.fact][number])
            if math.isnan(value) or math.isinf(condition.enter):
                continue  # what holds whatever the value is no reason
            reasons.append(
                StateReason(
                    index=index.index,
                    fact=condition.fact.replace(".", "_"),
                    value=value,
                    threshold=condition.enter if math.isinf(condition.leave) else condition.leave,
                    source=condition.source,
                )
            )
    return tuple(reasons)


def _last_value(facts: Facts, axis: Axis, number: int) -> float:
    values = facts.values[f"{axis.value}.value"][: number + 1]
    seen = np.flatnonzero(np.isfinite(values))
    return float(values[seen[-1]]) if seen.size else math.nan


def _confidence(course: StateCourse, number: int, staleness: float) -> float:
    """Return 0..1: the observation's confidence, less for its age and for standing close to a threshold."""
    odds = 1.0
    for one in course.axes.values():
        rule = one.rules[number]
        for condition in rule.conditions if rule else ():
            error = course.facts.sigma.get(condition.fact)
            value = float(course.facts.values[condition.fact][number])
            if error is None or math.isnan(value) or not error[number] > 0.0:
                continue
            margin = (value - condition.leave) * (1.0 if condition.above else -1.0)
            odds = min(odds, 0.5 * (1.0 + math.erf(margin / (float(error[number]) * math.sqrt(2.0)))))
    return float(course.facts.confidence[number]) * (1.0 - 0.5 * staleness) * odds


def axis_states(state: FarmState) -> dict[Axis, str]:
    """Return the states of the axes a farm state was made from, read from its reasons."""
    found: dict[Axis, str] = {}
    for reason in state.reasons:
        name, middle, told = reason.fact.partition("_is_")
        if middle:
            found[Axis(name)] = told
    return found
