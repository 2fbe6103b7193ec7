"""Fakes that implement the ports, and builders for the values they trade in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
from shapely import to_wkb
from shapely.geometry import box

from farm_intel.domain.batches import FarmDayBatch, FarmShape, ReadCounters, SceneDay, Verdict
from farm_intel.domain.farms import Farm
from farm_intel.domain.geo import BBox
from farm_intel.domain.observations import (
    STATISTICS,
    CoverageDay,
    Observation,
    ObservationKey,
    ObservationStatus,
    ZonalStatistics,
)
from farm_intel.domain.products import (
    REASON_COUNT,
    CollectionProfile,
    MaskRule,
    OffsetRule,
    PixelReason,
    RadiometryRule,
)
from farm_intel.domain.publication import Publication, PublishReceipt
from farm_intel.domain.scenes import BandFile, Scene, SceneProblem, SceneQuery, SceneSearch

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)


def make_farm(farm_id: str, *, west: float = 36.0, south: float = -1.0, size_deg: float = 0.01, **changes: Any) -> Farm:
    """Return a square farm."""
    values: dict[str, Any] = {
        "farm_id": farm_id,
        "name": f"Farm {farm_id}",
        "boundary_wkb": to_wkb(box(west, south, west + size_deg, south + size_deg)),
        "boundary_version": 1,
        "boundary_hash": f"hash-{farm_id}-1",
        "bbox": BBox(west=west, south=south, east=west + size_deg, north=south + size_deg),
        "longitude_deg": west + size_deg / 2,
        "latitude_deg": south + size_deg / 2,
        "area_ha": 100.0,
        "time_zone": "Africa/Nairobi",
        "home_tile": "37MBV",
    }
    return Farm(**(values | changes))


def make_scene(scene_id: str, acquired_at: datetime, bbox: BBox, **changes: Any) -> Scene:
    """Return a scene with red, nir and scl."""
    bands = {
        name: BandFile(common_name=name, asset_key=name, href=f"{scene_id}/{name}.tif", nodata=0)
        for name in ("red", "nir", "blue", "scl")
    }
    values: dict[str, Any] = {
        "scene_id": scene_id,
        "provider": "stac",
        "dialect": "earth-search",
        "collection": "sentinel-2-l2a",
        "acquired_at": acquired_at,
        "tile": "37MBV",
        "platform": "sentinel-2a",
        "bbox": bbox,
        "footprint_wkb": None,
        "bands": bands,
        "updated": "2026-01-01",
    }
    return Scene(**(values | changes))


PROFILE = CollectionProfile(
    dialect="earth-search",
    collection="sentinel-2-l2a",
    version="1",
    title="Sentinel-2 L2A",
    assets={
        "red": "red",
        "nir": "nir",
        "blue": "blue",
        "green": "green",
        "nir08": "nir08",
        "swir16": "swir16",
        "scl": "scl",
    },
    radiometry=RadiometryRule(scale=1e-4, offset=-0.1, offset_rule=OffsetRule.FLAG, nodata=0),
    mask=MaskRule(band="scl", bits=8, reasons={4: PixelReason.VALID, 9: PixelReason.CLOUD}),
    gsd_m=10,
)


@dataclass
class FixedClock:
    """A clock that stands still until it is moved."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at


@dataclass
class FakeCatalog:
    """Scenes in memory; counts what it is asked."""

    scenes: list[Scene]
    provider: str = "stac"
    queries: list[SceneQuery] = field(default_factory=list)
    problems: tuple[SceneProblem, ...] = ()

    def search(self, query: SceneQuery) -> SceneSearch:
        self.queries.append(query)
        scenes = tuple(s for s in self.scenes if s.bbox.intersects(query.bbox))
        return SceneSearch(scenes=scenes, problems=self.problems, requests=1)

    def refresh(self, scene: Scene) -> Scene:
        return scene


