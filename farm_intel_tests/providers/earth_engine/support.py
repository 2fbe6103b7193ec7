"""One world, one emulator, and the adapter's parts against it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
import shapely

from farm_intel.domain.batches import FarmDayBatch, FarmShape, SceneDay
from farm_intel.domain.geo import BBox
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import Scene, SceneQuery, SceneSearch, solar_day
from farm_intel.engine.options import EngineOptions
from farm_intel.engine.pipeline import SceneMajorEngine
from farm_intel.indices.registry import load_registry
from farm_intel.providers.collections import profile
from farm_intel.providers.earth_engine.catalog import EarthEngineCatalog
from farm_intel.providers.earth_engine.options import EarthEngineOptions
from farm_intel.providers.earth_engine.pixels import earth_engine_block_readers
from farm_intel.providers.earth_engine.session import EarthEngineSession
from farm_intel.providers.earth_engine.statistics import EarthEngineStatistics
from farm_intel.resilience.guard import PlainGuard
from farm_intel.resilience.retry import RetryPolicy
from farm_intel.simulation.emulators.earth_engine import EarthEngineEmulator
from farm_intel.simulation.emulators.hosting import EmulatorServer
from farm_intel.simulation.world import FarmWorld, WorldFarm

S2, LANDSAT, MODIS = "COPERNICUS/S2_SR_HARMONIZED", "landsat-c2-l2", "MODIS/061/MOD09GA"
REGISTRY = load_registry()
GUARD = PlainGuard(RetryPolicy(retries=3, wait_initial_s=0.01, wait_max_s=0.02, wait_jitter_s=0.01))

type Cell = tuple[date, str]


@dataclass
class Rig:
    """The adapter against a running emulator."""

    world: FarmWorld
    emulator: EarthEngineEmulator
    server: EmulatorServer
    options: EarthEngineOptions
    guard: Any = field(default_factory=lambda: GUARD)

    def __post_init__(self) -> None:
        self.session = EarthEngineSession(self.options)

    def with_options(self, **changes: Any) -> Rig:
        """The same emulator, asked by a session with other limits (and so the same process-wide state)."""
        return replace(self, options=replace(self.options, **changes))

    @property
    def farms(self) -> list[WorldFarm]:
        return list(self.world.farms)

    @property
    def shapes(self) -> list[FarmShape]:
        return [FarmShape(farm_id=farm.farm_id, boundary_wkb=farm.boundary_wkb) for farm in self.world.farms]

    @property
    def box(self) -> BBox:
        inside = [shapely.from_wkb(farm.boundary_wkb) for farm in self.world.farms if farm.inside_world]
        west, south, east, north = shapely.total_bounds(inside).tolist()
        return BBox(west=west, south=south, east=east, north=north)

    def catalog(self, collection: str = S2) -> EarthEngineCatalog:
        return EarthEngineCatalog(
            self.session, profile("earth-engine", collection), self.guard, provider="earth_engine"
        )

    def search(self, start: date, end: date, collection: str = S2, bands: Iterable[str] = ()) -> SceneSearch:
        query = SceneQuery(collection=collection, bbox=self.box, start=start, end=end, bands=frozenset(bands))
        return self.catalog(collection).search(query)

    def days(self, start: date, end: date, collection: str = S2) -> list[SceneDay]:
        found: dict[date, list[Scene]] = {}
        for scene in self.search(start, end, collection).scenes:
            found.setdefault(solar_day(scene.acquired_at, self.box.west), []).append(scene)
        return [SceneDay(solar_day=day, scenes=tuple(scenes)) for day, scenes in sorted(found.items())]

    def engine(self, collection: str = S2, **options: Any) -> SceneMajorEngine:
        readers = earth_engine_block_readers(
            self.session, profile("earth-engine", collection), self.guard, provider="earth_engine"
        )
        return SceneMajorEngine(readers, EngineOptions(**options))

    def statistics(self) -> EarthEngineStatistics:
        return EarthEngineStatistics(self.session, EngineOptions(), self.guard, provider="earth_engine")

    def run(self, engine: Any, days: Sequence[SceneDay], slugs: Sequence[str], collection: str = S2) -> Results:
        row: CollectionProfile = profile("earth-engine", collection)
        return Results(list(engine.run(days, self.shapes, REGISTRY.select(slugs), row)))

    def bodies(self, verb: str) -> list[dict[str, Any]]:
        """What was posted to a method of the service."""
        return [json.loads(record.body) for record in self.server.log if record.path.endswith(verb)]


class Results:
    """Batches by day and farm."""

    def __init__(self, batches: Sequence[FarmDayBatch]) -> None:
        self.batches = batches
        self.places = {(b.solar_day, farm): (b, i) for b in batches for i, farm in enumerate(b.farm_ids)}
        self.count = sum(len(b.farm_ids) for b in batches)

    def of(self, cell: Cell, name: str) -> Any:
        """One farm's part of an array or tuple of its batch."""
        batch, place = self.places[cell]
        return getattr(batch, name)[place]

    def without(self, farms: set[str]) -> Results:
        """Return the results of the other farms."""
        other = Results(self.batches)
        other.places = {cell: place for cell, place in self.places.items() if cell[1] not in farms}
        return other

    def observed(self) -> set[Cell]:
        return {
            cell
            for cell in self.places
            if self.of(cell, "verdicts") is None and np.isfinite(self.of(cell, "statistics")[:, 0]).all()
        }
