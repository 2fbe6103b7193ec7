"""From interval answers to batches of farms for one solar day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import shapely

from farm_intel.domain.batches import FarmDayBatch, FarmShape, SceneDay, Verdict
from farm_intel.domain.observations import STATISTICS, Flag, ObservationStatus
from farm_intel.domain.products import REASON_COUNT, CollectionProfile, PixelReason
from farm_intel.domain.scenes import Scene
from farm_intel.providers.sentinel_hub.answers import BandStatistics, IntervalAnswer
from farm_intel.providers.sentinel_hub.areas import FarmArea, FarmPlace
from farm_intel.providers.sentinel_hub.evalscripts import REASONS_OUTPUT, ReasonBand

_PERCENTS: Mapping[str, float] = {"median": 50.0, "p10": 10.0, "p25": 25.0, "p75": 75.0, "p90": 90.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexGroup:
    """Indices of one ground sample distance, asked for together."""

    slugs: tuple[str, ...]
    places: tuple[int, ...]
    """Positions in the run's indices."""
    gsd_m: float
    ratio: int
    """Pixel edge in base pixels."""
    reasons: tuple[ReasonBand, ...]


@dataclass(slots=True, eq=False)
class DayAnswers:
    """What came back for one farm."""

    failed: dict[date, str] = field(default_factory=dict)
    """Days whose request failed for now, with the reason."""
    found: dict[tuple[int, date], IntervalAnswer] = field(default_factory=dict)
    """(group, day) -> interval."""

    def add(self, group: int, day: date, interval: IntervalAnswer) -> None:
        """Keep an interval."""
        self.found[group, day] = interval


@dataclass(slots=True, eq=False)
class _Arrays:
    """The arrays of a batch, filled farm by farm."""

    statistics: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    counts: np.ndarray[tuple[int, ...], np.dtype[np.int32]]
    n_effective: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    used_area_px: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    mixed: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    fractions: np.ndarray[tuple[int, ...], np.dtype[np.float64]]

    @classmethod
    def empty(cls, farms: int, indices: int) -> _Arrays:
        return cls(
            statistics=np.full((farms, indices, len(STATISTICS)), np.nan),
            counts=np.zeros((farms, indices, 3), np.int32),
            n_effective=np.zeros((farms, indices)),
            used_area_px=np.zeros((farms, indices)),
            mixed=np.zeros((farms, indices), np.bool_),
            fractions=np.zeros((farms, indices, REASON_COUNT)),
        )


def build_batch(
    day: SceneDay,
    farms: Sequence[FarmShape],
    places: Sequence[FarmPlace | None],
    answers: Sequence[DayAnswers],
    groups: Sequence[IndexGroup],
    profile: CollectionProfile,
) -> FarmDayBatch:
    """Return one solar day of all farms; a farm without an answer gets a verdict, never an empty success.

    Args:
        day: the day with its scenes.
        farms: F farms.
        places: their pixels, None for farms outside every tile.
        answers: what came back for each.
        groups: of the run; places cover 0..I-1.
        profile: for the words about radiometry.

    """
    slugs = _in_order(groups, [group.slugs for group in groups])
    arrays = _Arrays.empty(len(farms), len(slugs))
    seen = [_scenes_over(day.scenes, farm, place) for farm, place in zip(farms, places, strict=True)]
    verdicts = []
    for f, (place, answer) in enumerate(zip(places, answers, strict=True)):
        verdict = _verdict(day.solar_day, place, answer, seen[f], len(groups))
        verdicts.append(verdict)
        if verdict is None and place is not None:
            for number, group in enumerate(groups):
                area = place.areas[number]
                if area is not None:
                    _fill(arrays, f, group, (place, area), answer.found[number, day.solar_day])
    gsd = _in_order(groups, [(group.gsd_m,) * len(group.slugs) for group in groups])
    return FarmDayBatch(
        solar_day=day.solar_day,
        farm_ids=tuple(farm.farm_id for farm in farms),
        indices=tuple(slugs),
        gsd_m=np.array(gsd, np.float32),
        statistics=arrays.statistics,
        pixel_count=np.ascontiguousarray(arrays.counts[:, :, 0]),
        valid_pixel_count=np.ascontiguousarray(arrays.counts[:, :, 1]),
        used_pixel_count=np.ascontiguousarray(arrays.counts[:, :, 2]),
        n_effective=arrays.n_effective,
        used_area_px=arrays.used_area_px,
        mixed=arrays.mixed,
        reason_fractions=arrays.fractions,
        clips=(None,) * len(farms),
        scene_ids=tuple(tuple(scene.scene_id for scene in scenes) for scenes in seen),
        acquired_at=tuple(scenes[0].acquired_at if scenes else None for scenes in seen),
        flags=(frozenset({Flag.PROVIDER_STATISTICS}),) * len(farms),
        radiometry=(f"reflectance as {profile.dialect} computes it, not harmonised",) * len(farms),
        verdicts=tuple(verdicts),
    )


