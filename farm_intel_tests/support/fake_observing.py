"""An installation in memory: the real use case over fake ports, as the Dagster layer sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from typing import Any

from farm_intel.assessing.season import SeasonService
from farm_intel.assessing.service import AssessingService
from farm_intel.assessing.states import StatesService
from farm_intel.domain.assessment import DailySeries, FarmState, FusedObservation, Season
from farm_intel.domain.batches import FarmDayBatch, Verdict
from farm_intel.domain.errors import TransientError
from farm_intel.domain.geo import BBox
from farm_intel.domain.observations import STATISTICS, CoverageDay, ObservationKey, ObservationStatus
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.publication import Publication, PublishReceipt
from farm_intel.domain.quality import QualityRule
from farm_intel.domain.scenes import SceneQuery, SceneSearch
from farm_intel.indices.registry import IndexRegistry, load_registry
from farm_intel.indices.state_rules import StateRules, load_state_rules
from farm_intel.observing.model import CellOutcome
from farm_intel.observing.pictures import sparkline_text
from farm_intel.observing.service import ImageryProvider, ObservingService
from farm_intel.resilience.budget import BudgetStatus
from farm_intel.resilience.guard import Operation
from farm_intel.resilience.state import BreakerRecord
from farm_intel_tests.support.fake_alerts import (
    FakeActivities,
    FakeAlertHealth,
    FakeAlerts,
    FakeDeliveryHealth,
    FakePump,
)
from farm_intel_tests.support.fakes import (
    PROFILE,
    FakeCatalog,
    FakeEngine,
    FakeFarmStore,
    FakeObservationStore,
    FixedClock,
    make_farm,
    make_scene,
)

WORLD = BBox(west=30.0, south=-5.0, east=42.0, north=5.0)


@dataclass(frozen=True, kw_only=True)
class FakeSettings:
    """The settings the Dagster layer reads, with a fixed window."""

    asset_indices: tuple[str, ...] = ("ndvi", "evi")
    history_start: date | None = date(2026, 5, 1)
    history_end: date | None = date(2026, 6, 30)
    window_days: int = 60
    run_max_cells: int = 400
    backfill_max_cells: int = 10_000
    sensor_interval_s: int = 900
    sensor_lookback_days: int = 14
    daily_cron: str = "30 3 * * *"
    min_valid_fraction: float = 0.1
    provider_deadline_s: float = 60.0
    pump_interval_s: int = 30
    pump_deadline_s: float = 240.0
    lease_s: float = 300.0


@dataclass(frozen=True)
class FakeFacts:
    """What the table of providers says of one."""

    title: str = "A fake"
    adapter: str = "stac"
    unit: str = "requests"
    monthly_units: float | None = 1000.0
    requests_per_minute: float | None = None
    note: str = ""


@dataclass(frozen=True)
class FakeSource:
    """A provider in use."""

    name: str = "stac"
    profile: CollectionProfile = PROFILE
    missing_settings: tuple[str, ...] = ()
    row: FakeFacts = FakeFacts()
    capability: str = "pixels"

    @property
    def collection(self) -> str:
        return self.profile.collection


@dataclass
class FakePictures:
    """Pictures of a few bytes; counts how many were drawn."""

    drawn: int = 0

    def thumbnail(self, outcome: CellOutcome) -> bytes | None:
        self.drawn += 1
        return b"\x89PNG-" + outcome.key.farm_id.encode()

    def sparkline(self, key: ObservationKey) -> bytes | None:
        return b"\x89PNG-series-" + key.farm_id.encode()


@dataclass
class FakeProvider:
    """A further provider: its scenes, and an engine that gives every farm the same mean."""

    catalog: FakeCatalog
    engine: FakeEngine


@dataclass
class SteadyEngine(FakeEngine):
    """Gives every farm one mean, different from the other engine's."""

    mean: float = 0.5

    def run(self, *args: Any, **options: Any) -> Iterator[FarmDayBatch]:
        for batch in super().run(*args, **options):
            statistics = batch.statistics + (self.mean - 0.5)
            statistics[..., STATISTICS.index("std")] = 0.05
            yield replace(batch, statistics=statistics)


@dataclass
class DownCatalog(FakeCatalog):
    """A catalogue that can be out of reach."""

    down: bool = False

    def search(self, query: SceneQuery) -> SceneSearch:
        if self.down:
            raise TransientError("the catalogue answers 503", hint="Wait.")
        return super().search(query)


@dataclass
class LoggedObservationStore(FakeObservationStore):
    """Remembers which farm and day was recorded when, for whoever asks what changed."""

    log: list[tuple[str, date]] = field(default_factory=list)

    def publish(self, publication: Publication) -> PublishReceipt:
        self.log += [(farm_id, publication.batch.solar_day) for farm_id in publication.batch.farm_ids]
        return super().publish(publication)

    def record_days(self, days: Sequence[CoverageDay]) -> None:
        self.log += [(day.farm_id, day.solar_day) for day in days]
        super().record_days(days)


