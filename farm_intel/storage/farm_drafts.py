"""What importing farms takes and gives; values only, so that quick commands need no geo library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from farm_intel.domain.geo import BBox


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmLimits:
    """What a boundary may be; anything beyond is rejected, never repaired."""

    max_vertices: int = 10_000
    """Counted before any geometry is computed: hostile polygons of 400 vertices already hang careless code."""
    max_area_ha: float = 50_000.0
    min_area_ha: float = 0.0001
    """One square metre: what is smaller is a digitising accident, not a field smaller than a pixel."""
    max_extent_km: float = 200.0
    """Longest side of the box around all parts; a farm is read from its own and neighbouring tiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmFileOptions:
    """How a file is to be understood where it does not say so itself."""

    id_column: str = ""
    """Column that holds the farm ids; empty means the first of `ID_COLUMNS` that the file has."""
    layer: str = ""
    """Layer of a file with several."""
    crs: str = ""
    """CRS for a file that names none, e.g. `EPSG:3794`; a file's own CRS always wins."""
    slugify_ids: bool = False
    """Turn ids with other characters into allowed ones (`Feld 7/b` becomes `Feld-7-b`); off, they are rejected."""
    number_features: bool = False
    """Call the farms `<file stem>-<number>` where the file has no ids; the order in the file is then their identity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """A boundary that passed every check, with what follows from it."""

    wkb: bytes
    """Polygon or MultiPolygon, 2-D, EPSG:4326 longitude/latitude; cut at the antimeridian as RFC 7946 wants it."""
    sha: str
    """First 16 hex digits of SHA-256 over the normalised geometry, coordinates rounded to 1e-7 degrees (1 cm)."""
    bbox: BBox
    longitude_deg: float
    latitude_deg: float
    area_ha: float
    """Geodesic, on WGS 84."""
    home_tile: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmDraft:
    """One feature that can be a farm."""

    farm_id: str
    boundary: Boundary
    time_zone: str
    """IANA name: the file's, else that of the position."""
    time_zone_given: bool = False
    """True where the file named the zone."""
    name: str | None = None
    """None: keep the stored name, or call a new farm by its id."""
    crop: str | None = None
    """None: keep what is stored."""
    planting_date: date | None = None
    """None: keep what is stored."""
    notes: tuple[str, ...] = ()
    """What was changed on the way in (dropped heights, shifted longitudes, a slugified id)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmRejection:
    """One feature that cannot be a farm."""

    number: int
    """1-based position in the file."""
    farm_id: str | None
    reason: str

    @property
    def feature(self) -> str:
        """The feature's name for people: its number, and its id where it has one."""
        return f"feature {self.number}" + (f" (id {self.farm_id})" if self.farm_id else "")

    def __str__(self) -> str:
        """Return one line: which feature, and why."""
        return f"{self.feature}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmFile:
    """What a file holds."""

    farms: tuple[FarmDraft, ...]
    rejections: tuple[FarmRejection, ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    """Our field -> the file's column it was read from."""
    notes: tuple[str, ...] = ()
    """What concerns the whole file, warnings of the reading library included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import did to the store; farm ids in the order of the file."""

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    """Farms with a new boundary version."""
    edited: tuple[str, ...] = ()
    """Farms whose name, crop, planting date or time zone changed; the boundary did not."""
    reactivated: tuple[str, ...] = ()
    """Farms that had been removed; also in `updated` or `edited` where that changed too."""
    unchanged: tuple[str, ...] = ()
