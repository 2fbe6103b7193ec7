"""Evaluators of rules on the farm as a whole: state and events, silence, weather, overdue work. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date

from farm_intel.alerts.explaining import explaining_entries, names
from farm_intel.alerts.facts import DayFacts
from farm_intel.alerts.judging import Finding, judge, number, outside_stages, text, unknown
from farm_intel.alerts.kinds import ABOVE
from farm_intel.domain.activities import Occurrence, OccurrenceState
from farm_intel.domain.alerts import AlertRule, RuleVerdict
from farm_intel.domain.assessment import FarmState, FusedObservation
from farm_intel.domain.observations import CoverageDay, ObservationStatus

_LOOK_BACK_DAYS = 40
"""How far back the looks behind a state's facts are searched: facts compare with looks up to 40 days before."""
_SETTLED = frozenset({OccurrenceState.DONE, OccurrenceState.SKIPPED})
_CAME = frozenset(
    {
        ObservationStatus.OBSERVED,
        ObservationStatus.CLOUDY,
        ObservationStatus.TOO_FEW_PIXELS,
        ObservationStatus.REJECTED,
    }
)
"""Days on which a provider delivered something over the farm."""


def state(rule: AlertRule, facts: DayFacts) -> Finding | None:
    """Judge what the stored farm state says; on days with a look, for a state changes with looks only.

    It holds in one of the states, with one of the facts, or while one of the events is being told; it stays between in
    one of the keeping states or facts. `without_log` names a fact: where logged work explains it, the rule is clear.
    """
    if not any(facts.look(index) for index in facts.farm.looks):
        return None
    now = facts.state()
    if now is None:
        return unknown("no farm state is stored of the day")
    looks = _looks_behind(now, facts)
    if not any(look.solar_day == facts.day for look in looks):
        return unknown("no usable look on the day", looks=looks, state=now)
    if now.confidence < number(rule, "min_confidence"):
        return unknown(
            f"confidence {now.confidence:.3f} is below {number(rule, 'min_confidence'):g}", looks=looks, state=now
        )
    if outside := outside_stages(rule, facts, looks):
        return outside
    return _state_finding(rule, facts, now, looks)


def _state_finding(rule: AlertRule, facts: DayFacts, now: FarmState, looks: tuple[FusedObservation, ...]) -> Finding:
    told = {reason.fact for reason in now.reasons}
    event_days = next((reason.value for reason in now.reasons if reason.fact == "event_days_ago"), None)
    verdict, value, unit = RuleVerdict.CLEAR, None, ""
    if now.event in names(text(rule, "events")):
        verdict, value, unit = RuleVerdict.HOLDS, event_days, "days since the event"
    elif now.state in names(text(rule, "states")) or told.intersection(names(text(rule, "facts"))):
        verdict, value, unit = RuleVerdict.HOLDS, float((facts.day - now.since).days), "days in the state"
    elif now.state in names(text(rule, "keeping_states")) or told.intersection(names(text(rule, "keeping_facts"))):
        verdict = RuleVerdict.BETWEEN
    details: dict[str, object] = {}
    entries = explaining_entries(facts, names(text(rule, "without_log")))
    if verdict is RuleVerdict.HOLDS and entries:
        verdict = RuleVerdict.CLEAR
        details["logged"] = [entry.entry_id for entry in entries]
    return Finding(verdict=verdict, value=value, unit=unit, looks=looks, state=now, details=details)


def _looks_behind(now: FarmState, facts: DayFacts) -> tuple[FusedObservation, ...]:
    """Return the latest two usable looks of every index the state's reasons name, older first; all that are compared.

    Where no reason names an index (an unknown state), those of every index.
    """
    indices = list(dict.fromkeys(reason.index for reason in now.reasons if reason.index)) or list(facts.farm.looks)
    found: list[FusedObservation] = []
    for index in indices:
        usable = [look for look in facts.looks(index, _LOOK_BACK_DAYS) if look.value is not None]
        found += usable[-2:]
    return tuple(sorted(found, key=lambda look: (look.solar_day, look.index)))


