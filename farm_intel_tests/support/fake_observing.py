"""An installation in memory: the real use case over fake ports, as the Dagster layer sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time

from farm_intel.domain.batches import Verdict
from farm_intel.domain.geo import BBox
from farm_intel.domain.observations import ObservationKey, ObservationStatus
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.quality import QualityRule
from farm_intel.indices.registry import IndexRegistry, load_registry
from farm_intel.observing.model import CellOutcome
from farm_intel.observing.service import ImageryProvider, ObservingService
from farm_intel.resilience.budget import BudgetStatus
from farm_intel.resilience.guard import Operation
from farm_intel.resilience.state import BreakerRecord
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


@dataclass(frozen=True)
class FakeSource:
    """A provider in use."""

    name: str = "stac"
    profile: CollectionProfile = PROFILE
    missing_settings: tuple[str, ...] = ()

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
class FakeInstallation:
    """What `bootstrap.Container` is to the Dagster layer."""

    farms: FakeFarmStore
    catalog: FakeCatalog
    settings: FakeSettings = field(default_factory=FakeSettings)
    sources: tuple[FakeSource, ...] = (FakeSource(),)
    registry: IndexRegistry = field(default_factory=load_registry)
    observations: FakeObservationStore = field(default_factory=FakeObservationStore)
    engine: FakeEngine = field(default_factory=FakeEngine)
    pictures: FakePictures = field(default_factory=FakePictures)
    month: list[BudgetStatus] = field(default_factory=list)
    tripped: list[tuple[Operation, BreakerRecord]] = field(default_factory=list)
    store_problems: list[tuple[str, int, str]] = field(default_factory=list)
    store_checks: list[bool] = field(default_factory=list)

    @property
    def observing(self) -> ObservingService:
        return ObservingService(
            providers={
                "stac": ImageryProvider(name="stac", catalog=self.catalog, profile=PROFILE, engine=lambda: self.engine)
            },
            farms=self.farms,
            store=self.observations,
            registry=self.registry,
            clock=FixedClock(),
            rule=QualityRule(),
            rules_text="fake",
        )

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
        catalog=FakeCatalog([]),
        settings=FakeSettings(**settings),  # type: ignore[arg-type]  # named fields of the caller's choice
    )
    for day in days:
        made.acquire(day)
    return made
