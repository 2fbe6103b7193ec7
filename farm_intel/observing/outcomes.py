"""From a stored batch, or a stored row, to what is told about each cell."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from math import sqrt

from farm_intel.domain.observations import (
    Observation,
    ObservationKey,
    ObservationStatus,
    ZonalStatistics,
)
from farm_intel.domain.publication import Publication, PublishReceipt
from farm_intel.observing.model import CellOutcome


def computed_outcomes(
    publication: Publication, receipt: PublishReceipt, failures: MutableMapping[str, str]
) -> Iterator[CellOutcome]:
    """Yield one outcome per cell of a published batch; cells that failed for now go to `failures` instead."""
    batch, judgement = publication.batch, publication.judgement
    # one conversion per array: asking an array for one number at a time costs more than all the rest
    numbers = batch.statistics.tolist()
    n_effective = batch.n_effective.tolist()
    used = batch.used_pixel_count.tolist()
    valid, cloud = judgement.valid_fraction.tolist(), judgement.cloud_fraction.tolist()
    covered = judgement.covered_fraction.tolist()
    provider, collection, day = publication.provider, publication.collection, batch.solar_day
    for f, farm_id in enumerate(batch.farm_ids):
        verdict = batch.verdicts[f]
        if verdict is not None and verdict.transient:
            failures.update((f"{day}|{farm_id}|{slug}", verdict.reason) for slug in batch.indices)
            continue
        raster_path = receipt.raster_paths[f]
        scene_ids, radiometry = batch.scene_ids[f], batch.radiometry[f]
        cells = zip(
            batch.indices, judgement.statuses[f], judgement.reasons[f], numbers[f], valid[f], cloud[f], covered[f],
            used[f], n_effective[f], judgement.flags[f], publication.fingerprints[f], strict=True,
        )  # fmt: skip
        for i, (slug, status, reason, row, clear, clouded, seen, count, effective, flags, inputs) in enumerate(cells):
            statistics = _statistics(row) if status is ObservationStatus.OBSERVED else None
            yield CellOutcome(
                key=ObservationKey(
                    farm_id=farm_id, index=slug, provider=provider, collection=collection, solar_day=day
                ),
                status=status,
                reason=reason,
                statistics=statistics,
                valid_pixel_fraction=clear,
                cloud_fraction=clouded,
                covered_fraction=seen,
                used_pixel_count=count,
                n_effective=effective,
                standard_error=statistics.std / sqrt(effective) if statistics else None,
                flags=flags,
                scene_ids=scene_ids,
                radiometry=radiometry,
                fingerprint=inputs,
                raster_path=raster_path,
                raster_band=i + 1 if raster_path else None,
                recomputed=True,
            )


def _statistics(numbers: Sequence[float]) -> ZonalStatistics:
    """Return a cell's statistics from their values in the order of STATISTICS."""
    mean, median, std, low, high, p10, p25, p75, p90 = numbers
    return ZonalStatistics(mean=mean, median=median, std=std, min=low, max=high, p10=p10, p25=p25, p75=p75, p90=p90)


def stored_outcome(row: Observation) -> CellOutcome:
    """Return the outcome of a cell that was up to date already."""
    return CellOutcome(
        key=row.key,
        status=row.status,
        reason=row.reason,
        statistics=row.statistics,
        valid_pixel_fraction=row.valid_pixel_fraction,
        cloud_fraction=row.cloud_fraction,
        covered_fraction=row.covered_fraction,
        used_pixel_count=row.used_pixel_count,
        n_effective=row.n_effective,
        standard_error=row.standard_error,
        flags=row.flags,
        scene_ids=row.scene_ids,
        radiometry=row.radiometry,
        fingerprint=row.fingerprint,
        raster_path=row.raster_path,
        raster_band=row.raster_band,
        recomputed=False,
    )