def _in_order[T](groups: Sequence[IndexGroup], values: Sequence[Sequence[T]]) -> list[T]:
    pairs = [pair for group, part in zip(groups, values, strict=True) for pair in zip(group.places, part, strict=True)]
    return [value for _, value in sorted(pairs, key=lambda pair: pair[0])]


def _scenes_over(scenes: Sequence[Scene], farm: FarmShape, place: FarmPlace | None) -> tuple[Scene, ...]:
    """Return the scenes whose footprint meets the farm, its home tile's first, newest processing first."""
    boundary = shapely.from_wkb(farm.boundary_wkb)
    over = [
        scene
        for scene in scenes
        if scene.footprint_wkb is None or shapely.intersects(shapely.from_wkb(scene.footprint_wkb), boundary)
    ]
    over.sort(key=lambda scene: (scene.revision, scene.acquired_at, scene.scene_id), reverse=True)
    home = [scene for scene in over if place is not None and scene.tile == place.tile]
    whole = [
        scene
        for scene in home
        if scene.footprint_wkb is not None and shapely.covers(shapely.from_wkb(scene.footprint_wkb), boundary)
    ]
    if whole:
        return (whole[0],)
    return (*home, *(scene for scene in over if scene not in home))


def _verdict(
    day: date, place: FarmPlace | None, answer: DayAnswers, scenes: Sequence[Scene], groups: int
) -> Verdict | None:
    """Return why a farm has no numbers on a day, None where every group was answered."""
    if place is None or not scenes:
        where = "every scene's tile" if place is None else "the day's scenes"
        return Verdict(status=ObservationStatus.OUTSIDE_FOOTPRINT, reason=f"the farm lies outside {where}")
    if day in answer.failed:
        return Verdict(status=ObservationStatus.PROVIDER_FAILED, reason=answer.failed[day], transient=True)
    asked = [number for number in range(groups) if place.areas[number] is not None]
    if not asked:
        return Verdict(
            status=ObservationStatus.TOO_FEW_PIXELS, reason="no pixel has its centre inside the farm: it is too small"
        )
    intervals = [answer.found.get((number, day)) for number in asked]
    errors = [interval for interval in intervals if interval is not None and interval.error]
    if errors:
        said = ", ".join(sorted({interval.error for interval in errors}))
        return Verdict(
            status=ObservationStatus.PROVIDER_FAILED,
            reason=f"Sentinel Hub could not compute the day: {said}",
            transient=any(interval.transient for interval in errors),
        )
    if any(interval is None for interval in intervals):
        names = ", ".join(scene.scene_id for scene in scenes)
        return Verdict(status=ObservationStatus.OUTSIDE_FOOTPRINT, reason=f"no data over the farm in {names}")
    return None


def _fill(
    arrays: _Arrays, f: int, group: IndexGroup, where: tuple[FarmPlace, FarmArea], interval: IntervalAnswer
) -> None:
    """Write one farm's results of one group; counts are in pixels of the group's resolution, as in the engine."""
    place, area = where
    ratio2 = float(group.ratio**2)
    reasons = interval.outputs[REASONS_OUTPUT]
    for slug, i in zip(group.slugs, group.places, strict=True):
        band = interval.outputs[slug]["B0"]
        used = min(band.counted, area.pixels)
        arrays.counts[f, i] = [np.ceil(n / ratio2) for n in (place.touched, used, used)]
        arrays.fractions[f, i] = _fractions(slug, used, area, reasons, group)
        arrays.mixed[f, i] = area.mixed and used > 0
        if used == 0:
            continue
        arrays.statistics[f, i] = [_statistic(band, name) for name in STATISTICS]
        arrays.n_effective[f, i] = used / ratio2
        arrays.used_area_px[f, i] = area.area_px * used / area.pixels / ratio2


def _statistic(band: BandStatistics, name: str) -> float:
    """Return one statistic by its name in STATISTICS; a percentile must not leave the extremes."""
    if name in _PERCENTS:
        value = band.percentiles.get(_PERCENTS[name], np.nan)
        return float(min(max(value, band.min), band.max))
    return {"mean": band.mean, "std": band.std, "min": band.min, "max": band.max}[name]


def _fractions(
    slug: str, used: int, area: FarmArea, reasons: Mapping[str, BandStatistics], group: IndexGroup
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return the share of the asked pixels per reason.

    The service cannot tell a pixel without data from one outside the polygon, but we know how many we asked about: what
    neither counts nor has a told reason is no data.
    """
    shares = np.zeros(REASON_COUNT)
    shares[PixelReason.VALID] = used / area.pixels
    for name, reason, told_for in group.reasons:
        band = reasons[name]
        if told_for in {"", slug} and band.counted:
            shares[reason] += band.mean * band.counted / area.pixels
    shares[PixelReason.NODATA] = 0.0
    total = shares.sum()
    if total > 1.0:
        return np.asarray(shares / total)
    shares[PixelReason.NODATA] = 1.0 - total
    return shares
