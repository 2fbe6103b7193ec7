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
    for f, farm_id in enumerate(batch.farm_ids):
        verdict = batch.verdicts[f]
        if verdict is not None and verdict.transient:
            failures.update((f"{batch.solar_day}|{farm_id}|{slug}", verdict.reason) for slug in batch.indices)
            continue
        raster_path = receipt.raster_paths[f]
        for i, slug in enumerate(batch.indices):
            status = judgement.statuses[f][i]
            statistics = _statistics(numbers[f][i]) if status is ObservationStatus.OBSERVED else None
            yield CellOutcome(
                key=ObservationKey(
                    farm_id=farm_id,
                    index=slug,
                    provider=publication.provider,
                    collection=publication.collection,
                    solar_day=batch.solar_day,
                ),
                status=status,
                reason=judgement.reasons[f][i],
                statistics=statistics,
                valid_pixel_fraction=valid[f][i],
                cloud_fraction=cloud[f][i],
                covered_fraction=covered[f][i],
                used_pixel_count=used[f][i],
                n_effective=n_effective[f][i],
                standard_error=statistics.std / sqrt(n_effective[f][i]) if statistics else None,
                flags=judgement.flags[f][i],
                scene_ids=batch.scene_ids[f],
                radiometry=batch.radiometry[f],
                fingerprint=publication.fingerprints[f][i],
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
