"""Our contenders: the engine alone, the whole path into a store, and the floor under both."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.data import BANDS_10M, BLOCK_PX, DAYS, EDGE_PX, HALF_PX, KEYS, NORTH_M, WEST_M
from benchmarks.job import INDICES, Floats, Job

if TYPE_CHECKING:
    from farm_intel.bootstrap import Container
    from farm_intel.domain.batches import FarmDayBatch, FarmShape, SceneDay
    from farm_intel.observing.model import ObserveRequest

_COLLECTION = "sentinel-2-l2a"
_ALL_BANDS_INDEX = """
[[index]]
name = "AllBands"
slug = "all_bands"
long_name = "Made-up index that needs every band of the five default ones"
formula = "(N - R) / (N + R + B + G + N2 + S1)"
reference = "none: a benchmark's own"
"""


@dataclass
class Outcome:
    """What a run gave."""

    means: Floats
    mixed: npt.NDArray[np.bool_] | None = None
    """Where edge pixels had to be used because too few lay wholly inside; the shape of `means`."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Counters and parts of the cost, for the record."""


@dataclass(frozen=True)
class Prepared:
    """A contender with everything made that does not belong on the clock."""

    run: Callable[[], Outcome]
    afterwards: Callable[[], dict[str, Any]] = dict
    """Facts that take time to find out; called after the clock has stopped, before the outcome is looked at."""


def _scene_days(job: Job) -> list[SceneDay]:
    from farm_intel.domain.batches import SceneDay
    from farm_intel.domain.scenes import Scene
    from farm_intel.providers.collections import profile
    from farm_intel.providers.stac.parsing import scene_from_item

    row = profile("earth-search", _COLLECTION)
    days = []
    for day, item in zip(job.days, job.items(), strict=True):
        scene = scene_from_item(item, row, str(job.data.folder), provider="stac")
        if not isinstance(scene, Scene):
            raise TypeError(f"the benchmark's own item is no scene: {scene}")
        days.append(SceneDay(solar_day=day, scenes=(scene,)))
    return days


def _shapes(job: Job) -> list[FarmShape]:
    from farm_intel.domain.batches import FarmShape

    wkb = job.lonlat.geometry.to_wkb()
    return [
        FarmShape(farm_id=farm_id, boundary_wkb=boundary)
        for farm_id, boundary in zip(job.lonlat["farm_id"], wkb, strict=True)
    ]


def _engine_run(
    days: Sequence[SceneDay], shapes: Sequence[FarmShape], slugs: Sequence[str], scratch: Path, facts: dict[str, Any]
) -> Callable[[], Iterator[FarmDayBatch]]:
    from farm_intel.engine.pipeline import EngineOptions, SceneMajorEngine
    from farm_intel.indices.registry import load_registry
    from farm_intel.providers.blocks.auto import ReaderOptions, block_readers
    from farm_intel.providers.collections import profile

    own = scratch / "all_bands.toml"
    own.write_text(_ALL_BANDS_INDEX)
    engine = SceneMajorEngine(block_readers(ReaderOptions()), EngineOptions())
    indices = load_registry((own,)).select(slugs)
    row = profile("earth-search", _COLLECTION)
    return partial(engine.run, days, shapes, indices, row, on_counters=lambda counters: facts.update(asdict(counters)))


def prepare_engine(job: Job) -> Prepared:
    """The engine: scenes and boundaries in, batches with statistics and clips out, nothing stored."""
    slugs = tuple(job.case.options.get("indices", INDICES))
    days, shapes = _scene_days(job), _shapes(job)
    place = {shape.farm_id: k for k, shape in enumerate(shapes)}
    facts: dict[str, Any] = {}
    means = job.empty()
    mixed = np.zeros(means.shape, np.bool_)
    batches = _engine_run(days, shapes, slugs, job.scratch, facts)
    # numba compiles on the first call; a day no case asks for first, from local disk
    warm = Job(job.case, job.data, None, job.scratch)
    for _ in _engine_run(_scene_days(warm)[:1], shapes[:3], slugs, job.scratch, {})():
        pass
    facts.clear()

    def run() -> Outcome:
        number = {day: k for k, day in enumerate(job.days)}
        for batch in batches():
            rows = [place[farm_id] for farm_id in batch.farm_ids]
            means[rows, number[batch.solar_day], : len(slugs)] = batch.statistics[:, :, 0]
            mixed[rows, number[batch.solar_day], : len(slugs)] = batch.mixed
        return Outcome(means, mixed, facts)

    return Prepared(run)


def _make_home(job: Job, home: Path, base: str | None, dates: int, farms: int | None) -> list[str]:
    """Make an installation of the first farms, or of all, beside a catalogue; return their ids."""
    home.mkdir()
    job.data.write_catalogue(home / "items.json", dates, base)
    chosen = job.lonlat.iloc[:farms]
    chosen.to_parquet(home / "farms.parquet")
    command = [str(Path(sys.executable).with_name("farm-intel")), "farms", "import", str(home / "farms.parquet")]
    environment = {**os.environ, "FARM_INTEL_HOME": str(home)}
    subprocess.run([*command, "--id-column", "farm_id"], env=environment, check=True, capture_output=True)
    return list(chosen["farm_id"])


def _container(home: Path) -> Container:
    from farm_intel.bootstrap import Container, load_settings

    return Container(load_settings(home=home, stac_url=str(home / "items.json"), stac_collection=_COLLECTION))


