"""In-memory scenes for engine tests: files are arrays, every read is recorded."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyproj
import shapely

from farm_intel.domain.batches import FarmDayBatch, FarmShape, ReadCounters, SceneDay
from farm_intel.domain.errors import SceneProblemError, SceneProblemKind, TransientError
from farm_intel.domain.geo import BBox, PixelGrid
from farm_intel.domain.products import CollectionProfile, MaskRule, OffsetRule, PixelReason, RadiometryRule
from farm_intel.domain.scenes import BandFile, Scene
from farm_intel.engine.blocks import BandHeader, BlockReaderFactory
from farm_intel.engine.pipeline import EngineOptions, SceneMajorEngine
from farm_intel.indices.registry import load_registry

DAY = date(2024, 6, 1)
REGISTRY = load_registry()
SCL = MaskRule(
    band="scl",
    bits=8,
    reasons={
        0: PixelReason.NODATA,
        3: PixelReason.SHADOW,
        4: PixelReason.VALID,
        5: PixelReason.VALID,
        6: PixelReason.WATER,
        8: PixelReason.CLOUD,
        9: PixelReason.CLOUD,
        11: PixelReason.SNOW,
    },
)


def profile(rule: OffsetRule = OffsetRule.FLAG, *, probe: bool = False, offset: float = -0.1) -> CollectionProfile:
    names = ("coastal", "blue", "green", "red", "nir", "swir16", "scl")
    return CollectionProfile(
        dialect="earth-search",
        collection="sentinel-2-l2a",
        version="test",
        title="test",
        assets={name: name for name in names},
        radiometry=RadiometryRule(scale=1e-4, offset=offset, offset_rule=rule, nodata=0, probe=probe),
        mask=SCL,
        gsd_m=10.0,
    )


def utm_grid(*, epsg: int = 32636, west: float = 600_000, north: float = 100_020, px: float = 10, n: int = 256) -> Any:
    return PixelGrid(crs=f"EPSG:{epsg}", width_px=n, height_px=n, pixel_m=px, west_m=west, north_m=north)


@dataclass
class FakeFile:
    """One band file."""

    grid: PixelGrid
    data: np.ndarray
    block: int = 64
    nodata: float | None = 0
    broken_blocks: frozenset[tuple[int, int]] = frozenset()
    open_error: Exception | None = None
    read_error: Exception | None = None


@dataclass
class FakeStore:
    """All files by href, and what was read of them."""

    files: dict[str, FakeFile] = field(default_factory=dict)
    reads: Counter = field(default_factory=Counter)
    calls: list[tuple[str, int]] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    overviews: list[str] = field(default_factory=list)
    closed: int = 0
    delay_s: float = 0.0
    live: int = 0

    def factory(self) -> BlockReaderFactory:
        @asynccontextmanager
        async def readers(_: Executor) -> AsyncIterator[Any]:
            try:
                yield _FakeReader(self)
            finally:
                self.closed += 1

        return readers


class _FakeReader:
    def __init__(self, store: FakeStore) -> None:
        self.store = store

    async def open(self, file: BandFile, *, scene_id: str) -> Any:
        await asyncio.sleep(0)
        self.store.opened.append(file.href)
        found = self.store.files.get(file.href)
        if found is None:
            raise SceneProblemError(SceneProblemKind.NOT_FOUND, scene_id, file.href)
        if found.open_error is not None:
            raise found.open_error
        return _FakeBand(self.store, file.href, found, scene_id)

    def counters(self) -> ReadCounters:
        return ReadCounters(requests=len(self.store.calls), blocks_decoded=sum(self.store.reads.values()))


class _FakeBand:
    def __init__(self, store: FakeStore, href: str, file: FakeFile, scene_id: str) -> None:
        self.store, self.href, self.file, self.scene_id = store, href, file, scene_id

    @property
    def header(self) -> BandHeader:
        return BandHeader(
            grid=self.file.grid,
            block_height_px=self.file.block,
            block_width_px=self.file.block,
            dtype=self.file.data.dtype,
            nodata=self.file.nodata,
        )

    async def read(
        self, blocks: Sequence[tuple[int, int]], rows: Sequence[tuple[int, int]] | None = None
    ) -> list[np.ndarray]:
        await asyncio.sleep(self.store.delay_s)
        self.store.calls.append((self.href, len(blocks)))
        if self.file.read_error is not None:
            raise self.file.read_error
        out = []
        for row, col in blocks:
            if (row, col) in self.file.broken_blocks:
                raise SceneProblemError(SceneProblemKind.UNREADABLE_FILE, self.scene_id, f"truncated at {row},{col}")
            self.store.reads[self.href, row, col] += 1
            b = self.file.block
            # padding that would be seen if anybody looked at it
            block = np.full((b, b), 7777 if self.file.data.dtype != np.uint8 else 4, self.file.data.dtype)
            part = self.file.data[row * b : (row + 1) * b, col * b : (col + 1) * b]
            first, end = rows[len(out)] if rows is not None else (0, b)
            # rows nobody asked for hold what would be noticed, as a reader may leave them
            block[first:end, : part.shape[1]] = part[first:end]
            out.append(block)
        return out

    async def read_overview(self, max_edge_px: int) -> np.ndarray:
        self.store.overviews.append(self.href)
        step = max(1, -(-max(self.file.data.shape) // max_edge_px))
        return self.file.data[::step, ::step]


def geographic_box(grid: PixelGrid) -> BBox:
    left, bottom, right, top = grid.bounds
    inverse = pyproj.Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    lon, lat = inverse.transform([left, right, left, right], [bottom, bottom, top, top])
    west, east = min(lon), max(lon)
    if east - west > 180:
        west, east = min(x for x in lon if x > 0), max(x for x in lon if x < 0)
    return BBox(west=west, south=min(lat), east=east, north=max(lat))


type Painter = Callable[[np.ndarray, np.ndarray], np.ndarray] | float | int


def paint(grid: PixelGrid, painter: Painter, dtype: Any) -> np.ndarray:
    """Evaluate a function of the (x, y) of pixel centres, or fill with a number."""
    if not callable(painter):
        return np.full((grid.height_px, grid.width_px), painter, dtype)
    x = grid.west_m + (np.arange(grid.width_px) + 0.5) * grid.pixel_m
    y = grid.north_m - (np.arange(grid.height_px) + 0.5) * grid.pixel_m
    return np.broadcast_to(painter(x[None, :], y[:, None]), (grid.height_px, grid.width_px)).astype(dtype)


def add_scene(
    store: FakeStore,
    scene_id: str,
    bands: Mapping[str, Painter],
    *,
    grid: PixelGrid | None = None,
    ratios: Mapping[str, int] | None = None,
    tile: str = "36NXF",
    block: int = 64,
    dtype: Any = np.uint16,
    declared_offset: float | None = -0.1,
    **scene: Any,
) -> Scene:
    """Write a scene's files into the store and return its record; `ratios` are pixel edges in base pixels."""
    grid = grid or utm_grid()
    coarse = {"swir16": 2, "scl": 2} | dict(ratios or {})
    files = {}
    for name, painter in bands.items():
        ratio = coarse.get(name, 1)
        own = PixelGrid(
            crs=grid.crs,
            width_px=-(-grid.width_px // ratio),
            height_px=-(-grid.height_px // ratio),
            pixel_m=grid.pixel_m * ratio,
            west_m=grid.west_m,
            north_m=grid.north_m,
        )
        data = paint(own, painter, np.uint8 if name == "scl" else dtype)
        store.files[f"{scene_id}/{name}"] = FakeFile(grid=own, data=data, block=block)
        files[name] = BandFile(
            common_name=name,
            asset_key=name,
            href=f"{scene_id}/{name}",
            nodata=0,
            declared_scale=1e-4,
            declared_offset=declared_offset,
        )
    fields: dict[str, Any] = {
        "acquired_at": datetime(2024, 6, 1, 8, 30, tzinfo=UTC),
        "offset_applied": True,
        "processing_baseline": "05.10",
        "bbox": geographic_box(grid),
        "platform": "sentinel-2a",
        "footprint_wkb": None,
    }
    return Scene(
        scene_id=scene_id,
        provider="stac",
        dialect="earth-search",
        collection="sentinel-2-l2a",
        tile=tile,
        bands=files,
        **(fields | scene),
    )


def farm(farm_id: str, polygon: Any, grid: PixelGrid | None = None) -> FarmShape:
    """Return a farm from a polygon in (col, row) pixels of a grid."""
    grid = grid or utm_grid()
    inverse = pyproj.Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)

    def to_lonlat(xy: np.ndarray) -> np.ndarray:
        lon, lat = inverse.transform(grid.west_m + xy[:, 0] * grid.pixel_m, grid.north_m - xy[:, 1] * grid.pixel_m)
        return np.stack([lon, lat], axis=1)

    return FarmShape(farm_id=farm_id, boundary_wkb=shapely.to_wkb(shapely.transform(polygon, to_lonlat)))


def run(
    store: FakeStore,
    scenes: Sequence[Scene] | Mapping[date, Sequence[Scene]],
    farms: Sequence[FarmShape],
    indices: Sequence[str] = ("ndvi",),
    *,
    product: CollectionProfile | None = None,
    options: EngineOptions | None = None,
    counters: list[ReadCounters] | None = None,
) -> list[FarmDayBatch]:
    days = scenes if isinstance(scenes, Mapping) else {DAY: scenes}
    engine = SceneMajorEngine(store.factory(), options or EngineOptions(threads=2, budget_mib=16))
    return list(
        engine.run(
            [SceneDay(solar_day=day, scenes=tuple(found)) for day, found in days.items()],
            farms,
            REGISTRY.select(indices),
            product or profile(),
            on_counters=counters.append if counters is not None else None,
        )
    )


@dataclass
class Cell:
    """One farm's results, looked up by name."""

    batch: FarmDayBatch
    place: int

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batch, name)[self.place]

    def mean(self, index: int = 0) -> float:
        return float(self.statistics[index, 0])

    def share(self, reason: PixelReason, index: int = 0) -> float:
        return float(self.reason_fractions[index, reason])


def cells(batches: Sequence[FarmDayBatch]) -> dict[tuple[date, str], Cell]:
    """Return every farm and day; fails where one comes twice."""
    found: dict[tuple[date, str], Cell] = {}
    for batch in batches:
        for place, farm_id in enumerate(batch.farm_ids):
            assert (batch.solar_day, farm_id) not in found
            found[batch.solar_day, farm_id] = Cell(batch, place)
    return found


def only(batches: Sequence[FarmDayBatch]) -> Cell:
    """Return the only cell."""
    ((_, cell),) = cells(batches).items()
    return cell


def transient(text: str = "503") -> TransientError:
    return TransientError(text)