@dataclass
class FakeAssessmentStore:
    """Fused values, series, seasons and states in memory."""

    fused_rows: dict[tuple[str, str, date], FusedObservation] = field(default_factory=dict)
    series_rows: dict[tuple[str, str], DailySeries] = field(default_factory=dict)
    season_rows: dict[tuple[str, str], Season] = field(default_factory=dict)
    state_rows: dict[tuple[str, date], FarmState] = field(default_factory=dict)

    def save_fused(
        self,
        fused: Sequence[FusedObservation],
        *,
        recorded_at: datetime,
        gone: Sequence[tuple[str, str, date]] = (),
    ) -> None:
        _save(self.fused_rows, {(item.farm_id, item.index, item.solar_day): item for item in fused}, gone)

    def fused(
        self,
        *,
        farm_ids: Sequence[str] | None = None,
        indices: Sequence[str] | None = None,
        start: date | None = None,
        end: date | None = None,
        usable: bool = False,
        with_candidates: bool = True,
    ) -> Iterator[FusedObservation]:
        for (farm_id, index, day), item in sorted(self.fused_rows.items()):
            wanted = _among(farm_id, farm_ids) and _among(index, indices) and _between(day, start, end)
            if wanted and not (usable and item.value is None):
                yield item if with_candidates else replace(item, candidates=())

    def fused_fingerprints(
        self, *, farm_ids: Sequence[str], indices: Sequence[str], start: date, end: date
    ) -> dict[tuple[str, str, date], str]:
        found = self.fused(farm_ids=farm_ids, indices=indices, start=start, end=end)
        return {(item.farm_id, item.index, item.solar_day): item.fingerprint for item in found}

    def save_series(
        self,
        series: Sequence[DailySeries],
        *,
        recorded_at: datetime,
        gone: Sequence[tuple[str, str]] = (),
    ) -> None:
        _save(self.series_rows, {(item.farm_id, item.index): item for item in series}, gone)

    def series(
        self, *, farm_ids: Sequence[str] | None = None, indices: Sequence[str] | None = None
    ) -> Iterator[DailySeries]:
        for (farm_id, index), item in sorted(self.series_rows.items()):
            if _among(farm_id, farm_ids) and _among(index, indices):
                yield item

    def save_seasons(
        self,
        seasons: Sequence[Season],
        *,
        recorded_at: datetime,
        gone: Sequence[tuple[str, str]] = (),
    ) -> None:
        _save(self.season_rows, {(item.farm_id, item.index): item for item in seasons}, gone)

    def seasons(
        self, *, farm_ids: Sequence[str] | None = None, indices: Sequence[str] | None = None
    ) -> Iterator[Season]:
        for (farm_id, index), item in sorted(self.season_rows.items()):
            if _among(farm_id, farm_ids) and _among(index, indices):
                yield item

    def save_states(
        self,
        states: Sequence[FarmState],
        *,
        recorded_at: datetime,
        gone: Sequence[tuple[str, date]] = (),
    ) -> None:
        _save(self.state_rows, {(item.farm_id, item.day): item for item in states}, gone)

    def states(
        self,
        *,
        farm_ids: Sequence[str] | None = None,
        start: date | None = None,
        end: date | None = None,
        events_only: bool = False,
    ) -> Iterator[FarmState]:
        for (farm_id, day), item in sorted(self.state_rows.items()):
            if _among(farm_id, farm_ids) and _between(day, start, end) and not (events_only and item.event is None):
                yield item


def _save[K, V](rows: dict[K, V], new: Mapping[K, V], gone: Sequence[K]) -> None:
    for key in gone:
        rows.pop(key, None)
    rows.update(new)


def _among(name: str, names: Sequence[str] | None) -> bool:
    return names is None or name in names


def _between(day: date, start: date | None, end: date | None) -> bool:
    return (start is None or start <= day) and (end is None or day <= end)


