"""Looking after occurrences nobody gets to: too late, given up, waiting without an answer, or old and settled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from farm_intel.activities.generating import OUT_OF_WINDOW
from farm_intel.activities.ports import OccurrenceStore
from farm_intel.activities.telling import OVERDUE, REMINDER, Desk, Telling, notice_of
from farm_intel.activities.working import failed
from farm_intel.domain.activities import OccurrenceState
from farm_intel.domain.activity_work import Claim, Move
from farm_intel.domain.alerts import Severity
from farm_intel.domain.ports import Clock

BATCH = 200
_PASSES = 1000
NOT_ACKNOWLEDGED = "not acknowledged"


class Tending:
    """Ends and reminds of occurrences as time passes."""

    def __init__(self, store: OccurrenceStore, telling: Telling, clock: Clock) -> None:
        """Keep what it works with."""
        self._store = store
        self._telling = telling
        self._clock = clock

    def run(self) -> dict[str, int]:
        """Look after all of them once, and return how many went to which state; `reminded` stayed waiting.

        Raises:
            StoreError: the database refused; what was committed stays.

        """
        now = self._clock.now()
        desk = self._telling.open_desk(now)
        counts: dict[str, int] = {}
        looks: Sequence[tuple[Callable[[datetime, int], Sequence[Claim]], Callable[[Claim], Move]]] = (
            (self._store.out_of_window, _too_late),
            (self._store.abandoned, lambda claim: _abandoned(claim, desk)),
            (self._store.unattended, lambda claim: _unattended(claim, desk, now)),
        )
        for look, decide in looks:
            for move in self._all(look, decide, now):
                name = move.state.value if move.path else "reminded"
                counts[name] = counts.get(name, 0) + 1
        return counts

    def retain(self, keep: timedelta) -> int:
        """Remove settled occurrences that have not changed for so long, and return how many; the logbook stays.

        Raises:
            StoreError: the database refused; what was removed before stays removed.

        """
        before = self._clock.now() - keep
        total = 0
        while removed := self._store.remove_settled(before, BATCH):
            total += removed
        return total

    def _all(
        self,
        look: Callable[[datetime, int], Sequence[Claim]],
        decide: Callable[[Claim], Move],
        now: datetime,
    ) -> Iterator[Move]:
        for _ in range(_PASSES):
            moves = [decide(claim) for claim in look(now, BATCH)]
            refused = self._store.move(moves, now)
            lost = {id(move) for move in refused}
            yield from (move for move in moves if id(move) not in lost)
            if len(moves) < BATCH:
                return


def _too_late(claim: Claim) -> Move:
    return Move(before=claim.occurrence, path=(OccurrenceState.EXPIRED,), reason=OUT_OF_WINDOW, withdraw=True)


def _abandoned(claim: Claim, desk: Desk) -> Move:
    row = claim.occurrence
    if row.reason:  # a later one told it to stop, and its worker never came back to hear it
        return Move(before=row, path=(OccurrenceState.SKIPPED,), reason=row.reason, fence=True)
    return failed(claim, None, desk, reason=f"gave up after {row.attempt} attempts")


def _unattended(claim: Claim, desk: Desk, now: datetime) -> Move:
    row, plan = claim.occurrence, claim.plan
    if row.acknowledge_by is None or row.acknowledge_by <= now:
        notice = notice_of(row, plan, OVERDUE, f"overdue:{row.token}", severity=Severity.WARNING)
        return Move(
            before=row,
            path=(OccurrenceState.EXPIRED,),
            reason=NOT_ACKNOWLEDGED,
            messages=desk.messages((notice,)),
            withdraw=True,
        )
    notice = notice_of(row, plan, REMINDER, f"reminder:{row.token}")
    return Move(
        before=row,
        path=(),
        reason=row.reason,
        not_before=row.acknowledge_by,  # the next look at it is its end
        messages=desk.messages((notice,)),
    )
