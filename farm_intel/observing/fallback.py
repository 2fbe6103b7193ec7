"""Observe with the first provider that can: what one cannot answer, the next in the order is asked for.

Every hop is told (`Switch`), every cell of a later provider says so in its key and its flags, and cells nobody could
answer are named with the reason of each provider.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import date

from farm_intel.domain.errors import (
    BadRequestError,
    BudgetExceededError,
    CellsFailedError,
    DeadlineExceededError,
    FarmIntelError,
    NotConfiguredError,
    TransientError,
    UnknownNameError,
)
from farm_intel.domain.observations import Flag, ObservationStatus
from farm_intel.observing.model import CellOutcome, ObserveRequest
from farm_intel.observing.planning import Cell, ObservePlan, make_tasks
from farm_intel.observing.service import ObservingService
from farm_intel.resilience import deadlines

_DOWN = (TransientError, BudgetExceededError, NotConfiguredError)
"""What a provider says when it cannot answer for now; another may."""
_NO_SCENE = "no scene over the farm that day"


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One provider took over from another; for a metric and a warning, so that it is never silent."""

    source: str
    """Provider that could not answer."""
    target: str
    """Provider that is asked instead."""
    reason: str
    """The commonest of the reasons."""
    cells: int
    """Cells asked of the other provider; where the catalogue was down, at most so many."""


OnSwitch = Callable[[Switch], None]


@dataclass(slots=True)
class _Open:
    """A part of the request that has no answer yet."""

    request: ObserveRequest
    known: bool
    """True: a provider has scenes of every cell, so that silence of the next is no answer."""
    reasons: dict[Cell, list[str]] = field(default_factory=dict)
    """What each provider said, per cell; used where `known`."""
    history: list[str] = field(default_factory=list)
    """What each provider said of all of it; used where not `known`."""

    def cells(self) -> Iterator[Cell]:
        """Yield the cells: where not known, the days that turn out to have no scene among them."""
        if self.known:
            yield from self.reasons
            return
        request = self.request
        yield from (
            (day, farm_id, slug) for day in request.days for farm_id in request.farm_ids for slug in request.indices
        )

    def count(self) -> int:
        """Return how many cells that is."""
        request = self.request
        return len(self.reasons) if self.known else len(request.days) * len(request.farm_ids) * len(request.indices)

    def why(self, cell: Cell) -> list[str]:
        """Return what each provider said of a cell."""
        return self.reasons.get(cell, self.history)


def observe_in_order(
    service: ObservingService,
    request: ObserveRequest,
    order: Sequence[tuple[str, str]],
    *,
    run_id: str,
    deadline_s: float | None,
    on_switch: OnSwitch,
) -> Iterator[CellOutcome]:
    """Yield every cell of a request once some provider has stored an answer for it.

    A cell that a provider stored as unreadable (`provider_failed`) is asked of the next one; where no other has an
    answer and none may have one later, that record is yielded at the end.

    Args:
        service: the use case of one provider.
        request: farms, days and indices; its provider and collection give way to the order's.
        order: (provider, collection), the preferred first.
        run_id: stored with every number.
        deadline_s: time for all providers together; each may use an equal share of what is left when its turn comes,
            so that one that hangs leaves time for the next. None: as long as it takes.
        on_switch: told before another provider is asked.

    Raises:
        BadRequestError: the order is empty, or the request is wrong for the first provider.
        CellsFailedError: at the end, naming the cells without an answer and what each provider said.

    """
    if not order:
        raise BadRequestError("no provider to ask", hint="Name at least one provider and collection.")
    chain = _Chain(service, run_id, deadline_s)
    waiting = [_Open(request, known=False)]
    for place, (provider, collection) in enumerate(order):
        flags = request.flags | ({Flag.FALLBACK_PROVIDER} if place else frozenset())
        asked = [
            replace(part, request=replace(part.request, provider=provider, collection=collection, flags=flags))
            for part in waiting
        ]
        chain.begin_turn(len(order) - place)
        waiting = yield from chain.ask(asked, first=place == 0)
        if not waiting:
            break
        if place + 1 < len(order) and chain.has_time():
            reason, _ = Counter(chain.said).most_common(1)[0]
            cells = sum(part.count() for part in waiting)
            on_switch(Switch(source=provider, target=order[place + 1][0], reason=reason, cells=cells))
    yield from chain.end(waiting)


