"""What explains a change that a satellite saw: work somebody logged, or what the farm is in anyway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farm_intel.alerts.facts import DayFacts
from farm_intel.domain.activities import LogEntry
from farm_intel.domain.alerts import AlertRule

LONGEST_DAYS = 120
"""How far back the logbook is read: no work explains a change for longer than a season."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why something that would be an alert is none."""

    entries: tuple[LogEntry, ...] = ()
    state: str = ""
    """The farm state or event that explains it."""


def names(text: object) -> tuple[str, ...]:
    """Return the names in a comma-separated text."""
    return tuple(part.strip() for part in str(text).split(",") if part.strip())


def explain(rule: AlertRule, facts: DayFacts) -> Explanation | None:
    """Return what explains that a rule holds; None where nothing does.

    A rule names the facts that work may explain (`explained_by`), and the farm states and events that do
    (`explaining_states`, `explaining_events`): a harvest that is seen and not logged is no stress either.
    """
    entries = explaining_entries(facts, names(rule.parameters.get("explained_by", "")))
    if entries:
        return Explanation(entries=tuple(entries))
    states, events = (names(rule.parameters.get(f"explaining_{what}", "")) for what in ("states", "events"))
    state = facts.state() if states or events else None
    if state is None:
        return None
    if state.state in states:
        return Explanation(state=state.state)
    return Explanation(state=state.event) if state.event and state.event in events else None


def explaining_entries(facts: DayFacts, wanted: Sequence[str]) -> list[LogEntry]:
    """Return the logged work whose type explains one of the facts on the day."""
    if not wanted:
        return []
    found: list[LogEntry] = []
    for entry in facts.log(LONGEST_DAYS):
        row = facts.farm.explains.get(entry.type)
        if row and row.facts.intersection(wanted) and (facts.day - entry.done_at.date()).days <= row.days:
            found.append(entry)
    return found
