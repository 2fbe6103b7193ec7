"""A farm: a polygon with a time zone, a crop and versions of its boundary."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime

from farm_intel.domain.errors import FarmRejectedError
from farm_intel.domain.geo import BBox

FARM_ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Farm ids are Dagster partition keys, so `|`, `,`, brackets and `...` cannot occur in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Farm:
    """One farm with the boundary version that is in force."""

    farm_id: str
    """Immutable; `[A-Za-z0-9_-]{1,64}`."""
    name: str
    boundary_wkb: bytes
    """Polygon or MultiPolygon (holes allowed) in EPSG:4326 longitude/latitude, as WKB."""
    boundary_version: int
    """1 for the first boundary, one more for every edit."""
    boundary_hash: str
    """First 16 hex digits of SHA-256 over the normalised boundary WKB; part of every fingerprint."""
    bbox: BBox
    longitude_deg: float
    """Of a point inside the farm; decides its solar day."""
    latitude_deg: float
    area_ha: float
    time_zone: str
    """IANA name."""
    home_tile: str
    """MGRS 100 km square of the representative point, e.g. `37MBV`; farms sharing it are registered together."""
    cohort: str = "main"
    """Stable group of farms whose assets are built together."""
    crop: str | None = None
    planting_date: date | None = None
    active: bool = True
    created_at: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse ids that cannot be a partition key, a URL segment and a file name at once."""
        if not FARM_ID_PATTERN.fullmatch(self.farm_id):
            raise FarmRejectedError(
                f"farm id {self.farm_id!r} is not usable",
                hint="Use 1 to 64 of the characters A-Z a-z 0-9 _ -.",
            )
