"""Which cells a request means: scenes per farm and day, input fingerprints, what is up to date. Reads no pixels."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from farm_intel.domain.farms import Farm
from farm_intel.domain.geo import BBox, union_bbox
from farm_intel.domain.observations import ObservationStatus
from farm_intel.domain.ports import ObservationStore, SceneCatalog
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import Scene, SceneProblem, SceneQuery, solar_day, solar_hours
from farm_intel.observing.model import ObserveRequest

if TYPE_CHECKING:
    from farm_intel.indices.registry import SpectralIndex

FOOTPRINT_MARGIN_DEG = 0.02
"""Item footprints are simplified outlines; about 2 km of grace keeps farms at the swath edge in."""

RETRIED_STATUSES = frozenset({ObservationStatus.PROVIDER_FAILED})
"""Stored cells that are computed again although nothing changed: the world may have been mended."""

PROVISIONAL = "?"
"""Ends the stored fingerprint of a number that another attempt may better, so that it equals no inputs."""

type FarmDay = tuple[date, str]
"""Solar day and farm id."""
type Cell = tuple[date, str, str]
"""Solar day, farm id and index slug."""


@dataclass(slots=True, kw_only=True)
class FarmScenes:
    """What the catalogue has for a set of farms: per solar day, which scenes show which farm."""

    scenes: dict[str, Scene] = field(default_factory=dict)
    by_cell: dict[tuple[date, str], tuple[str, ...]] = field(default_factory=dict)
    """(day, farm_id) -> ids of the scenes over the farm, sorted."""
    missed: set[tuple[date, str]] = field(default_factory=set)
    """(day, farm_id) with a scene whose box covers the farm but whose swath does not."""
    problems: list[SceneProblem] = field(default_factory=list)
    unread: list[SceneProblem] = field(default_factory=list)
    """Items that could not become scenes at all: what they show, and when, is not known."""
    requests: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One engine call: the same farms and indices on several days."""

    indices: tuple[str, ...]
    farm_ids: tuple[str, ...]
    days: tuple[date, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservePlan:
    """A request, resolved against catalogue and store."""

    request: ObserveRequest
    farms: Mapping[str, Farm]
    found: FarmScenes
    fingerprints: Mapping[FarmDay, tuple[str, ...]]
    """Every farm and day with a scene: one fingerprint per index, in the request's order."""
    up_to_date: frozenset[Cell]
    tasks: tuple[Task, ...]

    @property
    def cells(self) -> int:
        """Number of cells with a scene over the farm."""
        return len(self.fingerprints) * len(self.request.indices)

    @property
    def to_compute(self) -> int:
        """Number of cells that will be computed."""
        return self.cells - len(self.up_to_date)

    def open_farm_days(self) -> list[FarmDay]:
        """Return the farms and days with at least one cell to compute."""
        if not self.up_to_date:
            return list(self.fingerprints)
        slugs = self.request.indices
        return [cell for cell in self.fingerprints if any((*cell, slug) not in self.up_to_date for slug in slugs)]


def find_scenes(
    catalog: SceneCatalog,
    profile: CollectionProfile,
    farms: Sequence[Farm],
    days: Sequence[date],
    bands: frozenset[str],
) -> FarmScenes:
    """Ask the catalogue once per home tile and assign scenes to farms by footprint and the farms' solar day.

    Farms are grouped by home tile and by the 15-degree hour of their longitude, because next to the antimeridian
    one acquisition falls on two solar days.
    """
    found = FarmScenes()
    wanted = frozenset(days)
    groups: dict[tuple[str, int], list[Farm]] = defaultdict(list)
    for farm in farms:
        groups[farm.home_tile, solar_hours(farm.longitude_deg)].append(farm)
    for members in groups.values():
        query = SceneQuery(
            collection=profile.collection,
            bbox=union_bbox(farm.bbox for farm in members),
            start=min(wanted),
            end=max(wanted),
            bands=bands,
        )
        answer = catalog.search(query)
        found.requests += answer.requests
        # Groups ask the same catalogue; a damaged item is one problem, however many groups meet it.
        found.problems.extend(problem for problem in answer.problems if problem not in found.problems)
        found.unread.extend(problem for problem in answer.problems if problem not in found.unread)
        _assign(found, members, answer.scenes, wanted)
    return found


def _assign(found: FarmScenes, farms: Sequence[Farm], scenes: Iterable[Scene], wanted: frozenset[date]) -> None:
    import shapely

    boundaries = shapely.from_wkb([farm.boundary_wkb for farm in farms])
    boxes = np.array([(farm.bbox.west, farm.bbox.south, farm.bbox.east, farm.bbox.north) for farm in farms])
    cells: dict[tuple[date, str], set[str]] = defaultdict(set)
    for scene in scenes:
        day = solar_day(scene.acquired_at, farms[0].longitude_deg)
        if day not in wanted:
            continue
        found.problems.extend(p for p in scene.problems if scene.scene_id not in found.scenes)
        found.scenes[scene.scene_id] = scene
        in_box = boxes_touching(scene.bbox, boxes)
        seen = in_box & _in_footprint(scene, boundaries)
        for position in np.flatnonzero(in_box).tolist():
            cell = (day, farms[position].farm_id)
            if seen[position]:
                cells[cell].add(scene.scene_id)
            else:
                found.missed.add(cell)
    for cell, ids in cells.items():
        found.by_cell[cell] = tuple(sorted(ids))
        found.missed.discard(cell)


def boxes_touching(box: BBox, boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which boxes share at least a point with `box`, as `BBox.intersects` does one by one.

    Args:
        box: of a scene.
        boxes: (n, 4) west, south, east, north of farms, degrees; west > east crosses the antimeridian.

    """
    west, south, east, north = boxes.T
    touching = np.zeros(len(boxes), np.bool_)
    for part in box.split():
        begins, ends = west <= part.east, part.west <= east
        beside = np.where(west > east, begins | ends, begins & ends)
        touching |= beside & (south <= part.north) & (part.south <= north)
    return touching


def _in_footprint(scene: Scene, boundaries: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
    """Return which boundaries the scene's footprint may show; without a usable footprint, all of them."""
    import shapely

    count = len(boundaries)
    if scene.footprint_wkb is None or scene.bbox.crosses_antimeridian:
        return np.ones(count, np.bool_)
    outline = shapely.from_wkb(scene.footprint_wkb)
    if not outline.is_valid:
        return np.ones(count, np.bool_)
    outline = shapely.buffer(outline, FOOTPRINT_MARGIN_DEG)
    shapely.prepare(outline)
    return np.asarray(shapely.intersects(outline, boundaries), np.bool_)


def fingerprint_cells(
    farms: Mapping[str, Farm],
    found: FarmScenes,
    profile: CollectionProfile,
    indices: Sequence[SpectralIndex],
    rules: str,
) -> dict[FarmDay, tuple[str, ...]]:
    """Return the input fingerprints of every farm and day that has a scene, one per index in their order.

    Args:
        farms: by id; their boundaries are inputs.
        found: scenes per cell.
        profile: its version is an input.
        indices: their formula versions are inputs.
        rules: text of the engine and quality options that change numbers.

    """
    versions = {scene_id: scene.version_text for scene_id, scene in found.scenes.items()}
    formulas = [f"|{index.slug}@{index.formula_version}".encode() for index in indices]
    product = f"{profile.dialect}/{profile.collection}@{profile.version}"
    fingerprints: dict[FarmDay, tuple[str, ...]] = {}
    for cell, scene_ids in found.by_cell.items():
        seen = [versions[scene_id] for scene_id in scene_ids]
        shared = hashlib.sha256("|".join([*seen, farms[cell[1]].boundary_hash, product, rules]).encode())
        prints = []
        for formula in formulas:
            digest = shared.copy()
            digest.update(formula)
            prints.append(digest.hexdigest()[:32])
        fingerprints[cell] = tuple(prints)
    return fingerprints


def up_to_date_cells(
    request: ObserveRequest, fingerprints: Mapping[FarmDay, tuple[str, ...]], store: ObservationStore
) -> frozenset[Cell]:
    """Return the cells whose stored fingerprint equals today's inputs and whose answer is final."""
    if request.force or not fingerprints:
        return frozenset()
    stored = store.fingerprints(
        provider=request.provider,
        collection=request.collection,
        farm_ids=request.farm_ids,
        indices=request.indices,
        start=min(request.days),
        end=max(request.days),
    )
    place = {slug: i for i, slug in enumerate(request.indices)}
    return frozenset(
        (key.solar_day, key.farm_id, key.index)
        for key, (fingerprint, status) in stored.items()
        if status not in RETRIED_STATUSES
        and (prints := fingerprints.get((key.solar_day, key.farm_id))) is not None
        and prints[place[key.index]] == fingerprint
    )


def make_tasks(farm_days: Iterable[FarmDay], slugs: Sequence[str], done: frozenset[Cell]) -> tuple[Task, ...]:
    """Group open cells into the fewest engine calls: equal index sets, then equal farm sets, then days ascending."""
    farms_of: dict[tuple[date, tuple[str, ...]], list[str]] = defaultdict(list)
    for day, farm_id in farm_days:
        missing = tuple(slug for slug in slugs if (day, farm_id, slug) not in done) if done else tuple(slugs)
        if missing:
            farms_of[day, missing].append(farm_id)
    days_of: dict[tuple[tuple[str, ...], tuple[str, ...]], list[date]] = defaultdict(list)
    for (day, missing), farm_ids in farms_of.items():
        days_of[missing, tuple(sorted(farm_ids))].append(day)
    return tuple(
        Task(indices=missing, farm_ids=farm_ids, days=tuple(sorted(days)))
        for (missing, farm_ids), days in sorted(days_of.items(), key=lambda item: min(item[1]))
    )
