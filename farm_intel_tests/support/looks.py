"""Observations to judge and fuse, and a store that holds them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from farm_intel.domain.observations import (
    CoverageDay,
    Observation,
    ObservationKey,
    ObservationStatus,
    ZonalStatistics,
)
from farm_intel.domain.publication import Publication, PublishReceipt


def look(
    farm: str,
    day: date,
    value: float,
    *,
    provider: str = "stac",
    collection: str = "sentinel-2-l2a",
    scene: str = "S2A_37MBV",
    cloud: float = 0.0,
    **changes: Any,
) -> Observation:
    """Return an observed cell of a field of 100 pixels seen at 08:00 UTC; `cloud` of it is obscured."""
    valid = 1.0 - cloud
    values: dict[str, Any] = {
        "key": ObservationKey(
            farm_id=farm, index=changes.pop("index", "ndvi"), provider=provider, collection=collection, solar_day=day
        ),
        "status": ObservationStatus.OBSERVED,
        "statistics": ZonalStatistics(
            mean=value, median=value, std=0.05, min=value, max=value, p10=value, p25=value, p75=value, p90=value
        ),
        "pixel_count": 100,
        "valid_pixel_count": round(100 * valid),
        "used_pixel_count": round(100 * valid),
        "n_effective": 100.0 * valid,
        "standard_error": 0.005,
        "valid_pixel_fraction": valid,
        "cloud_fraction": cloud,
        "covered_fraction": 1.0,
        "gsd_m": 10.0,
        "scene_ids": (f"{scene}_{day:%Y%m%d}",),
        "acquired_at": datetime.combine(day, time(8), UTC),
        "fingerprint": f"{zlib.crc32(repr((farm, day, value, provider, collection, cloud)).encode()):08x}",
    }
    return Observation(**(values | changes))


@dataclass
class FixedObservations:
    """An ObservationStore that was filled beforehand; it only reads."""

    rows: Sequence[Observation]

    def fingerprints(
        self, *, provider: str, collection: str, farm_ids: Sequence[str], indices: Sequence[str], start: date, end: date
    ) -> dict[ObservationKey, tuple[str, ObservationStatus]]:
        return {
            row.key: (row.fingerprint, row.status)
            for row in self.observations(
                farm_ids=farm_ids, indices=indices, provider=provider, collection=collection, start=start, end=end
            )
        }

    def publish(self, publication: Publication) -> PublishReceipt:
        raise NotImplementedError

    def record_days(self, days: Sequence[CoverageDay]) -> None:
        raise NotImplementedError

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
        for row in self.rows:
            key = row.key
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
        return []
