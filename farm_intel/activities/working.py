"""Taking on what is due: claim a batch, do it outside of any transaction, write all of its results in one.

Whoever dies in between has written nothing: the lease runs out, another worker takes the occurrence under a higher
fencing token, and the first one's result, should it still come, is refused.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from farm_intel.activities.answering import entry_for
from farm_intel.activities.ports import OccurrenceStore
from farm_intel.activities.telling import DUE, FAILED, PROPOSED, Desk, Telling, notice_of
from farm_intel.domain.activities import Activity, Occurrence, OccurrenceState
from farm_intel.domain.activity_work import Claim, ClaimTerms, Move
from farm_intel.domain.alerts import Severity
from farm_intel.domain.errors import FarmIntelError, PermanentError, ThrottledError, UnknownNameError
from farm_intel.domain.messages import NewMessage, Notice
from farm_intel.domain.ports import Clock

_LOG = logging.getLogger("farm_intel.activities")
_RANDOM = random.SystemRandom()

SYSTEM = "farm-intel"
"""Who did what nobody has to acknowledge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an occurrence."""

    notices: tuple[Notice, ...] = ()
    settled: bool = False
    """True where nothing is left for people to do, whether the plan wants an acknowledgement or not."""
    note: str = ""


class Handler(Protocol):
    """Does what is due. It may run again after a crash: effects beside its outcome have to be idempotent."""

    def handle(self, occurrence: Occurrence, plan: Activity) -> Outcome:
        """Do it and return what is to be told; nothing of it is written before the occurrence is finished.

        Raises:
            TransientError: try again later.
            PermanentError: trying again is no use.

        """
        ...


class Remind:
    """Tells people that something is due; doing it is theirs."""

    def handle(self, occurrence: Occurrence, plan: Activity) -> Outcome:
        """Return the notice."""
        text_key = PROPOSED if plan.event_key else DUE
        severity = Severity.WARNING if plan.event_key else Severity.INFO
        return Outcome(notices=(notice_of(occurrence, plan, text_key, occasion("due", occurrence), severity=severity),))


def occasion(name: str, occurrence: Occurrence) -> str:
    """Return an occasion that is new whenever the occurrence is taken on again, e.g. after a snooze."""
    return name if occurrence.token <= 1 else f"{name}:{occurrence.token}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How an occurrence that failed is tried again."""

    first_s: float = 30.0
    factor: float = 2.0
    longest_s: float = 3600.0
    jitter: float = 0.5
    """Largest share by which a wait is made shorter, so that what failed together does not come back together."""
    draw: Callable[[], float] = _RANDOM.random
    """Numbers from 0 to 1."""

    def wait(self, attempt: int, error: FarmIntelError) -> timedelta:
        """Return how long to wait after attempt number `attempt` (from 1) failed; a server's own wish is obeyed."""
        longest = min(self.longest_s, self.first_s * self.factor ** (attempt - 1))
        wait_s = longest * (1.0 - self.jitter * self.draw())
        if isinstance(error, ThrottledError) and error.retry_after_s is not None:
            wait_s = max(wait_s, min(error.retry_after_s, self.longest_s))
        return timedelta(seconds=wait_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """Who works, how much and for how long at most."""

    worker: str
    run_id: str = ""
    traceparent: str = ""
    batch: int = 100
    """Occurrences claimed and finished in one transaction each."""
    batches: int = 1000
    until: datetime | None = None
    """UTC; no further batch is taken then."""
    lease_s: float = 300.0
    """Longer than a batch takes: what it does not reach is done by somebody else, too."""


@dataclass(slots=True)
class WorkReport:
    """What came of a shift."""

    ended: dict[str, int] = field(default_factory=dict)
    """Occurrences by the state they went to; `due` are those to be tried again."""
    refused: int = 0
    """Results of occurrences that somebody else had taken over meanwhile."""
    finished: bool = True
    """False where more was due than the shift could take."""

    @property
    def taken(self) -> int:
        """All occurrences."""
        return sum(self.ended.values()) + self.refused


class Worker:
    """Works on what is due."""

    def __init__(
        self,
        store: OccurrenceStore,
        telling: Telling,
        clock: Clock,
        *,
        handlers: Mapping[str, Handler] | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Keep what it works with.

        Args:
            store: where occurrences are.
            telling: who is told.
            clock: now; leases are on it, so clocks of machines that share a store may differ by less than a lease.
            handlers: by activity type; all others remind.
            patience: of failures that may pass.

        """
        self._store = store
        self._telling = telling
        self._clock = clock
        self._handlers = dict(handlers or {})
        self._remind: Handler = Remind()
        self._patience = patience or Patience()

    def run(self, shift: Shift) -> WorkReport:
        """Work until nothing is due, or the shift is over.

        Raises:
            StoreError: the database refused; what was claimed is due again when its lease is over.

        """
        report = WorkReport()
        terms = ClaimTerms(
            worker=shift.worker,
            run_id=shift.run_id,
            traceparent=shift.traceparent,
            limit=shift.batch,
            lease_s=shift.lease_s,
        )
        for _ in range(shift.batches):
            now = self._clock.now()
            if shift.until is not None and now >= shift.until:
                break
            claims = self._store.claim(terms, now)
            if not claims:
                return report
            self._work_on(claims, report)
        report.finished = False
        return report

    def _work_on(self, claims: Sequence[Claim], report: WorkReport) -> None:
        desk = self._telling.open_desk(self._clock.now())
        moves: list[Move] = []
        begun = 0
        try:
            for claim in claims:
                begun += 1
                moves.append(self._work(claim, desk))
        finally:
            # after an error nobody foresaw, the one it came from keeps its lease and its attempt; the rest is released
            moves += [_released(claim) for claim in claims[begun:]]
            self._finish(moves, report)

    def _work(self, claim: Claim, desk: Desk) -> Move:
        handler = self._handlers.get(claim.occurrence.type, self._remind)
        now = self._clock.now()
        try:
            outcome = handler.handle(claim.occurrence, claim.plan)
            return _finished(claim, outcome, desk.messages(outcome.notices), now)
        except PermanentError as error:
            return failed(claim, error, desk, reason="permanent error")
        except FarmIntelError as error:
            if claim.occurrence.attempt >= claim.plan.max_attempts:
                return failed(claim, error, desk, reason=f"gave up after {claim.occurrence.attempt} attempts")
            _LOG.warning("occurrence of %s is tried again: %s", claim.occurrence.activity_id, error)
            return Move(
                before=claim.occurrence,
                path=(OccurrenceState.DUE,),
                error=str(error),
                not_before=now + self._patience.wait(claim.occurrence.attempt, error),
            )

    def _finish(self, moves: Sequence[Move], report: WorkReport) -> None:
        refused = self._store.move(moves, self._clock.now())
        stopped = [stop for move in refused if (stop := self._told_to_stop(move)) is not None]
        refused_again = self._store.move(stopped, self._clock.now()) if stopped else []
        lost = {_key(move) for move in refused}
        for move in [*(move for move in moves if _key(move) not in lost), *stopped]:
            report.ended[move.state.value] = report.ended.get(move.state.value, 0) + 1
        report.refused += len(refused) - len(stopped) + len(refused_again)

    def _told_to_stop(self, move: Move) -> Move | None:
        """Return the end of an occurrence that a later one cancelled while it was worked on."""
        try:
            row = self._store.get(move.before.activity_id, move.before.due_at)
        except UnknownNameError:  # its row is gone with its plan's retention: nothing to end
            return None
        mine = row.state is OccurrenceState.RUNNING and row.token == move.before.token
        return Move(before=row, path=(OccurrenceState.SKIPPED,), reason=row.reason) if mine and row.reason else None


def failed(claim: Claim, error: FarmIntelError | None, desk: Desk, *, reason: str) -> Move:
    """Return the end of an occurrence that is given up: a dead letter, and people are told."""
    text = str(error) if error is not None else f"the worker {claim.occurrence.worker} did not come back"
    occurrence = claim.occurrence
    notice = notice_of(
        occurrence, claim.plan, FAILED, occasion("failed", occurrence), severity=Severity.WARNING, error=text
    )
    _LOG.error("occurrence %s of farm %s failed: %s", notice.subject, occurrence.farm_id, text)
    return Move(
        before=occurrence,
        path=(OccurrenceState.FAILED,),
        reason=reason,
        error=text,
        messages=_if_possible(desk, notice),
    )


def _if_possible(desk: Desk, notice: Notice) -> tuple[NewMessage, ...]:
    """A template that is missing must not keep the dead letter from being written."""
    try:
        return desk.messages((notice,))
    except PermanentError as error:
        _LOG.error("nobody was told of %s: %s", notice.subject, error)
        return ()


def _finished(claim: Claim, outcome: Outcome, messages: tuple[NewMessage, ...], now: datetime) -> Move:
    if claim.plan.acknowledge and not outcome.settled:
        within = claim.plan.acknowledge_within
        return Move(
            before=claim.occurrence,
            path=(OccurrenceState.WAITING,),
            reason=outcome.note,
            not_before=now + within / 2,  # of the reminder
            acknowledge_by=now + within,
            messages=messages,
        )
    return Move(
        before=claim.occurrence,
        path=(OccurrenceState.DONE,),
        reason=outcome.note,
        entry=entry_for(claim.occurrence, claim.plan, by=SYSTEM, at=now, note=outcome.note),
        messages=messages,
    )


def _released(claim: Claim) -> Move:
    occurrence = claim.occurrence
    return Move(before=occurrence, path=(OccurrenceState.DUE,), attempt=occurrence.attempt - 1)


def _key(move: Move) -> tuple[str, datetime]:
    return move.before.activity_id, move.before.due_at