@dataclass(frozen=True, slots=True)
class _End:
    """How asking one provider ended."""

    error: FarmIntelError | None
    plan: ObservePlan | None
    """Which cells there are; None where its catalogue did not answer."""


class _Chain:
    """Asks one provider after the other and keeps what they said."""

    def __init__(self, service: ObservingService, run_id: str, deadline_s: float | None) -> None:
        self.said: list[str] = []
        """What the provider asked last could not do."""
        self._service = service
        self._run_id = run_id
        self._until_s = None if deadline_s is None else time.monotonic() + deadline_s
        self._turn_until_s = self._until_s
        self._unreadable: dict[Cell, CellOutcome] = {}
        self._may_succeed_later: set[Cell] = set()

    def has_time(self) -> bool:
        """Return whether another provider can be asked."""
        left_s = _left_s(self._until_s)
        return left_s is None or left_s > 0.0

    def begin_turn(self, providers: int) -> None:
        """Give the next provider its share of the time; so many, it included, have not been asked yet."""
        left_s = _left_s(self._until_s)
        if left_s is not None:
            self._turn_until_s = time.monotonic() + left_s / providers

    def ask(self, parts: Sequence[_Open], *, first: bool) -> Generator[CellOutcome, None, list[_Open]]:
        """Ask one provider for everything that is open; yield its answers and return what is still open."""
        self.said = []
        waiting: list[_Open] = []
        for part in parts:
            able = part if first else self._able(part, waiting)
            if able is not None:
                waiting += yield from self._ask_for(able)
        return waiting

    def end(self, waiting: Sequence[_Open]) -> Iterator[CellOutcome]:
        """Yield what is stored as unreadable; raise for the rest.

        Raises:
            CellsFailedError: for the cells that have no record and those that may have an answer later.

        """
        failures: dict[str, str] = {}
        for part in waiting:
            for cell in part.cells():
                stored = self._unreadable.get(cell)
                if stored is not None:
                    yield stored
                if stored is None or cell in self._may_succeed_later:
                    failures["|".join(map(str, cell))] = "; ".join(part.why(cell))
        if failures:
            raise CellsFailedError(
                f"{len(failures)} cells have no answer for now: {next(iter(failures.values()))}",
                failures=failures,
                hint="The others are stored. Run the same request again; only the missing cells are computed.",
            )

    def _able(self, part: _Open, waiting: list[_Open]) -> _Open | None:
        """Return what of a part the provider could compute at all; the rest goes on waiting."""
        request = part.request
        provider = self._service.providers.get(request.provider)
        if provider is None:
            waiting.append(self._refused(part, request.indices, "is not configured"))
            return None
        able = []
        for index in self._service.registry.select(request.indices):
            try:
                index.resolve_bands(provider.profile.bands)
            except UnknownNameError as error:
                waiting.append(self._refused(part, (index.slug,), error.message))
            else:
                able.append(index.slug)
        if len(able) == len(request.indices):
            return part
        return _narrowed(part, tuple(able)) if able else None

    def _refused(self, part: _Open, slugs: tuple[str, ...], reason: str) -> _Open:
        return self._noted(_narrowed(part, slugs), f"{part.request.provider}: {reason}")

    def _ask_for(self, part: _Open) -> Generator[CellOutcome, None, list[_Open]]:
        """Ask for one part; yield its answers and return what is still open."""
        request = part.request
        answered: set[Cell] = set()
        failed: dict[Cell, str] = {}
        ended: FarmIntelError | None = None
        plans: list[ObservePlan] = []
        try:
            for outcome in self._in_time(self._service.observe(request, run_id=self._run_id, on_plan=plans.append)):
                cell = (outcome.key.solar_day, outcome.key.farm_id, outcome.key.index)
                if outcome.status is ObservationStatus.PROVIDER_FAILED:
                    self._unreadable.setdefault(cell, outcome)
                    failed[cell] = outcome.reason
                else:
                    answered.add(cell)
                    yield outcome
        except CellsFailedError as error:
            later = {_cell(name): reason for name, reason in error.failures.items()}
            self._may_succeed_later |= later.keys()
            failed |= later
        except _DOWN as error:
            ended = error
        return self._still_open(part, answered, failed, _End(ended, plans[0] if plans else None))

    def _still_open(self, part: _Open, answered: set[Cell], failed: Mapping[Cell, str], end: _End) -> list[_Open]:
        name = part.request.provider
        reasons = {cell: f"{name}: {reason}" for cell, reason in failed.items()}
        if end.error is not None:
            said = f"{name}: {end.error.message}"
            unanswered = _unanswered(part, answered | failed.keys(), end.plan)
            if unanswered is None:
                return [self._noted(part, said)]
            self._may_succeed_later |= unanswered
            reasons |= dict.fromkeys(unanswered, said)
        elif part.known:
            silent = part.reasons.keys() - answered - failed.keys()
            reasons |= dict.fromkeys(silent, f"{name}: {_NO_SCENE}")
        self.said += reasons.values()
        return _parts(part, reasons)

    def _noted(self, part: _Open, said: str) -> _Open:
        """Return a part nobody answered, with what was said of all of it."""
        self.said.append(said)
        reasons = {cell: [*before, said] for cell, before in part.reasons.items()}
        return replace(part, reasons=reasons, history=[*part.history, said])

    def _in_time(self, outcomes: Iterator[CellOutcome]) -> Iterator[CellOutcome]:
        """Yield from a generator under the deadline, which must not leak into the consumer between two steps."""
        while True:
            with _time(_left_s(self._turn_until_s)):
                outcome = next(outcomes, None)
            if outcome is None:
                return
            yield outcome


