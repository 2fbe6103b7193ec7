"""The container: adapters and use cases of one installation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from farm_intel.bootstrap.watching import Watching
from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.domain.ports import Progress
from farm_intel.domain.quality import QualityRule
from farm_intel.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

    from farm_intel.assessing.season import SeasonService
    from farm_intel.assessing.service import AssessingService
    from farm_intel.assessing.states import StatesService
    from farm_intel.bootstrap.guarding import Guarding
    from farm_intel.bootstrap.imagery import Imagery, ImagerySource
    from farm_intel.engine.pipeline import EngineOptions
    from farm_intel.indices.registry import IndexRegistry
    from farm_intel.indices.state_rules import StateRules
    from farm_intel.observing.cube import CubeReport
    from farm_intel.observing.pictures import CellPictures
    from farm_intel.observing.service import ImageryProvider, ObservingService
    from farm_intel.resilience.budget import BudgetStatus
    from farm_intel.resilience.clock import Sleeper
    from farm_intel.resilience.guard import Operation
    from farm_intel.resilience.state import BreakerRecord
    from farm_intel.storage.assessments import SqlAssessmentStore
    from farm_intel.storage.farm_drafts import FarmDraft, FarmFile, ImportReport
    from farm_intel.storage.farms import SqlFarmStore
    from farm_intel.storage.observations import SqlObservationStore
    from farm_intel.storage.raster_store import RasterStore


class FarmFileReading(TypedDict, total=False):
    """How a farm file is to be understood; the fields of storage's FarmFileOptions, which says what they mean."""

    id_column: str
    layer: str
    crs: str
    slugify_ids: bool
    number_features: bool


