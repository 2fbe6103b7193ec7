"""From a stored batch, or a stored row, to what is told about each cell."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

import numpy as np

from farm_intel.domain.observations import (
    STATISTICS,
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
    for f, farm_id in enumerate(batch.farm_ids):
        verdict = batch.verdicts[f]
        for i, slug in enumerate(batch.indices):
            key = ObservationKey(
                farm_id=farm_id,
                index=slug,
                provider=publication.provider,
                collection=publication.collection,
                solar_day=batch.solar_day,
            )
            if verdict is not None and verdict.transient:
                failures[f"{batch.solar_day}|{farm_id}|{slug}"] = verdict.reason
                continue
            observed = judgement.statuses[f][i] is ObservationStatus.OBSERVED
            statistics = (
                ZonalStatistics(**dict(zip(STATISTICS, batch.statistics[f, i].tolist(), strict=True)))
                if observed
                else None
            )
            n_effective = float(batch.n_effective[f, i])
            yield CellOutcome(
                key=key,
                status=judgement.statuses[f][i],
                reason=judgement.reasons[f][i],
                statistics=statistics,
                valid_pixel_fraction=float(judgement.valid_fraction[f, i]),
                cloud_fraction=float(judgement.cloud_fraction[f, i]),
                covered_fraction=float(judgement.covered_fraction[f, i]),
                used_pixel_count=int(batch.used_pixel_count[f, i]),
                n_effective=n_effective,
                standard_error=statistics.std / float(np.sqrt(n_effective)) if statistics else None,
                flags=judgement.flags[f][i],
                scene_ids=batch.scene_ids[f],
                radiometry=batch.radiometry[f],
                fingerprint=publication.fingerprints[f][i],
                raster_path=receipt.raster_paths[f],
                raster_band=i + 1 if receipt.raster_paths[f] else None,
                recomputed=True,
            )


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
