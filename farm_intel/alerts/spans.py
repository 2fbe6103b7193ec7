"""When an alert opens and when it resolves: hysteresis over the ordered evaluations of one rule on one farm.

A pure reducer. The life cycle folds evaluations into a stored state with it, the scoreboard and the replay fold a whole
season with it, so that what is scored is what people are told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

from farm_intel.domain.alerts import AlertRule, Evaluation, RuleVerdict
from farm_intel.domain.errors import BadRequestError


class SpanEvent(StrEnum):
    """What an evaluation did to a span."""

    OPENED = "opened"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanState:
    """Where one rule stands on one farm between two evaluations."""

    is_open: bool = False
    holding: int = 0
    """Usable looks in a row that held; counted up to the opening."""
    clear: int = 0
    """Usable looks in a row that were clear since it opened."""
    first_day: date | None = None
    """First day of the row that held: the event's key, kept while the span is open."""
    last_day: date | None = None
    """Latest usable look that was counted; nothing up to it is counted again."""

    def as_dict(self) -> dict[str, object]:
        """Return JSON-ready values; `from_dict` reads them back."""
        return {
            "is_open": self.is_open,
            "holding": self.holding,
            "clear": self.clear,
            "first_day": self.first_day.isoformat() if self.first_day else None,
            "last_day": self.last_day.isoformat() if self.last_day else None,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> SpanState:
        """Read what `as_dict` returned.

        Raises:
            BadRequestError: a value is missing or not what `as_dict` writes.

        """
        try:
            return cls(
                is_open=bool(values["is_open"]),
                holding=int(str(values["holding"])),
                clear=int(str(values["clear"])),
                first_day=_day(values["first_day"]),
                last_day=_day(values["last_day"]),
            )
        except (KeyError, ValueError) as error:
            raise BadRequestError(
                f"A stored span state cannot be read: {error!r}.", hint="Fold the farm's evaluations again."
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanChange:
    """A span opened or resolved."""

    event: SpanEvent
    day: date
    """Solar day of the look that did it."""
    first_day: date
    """First day the rule held in a row: which event it is."""


def advance(state: SpanState, evaluation: Evaluation, rule: AlertRule) -> tuple[SpanState, SpanChange | None]:
    """Return the state after an evaluation, and what it changed.

    Unknown looks never count. An explained look counts as clear. A look between the two thresholds breaks a row of
    holding and of clear looks alike: it opens nothing and resolves nothing. A look on or before the last counted day
    changes nothing, so the same evaluations may come again.
    """
    if evaluation.verdict is RuleVerdict.UNKNOWN or (state.last_day is not None and evaluation.day <= state.last_day):
        return state, None
    if state.is_open:
        return _advance_open(state, evaluation, rule)
    if evaluation.verdict is not RuleVerdict.HOLDS:
        return SpanState(last_day=evaluation.day), None
    first = state.first_day or evaluation.day
    after = replace(state, holding=state.holding + 1, first_day=first, last_day=evaluation.day)
    if after.holding < rule.looks_to_open:
        return after, None
    return replace(after, is_open=True), SpanChange(event=SpanEvent.OPENED, day=evaluation.day, first_day=first)


def open_spans(evaluations: Iterable[Evaluation], rule: AlertRule) -> list[tuple[date, date | None]]:
    """Return (opened, resolved) of every span in the evaluations of one farm and rule; None for one still open.

    Args:
        evaluations: ascending by day.
        rule: with how many looks open and resolve.

    """
    spans: list[tuple[date, date | None]] = []
    state = SpanState()
    for evaluation in evaluations:
        state, change = advance(state, evaluation, rule)
        if change is None:
            continue
        if change.event is SpanEvent.OPENED:
            spans.append((change.day, None))
        else:
            spans[-1] = (spans[-1][0], change.day)
    return spans


def _advance_open(state: SpanState, evaluation: Evaluation, rule: AlertRule) -> tuple[SpanState, SpanChange | None]:
    if evaluation.verdict in {RuleVerdict.HOLDS, RuleVerdict.BETWEEN}:
        return replace(state, clear=0, last_day=evaluation.day), None
    clear = state.clear + 1
    if clear < rule.looks_to_resolve:
        return replace(state, clear=clear, last_day=evaluation.day), None
    first = state.first_day or evaluation.day
    return SpanState(last_day=evaluation.day), SpanChange(event=SpanEvent.RESOLVED, day=evaluation.day, first_day=first)


def _day(value: object) -> date | None:
    return None if value is None else date.fromisoformat(str(value))


__all__ = ["SpanChange", "SpanEvent", "SpanState", "advance", "open_spans"]
