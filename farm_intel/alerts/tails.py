"""Which end of a rule's history has to be folded again, so that years of looks are not read to add a day.

After as many clear looks in a row as resolve it, a rule is closed and counts nothing, whatever came before. What comes
before such a point folds into the same spans as when it was aligned last; only these may want something new:

- looks that turned: the fold begins before the earliest of them;
- a live alert of theirs, whose span may have gone: it begins before the alert's event;
- a duplicate whose original has ended since: its span may go on beyond the original, so it begins before it, too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta

from farm_intel.alerts.ports import AlertWork
from farm_intel.domain.alerts import LIVE, Alert, AlertRule, AlertState, Evaluation, RuleVerdict

WINDOWS_DAYS = (21, 180)
"""How far back a point is looked for at which a rule is closed, one after the other; then all there is is read."""
RACE = timedelta(hours=1)
"""Transactions that long apart saw each other, whatever their clocks said: a lock is waited for one minute at most."""
_CLEARING = frozenset({RuleVerdict.CLEAR, RuleVerdict.EXPLAINED})


def tail(evaluations: Sequence[Evaluation], reach: date, rule: AlertRule) -> list[Evaluation] | None:
    """Return what comes after the latest point before a day at which a rule is closed; None where none is certain.

    Args:
        evaluations: usable ones, ascending by day; they may begin anywhere in the history.
        reach: what happened on this day and later is in the tail.
        rule: with how many clear looks resolve.

    """
    clear, place = 0, None
    for number, evaluation in enumerate(evaluations):
        if evaluation.day >= reach:
            break
        clear = clear + 1 if evaluation.verdict in _CLEARING else 0
        if clear >= rule.looks_to_resolve:
            place = number + 1
    return None if place is None else list(evaluations[place:])


def reach_of(
    turned: date | None, alerts: Sequence[Alert], originals: Mapping[str, Alert], aligned: datetime | None
) -> date | None:
    """Return the earliest day on which the spans of a rule may ask for something that has not been done; None for none.

    Args:
        turned: earliest day whose verdict is another one now.
        alerts: of the rule on the farm.
        originals: the alerts that suppressed ones are duplicates of, by id.
        aligned: when the rule's alerts were brought in line before this; None where that is not known.

    """
    days = [date.fromisoformat(alert.event_key) for alert in alerts if _may_go_on(alert, originals, aligned)]
    if turned is not None:
        days += [turned, *(date.fromisoformat(alert.event_key) for alert in alerts if alert.state in LIVE)]
    return min(days, default=None)


def ended_originals(alerts: Collection[Alert], originals: Mapping[str, Alert]) -> bool:
    """Return True where it matters when alerts were aligned: an original of one has ended."""
    return any(_may_go_on(alert, originals, None) for alert in alerts)


def _may_go_on(alert: Alert, originals: Mapping[str, Alert], aligned: datetime | None) -> bool:
    """Return True for a duplicate that was not looked at since its original ended."""
    if alert.state is not AlertState.SUPPRESSED:
        return False
    original = originals.get(alert.duplicate_of)
    if original is None or original.state in LIVE:
        return False
    return aligned is None or aligned <= original.changed_at + RACE


class Tails:
    """Reads the ends of the histories of one farm's rules: one query for all, further ones where that is too short."""

    def __init__(self, work: AlertWork, farm_id: str, turned: Mapping[str, date]) -> None:
        """Read what is enough for nearly all.

        Args:
            work: the transaction.
            farm_id: of one farm.
            turned: rule -> earliest day whose verdict is another one now.

        """
        self._work = work
        self._farm_id = farm_id
        self._turned = turned
        self._since = _before(min(turned.values(), default=date.max), WINDOWS_DAYS[0])
        self._recent = work.verdicts(farm_id, list(turned), since=self._since) if turned else {}

    def after(self, rule: AlertRule, reach: date) -> list[Evaluation]:
        """Return usable looks from a point on at which a rule was closed, or all there are; the reach is among them."""
        for days in WINDOWS_DAYS:
            found = tail(self._read(rule, _before(reach, days)), reach, rule)
            if found is not None:
                return found
        return self._read(rule, date.min)

    def _read(self, rule: AlertRule, since: date) -> list[Evaluation]:
        if rule.slug in self._turned and since >= self._since:
            return self._recent.get(rule.slug, [])
        return self._work.verdicts(self._farm_id, [rule.slug], since=since).get(rule.slug, [])


def _before(day: date, days: int) -> date:
    return day - timedelta(days=min(days, (day - date.min).days))
