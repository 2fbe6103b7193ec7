"""Made-up publications of any size, so that the store can be tried without an engine."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np

from farm_intel.domain.batches import RASTER_NODATA, FarmDayBatch, RasterClip, Verdict
from farm_intel.domain.geo import PixelGrid
from farm_intel.domain.observations import STATISTICS, Flag, ObservationStatus
from farm_intel.domain.products import REASON_COUNT, PixelReason
from farm_intel.domain.publication import Publication, RasterEncoding
from farm_intel.domain.quality import QualityRule, judge

INDICES = ("first", "second", "third", "fourth", "fifth")
RECORDED_AT = datetime(2024, 6, 2, 3, 4, 5, 678901, tzinfo=UTC)


def make_publication(
    farms: int = 4,
    *,
    seed: int = 0,
    day: date = date(2024, 6, 1),
    indices: tuple[str, ...] = INDICES,
    edge_px: int = 30,
    cloudy: frozenset[int] = frozenset(),
    verdicts: dict[int, Verdict] | None = None,
    provider: str = "stac",
    revision: str = "r1",
    crs: str = "EPSG:32633",
) -> Publication:
    """Return a judged batch; farms in `cloudy` are wholly under cloud, those in `verdicts` were never computed."""
    rng = np.random.default_rng(seed)
    verdicts = verdicts or {}
    shape = (farms, len(indices))
    fractions = np.zeros((*shape, REASON_COUNT))
    fractions[:, :, PixelReason.CLOUD] = rng.uniform(0.0, 0.4, farms)[:, None]
    fractions[:, :, PixelReason.INDEX_OUT_OF_RANGE] = rng.choice([0.0, 0.05], shape)
    for f in cloudy:
        fractions[f] = 0.0
        fractions[f, :, PixelReason.CLOUD] = 1.0
    fractions[:, :, PixelReason.VALID] = 1.0 - fractions.sum(axis=2)
    statistics = np.sort(rng.normal(0.4, 0.2, (*shape, len(STATISTICS))), axis=2)
    used = rng.integers(12, 400, shape).astype(np.int32)
    for f in (*cloudy, *verdicts):
        statistics[f] = np.nan
        used[f] = 0
    for f in verdicts:
        fractions[f] = 0.0
    noise = (5000 + np.cumsum(rng.normal(0, 60, (len(indices), edge_px, edge_px)), axis=2)).astype(np.int16)
    clips = []
    for f in range(farms):
        data = np.roll(noise, f, axis=1) + np.int16(f % 50)
        data[:, : edge_px // 4, : edge_px // 4] = RASTER_NODATA
        grid = PixelGrid(
            crs=crs,
            width_px=edge_px,
            height_px=edge_px,
            pixel_m=10.0,
            west_m=500_000.0 + 10 * f,
            north_m=5_000_000.0 - 10 * f,
        )
        clips.append(None if f in verdicts else RasterClip(grid=grid, data=data))
    farm_ids = tuple(f"farm-{f:05d}" for f in range(farms))
    acquired = datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=10, microseconds=123456)
    batch = FarmDayBatch(
        solar_day=day,
        farm_ids=farm_ids,
        indices=indices,
        gsd_m=np.array([10.0, 20.0, 20.0, 10.0, 10.0, 10.0][: len(indices)], np.float32),
        statistics=statistics,
        pixel_count=used + 20,
        valid_pixel_count=used + 5,
        used_pixel_count=used,
        n_effective=used * 0.93,
        used_area_px=used * 1.0,
        mixed=rng.random(shape) < 0.3,
        reason_fractions=fractions,
        clips=tuple(clips),
        scene_ids=tuple(("S2A_33UUP",) if f % 3 else ("S2A_33UUP", "S2A_33UVP") for f in range(farms)),
        acquired_at=tuple(None if f in verdicts else acquired for f in range(farms)),
        flags=tuple(frozenset({Flag.MERGED_TILES}) if f % 3 == 0 else frozenset() for f in range(farms)),
        radiometry=tuple("" if f in verdicts else "scale 0.0001 offset 0 (flag)" for f in range(farms)),
        verdicts=tuple(verdicts.get(f) for f in range(farms)),
    )
    return Publication(
        provider=provider,
        collection="sentinel-2-l2a",
        batch=batch,
        judgement=judge(batch, QualityRule()),
        encodings=tuple(RasterEncoding(scale=1e-4, offset=0.0) for _ in indices),
        fingerprints=tuple(tuple(f"{revision}-{seed}-{farm_id}-{slug}" for slug in indices) for farm_id in farm_ids),
        boundary_versions=dict.fromkeys(farm_ids, 1),
        run_id="run-1",
        recorded_at=RECORDED_AT,
    )


def later(publication: Publication, *, run_id: str = "run-2") -> Publication:
    """Return the same publication as another run would hand it in, a day later."""
    return replace(publication, run_id=run_id, recorded_at=publication.recorded_at + timedelta(days=1))


def failed(reason: str = "the server did not answer") -> Verdict:
    """Return the verdict of a read that may succeed later."""
    return Verdict(status=ObservationStatus.PROVIDER_FAILED, reason=reason, transient=True)
