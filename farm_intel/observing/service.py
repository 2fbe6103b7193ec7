"""Observe farms: plan, read each scene once, judge, publish, and tell what became of every cell."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import batched
from typing import TYPE_CHECKING, Any, Protocol

from farm_intel.domain.batches import FarmDayBatch, FarmShape, ReadCounters, SceneDay
from farm_intel.domain.errors import BadRequestError, CellsFailedError, UnknownNameError
from farm_intel.domain.farms import Farm
from farm_intel.domain.observations import CoverageDay, Flag, Observation, ObservationStatus
from farm_intel.domain.ports import Clock, FarmStore, ObservationStore, Progress, SceneCatalog
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.publication import Publication
from farm_intel.domain.quality import QualityRule, judge
from farm_intel.domain.scenes import Scene
from farm_intel.engine.memory import collecting_new_objects
from farm_intel.observing.estimating import PlanSummary, explain_plan, free_of_charge
from farm_intel.observing.model import CellOutcome, Explanation, ObserveRequest
from farm_intel.observing.outcomes import computed_outcomes, stored_outcome
from farm_intel.observing.planning import (
    PROVISIONAL,
    FarmDay,
    FarmScenes,
    ObservePlan,
    Task,
    find_scenes,
    fingerprint_cells,
    make_tasks,
    up_to_date_cells,
)

if TYPE_CHECKING:
    from farm_intel.indices.registry import IndexRegistry, SpectralIndex


CALENDAR_ROWS = 20_000
"""Calendar days written at once: some MB, and a write that other processes need not wait long for."""


class Engine(Protocol):
    """The scene-major engine, as far as this use case needs it."""

    def run(
        self,
        days: Sequence[SceneDay],
        farms: Sequence[FarmShape],
        indices: Sequence[SpectralIndex],
        profile: CollectionProfile,
        *,
        refresh: Callable[[Scene], Scene] | None = None,
        on_counters: Callable[[ReadCounters], None] | None = None,
    ) -> Iterator[FarmDayBatch]:
        """Yield results; every farm and day with a candidate scene exactly once."""
        ...

    def plan_summary(
        self,
        days: Sequence[SceneDay],
        farms: Sequence[FarmShape],
        indices: Sequence[SpectralIndex],
        profile: CollectionProfile,
    ) -> Any:
        """Return what reading would touch (blocks, requests, bytes)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageryProvider:
    """One provider: where its scenes are found and what its product row says."""

    name: str
    catalog: SceneCatalog
    profile: CollectionProfile
    engine: Callable[[], Engine]
    """Makes what turns its scenes into numbers: reads pixels, or asks for tables."""
    units: Callable[[PlanSummary], float] = free_of_charge
    """What reading a plan costs in the provider's own unit."""
    gdal: Callable[[], Mapping[str, Any]] | None = None
    """Tells how GDAL opens the files its scenes point to (arguments of `rasterio.Env`); None: there are no files."""
    rules_text: str = ""
    """What of its own way of working changes numbers; part of every fingerprint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueCells:
    """Cells of a block that are missing or stale."""

    by_day: Mapping[date, tuple[str, ...]]
    """Day -> farms with at least one index to compute, ordered as asked."""
    scene_set_hash: Mapping[date, str]
    """Day -> hash over the versions of its scenes: changes when a scene is added or reprocessed."""
    problems: tuple[str, ...] = ()


@dataclass(slots=True)
class ObservingService:
    """The use case; every door (Dagster, CLI, sensors) goes through it."""

    providers: Mapping[str, ImageryProvider]
    farms: FarmStore
    store: ObservationStore
    registry: IndexRegistry
    clock: Clock
    rule: QualityRule
    rules_text: str
    """Options of the engine that change numbers; part of every fingerprint."""
    counters: ReadCounters = field(default_factory=ReadCounters)
    """What the last run read."""
    problems: tuple[str, ...] = ()
    """What the last plan found wrong with items of the catalogue."""

    def plan(self, request: ObserveRequest) -> ObservePlan:
        """Resolve a request against catalogue and store, reading no pixels.

        Raises:
            UnknownNameError: a farm, index or provider that does not exist.
            TransientError: the catalogue does not answer.

        """
        provider = self._provider(request)
        if not request.days or not request.farm_ids or not request.indices:
            raise BadRequestError("nothing to observe: the request has no days, no farms or no indices")
        farms = self._farms(request.farm_ids)
        indices = self.registry.select(request.indices)
        bands = {name for index in indices for name in index.resolve_bands(provider.profile.bands).values()}
        bands.add(provider.profile.mask.band)
        found = find_scenes(provider.catalog, provider.profile, list(farms.values()), request.days, frozenset(bands))
        self.problems = tuple(dict.fromkeys(str(problem) for problem in found.problems))
        rules = f"{self.rules_text}{provider.rules_text}"
        fingerprints = fingerprint_cells(farms, found, provider.profile, indices, rules)
        done = up_to_date_cells(request, fingerprints, self.store)
        return ObservePlan(
            request=request,
            farms=farms,
            found=found,
            fingerprints=fingerprints,
            up_to_date=done,
            tasks=make_tasks(fingerprints, request.indices, done),
        )

    def observe(
        self,
        request: ObserveRequest,
        *,
        run_id: str,
        progress: Progress | None = None,
        on_plan: Callable[[ObservePlan], None] | None = None,
    ) -> Iterator[CellOutcome]:
        """Compute what is missing or stale and yield every cell of the request once it is stored.

        Cells that were up to date come first, from the store. Days without a scene are written to the calendar
        and yield nothing.

        Args:
            request: farms, days and indices of one provider.
            run_id: stored with every number.
            progress: told after every batch.
            on_plan: told which cells there are, as soon as the catalogue has answered.

        Raises:
            CellsFailedError: at the end, naming the cells whose scenes could not be read for now.

        """
        with collecting_new_objects():
            plan = self.plan(request)
            if on_plan is not None:
                on_plan(plan)
            yield from self._observed(plan, run_id, progress)

    def _observed(self, plan: ObservePlan, run_id: str, progress: Progress | None) -> Iterator[CellOutcome]:
        self._record_empty_days(plan)
        total = plan.cells
        done = 0
        for outcome in self._stored(plan):
            done += 1
            yield outcome
        if progress is not None:
            progress.advance(done, total, "up to date")
        failures: dict[str, str] = {}
        for task in plan.tasks:
            for publication in self._computed(plan, task, run_id):
                receipt = self.store.publish(publication)
                for outcome in computed_outcomes(publication, receipt, failures):
                    yield outcome
                done += len(publication.batch.farm_ids) * len(publication.batch.indices)
                if progress is not None:
                    progress.advance(done, total, f"{publication.batch.solar_day}")
        if failures:
            raise CellsFailedError(
                f"{len(failures)} of {total} cells could not be read for now: {next(iter(failures.values()))}",
                failures=failures,
                hint="The others are stored. Run the same request again; only the missing cells are computed.",
            )

    def due(
        self, *, provider: str, collection: str, farm_ids: Sequence[str], indices: Sequence[str], days: Sequence[date]
    ) -> DueCells:
        """Return which farms of which days have cells that are missing or stale, and write the other days' calendar.

        Asking is what tells that a day had no scene, so the answer is kept where people look for it.
        """
        request = ObserveRequest(
            provider=provider,
            collection=collection,
            indices=tuple(indices),
            farm_ids=tuple(farm_ids),
            days=tuple(days),
        )
        plan = self.plan(request)
        self._record_empty_days(plan)
        open_cells = set(plan.open_farm_days())
        by_day: dict[date, list[str]] = defaultdict(list)
        for farm_id in request.farm_ids:
            for day in request.days:
                if (day, farm_id) in open_cells:
                    by_day[day].append(farm_id)
        return DueCells(
            by_day={day: tuple(by_day[day]) for day in sorted(by_day)},
            scene_set_hash=_scene_set_hashes(plan.found),
            problems=tuple(str(problem) for problem in plan.found.problems),
        )

    def scenes_over(self, farm_id: str, *, start: date, end: date, provider: str) -> list[Scene]:
        """Return the scenes whose footprint may show a farm, from start to end, both included.

        Raises:
            BadRequestError: the days are upside down.

        """
        if end < start:
            raise BadRequestError(f"the last day {end} is before the first, {start}")
        source = self.providers[provider]
        days = [start + timedelta(days=n) for n in range((end - start).days + 1)]
        found = find_scenes(source.catalog, source.profile, [self.farms.get(farm_id)], days, frozenset())
        return [found.scenes[scene_id] for scene_id in sorted({s for ids in found.by_cell.values() for s in ids})]

    def explain(self, request: ObserveRequest) -> Explanation:
        """Return what the request would read and cost, reading no pixels."""
        plan = self.plan(request)
        provider = self._provider(request)
        summaries = [
            provider.engine().plan_summary(*self._engine_inputs(plan, task), provider.profile) for task in plan.tasks
        ]
        return explain_plan(plan, summaries, sum(provider.units(summary) for summary in summaries))

    def _provider(self, request: ObserveRequest) -> ImageryProvider:
        provider = self.providers.get(request.provider)
        if provider is None or provider.profile.collection != request.collection:
            known = ", ".join(f"{p.name} ({p.profile.collection})" for p in self.providers.values()) or "none"
            raise UnknownNameError(
                f"no provider {request.provider!r} with collection {request.collection!r} is configured",
                hint=f"Configured: {known}.",
            )
        return provider

    def _farms(self, farm_ids: Sequence[str]) -> dict[str, Farm]:
        known = {farm.farm_id: farm for farm in self.farms.list()}
        missing = [farm_id for farm_id in farm_ids if farm_id not in known]
        if missing:
            raise UnknownNameError(
                f"no farm {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}",
                hint="`farm-intel farms list` shows what there is.",
            )
        return {farm_id: known[farm_id] for farm_id in farm_ids}

    def _stored(self, plan: ObservePlan) -> Iterator[CellOutcome]:
        if not plan.up_to_date:
            return
        request = plan.request
        rows: Iterator[Observation] = self.store.observations(
            farm_ids=request.farm_ids,
            indices=request.indices,
            provider=request.provider,
            collection=request.collection,
            start=min(request.days),
            end=max(request.days),
        )
        for row in rows:
            if (row.key.solar_day, row.key.farm_id, row.key.index) in plan.up_to_date:
                yield stored_outcome(row)

    def _engine_inputs(
        self, plan: ObservePlan, task: Task
    ) -> tuple[list[SceneDay], list[FarmShape], list[SpectralIndex]]:
        days = [
            SceneDay(
                solar_day=day,
                scenes=tuple(
                    plan.found.scenes[scene_id]
                    for scene_id in sorted(
                        {s for farm_id in task.farm_ids for s in plan.found.by_cell.get((day, farm_id), ())},
                    )
                ),
            )
            for day in task.days
        ]
        shapes = [
            FarmShape(farm_id=farm_id, boundary_wkb=plan.farms[farm_id].boundary_wkb) for farm_id in task.farm_ids
        ]
        return days, shapes, list(self.registry.select(task.indices))

    def _computed(self, plan: ObservePlan, task: Task, run_id: str) -> Iterator[Publication]:
        request = plan.request
        provider = self._provider(request)
        days, shapes, indices = self._engine_inputs(plan, task)
        batches = provider.engine().run(
            days,
            shapes,
            indices,
            provider.profile,
            refresh=provider.catalog.refresh,
            on_counters=self._count,
        )
        for batch in (_flagged(batch, request.flags) for batch in batches):
            yield Publication(
                provider=request.provider,
                collection=request.collection,
                batch=batch,
                judgement=judge(batch, self.rule),
                encodings=tuple(index.encoding for index in indices),
                fingerprints=_fingerprints(plan, batch, [request.indices.index(slug) for slug in task.indices]),
                boundary_versions={farm_id: plan.farms[farm_id].boundary_version for farm_id in batch.farm_ids},
                run_id=run_id,
                recorded_at=self.clock.now(),
            )

    def _count(self, counters: ReadCounters) -> None:
        self.counters = counters

    def _record_empty_days(self, plan: ObservePlan) -> None:
        """Write the calendar of the days without a scene a piece at a time: twenty years of an estate are millions."""
        for days in batched(self._empty_days(plan), CALENDAR_ROWS):
            self.store.record_days(days)

    def _empty_days(self, plan: ObservePlan) -> Iterator[CoverageDay]:
        """Yield calendar rows for the days that have passed and have no scene over the farm."""
        request = plan.request
        now = self.clock.now()
        for farm_id in request.farm_ids:
            for day in request.days:
                cell = (day, farm_id)
                if cell in plan.found.by_cell or day >= now.date():
                    continue
                status, reason = self._why_empty(plan, cell)
                yield CoverageDay(
                    farm_id=farm_id,
                    provider=request.provider,
                    collection=request.collection,
                    solar_day=day,
                    status=status,
                    reason=reason,
                    recorded_at=now,
                )

    def _why_empty(self, plan: ObservePlan, cell: FarmDay) -> tuple[ObservationStatus, str]:
        """Return why a farm has no scene on a day; items that cannot be read leave that open."""
        if cell in plan.found.missed:
            return ObservationStatus.OUTSIDE_FOOTPRINT, "a scene of the tile was taken, its swath misses the farm"
        if plan.found.unread:
            return (
                ObservationStatus.PROVIDER_FAILED,
                f"{len(plan.found.unread)} items of the catalogue cannot be read, the first: {plan.found.unread[0]}",
            )
        collection = plan.request.collection
        return ObservationStatus.NO_ACQUISITION, f"no {collection} scene over the farm in the catalogue"


def _fingerprints(plan: ObservePlan, batch: FarmDayBatch, places: Sequence[int]) -> tuple[tuple[str, ...], ...]:
    """Return the inputs' fingerprints per farm and index, marked where a scene could not be read for now."""
    rows = []
    for position, farm_id in enumerate(batch.farm_ids):
        prints = plan.fingerprints[batch.solar_day, farm_id]
        mark = PROVISIONAL if batch.worth_retrying(position) else ""
        rows.append(tuple([prints[place] + mark for place in places]))
    return tuple(rows)


def _flagged(batch: FarmDayBatch, extra: frozenset[Flag]) -> FarmDayBatch:
    return replace(batch, flags=tuple(flags | extra for flags in batch.flags)) if extra else batch


def _scene_set_hashes(found: FarmScenes) -> dict[date, str]:
    by_day: dict[date, set[str]] = defaultdict(set)
    for (day, _), scene_ids in found.by_cell.items():
        by_day[day].update(found.scenes[scene_id].version_text for scene_id in scene_ids)
    return {
        day: hashlib.sha256("|".join(sorted(versions)).encode()).hexdigest()[:16] for day, versions in by_day.items()
    }