def silence(rule: AlertRule, facts: DayFacts) -> Finding | None:
    """Judge for how many days nothing usable was seen, or no provider delivered anything.

    Without a usable look although acquisitions came is `of = "looks"`; where none came either, that rule says nothing:
    `of = "provider"` does.
    """
    wanted = text(rule, "provider")
    rows = [row for row in facts.calendar() if not wanted or row.provider == wanted]
    if not rows:
        return unknown("the farm's calendar is empty")
    enter, leave = number(rule, "enter"), number(rule, "leave")
    of_looks = text(rule, "of") == "looks"
    good = {ObservationStatus.OBSERVED} if of_looks else _CAME
    last = next((row for row in reversed(rows) if row.status in good), None)
    since = last.solar_day if last else rows[0].solar_day
    days = (facts.day - since).days
    verdict = judge(days, enter, leave, ABOVE)
    after = [row for row in rows if row.solar_day > since]
    if of_looks and verdict is not RuleVerdict.CLEAR and not any(row.status in _CAME for row in after):
        return unknown(f"nothing came for {days} days: the provider is silent, not the look")
    return Finding(
        verdict=verdict,
        value=float(days),
        threshold=enter,
        unit="days",
        details=_silence_details(after, since if last else None),
    )


def _silence_details(after: Sequence[CoverageDay], last: date | None) -> dict[str, object]:
    counts: dict[str, int] = {}
    for row in after:
        counts[row.status.value] = counts.get(row.status.value, 0) + 1
    scenes = list(dict.fromkeys(scene for row in after for scene in row.scene_ids))
    return {"last_day": last.isoformat() if last else None, "since_then": counts, "scenes": scenes}


_STATISTICS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "last": lambda values: values[-1],
    "minimum": min,
    "maximum": max,
    "mean": lambda values: sum(values) / len(values),
    "sum": sum,
}


def weather(rule: AlertRule, facts: DayFacts) -> Finding | None:
    """Judge a statistic of a weather variable over the days up to the day; every day of them must be known.

    Nothing is said of a farm without any weather: an installation may have no source of it.
    """
    window, variable = number(rule, "window_days"), text(rule, "variable")
    rows = [row for row in facts.weather(window) if variable in row.values]
    if len(rows) < window or rows[-1].day != facts.day:
        if not facts.farm.weather and not facts.farm.has_weather():
            return None
        return unknown(f"no weather: {variable} is known of {len(rows)} of {window:g} days")
    if outside := outside_stages(rule, facts, ()):
        return outside
    value = _STATISTICS[text(rule, "statistic")]([row.values[variable] for row in rows])
    enter = number(rule, "enter")
    return Finding(
        verdict=judge(value, enter, number(rule, "leave"), text(rule, "direction")),
        value=value,
        threshold=enter,
        unit=variable,
        details={"weather_source": rows[-1].source, "days": [row.day.isoformat() for row in rows]},
    )


def overdue(rule: AlertRule, facts: DayFacts) -> Finding | None:
    """Judge how many days the oldest unsettled occurrence is late.

    One that nobody answered stays late when it expires or fails, until the rule forgets it.
    """
    types = names(text(rule, "types"))
    planned = [one for one in facts.occurrences(number(rule, "forget_days")) if not types or one.type in types]
    late = [one for one in planned if not _was_settled(one, facts.day)]
    enter = number(rule, "enter")
    if not late:
        return Finding(verdict=RuleVerdict.CLEAR, value=0.0, threshold=enter, unit="days")
    oldest = min(late, key=lambda one: (one.local_date, one.activity_id))
    days = float((facts.day - oldest.local_date).days)
    return Finding(
        verdict=judge(days, enter, number(rule, "leave"), ABOVE),
        value=days,
        threshold=enter,
        unit="days",
        details={
            "activity_id": oldest.activity_id,
            "type": oldest.type,
            "title": oldest.title,
            "due_at": oldest.due_at.isoformat(),
            "assignee": oldest.assignee,
            "late": len(late),
        },
    )


def _was_settled(one: Occurrence, day: date) -> bool:
    """Return whether an occurrence was done or skipped by the end of a day; what came later is not known then."""
    return one.state in _SETTLED and one.changed_at.date() <= day
