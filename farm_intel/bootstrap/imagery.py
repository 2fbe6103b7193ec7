"""The providers in use: each a catalogue, a product row and an engine, built when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from farm_intel.domain.errors import NotConfiguredError, UnknownNameError
from farm_intel.domain.products import CollectionProfile
from farm_intel.providers.collections import profile
from farm_intel.providers.rows import Adapter, Capability, ProviderRow, provider_row

if TYPE_CHECKING:
    from farm_intel.bootstrap.container import Container
    from farm_intel.engine.blocks import BlockReaderFactory
    from farm_intel.engine.pipeline import SceneMajorEngine
    from farm_intel.indices.index import SpectralIndex
    from farm_intel.observing.estimating import PlanSummary
    from farm_intel.observing.service import Engine, ImageryProvider
    from farm_intel.providers.blocks.options import ReaderOptions
    from farm_intel.providers.earth_engine.session import EarthEngineSession
    from farm_intel.providers.stac.catalog import StacCatalog
    from farm_intel.resilience.guarded import GuardedCalls


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagerySource:
    """What definitions need of a provider; made from settings and tables alone."""

    row: ProviderRow
    profile: CollectionProfile
    capability: Capability
    """How its numbers are made: from pixels, or from the provider's own tables."""
    missing_settings: tuple[str, ...]
    """Settings without which it cannot be asked; empty when it can."""

    @property
    def name(self) -> str:
        """The provider's name."""
        return self.row.name

    @property
    def collection(self) -> str:
        """The collection it reads."""
        return self.profile.collection

    def serves(self, index: SpectralIndex) -> bool:
        """Return whether the product has the bands an index needs."""
        try:
            index.resolve_bands(self.profile.bands)
        except UnknownNameError:
            return False
        return True