def prepare_path(job: Job) -> Prepared:
    """The whole path: catalogue search, fingerprints, engine, verdicts, rasters and rows in SQLite."""
    from farm_intel.observing.model import ObserveRequest

    logging.disable(logging.WARNING)

    def request(farm_ids: Iterable[str], days: tuple[Any, ...]) -> ObserveRequest:
        return ObserveRequest(
            provider="stac", collection=_COLLECTION, indices=INDICES, farm_ids=tuple(farm_ids), days=days
        )

    rehearsal, home = job.scratch / "rehearsal", job.scratch / "home"
    # in processes of their own: what made the farms and imported them must not count as memory of observing
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
        few = other.submit(_make_home, job, rehearsal, None, 1, 3).result()
        farm_ids = other.submit(_make_home, job, home, job.base, job.case.dates, None).result()
    _observe(_container(rehearsal), request(few, DAYS[:1]))
    container = _container(home)
    means = job.empty()

    def run() -> Outcome:
        facts = _observe(container, request(farm_ids, job.days))
        return Outcome(means, facts=facts | asdict(container.observing.counters))

    def stored() -> dict[str, Any]:
        """Fill in the means as the store tells them, which is what the path is for."""
        place = {farm_id: k for k, farm_id in enumerate(farm_ids)}
        number = {day: k for k, day in enumerate(job.days)}
        column = {slug: k for k, slug in enumerate(INDICES)}
        for row in container.observations.observations():
            if row.statistics is not None:
                means[place[row.key.farm_id], number[row.key.solar_day], column[row.key.index]] = row.statistics.mean
        files = [path for path in home.rglob("*") if path.is_file()]
        return {"stored_files": len(files), "stored_bytes": sum(path.stat().st_size for path in files)}

    return Prepared(run, stored)


def _observe(container: Container, request: ObserveRequest) -> dict[str, Any]:
    """Observe, and count what the storing thread spends inside `publish`."""
    service = container.observing
    store = container.observations
    spent = 0.0

    class Timed:
        """The store, with a stopwatch on one method."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def publish(self, publication: Any) -> Any:
            nonlocal spent
            begin = time.thread_time()
            receipt = store.publish(publication)
            spent += time.thread_time() - begin
            return receipt

    service.store = Timed()  # type: ignore[assignment]  # forwards everything else
    cells = sum(1 for _ in service.observe(request, run_id="bench"))
    return {"cells": cells, "publish_thread_cpu_s": round(spent, 3)}


# ---------------------------------------------------------------- the floor


def touched_blocks(job: Job) -> dict[str, list[tuple[int, int]]]:
    """Return the blocks (row, col) of each band that farms share any area with, by shapely and not by our own code."""
    import shapely

    tree = shapely.STRtree(job.fields.geometry.to_numpy())
    touched = {}
    for key in KEYS:
        pixel_m = 10 if key in BANDS_10M else 20
        edge_m = BLOCK_PX * pixel_m
        count = -(-(EDGE_PX if pixel_m == 10 else HALF_PX) // BLOCK_PX)
        places = [(row, col) for row in range(count) for col in range(count)]
        # a hair smaller than the block: touching its edge is not being in it
        boxes = shapely.box(
            [WEST_M + col * edge_m + 0.01 for _, col in places],
            [NORTH_M - (row + 1) * edge_m + 0.01 for row, _ in places],
            [WEST_M + (col + 1) * edge_m - 0.01 for _, col in places],
            [NORTH_M - row * edge_m - 0.01 for row, _ in places],
        )
        hits = np.unique(tree.query(boxes, predicate="intersects")[0])
        touched[key] = [places[k] for k in hits.tolist()]
    return touched


def _compressed(path: Path, blocks: Sequence[tuple[int, int]]) -> list[bytes]:
    """Return the stored bytes of blocks, found through GDAL's own metadata."""
    import rasterio

    with rasterio.open(path) as dataset, path.open("rb") as file:
        found = []
        for row, col in blocks:
            offset = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=1)
            size = dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=1)
            file.seek(int(offset))
            found.append(file.read(int(size)))
        return found


def prepare_floor(job: Job) -> Prepared:
    """The least any plan can spend: inflate each touched block once and undo the predictor, in one thread."""
    import deflate
    import numba

    @numba.njit(nogil=True)  # type: ignore[misc]  # numba has no types
    def undo(block: npt.NDArray[np.uint16]) -> None:
        for row in range(block.shape[0]):
            total = block[row, 0]
            for col in range(1, block.shape[1]):
                total += block[row, col]
                block[row, col] = total

    undo(np.zeros((2, 2), np.uint16))
    touched = touched_blocks(job)
    stored = {(day, key): _compressed(job.data.band(day, key), touched[key]) for day in job.days for key in KEYS}

    def run() -> Outcome:
        size = BLOCK_PX * BLOCK_PX
        decoded = 0
        for (_, key), blocks in stored.items():
            for block in blocks:
                raw = deflate.zlib_decompress(block, size if key == "scl" else 2 * size)
                if key != "scl":
                    undo(np.frombuffer(raw, np.uint16).reshape(BLOCK_PX, BLOCK_PX))
                decoded += len(raw)
        counts = {"blocks_touched": sum(map(len, stored.values())), "bytes_decoded": decoded}
        compressed = sum(len(block) for blocks in stored.values() for block in blocks)
        return Outcome(job.empty(), facts=counts | {"bytes_compressed": compressed})

    return Prepared(run)


OURS: dict[str, tuple[Callable[[Job], Prepared], str]] = {
    "engine": (prepare_engine, "farm-intel engine"),
    "engine-one": (prepare_engine, "farm-intel engine, one index of all bands"),
    "path": (prepare_path, "farm-intel, stored"),
    "floor": (prepare_floor, "inflate floor"),
}


def cpu_seconds() -> float:
    """Return user and system time of this process, its threads and its finished children."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)
