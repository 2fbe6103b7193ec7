"""A scene: one acquisition of one tile, parsed once at the edge into what the engine needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from farm_intel.domain.errors import SceneProblemKind
from farm_intel.domain.geo import BBox


def solar_hours(longitude_deg: float) -> int:
    """Return the whole hours local solar time is ahead of UTC: longitude / 15, cut towards zero as in odc-stac."""
    return int(longitude_deg / 15)


def solar_day(acquired_at: datetime, longitude_deg: float) -> date:
    """Return the local solar date at a longitude; it depends on no time zone law."""
    return (acquired_at + timedelta(hours=solar_hours(longitude_deg))).date()


@dataclass(frozen=True, slots=True, kw_only=True)
class BandFile:
    """One file of a scene."""

    common_name: str
    asset_key: str
    href: str
    """Absolute URL or path, not signed."""
    nodata: float | None = None
    declared_scale: float | None = None
    declared_offset: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneProblem:
    """Why a scene, or one band of it, cannot be used."""

    scene_id: str
    kind: SceneProblemKind
    detail: str
    band: str | None = None

    def __str__(self) -> str:
        """Return one line for people."""
        where = f" ({self.band})" if self.band else ""
        return f"{self.scene_id}{where}: {self.kind.value}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One acquisition of one tile, as one catalogue offers it."""

    scene_id: str
    provider: str
    dialect: str
    collection: str
    acquired_at: datetime
    """Nominal time, timezone-aware UTC."""
    tile: str
    """`37MBV`, `168061`; empty where the catalogue does not say."""
    platform: str
    bbox: BBox
    footprint_wkb: bytes | None
    """Item geometry in EPSG:4326, or None."""
    bands: Mapping[str, BandFile]
    """By common name, mask band included; only what the item really offers."""
    revision: tuple[str, ...] = ()
    """Values of the profile's `newest_by` properties: the larger tuple is the newer processing."""
    processing_baseline: str | None = None
    offset_applied: bool | None = None
    """The catalogue's own claim that the additive offset is no longer in the pixels."""
    updated: str = ""
    """The item's `updated` (or `created`) text; part of the fingerprint."""
    cloud_cover_percent: float | None = None
    epsg: int | None = None
    problems: tuple[SceneProblem, ...] = ()
    properties: Mapping[str, object] = field(default_factory=dict)

    @property
    def version_text(self) -> str:
        """Identity of the pixels, as far as the catalogue tells: id, baseline, last update."""
        return f"{self.scene_id}@{self.processing_baseline or '-'}@{self.updated or '-'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneQuery:
    """What to look for in a catalogue."""

    collection: str
    bbox: BBox
    start: date
    """First solar day, inclusive."""
    end: date
    """Last solar day, inclusive."""
    bands: frozenset[str] = frozenset()
    """Common names that are needed (mask band included); a scene without one of them carries a problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneSearch:
    """What a catalogue answered."""

    scenes: tuple[Scene, ...]
    problems: tuple[SceneProblem, ...] = ()
    """Items that could not become scenes at all."""
    requests: int = 0