@dataclass
class FakeInstallation:
    """What `bootstrap.Container` is to the Dagster layer."""

    farms: FakeFarmStore
    catalog: DownCatalog
    settings: FakeSettings = field(default_factory=FakeSettings)
    sources: tuple[FakeSource, ...] = (FakeSource(),)
    registry: IndexRegistry = field(default_factory=load_registry)
    observations: FakeObservationStore = field(default_factory=LoggedObservationStore)
    assessments: FakeAssessmentStore = field(default_factory=FakeAssessmentStore)
    rules: StateRules = field(default_factory=load_state_rules)
    engine: FakeEngine = field(default_factory=FakeEngine)
    others: dict[str, FakeProvider] = field(default_factory=dict)
    """Providers after the first, by name."""
    pictures: FakePictures = field(default_factory=FakePictures)
    month: list[BudgetStatus] = field(default_factory=list)
    tripped: list[tuple[Operation, BreakerRecord]] = field(default_factory=list)
    store_problems: list[tuple[str, int, str]] = field(default_factory=list)
    store_checks: list[bool] = field(default_factory=list)
    pump: FakePump = field(default_factory=FakePump)
    activities: FakeActivities = field(default_factory=FakeActivities)
    watching: FakeAlertHealth = field(default_factory=FakeAlertHealth)
    delivering: FakeDeliveryHealth = field(default_factory=FakeDeliveryHealth)
    alerts: FakeAlerts = field(init=False)

    def __post_init__(self) -> None:
        self.alerts = FakeAlerts(source=lambda: self.assessments)

    def alert_health(self) -> FakeAlertHealth:
        return self.watching

    def delivery_health(self) -> FakeDeliveryHealth:
        return self.delivering

    @property
    def observing(self) -> ObservingService:
        fakes = {"stac": FakeProvider(self.catalog, self.engine)} | self.others
        return ObservingService(
            providers={
                source.name: ImageryProvider(
                    name=source.name,
                    catalog=fakes[source.name].catalog,
                    profile=source.profile,
                    engine=lambda name=source.name: fakes[name].engine,  # type: ignore[misc]  # a default binds it
                )
                for source in self.sources
            },
            farms=self.farms,
            store=self.observations,
            registry=self.registry,
            clock=FixedClock(),
            rule=QualityRule(),
            rules_text="fake",
        )

    @property
    def assessing(self) -> AssessingService:
        return AssessingService(
            observations=self.observations, assessments=self.assessments, registry=self.registry, clock=FixedClock()
        )

    @property
    def seasons(self) -> SeasonService:
        return SeasonService(
            farms=self.farms,
            assessments=self.assessments,
            registry=self.registry,
            rules=self.rules,
            clock=FixedClock(),
        )

    @property
    def states(self) -> StatesService:
        return StatesService(farms=self.farms, assessments=self.assessments, rules=self.rules, clock=FixedClock())

    def provider_order(self, slug: str) -> Sequence[tuple[str, str]]:
        return [(source.name, source.collection) for source in self.sources if not source.missing_settings]

    def changed_since(self, cursor: str) -> tuple[str, Mapping[str, tuple[date, date]]]:
        log = getattr(self.observations, "log", [])
        farms: dict[str, tuple[date, date]] = {}
        for farm_id, day in log[int(cursor or 0) :]:
            first, last = farms.get(farm_id, (day, day))
            farms[farm_id] = (min(first, day), max(last, day))
        return str(len(log)), farms

    def sparkline(self, values: Sequence[float | None]) -> str:
        return sparkline_text(values)

    def add_provider(self, name: str, *, days: Sequence[date], mean: float = 0.5) -> FakeProvider:
        """Add a provider after the others, with the same scenes under its own name."""
        scenes = [
            make_scene(f"S2-{name}-{day}", datetime.combine(day, time(10), UTC), WORLD, provider=name) for day in days
        ]
        self.others[name] = FakeProvider(DownCatalog(scenes, provider=name), SteadyEngine(mean=mean))
        self.sources = (*self.sources, FakeSource(name=name))
        return self.others[name]

    def budgets(self) -> Sequence[BudgetStatus]:
        return self.month

    def breakers(self) -> Sequence[tuple[Operation, BreakerRecord]]:
        return self.tripped

    def check_store(self, *, rehash: bool, repair: bool) -> Sequence[tuple[str, int, str]]:
        self.store_checks.append(repair)
        return self.store_problems

    def poison(self, *cells: tuple[date, str], transient: bool = True) -> None:
        """Make the provider fail for these cells."""
        self.engine.verdicts |= {
            cell: Verdict(status=ObservationStatus.PROVIDER_FAILED, reason="connection reset", transient=transient)
            for cell in cells
        }

    def cloud(self, *cells: tuple[date, str]) -> None:
        """Cover these cells with cloud."""
        self.engine.verdicts |= {
            cell: Verdict(status=ObservationStatus.CLOUDY, reason="100% of the farm under cloud") for cell in cells
        }

    def acquire(self, day: date, *, updated: str = "2026-01-01") -> None:
        """Add (or reprocess) a scene over all farms at 10:00 UTC of a day."""
        scene_id = f"S2-{day}"
        self.catalog.scenes = [scene for scene in self.catalog.scenes if scene.scene_id != scene_id]
        self.catalog.scenes.append(make_scene(scene_id, datetime.combine(day, time(10), UTC), WORLD, updated=updated))


def installation(
    farms: Sequence[str] = ("f00", "f01", "f02", "f03", "f04", "f05"),
    days: Sequence[date] = (),
    **settings: object,
) -> FakeInstallation:
    """Return an installation with farms of one tile and a scene on each of the days."""
    made = FakeInstallation(
        farms=FakeFarmStore([make_farm(farm_id) for farm_id in farms]),
        catalog=DownCatalog([]),
        settings=FakeSettings(**settings),  # type: ignore[arg-type]  # named fields of the caller's choice
    )
    for day in days:
        made.acquire(day)
    return made