@dataclass
class FakeFarmStore:
    """Farms in memory."""

    farms: list[Farm]

    def get(self, farm_id: str) -> Farm:
        return next(farm for farm in self.farms if farm.farm_id == farm_id)

    def list(self, *, cohort: str | None = None, include_inactive: bool = False) -> list[Farm]:
        return [f for f in self.farms if (include_inactive or f.active) and cohort in (None, f.cohort)]


@dataclass
class FakeObservationStore:
    """Observations in memory, judged as the real store would keep them."""

    rows: dict[ObservationKey, Observation] = field(default_factory=dict)
    days: dict[tuple[str, date], CoverageDay] = field(default_factory=dict)
    published: int = 0

    def fingerprints(
        self, *, provider: str, collection: str, farm_ids: Sequence[str], indices: Sequence[str], start: date, end: date
    ) -> dict[ObservationKey, tuple[str, ObservationStatus]]:
        return {
            key: (row.fingerprint, row.status)
            for key, row in self.rows.items()
            if key.provider == provider
            and key.collection == collection
            and key.farm_id in farm_ids
            and key.index in indices
            and start <= key.solar_day <= end
        }

    def publish(self, publication: Publication) -> PublishReceipt:
        self.published += 1
        batch, judgement = publication.batch, publication.judgement
        for f, farm_id in enumerate(batch.farm_ids):
            for i, slug in enumerate(batch.indices):
                key = ObservationKey(
                    farm_id=farm_id,
                    index=slug,
                    provider=publication.provider,
                    collection=publication.collection,
                    solar_day=batch.solar_day,
                )
                observed = judgement.statuses[f][i] is ObservationStatus.OBSERVED
                self.rows[key] = Observation(
                    key=key,
                    status=judgement.statuses[f][i],
                    statistics=ZonalStatistics(**dict(zip(STATISTICS, batch.statistics[f, i].tolist(), strict=True)))
                    if observed
                    else None,
                    pixel_count=int(batch.pixel_count[f, i]),
                    valid_pixel_count=int(batch.valid_pixel_count[f, i]),
                    used_pixel_count=int(batch.used_pixel_count[f, i]),
                    n_effective=float(batch.n_effective[f, i]),
                    standard_error=0.01 if observed else None,
                    valid_pixel_fraction=float(judgement.valid_fraction[f, i]),
                    cloud_fraction=float(judgement.cloud_fraction[f, i]),
                    covered_fraction=float(judgement.covered_fraction[f, i]),
                    flags=judgement.flags[f][i],
                    scene_ids=batch.scene_ids[f],
                    reason=judgement.reasons[f][i],
                    fingerprint=publication.fingerprints[f][i],
                    run_id=publication.run_id,
                )
        empty = (None,) * len(batch.farm_ids)
        return PublishReceipt(raster_sha256=empty, raster_paths=empty)

    def record_days(self, days: Sequence[CoverageDay]) -> None:
        self.days |= {(day.farm_id, day.solar_day): day for day in days}

    def observations(
        self,
        *,
        farm_ids: Sequence[str] | None = None,
        indices: Sequence[str] | None = None,
        provider: str | None = None,
        collection: str | None = None,
        start: date | None = None,
        end: date | None = None,
        statuses: Sequence[ObservationStatus] | None = None,
    ) -> Iterator[Observation]:
        for key in sorted(self.rows):
            row = self.rows[key]
            if (
                (farm_ids is None or key.farm_id in farm_ids)
                and (indices is None or key.index in indices)
                and (provider is None or key.provider == provider)
                and (collection is None or key.collection == collection)
                and (start is None or key.solar_day >= start)
                and (end is None or key.solar_day <= end)
                and (statuses is None or row.status in statuses)
            ):
                yield row

    def calendar(
        self, *, farm_id: str, provider: str | None = None, start: date | None = None, end: date | None = None
    ) -> list[CoverageDay]:
        days = {
            (row.key.provider, row.key.solar_day): CoverageDay(
                farm_id=farm_id,
                provider=row.key.provider,
                collection=row.key.collection,
                solar_day=row.key.solar_day,
                status=row.status,
                reason=row.reason,
            )
            for row in self.observations(farm_ids=[farm_id])
        } | {(day.provider, day.solar_day): day for (owner, _), day in self.days.items() if owner == farm_id}
        return [
            day
            for _, day in sorted(days.items(), key=lambda item: (item[0][1], item[0][0]))
            if (provider is None or day.provider == provider)
            and (start is None or day.solar_day >= start)
            and (end is None or day.solar_day <= end)
        ]