class Imagery(Mapping[str, "ImageryProvider"]):
    """Providers by name, in the order of the settings."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._built: dict[str, ImageryProvider] = {}

    @cached_property
    def sources(self) -> tuple[ImagerySource, ...]:
        """The providers in use, best first.

        Raises:
            UnknownNameError: a setting names a provider that does not exist.
            NotConfiguredError: there is no product row for what the settings ask for.

        """
        settings = self._container.settings
        names = dict.fromkeys((*settings.providers, *(n for order in settings.provider_order.values() for n in order)))
        return tuple(self._source(provider_row(name)) for name in names)

    def __len__(self) -> int:
        """Return how many providers are in use."""
        return len(self.sources)

    def __iter__(self) -> Iterator[str]:
        """Yield their names, best first."""
        return iter(source.name for source in self.sources)

    def __contains__(self, name: object) -> bool:
        """Return whether a provider is in use; builds nothing."""
        return any(source.name == name for source in self.sources)

    def __getitem__(self, name: str) -> ImageryProvider:
        """Return a provider, ready to be asked.

        Raises:
            KeyError: it is not in use.
            NotConfiguredError: an address, credential or package is missing.

        """
        source = next((source for source in self.sources if source.name == name), None)
        if source is None:
            raise KeyError(name)
        if name not in self._built:
            self._built[name] = self._build(source)
        return self._built[name]

    def order(self, index: SpectralIndex) -> tuple[tuple[str, str], ...]:
        """Return (provider, collection) that can serve an index, in the order the operator chose."""
        settings = self._container.settings
        by_name = {source.name: source for source in self.sources}
        chosen = (by_name[name] for name in settings.provider_order.get(index.slug, settings.providers))
        return tuple((s.name, s.collection) for s in chosen if not s.missing_settings and s.serves(index))

    def _source(self, row: ProviderRow) -> ImagerySource:
        settings = self._container.settings
        dialect, collection = _dialect(row, self._container)
        capability = {
            Adapter.STAC: Capability.PIXELS,
            Adapter.SENTINEL_HUB: Capability(settings.sentinel_hub_capability),
            Adapter.EARTH_ENGINE: Capability(settings.earth_engine_capability),
        }[row.adapter]
        missing = tuple(f"FARM_INTEL_{name.upper()}" for name in row.settings if not _value(self._container, name))
        return ImagerySource(
            row=row, profile=profile(dialect, collection), capability=capability, missing_settings=missing
        )

    def _build(self, source: ImagerySource) -> ImageryProvider:
        if source.missing_settings:
            raise NotConfiguredError(
                f"provider {source.name} is not set up: {', '.join(source.missing_settings)} has no value",
                hint="docs/providers.md says what belongs there; `farm-intel demo` brings its own catalogue.",
            )
        from farm_intel.resilience.retry import tell_of_waits

        tell_of_waits()
        build = {
            Adapter.STAC: self._stac,
            Adapter.SENTINEL_HUB: self._sentinel_hub,
            Adapter.EARTH_ENGINE: self._earth_engine,
        }[source.row.adapter]
        return build(source)

    def _stac(self, source: ImagerySource) -> ImageryProvider:
        from farm_intel.observing.service import ImageryProvider
        from farm_intel.providers.stac.catalog import StacCatalog
        from farm_intel.resilience.retry import RetryPolicy

        settings = self._container.settings
        dialect = source.profile.dialect
        catalog = StacCatalog(
            source=_stac_url(source, self._container) or source.row.endpoints[dialect],
            dialect=dialect,
            collection=source.collection,
            timeout_s=settings.stac_timeout_s,
            page_size=settings.stac_page_size,
            provider=source.name,
            guard=self._container.guarding.with_policy(RetryPolicy(retries=settings.stac_retries)),
        )
        return ImageryProvider(
            name=source.name,
            catalog=catalog,
            profile=source.profile,
            engine=lambda: self._file_engine(catalog, source),
            gdal=lambda: self._gdal(catalog, source),
        )

    def _sentinel_hub(self, source: ImagerySource) -> ImageryProvider:
        from farm_intel.observing.service import ImageryProvider
        from farm_intel.providers.sentinel_hub.blocks import sentinel_hub_block_readers
        from farm_intel.providers.sentinel_hub.catalog import SentinelHubCatalog
        from farm_intel.providers.sentinel_hub.options import SentinelHubOptions
        from farm_intel.providers.sentinel_hub.statistics import SentinelHubStatistics
        from farm_intel.providers.sentinel_hub.units import process_units, statistics_units

        settings = self._container.settings
        options = SentinelHubOptions(
            client_id=settings.sentinel_hub_client_id,
            client_secret=settings.sentinel_hub_client_secret.get_secret_value(),
            base_url=settings.sentinel_hub_url,
            token_url=settings.sentinel_hub_token_url,
            timeout_s=settings.sentinel_hub_timeout_s,
            concurrency=source.row.concurrency,
        )
        guard = self._patient_guard()
        statistics = source.capability is Capability.STATISTICS
        engine_options = self._container.engine_options

        def engine() -> Engine:
            if statistics:
                return SentinelHubStatistics(options, guard, engine_options)
            return self._engine(sentinel_hub_block_readers(options, source.profile, guard))

        def units(summary: PlanSummary) -> float:
            if statistics:
                # a day's price has a least area, which fields of up to 26 ha do not exceed
                return summary.farm_days * statistics_units(1, 1, bands=3, days_with_data=1)
            return summary.blocks * process_units(options.block_px, options.block_px, bands=1)

        return ImageryProvider(
            name=source.name,
            catalog=SentinelHubCatalog(options, source.profile, guard, provider=source.name),
            profile=source.profile,
            engine=engine,
            units=units,
            rules_text=_capability_text(source),
        )

    def _earth_engine(self, source: ImagerySource) -> ImageryProvider:
        from farm_intel.observing.service import ImageryProvider
        from farm_intel.providers.earth_engine.catalog import EarthEngineCatalog
        from farm_intel.providers.earth_engine.pixels import earth_engine_block_readers
        from farm_intel.providers.earth_engine.statistics import EarthEngineStatistics

        guard = self._patient_guard()
        session = self._earth_engine_session
        statistics = source.capability is Capability.STATISTICS
        engine_options = self._container.engine_options

        def engine() -> Engine:
            if statistics:
                return EarthEngineStatistics(session, engine_options, guard, provider=source.name)
            readers = earth_engine_block_readers(session, source.profile, guard, provider=source.name)
            return self._engine(readers)

        return ImageryProvider(
            name=source.name,
            catalog=EarthEngineCatalog(session, source.profile, guard, provider=source.name),
            profile=source.profile,
            engine=engine,
            rules_text=_capability_text(source),
        )

    @cached_property
    def _earth_engine_session(self) -> EarthEngineSession:
        """One session: the client's state is the process's."""
        from farm_intel.providers.earth_engine.options import EarthEngineOptions
        from farm_intel.providers.earth_engine.session import EarthEngineSession

        settings = self._container.settings
        return EarthEngineSession(
            EarthEngineOptions(
                project=settings.earth_engine_project,
                credentials=settings.earth_engine_credentials.get_secret_value(),
                url=settings.earth_engine_url,
                timeout_s=settings.earth_engine_timeout_s,
            )
        )

    def _patient_guard(self) -> GuardedCalls:
        from farm_intel.resilience.retry import RetryPolicy

        return self._container.guarding.with_policy(RetryPolicy(retries=self._container.settings.provider_retries))

    def _file_engine(self, catalog: StacCatalog, source: ImagerySource) -> Engine:
        """Return an engine over files that a STAC catalogue points to."""
        from farm_intel.providers.blocks.auto import block_readers

        return self._engine(block_readers(self._reader_options(catalog, source)))

    def _gdal(self, catalog: StacCatalog, source: ImagerySource) -> Mapping[str, Any]:
        from farm_intel.providers.blocks.gdal import environment_arguments

        return environment_arguments(self._reader_options(catalog, source))

    def _reader_options(self, catalog: StacCatalog, source: ImagerySource) -> ReaderOptions:
        from farm_intel.providers.blocks.options import ReaderOptions, S3Options
        from farm_intel.providers.collections import REQUESTER_PAYS, S3_ENDPOINTS
        from farm_intel.resilience.retry import RetryPolicy

        settings = self._container.settings
        return ReaderOptions(
            kind=settings.reader,
            concurrency=settings.read_concurrency,
            timeout_s=settings.read_timeout_s,
            retries=settings.read_retries,
            whole_blocks=settings.read_whole_blocks,
            sign=catalog.sign,
            s3=S3Options(
                endpoint_url=S3_ENDPOINTS.get(source.profile.dialect, ""),
                requester_pays=source.profile.dialect in REQUESTER_PAYS,
            ),
            guard=self._container.guarding.with_policy(
                RetryPolicy(retries=settings.read_retries, wait_initial_s=0.25, wait_jitter_s=0.25, wait_max_s=20.0)
            ),
            provider=source.name,
        )

    def _engine(self, readers: BlockReaderFactory) -> SceneMajorEngine:
        from farm_intel.engine.pipeline import SceneMajorEngine

        return SceneMajorEngine(readers, self._container.engine_options)


def _capability_text(source: ImagerySource) -> str:
    """Return what tells numbers from a provider's own tables apart from numbers from its pixels."""
    return "" if source.capability is Capability.PIXELS else f" {source.capability.value}"


def _dialect(row: ProviderRow, container: Container) -> tuple[str, str]:
    """Return catalogue dialect and collection of a provider under the settings."""
    settings = container.settings
    if not row.collections:
        return settings.stac_dialect, settings.stac_collection
    dialect = settings.landsat_dialect if settings.landsat_dialect in row.collections else next(iter(row.collections))
    return dialect, row.collections[dialect]


_URL_SETTINGS = {"modis_vi": "modis_url", "hls_l30": "hls_url", "hls_s30": "hls_url"}
"""Providers that share the address of another."""


def _stac_url(source: ImagerySource, container: Container) -> str:
    return str(getattr(container.settings, _URL_SETTINGS.get(source.name, f"{source.name}_url")))


def _value(container: Container, name: str) -> str:
    from pydantic import SecretStr

    value = getattr(container.settings, name)
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
