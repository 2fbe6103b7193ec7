"""The life of an alert: opened and resolved by evaluations, acknowledged, snoozed and resolved by people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime

from farm_intel.alerts.aligning import Aligner
from farm_intel.alerts.lifecycle import SYSTEM, AlertOptions, moved
from farm_intel.alerts.ports import AlertStore, AlertWork
from farm_intel.alerts.telling import Teller, drop_waiting, tell_resolved
from farm_intel.domain.alerts import Alert, AlertEvent, AlertRule, AlertState, Evaluation
from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.domain.ports import Clock

_LONGEST_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsorbReport:
    """What a batch of evaluations did."""

    stored: int = 0
    """Evaluations that said something new."""
    opened: int = 0
    """New alerts that go out to whoever subscribes."""
    untold: int = 0
    """New alerts about days long past, or over before they could be told: recorded only."""
    suppressed: int = 0
    resolved: int = 0
    """By a clear look."""
    withdrawn: int = 0
    """Resolved because their evidence has vanished."""
    messages: int = 0

    def plus(self, other: AbsorbReport) -> AbsorbReport:
        """Return both together."""
        return AbsorbReport(
            **{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(AbsorbReport)}
        )


class AlertService:
    """What may happen to alerts; each call is one transaction per farm or alert."""

    def __init__(self, *, store: AlertStore, teller: Teller, clock: Clock, options: AlertOptions | None = None) -> None:
        self._store = store
        self._teller = teller
        self._clock = clock
        self._options = options or AlertOptions()

    def absorb(self, evaluations: Sequence[Evaluation], rules: Sequence[AlertRule]) -> AbsorbReport:
        """Store evaluations and bring the alerts of their farms in line; the same again changes nothing.

        The order in which evaluations arrive does not matter: spans are folded from all that are stored, as far back as
        they may have changed. A farm's evaluations, its alerts and their messages are one transaction; a farm of which
        nothing new is said has none.

        Args:
            evaluations: of any farms, rules and days.
            rules: at least the rules of the evaluations.

        Raises:
            UnknownNameError: an evaluation names a rule that is not among the rules; nothing of any farm is stored.
            StoreError: the database refused; the farms before this one are done, the others are not.

        """
        table = {rule.slug: rule for rule in rules}
        if missing := sorted({one.rule for one in evaluations} - table.keys()):
            raise UnknownNameError(
                f"evaluations name the rules {', '.join(missing)}, which are not in the table",
                hint="Evaluate again with the rules of this installation.",
            )
        by_farm: dict[str, list[Evaluation]] = defaultdict(list)
        for evaluation in self._store.news(evaluations):
            by_farm[evaluation.farm_id].append(evaluation)
        report = AbsorbReport()
        for farm_id, own in sorted(by_farm.items()):
            report = report.plus(self._absorb_farm(farm_id, own, table))
        return report

    def acknowledge(self, alert_id: str, by: str, note: str = "") -> Alert:
        """Record that somebody looks after an alert: no step follows. Again by the same user is nothing.

        Raises:
            UnknownNameError: there is no such alert.
            IllegalTransitionError: it is over, or somebody else has acknowledged it.

        """
        _check_user(by)
        now = self._clock.now()
        with self._store.work(now=now) as work:
            alert = work.get(alert_id)
            if alert.state is AlertState.ACKNOWLEDGED and alert.by == by:
                return alert
            after = moved(alert, AlertState.ACKNOWLEDGED, now=now, by=by)
            _change(work, alert, after, note)
            drop_waiting(work, after, reason=f"acknowledged by {by}", steps_only=True)
            return after

    def snooze(self, alert_id: str, until: datetime, by: str, note: str = "") -> Alert:
        """Let an alert be quiet until an instant; then those who were told are told again and the steps go on.

        Raises:
            UnknownNameError: there is no such alert.
            BadRequestError: the instant is past, too far away, or has no time zone.
            IllegalTransitionError: the alert is over.

        """
        _check_user(by)
        now = self._clock.now()
        self._check_until(until, now)
        with self._store.work(now=now) as work:
            alert = work.get(alert_id)
            after = moved(alert, AlertState.SNOOZED, now=now, by=by, next_at=until)
            _change(work, alert, after, f"until {until.isoformat()}{f': {note}' if note else ''}")
            drop_waiting(work, after, reason=f"snoozed by {by}", steps_only=True)
            return after

    def resolve(self, alert_id: str, by: str, reason: str) -> Alert:
        """End an alert by hand; its event is never opened again, even if the rule goes on holding.

        Raises:
            UnknownNameError: there is no such alert.
            BadRequestError: no reason is given.
            IllegalTransitionError: it is over already.

        """
        _check_user(by)
        if not reason.strip():
            raise BadRequestError(f"alert {alert_id}: no reason is given", hint="Say why it is resolved.")
        now = self._clock.now()
        with self._store.work(now=now) as work:
            alert = work.get(alert_id)
            after = moved(
                alert, AlertState.RESOLVED, now=now, by=by, reason=reason.strip(), resolved_day=alert.last_day
            )
            _change(work, alert, after, reason.strip())
            tell_resolved(work, self._teller, after, now=now)
            return after

    def get(self, alert_id: str) -> Alert:
        """Return one alert.

        Raises:
            UnknownNameError: there is none of that id.

        """
        return self._store.get(alert_id)

    def history(self, alert_id: str) -> Sequence[AlertEvent]:
        """Return what happened to an alert, the oldest entry first.

        Raises:
            UnknownNameError: there is no such alert.

        """
        self._store.get(alert_id)
        return self._store.history(alert_id)

    def list(
        self,
        *,
        farm_ids: Collection[str] | None = None,
        states: Collection[AlertState] = (),
        rule: str | None = None,
        since: date | None = None,
        limit: int = 100,
        cursor: str = "",
    ) -> tuple[Sequence[Alert], str]:
        """Return one page of alerts, the latest opened first, and the cursor of the next page (empty at the end).

        Args:
            farm_ids: of these farms only; None for all.
            states: in these states only; empty for all.
            rule: of this rule only.
            since: opened on this solar day or later.
            limit: 1 to 1000 alerts.
            cursor: what the page before returned.

        Raises:
            BadRequestError: the limit or cursor is not usable.

        """
        if not 1 <= limit <= _LONGEST_PAGE:
            raise BadRequestError(f"a page of {limit} alerts cannot be had", hint=f"Ask for 1 to {_LONGEST_PAGE}.")
        return self._store.list(farm_ids=farm_ids, states=states, rule=rule, since=since, limit=limit, cursor=cursor)

    def _absorb_farm(
        self, farm_id: str, evaluations: Sequence[Evaluation], rules: dict[str, AlertRule]
    ) -> AbsorbReport:
        now = self._clock.now()
        with self._store.work(now=now, farm_id=farm_id) as work:
            new, turned = work.record(evaluations)
            aligner = Aligner(work, self._teller, self._options, now=now)
            # the gravest first, so that a lesser one of the same class finds it open
            touched = sorted({one.rule for one in new}, key=lambda slug: (-rules[slug].severity, slug))
            aligner.align(farm_id, [rules[slug] for slug in touched], turned)
            return AbsorbReport(stored=len(new), **aligner.counts)

    def _check_until(self, until: datetime, now: datetime) -> None:
        if until.tzinfo is None:
            raise BadRequestError("the end of the snooze has no time zone", hint="Write it like 2026-05-01T06:00Z.")
        if not now < until <= now + self._options.longest_snooze:
            raise BadRequestError(
                f"an alert cannot be snoozed until {until.isoformat()}",
                hint=f"Name an instant in the next {self._options.longest_snooze.days} days, or resolve it.",
            )


def _change(work: AlertWork, before: Alert, after: Alert, note: str) -> None:
    """Write a person's change; the row was locked when it was read, so nobody can have come in between."""
    if not work.update(before, after):
        raise BadRequestError(
            f"alert {before.alert_id} has just been changed by somebody else", hint="Look at it and try again."
        )
    work.note(after.alert_id, after.state.value, by=after.by, note=note)


def _check_user(by: str) -> None:
    if not by.strip() or by == SYSTEM:
        raise BadRequestError(f"{by!r} is no user who can answer an alert", hint="Say who you are.")