def _unanswered(part: _Open, done: set[Cell], plan: ObservePlan | None) -> set[Cell] | None:
    """Return the cells a provider left open when it broke off; None where it never said which there are."""
    if part.known:
        return part.reasons.keys() - done
    if plan is None:
        return None
    return {(day, farm_id, slug) for day, farm_id in plan.fingerprints for slug in part.request.indices} - done


def _left_s(until_s: float | None) -> float | None:
    return None if until_s is None else until_s - time.monotonic()


def _time(left_s: float | None) -> AbstractContextManager[None]:
    """Return the deadline of one step; None sets none."""
    if left_s is None:
        return nullcontext()
    if left_s <= 0.0:
        raise DeadlineExceededError("the time for asking it is up", hint="Allow more time.")
    return deadlines.deadline(left_s)


def _parts(part: _Open, reasons: Mapping[Cell, str]) -> list[_Open]:
    """Return the fewest requests that ask for exactly these cells."""
    slugs = part.request.indices
    by_farm_day: dict[tuple[date, str], set[str]] = defaultdict(set)
    for day, farm_id, slug in reasons:
        by_farm_day[day, farm_id].add(slug)
    others = frozenset((*key, slug) for key, missing in by_farm_day.items() for slug in slugs if slug not in missing)
    parts = []
    for task in make_tasks(by_farm_day, slugs, others):
        request = replace(part.request, indices=task.indices, farm_ids=task.farm_ids, days=task.days)
        asked = _Open(request, known=False).cells()
        parts.append(_Open(request, known=True, reasons={cell: [*part.why(cell), reasons[cell]] for cell in asked}))
    return parts


def _narrowed(part: _Open, slugs: tuple[str, ...]) -> _Open:
    reasons = {cell: said for cell, said in part.reasons.items() if cell[2] in slugs}
    return replace(part, request=replace(part.request, indices=slugs), reasons=reasons)


def _cell(name: str) -> Cell:
    """Return the cell of a name in CellsFailedError.failures."""
    day, rest = name.split("|", 1)
    farm_id, slug = rest.rsplit("|", 1)
    return date.fromisoformat(day), farm_id, slug
