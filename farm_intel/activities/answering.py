"""What people say to an occurrence: done, not done, later, somebody else; and what becomes of dead letters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from farm_intel.activities.ports import ActivityStore, Forms, OccurrenceStore
from farm_intel.domain.activities import (
    SETTLED,
    Activity,
    Answer,
    IllegalTransitionError,
    LogEntry,
    Occurrence,
    OccurrenceState,
)
from farm_intel.domain.activity_work import Move
from farm_intel.domain.errors import BadRequestError, StoreError
from farm_intel.domain.ports import Clock

_TRIES = 5
"""How often a move is decided again because a worker or another person was first."""


class Answering:
    """Takes answers. Each call is one transaction: the state, the line of the logbook, and the end of reminders."""

    def __init__(self, plans: ActivityStore, store: OccurrenceStore, forms: Forms, clock: Clock) -> None:
        """Keep what it works with."""
        self._plans = plans
        self._store = store
        self._forms = forms
        self._clock = clock

    def answer(self, activity_id: str, due_at: datetime, answer: Answer, *, withdraw: bool = True) -> Occurrence:
        """Write down whether it was done; the same answer again changes nothing.

        An occurrence may be answered as soon as it is due, also while it is snoozed or a worker is about to remind:
        the worker then comes too late. Where nothing is said of quantities, it was done as planned.

        Args:
            activity_id: of the plan.
            due_at: UTC due time of the occurrence.
            answer: what is said; `reason` is wanted where it was not done.
            withdraw: drop messages about it that have not gone out.

        Raises:
            UnknownNameError: there is no such occurrence.
            BadRequestError: the quantities do not fit the type's form, a required one is neither said nor planned, or
                the reason is missing.
            IllegalTransitionError: it is settled, with another answer or without one.

        """
        answer = self._checked(self._store.get(activity_id, due_at), answer)
        plan = self._plans.get(activity_id)

        def decide(row: Occurrence) -> Move | None:
            if row.answer is not None and _same(row.answer, answer):
                return None
            if row.state in SETTLED:
                raise _settled(row, "answered")
            return _answered(row, plan, answer, self._clock.now(), withdraw=withdraw)

        return self._move(activity_id, due_at, decide)

    def snooze(self, activity_id: str, due_at: datetime, *, until: datetime, by: str, note: str = "") -> Occurrence:
        """Remind again at `until` (UTC); it stays unsettled and keeps its place before later ones.

        Raises:
            UnknownNameError: there is no such occurrence.
            BadRequestError: `until` is not to come.
            IllegalTransitionError: it is settled, or somebody is working on it right now.

        """
        now = self._clock.now()
        if until <= now:
            raise BadRequestError(
                f"the occurrence of {activity_id} cannot be snoozed until {until.isoformat()}: that is over",
                hint="Give a time to come, or answer it.",
            )
        reason = f"snoozed by {by}: {note}".rstrip(": ")

        def decide(row: Occurrence) -> Move:
            if row.state not in {OccurrenceState.DUE, OccurrenceState.WAITING}:
                raise _settled(row, "snoozed")
            path = () if row.state is OccurrenceState.DUE else (OccurrenceState.DUE,)
            return Move(before=row, path=path, reason=reason, not_before=until, attempt=0, withdraw=True)

        return self._move(activity_id, due_at, decide)

    def assign(self, activity_id: str, due_at: datetime, *, to: str, by: str) -> Occurrence:
        """Give an unsettled occurrence to somebody; to nobody with an empty `to`.

        Raises:
            UnknownNameError: there is no such occurrence.
            IllegalTransitionError: it is settled.

        """

        def decide(row: Occurrence) -> Move | None:
            if row.state in SETTLED:
                raise _settled(row, "assigned")
            if row.assignee == to:
                return None
            said = f"given to {to} by {by}" if to else f"taken from {row.assignee} by {by}"
            reason = "; ".join(filter(None, [row.reason, said]))
            return Move(before=row, path=(), reason=reason, error=row.error, assignee=to)

        return self._move(activity_id, due_at, decide)

    def dead_letters(self, farm_ids: Sequence[str] | None = None, *, limit: int = 1000) -> list[Occurrence]:
        """Return what was given up and nobody has replayed or dropped."""
        return self._store.find(farm_ids=farm_ids, states=[OccurrenceState.FAILED], limit=limit)

    def replay(self, activity_id: str, due_at: datetime, *, by: str) -> Occurrence:
        """Make a dead letter due again, with all of its attempts.

        Raises:
            UnknownNameError: there is no such occurrence.
            IllegalTransitionError: it has not failed.

        """

        def decide(row: Occurrence) -> Move:
            _want_failed(row, "replayed")
            return Move(
                before=row,
                path=(OccurrenceState.DUE,),
                reason=f"replayed by {by}",
                error=row.error,
                attempt=0,
                not_before=self._clock.now(),
            )

        return self._move(activity_id, due_at, decide)

    def drop(self, activity_id: str, due_at: datetime, *, note: str, by: str) -> Occurrence:
        """Settle a dead letter for good.

        Raises:
            UnknownNameError: there is no such occurrence.
            IllegalTransitionError: it has not failed.

        """

        def decide(row: Occurrence) -> Move:
            _want_failed(row, "dropped")
            reason = f"dropped: {note} ({by})" if note else f"dropped: by {by}"
            return Move(before=row, path=(OccurrenceState.SKIPPED,), reason=reason, error=row.error, withdraw=True)

        return self._move(activity_id, due_at, decide)

    def _checked(self, row: Occurrence, answer: Answer) -> Answer:
        if not answer.done and not answer.reason:
            raise BadRequestError(
                f"{row.title!r} of farm {row.farm_id} was not done, but it is not said why", hint="Give a reason."
            )
        if answer.done:  # what is not said was as planned, so the two together have to be complete
            self._forms.check_form(row.type, {**row.form, **answer.quantities}, answered=True)
        return replace(answer, quantities=dict(self._forms.check_form(row.type, answer.quantities)))

    def _move(self, activity_id: str, due_at: datetime, decide: Callable[[Occurrence], Move | None]) -> Occurrence:
        """Decide on the occurrence as it is, again where somebody else changed it in between."""
        for _ in range(_TRIES):
            move = decide(self._store.get(activity_id, due_at))
            if move is None or not self._store.move([move], self._clock.now()):
                return self._store.get(activity_id, due_at)
        raise StoreError(
            f"the occurrence of {activity_id} due at {due_at.isoformat()} kept changing", hint="Try again."
        )


def entry_for(
    occurrence: Occurrence, plan: Activity, *, by: str, at: datetime, note: str = "", answer: Answer | None = None
) -> LogEntry:
    """Return the line of the logbook of an occurrence; its id follows from the occurrence, so there is only one."""
    key = f"{occurrence.activity_id}|{occurrence.due_at.isoformat()}"
    done = answer is None or answer.done
    said = dict(answer.quantities) if answer is not None else {}
    return LogEntry(
        entry_id=hashlib.sha256(key.encode()).hexdigest()[:32],
        farm_id=occurrence.farm_id,
        type=occurrence.type,
        title=occurrence.title,
        done=done,
        done_at=at,
        by=by,
        quantities={**occurrence.form, **said} if done else said,
        reason="" if answer is None else answer.reason,
        note=note if answer is None else answer.note,
        photo="" if answer is None else answer.photo,
        activity_id=occurrence.activity_id,
        due_at=occurrence.due_at,
        event_key=plan.event_key,
        recorded_at=at,
    )


def _answered(row: Occurrence, plan: Activity, answer: Answer, now: datetime, *, withdraw: bool) -> Move:
    done = (OccurrenceState.RUNNING, OccurrenceState.DONE) if row.state is OccurrenceState.DUE else _DONE
    entry = entry_for(row, plan, by=answer.by, at=answer.at, answer=answer)
    return Move(
        before=row,
        path=done if answer.done else (OccurrenceState.SKIPPED,),
        reason="" if answer.done else f"not done: {answer.reason}",
        answer=answer,
        fence=True,  # a worker that has it must not remind of it any more
        entry=replace(entry, recorded_at=now),
        withdraw=withdraw,
    )


_DONE = (OccurrenceState.DONE,)


def _same(given: Answer, answer: Answer) -> bool:
    """A repeated call carries another time, but says the same."""
    return replace(given, at=answer.at) == answer


def _want_failed(row: Occurrence, verb: str) -> None:
    if row.state is not OccurrenceState.FAILED:
        raise _settled(row, verb)


def _settled(row: Occurrence, verb: str) -> IllegalTransitionError:
    return IllegalTransitionError(
        f"the occurrence of {row.activity_id} (farm {row.farm_id}, {row.local_date}) is {row.state.value} and "
        f"cannot be {verb}",
        hint="Work done all the same goes into the logbook: `farm-intel activities log`."
        if row.state in SETTLED
        else "It is being worked on; try again in a moment.",
    )
