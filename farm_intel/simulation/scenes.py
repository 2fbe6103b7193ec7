"""Which scenes the world's satellites took, and what is wrong with them. Plans only; `render` and `catalogue` write."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from farm_intel.simulation.layout import WorldTile
from farm_intel.simulation.world import FarmWorld


class RadiometricDialect(StrEnum):
    """What the pixels hold, and what the catalogue says of them."""

    OFFSET_REMOVED = "offset_removed"
    """DN = 10000 rho; `boa_offset_applied` true and yet offset -0.1 declared: the normal Earth Search item."""
    OFFSET_PRESENT = "offset_present"
    """DN = 10000 rho + 1000; `boa_offset_applied` false, offset -0.1 declared and true."""
    MISLABELLED = "mislabelled"
    """DN = 10000 rho; flag false and offset -0.1 declared, both wrong (Element84/earth-search issues 66 and 71)."""
    BEFORE_0400 = "before_0400"
    """DN = 10000 rho; a processing baseline that never had an offset, none declared."""

    @property
    def offset_in_pixels(self) -> bool:
        """True where 1000 was added to every digital number."""
        return self is RadiometricDialect.OFFSET_PRESENT

    @property
    def declared_offset(self) -> float:
        """The offset in `raster:bands`."""
        return 0.0 if self is RadiometricDialect.BEFORE_0400 else -0.1

    @property
    def flag_applied(self) -> bool:
        """The value of `earthsearch:boa_offset_applied`."""
        return self is RadiometricDialect.OFFSET_REMOVED


_CYCLE = (
    RadiometricDialect.OFFSET_REMOVED,
    RadiometricDialect.OFFSET_PRESENT,
    RadiometricDialect.OFFSET_REMOVED,
    RadiometricDialect.MISLABELLED,
    RadiometricDialect.OFFSET_REMOVED,
    RadiometricDialect.BEFORE_0400,
)
_PLATFORMS = ("sentinel-2b", "sentinel-2c")
_OVERPASS_SOLAR = timedelta(hours=10, minutes=5)
"""Mean solar time over the site; 07:41 UTC in Kenya."""

DUPLICATE_AT, FALLBACK_AT, SWATH_EDGE_AT, TRUNCATED_AT = 1, 3, 4, 5
"""Acquisition numbers of the special scenes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldScene:
    """One processed acquisition of one tile."""

    scene_id: str
    """As Earth Search builds it: platform, tile, date, sequence."""
    tile: WorldTile
    day: date
    """Solar day at the site."""
    acquired_at: datetime
    platform: str
    sequence: int
    baseline: str
    dialect: RadiometricDialect
    generated_at: datetime
    """Larger for later processings."""
    artefact: float = 0.0
    """Reflectance the processing wrongly added to nir and nir08; 0 in every newest processing."""
    swath_edge: bool = False
    """The north-western part of the tile lies outside the swath: nodata."""
    truncated_band: str | None = None
    """Common name of the band whose file ends early."""


def plan_scenes(world: FarmWorld) -> tuple[WorldScene, ...]:
    """Return every scene of the world, by day, tile and sequence.

    Each tile is acquired on each acquisition day; dialects take turns, shifted between the tiles so that mosaics mix
    them. Special, where the world is long enough: a reprocessed duplicate whose older version is wrong (eastern tile,
    2nd acquisition), a newest processing with a truncated file and a sound older one (western, 4th), a swath edge
    (eastern, 5th), a truncated file without alternative (eastern, 6th).
    """
    scenes: list[WorldScene] = []
    for number, day in enumerate(world.acquisition_days):
        for east, tile in enumerate(world.tiles):
            dialect = _CYCLE[(number + east) % len(_CYCLE)]
            at = (number, east)
            if at == (DUPLICATE_AT, 1):
                scenes.append(_scene(tile, day, number, dialect, older=True, artefact=0.02))
            if at == (FALLBACK_AT, 0):
                scenes.append(_scene(tile, day, number, dialect, older=True))
            scenes.append(
                _scene(
                    tile,
                    day,
                    number,
                    dialect,
                    sequence=int(at in {(DUPLICATE_AT, 1), (FALLBACK_AT, 0)}),
                    swath_edge=at == (SWATH_EDGE_AT, 1),
                    truncated_band="red" if at in {(FALLBACK_AT, 0), (TRUNCATED_AT, 1)} else None,
                )
            )
    return tuple(scenes)


def _scene(  # noqa: PLR0913 - what differs between scenes, all named
    tile: WorldTile,
    day: date,
    number: int,
    dialect: RadiometricDialect,
    *,
    sequence: int = 0,
    older: bool = False,
    artefact: float = 0.0,
    swath_edge: bool = False,
    truncated_band: str | None = None,
) -> WorldScene:
    platform = _PLATFORMS[number % len(_PLATFORMS)]
    overpass = datetime(day.year, day.month, day.day, tzinfo=UTC) + _OVERPASS_SOLAR
    drift = timedelta(seconds=(number * 7) % 60, milliseconds=24)
    acquired = overpass + drift - timedelta(hours=tile.longitude_deg / 15.0)
    newest = "03.01" if dialect is RadiometricDialect.BEFORE_0400 else "05.11"
    return WorldScene(
        scene_id=f"{platform_code(platform)}_{tile.name}_{day:%Y%m%d}_{sequence}_L2A",
        tile=tile,
        day=day,
        acquired_at=acquired,
        platform=platform,
        sequence=sequence,
        baseline="05.10" if older else newest,
        dialect=dialect,
        generated_at=acquired + (timedelta(days=40) if sequence else timedelta(hours=6)),
        artefact=artefact,
        swath_edge=swath_edge,
        truncated_band=truncated_band,
    )


def platform_code(platform: str) -> str:
    """Return `S2B` for `sentinel-2b`."""
    return f"S2{platform[-1].upper()}"
