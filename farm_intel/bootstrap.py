"""The composition root: settings in, a container of adapters and use cases out.

Everything is built when it is first asked for, and heavy libraries are imported here and nowhere above, so that the
Dagster definitions and the quick commands do not pay for what they do not use.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from farm_intel.domain.errors import NotConfiguredError
from farm_intel.domain.quality import QualityRule
from farm_intel.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

    from farm_intel.engine.pipeline import EngineOptions, SceneMajorEngine
    from farm_intel.indices.registry import IndexRegistry
    from farm_intel.observing.service import ImageryProvider, ObservingService
    from farm_intel.providers.stac.catalog import StacCatalog
    from farm_intel.storage.farms import SqlFarmStore
    from farm_intel.storage.observations import SqlObservationStore
    from farm_intel.storage.rasters import RasterStore


class Container:
    """Adapters and use cases of one installation, built on first use."""

    def __init__(self, settings: Settings) -> None:
        """Keep the settings; nothing is opened yet."""
        self.settings = settings

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
        from farm_intel.storage.rasters import RasterStore

        return RasterStore(self.settings.resolved_raster_root)

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

    @cached_property
    def providers(self) -> Mapping[str, ImageryProvider]:
        """The configured imagery providers by name."""
        from farm_intel.observing.service import ImageryProvider
        from farm_intel.providers.collections import profile

        settings = self.settings
        return {
            "stac": ImageryProvider(
                name="stac",
                catalog=self.stac_catalog,
                profile=profile(settings.stac_dialect, settings.stac_collection),
            ),
        }

    @cached_property
    def stac_catalog(self) -> StacCatalog:
        """The STAC catalogue of the settings.

        Raises:
            NotConfiguredError: no catalogue is set.

        """
        from farm_intel.providers.stac.catalog import StacCatalog

        settings = self.settings
        if not settings.stac_url:
            raise NotConfiguredError(
                "no STAC catalogue is set",
                hint="Set FARM_INTEL_STAC_URL to an API root or to a catalog.json; `farm-intel demo` brings its own.",
            )
        return StacCatalog(
            source=settings.stac_url,
            dialect=settings.stac_dialect,
            collection=settings.stac_collection,
            timeout_s=settings.stac_timeout_s,
            retries=settings.stac_retries,
            page_size=settings.stac_page_size,
            provider="stac",
        )

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

    def engine(self) -> SceneMajorEngine:
        """Return a new engine over the configured block readers."""
        from farm_intel.engine.pipeline import SceneMajorEngine
        from farm_intel.providers.blocks.auto import ReaderOptions, block_readers

        settings = self.settings
        readers = block_readers(
            ReaderOptions(
                kind=settings.reader,
                concurrency=settings.read_concurrency,
                timeout_s=settings.read_timeout_s,
                retries=settings.read_retries,
            ),
        )
        return SceneMajorEngine(readers, self.engine_options)

    @cached_property
    def observing(self) -> ObservingService:
        """The observe-farms use case."""
        from farm_intel.observing.service import ObservingService
        from farm_intel.resilience.clock import SystemClock

        settings = self.settings
        return ObservingService(
            providers=self.providers,
            farms=self.farms,
            store=self.observations,
            registry=self.registry,
            engine=self.engine,
            clock=SystemClock(),
            rule=QualityRule(min_valid_fraction=settings.min_valid_fraction),
            rules_text=(
                f"pure>={settings.min_pure_pixels} valid>={settings.min_valid_fraction:g} "
                f"dilate={settings.mask_dilation_px}"
            ),
        )


def build_container(settings: Settings) -> Container:
    """Return the container of these settings; opens nothing."""
    return Container(settings)


def container_from_environment() -> Container:
    """Return the container of the environment's settings.

    Raises:
        NotConfiguredError: a setting is unknown or out of its range; the message names each.

    """
    return Container(load_settings())


def load_settings(**overrides: object) -> Settings:
    """Return the settings from environment and file, with overrides on top.

    Raises:
        NotConfiguredError: a setting is unknown or out of its range; the message names each.

    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # checked by pydantic itself
    except ValidationError as error:
        problems = "; ".join(
            f"FARM_INTEL_{'_'.join(str(part) for part in e['loc']).upper()}: {e['msg']} (got {e['input']!r})"
            for e in error.errors()
        )
        raise NotConfiguredError(f"settings: {problems}", hint="`docs/settings.md` lists them all.") from error


def settings_from_file(path: Path) -> Settings:
    """Return the settings a TOML file holds, over the environment's.

    Raises:
        NotConfiguredError: the file is not TOML, or a setting is unknown or out of its range.

    """
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise NotConfiguredError(f"{path}: {error}", hint="It should hold `name = value` lines.") from error
    return load_settings(**values)