class Container(Watching):
    """Adapters and use cases of one installation, built on first use."""

    def __init__(self, settings: Settings) -> None:
        """Keep the settings; nothing is opened yet."""
        self.settings = settings

    @cached_property
    def clock(self) -> Sleeper:
        """The clock."""
        from farm_intel.resilience.clock import SystemClock

        return SystemClock()

    @cached_property
    def registry(self) -> IndexRegistry:
        """The index catalogue with the user's own files."""
        from farm_intel.indices.registry import load_registry

        return load_registry(tuple(Path(name) for name in self.settings.index_files))

    @cached_property
    def database(self) -> Database:
        """The migrated database."""
        from farm_intel.storage.database import migrate, open_database

        if not self.settings.database_url:
            self.settings.home.mkdir(parents=True, exist_ok=True)
        database = open_database(self.settings.resolved_database_url)
        migrate(database)
        return database

    @cached_property
    def rasters(self) -> RasterStore:
        """Published rasters."""
        from farm_intel.storage.raster_places import open_raster_store

        return open_raster_store(self.settings.resolved_raster_root)

    @cached_property
    def farms(self) -> SqlFarmStore:
        """Farms and boundary versions."""
        from farm_intel.storage.farms import SqlFarmStore

        return SqlFarmStore(self.database)

    @cached_property
    def observations(self) -> SqlObservationStore:
        """Observations, calendar and rasters."""
        from farm_intel.storage.observations import SqlObservationStore

        return SqlObservationStore(self.database, self.rasters)

    def check_provider(self, name: str | None) -> None:
        """Refuse the name of a provider that does not exist, in use or not.

        Raises:
            UnknownNameError: there is none; the message lists what there is.

        """
        from farm_intel.providers.rows import provider_row

        if name is not None:
            provider_row(name)

    def provider_order(self, slug: str) -> tuple[tuple[str, str], ...]:
        """Return (provider, collection) in the order they are to be asked for an index, best first.

        Providers that are not set up, or whose product lacks a band of the index, are left out.

        Raises:
            UnknownNameError: there is no such index.

        """
        return self.imagery.order(self.registry.get(slug))

    def changed_since(self, cursor: str) -> tuple[str, dict[str, tuple[date, date]]]:
        """Return the next cursor and, per farm with newly recorded days, the first and the last of those days."""
        from farm_intel.storage.changes import changed_farms

        return changed_farms(self.database, cursor, now=self.clock.now())

    @cached_property
    def assessments(self) -> SqlAssessmentStore:
        """What is made of observations."""
        from farm_intel.storage.assessments import SqlAssessmentStore

        return SqlAssessmentStore(self.database)

    @cached_property
    def assessing(self) -> AssessingService:
        """The fuse-and-smooth use case."""
        from farm_intel.assessing.service import AssessingService

        settings = self.settings
        return AssessingService(
            observations=self.observations,
            assessments=self.assessments,
            registry=self.registry,
            clock=self.clock,
            harmonise=settings.harmonise,
            preference=lambda slug: settings.provider_order.get(slug, settings.providers),
        )

    @cached_property
    def state_rules(self) -> StateRules:
        """The rule tables of seasons and states."""
        from farm_intel.indices.state_rules import load_state_rules

        return load_state_rules()

    @cached_property
    def seasons(self) -> SeasonService:
        """The season use case."""
        from farm_intel.assessing.season import SeasonService

        return SeasonService(
            farms=self.farms,
            assessments=self.assessments,
            registry=self.registry,
            rules=self.state_rules,
            clock=self.clock,
        )

    @cached_property
    def states(self) -> StatesService:
        """The farm-state use case."""
        from farm_intel.assessing.states import StatesService

        return StatesService(farms=self.farms, assessments=self.assessments, rules=self.state_rules, clock=self.clock)

    def providers_plot(self, farm_id: str, slug: str, *, start: date | None = None, end: date | None = None) -> bytes:
        """Return what every provider says of a farm and index as PNG.

        Raises:
            UnknownNameError: no such farm or index.
            BadRequestError: nothing has been fused for them.

        """
        from farm_intel.assessing.providers_plot import providers_plot

        farm, index = self.farms.get(farm_id), self.registry.get(slug)
        fused = list(self.assessments.fused(farm_ids=[farm_id], indices=[slug], start=start, end=end))
        series = next(self.assessments.series(farm_ids=[farm_id], indices=[slug]), None)
        return providers_plot(fused, series, index, farm)

    @cached_property
    def guarding(self) -> Guarding:
        """Breakers, rates and budgets."""
        from farm_intel.bootstrap.guarding import Guarding

        return Guarding(self.settings, self.database)

    def budgets(self) -> list[BudgetStatus]:
        """Return what each provider with a limit has spent this month."""
        return [status for status in self.guarding.ledger.status() if math.isfinite(status.limit)]

    def breakers(self) -> list[tuple[Operation, BreakerRecord]]:
        """Return every circuit breaker that ever had to do with a failure."""
        return self.guarding.breakers.breakers()

    @cached_property
    def imagery(self) -> Imagery:
        """The providers in use, each built when it is first asked for."""
        from farm_intel.bootstrap.imagery import Imagery

        return Imagery(self)

    @property
    def providers(self) -> Mapping[str, ImageryProvider]:
        """The configured imagery providers by name."""
        return self.imagery

    @property
    def sources(self) -> tuple[ImagerySource, ...]:
        """The providers in use with their product rows, best first; builds and asks nothing."""
        return self.imagery.sources

    @property
    def engine_options(self) -> EngineOptions:
        """The engine's options from the settings."""
        from farm_intel.engine.pipeline import EngineOptions

        settings = self.settings
        return EngineOptions(
            threads=settings.engine_threads,
            budget_mib=settings.engine_budget_mib,
            mask_first=settings.mask_first,
            mask_dilation_px=settings.mask_dilation_px,
            min_pure_pixels=settings.min_pure_pixels,
        )

    @cached_property
    def observing(self) -> ObservingService:
        """The observe-farms use case."""
        from farm_intel.observing.service import ObservingService

        settings = self.settings
        return ObservingService(
            providers=self.providers,
            farms=self.farms,
            store=self.observations,
            registry=self.registry,
            clock=self.clock,
            rule=QualityRule(min_valid_fraction=settings.min_valid_fraction),
            rules_text=(
                f"pure>={settings.min_pure_pixels} valid>={settings.min_valid_fraction:g} "
                f"dilate={settings.mask_dilation_px}"
            ),
        )

    @cached_property
    def pictures(self) -> CellPictures:
        """Small pictures of stored cells."""
        from farm_intel.observing.pictures import CellPictures

        rasters = self.rasters
        return CellPictures(
            self.registry, self.observations, raster=lambda path: rasters.read(rasters.address_of_path(path))
        )

    def season_plot(self, farm_id: str, slug: str, *, start: date | None = None, end: date | None = None) -> bytes:
        """Return a farm's season of one index as PNG.

        Raises:
            UnknownNameError: no such farm or index.
            BadRequestError: nothing is stored for them.

        """
        from farm_intel.observing.season_plot import season_plot

        farm, index = self.farms.get(farm_id), self.registry.get(slug)
        rows = list(self.observations.observations(farm_ids=[farm_id], indices=[slug], start=start, end=end))
        if not rows:
            raise BadRequestError(
                f"nothing of {slug} is stored for farm {farm_id} in that time",
                hint=f"`farm-intel backfill --indices {slug} --farms {farm_id} --from … --to …` computes it.",
            )
        return season_plot(rows, index, farm, self.observations.calendar(farm_id=farm_id, start=start, end=end))

    def sparkline(self, values: Sequence[float | None]) -> str:
        """Return a series as one line of block characters."""
        from farm_intel.observing.pictures import sparkline_text

        return sparkline_text(values)

    def read_farm_file(self, path: Path, **reading: Unpack[FarmFileReading]) -> FarmFile:
        """Return the farms a file holds and what is rejected, by this installation's limits.

        Args:
            path: the file.
            reading: how to understand what the file does not say itself.

        Raises:
            BadRequestError: the file cannot be read at all.

        """
        from farm_intel.storage.farm_drafts import FarmFileOptions, FarmLimits
        from farm_intel.storage.farm_files import read_farm_file

        limits = FarmLimits(
            max_vertices=self.settings.max_boundary_vertices, max_area_ha=self.settings.max_farm_area_ha
        )
        return read_farm_file(path, limits, FarmFileOptions(**reading))

    def import_farms(self, drafts: Sequence[FarmDraft]) -> ImportReport:
        """Store farms, deal new ones into cohorts and return what changed."""
        report = self.farms.import_drafts(drafts, now=self.clock.now())
        self.farms.assign_cohorts(self.settings.cohort_size)
        return report

    def check_store(self, *, rehash: bool, repair: bool) -> list[tuple[str, int, str]]:
        """Return (problem, count, examples) for all that is wrong between rows and rasters; empty where it is whole.

        With `repair`, what the reaper may remove (orphans and temporary files past the grace period) is removed first.
        """
        from farm_intel.storage import fsck

        now = self.clock.now()
        if repair:
            fsck.repair(self.database, self.rasters, grace=fsck.GRACE, now=now)
        report = fsck.check_store(self.database, self.rasters, rehash=rehash, now=now)
        return [(f.problem, f.count, ", ".join(f.examples)) for f in report.findings]

    def export_observations(
        self, path: Path, *, farm_ids: Sequence[str], indices: Sequence[str], start: date | None, end: date | None
    ) -> int:
        """Write observations as GeoParquet and return how many; empty selections mean all."""
        from farm_intel.storage.export import ExportFilter, export_geoparquet

        wanted = ExportFilter(farm_ids=farm_ids or None, indices=indices or None, start=start, end=end)
        return export_geoparquet(self.observations, path, wanted)

    def write_cube(
        self,
        farm_id: str,
        slugs: Sequence[str],
        *,
        start: date | None,
        end: date | None,
        target: Path,
        progress: Progress,
        provider_name: str | None = None,
    ) -> CubeReport:
        """Write an analyst's cube of one farm as Zarr; without days, over the days its calendar knows.

        Raises:
            BadRequestError: no usable scene, the days are upside down, or none given and none known.
            UnknownNameError: there is no such provider in use.

        """
        from farm_intel.observing.cube import CubeSource, write_cube

        provider = self._file_provider(provider_name or self.settings.provider)
        if start is None or end is None:
            known = self.observations.calendar(farm_id=self.farms.get(farm_id).farm_id, provider=provider.name)
            if not known:
                raise BadRequestError(
                    f"farm {farm_id} has no calendar yet, so its days are not known", hint="Give --from and --until."
                )
            start, end = start or known[0].solar_day, end or known[-1].solar_day
        return write_cube(
            target,
            farm=self.farms.get(farm_id),
            scenes=self.observing.scenes_over(farm_id, start=start, end=end, provider=provider.name),
            indices=self.registry.select(slugs),
            source=CubeSource(
                profile=provider.profile,
                refresh=provider.catalog.refresh,
                options=self.engine_options,
                gdal=provider.gdal() if provider.gdal else {},
            ),
            progress=progress,
        )

    def _file_provider(self, name: str) -> ImageryProvider:
        """Return a provider whose scenes are files."""
        self.check_provider(name)
        if name not in self.providers:
            raise UnknownNameError(
                f"provider {name} is not in use", hint=f"In use: {', '.join(self.providers)} (FARM_INTEL_PROVIDERS)."
            )
        provider = self.providers[name]
        if provider.gdal is None:
            raise BadRequestError(
                f"provider {name} answers with pixels, not with files, and the cube is made of files",
                hint="Choose a provider with a STAC catalogue by --provider.",
            )
        return provider

    def stac_item(self, farm_id: str, day: date, provider: str) -> dict[str, Any] | None:
        """Return the STAC item of a farm's raster on a day, or None where there is none."""
        from farm_intel.storage.stac_items import stac_item

        calendar = self.observations.calendar(farm_id=farm_id, provider=provider, start=day, end=day)
        for found in calendar:
            if found.raster_sha256 is None or (raster := self.observations.raster(found.raster_sha256)) is None:
                continue
            cells = self.observations.observations(
                farm_ids=[farm_id], provider=provider, collection=found.collection, start=day, end=day
            )
            return stac_item(
                farm=self.farms.get(farm_id),
                day=found,
                raster=raster,
                observations=list(cells),
                href=self.rasters.href(found.raster_sha256),
            )
        return None