@dataclass
class FakeEngine:
    """Gives every farm a mean of 0.5; verdicts can be planted per (day, farm)."""

    verdicts: dict[tuple[date, str], Verdict] = field(default_factory=dict)
    calls: list[tuple[tuple[str, ...], tuple[date, ...], tuple[str, ...]]] = field(default_factory=list)

    def run(
        self,
        days: Sequence[SceneDay],
        farms: Sequence[FarmShape],
        indices: Sequence[Any],
        profile: CollectionProfile,
        *,
        refresh: Callable[[Scene], Scene] | None = None,
        on_counters: Callable[[ReadCounters], None] | None = None,
    ) -> Iterator[FarmDayBatch]:
        slugs = tuple(index.slug for index in indices)
        farm_ids = tuple(farm.farm_id for farm in farms)
        self.calls.append((slugs, tuple(day.solar_day for day in days), farm_ids))
        for day in days:
            verdicts = tuple(self.verdicts.get((day.solar_day, farm_id)) for farm_id in farm_ids)
            yield make_batch(
                day.solar_day, farm_ids, slugs, verdicts=verdicts, scene_ids=tuple(s.scene_id for s in day.scenes)
            )

    def plan_summary(self, *_args: Any) -> Any:
        @dataclass
        class Summary:
            blocks: int = 4
            requests: int = 4
            bytes_to_fetch: int = 4000

        return Summary()


def make_batch(
    day: date,
    farm_ids: tuple[str, ...],
    slugs: tuple[str, ...],
    *,
    mean: float = 0.5,
    reasons: dict[PixelReason, float] | None = None,
    used_area_px: float = 25.0,
    verdicts: tuple[Verdict | None, ...] | None = None,
    scene_ids: tuple[str, ...] = ("scene",),
    **changes: Any,
) -> FarmDayBatch:
    """Return a batch in which every cell looks the same."""
    shape = (len(farm_ids), len(slugs))
    fractions = np.zeros((*shape, REASON_COUNT))
    for reason, share in (reasons or {PixelReason.VALID: 1.0}).items():
        fractions[..., reason] = share
    statistics = np.full((*shape, len(STATISTICS)), mean)
    statistics[..., STATISTICS.index("std")] = 0.05
    values: dict[str, Any] = {
        "solar_day": day,
        "farm_ids": farm_ids,
        "indices": slugs,
        "gsd_m": np.full(len(slugs), 10, np.float32),
        "statistics": statistics,
        "pixel_count": np.full(shape, 30, np.int32),
        "valid_pixel_count": np.full(shape, 25, np.int32),
        "used_pixel_count": np.full(shape, 25, np.int32),
        "n_effective": np.full(shape, 25.0),
        "used_area_px": np.full(shape, used_area_px),
        "mixed": np.zeros(shape, np.bool_),
        "reason_fractions": fractions,
        "clips": (None,) * len(farm_ids),
        "scene_ids": (scene_ids,) * len(farm_ids),
        "acquired_at": (NOW,) * len(farm_ids),
        "flags": (frozenset(),) * len(farm_ids),
        "radiometry": ("scale 0.0001",) * len(farm_ids),
        "verdicts": verdicts or (None,) * len(farm_ids),
    }
    return FarmDayBatch(**(values | changes))
