"""Where a band of an image is and how it is gridded, as a symbolic href: opening it then asks nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from farm_intel.domain.errors import SceneProblemError, SceneProblemKind
from farm_intel.domain.geo import PixelGrid

SCHEME = "earthengine"
SINUSOIDAL = "SR-ORG:6974"
"""Earth Engine's name for the projection of MODIS, which no EPSG code has."""
_SINUSOIDAL_PROJ = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
_SQUARE_TOLERANCE = 1e-9


@cache
def sinusoidal_wkt() -> str:
    """Return the projection of MODIS as WKT2 (sphere of 6371007.181 m)."""
    import pyproj

    return pyproj.CRS.from_proj4(_SINUSOIDAL_PROJ).to_wkt()


@dataclass(frozen=True, slots=True, kw_only=True)
class BandAddress:
    """One band of one image, with its own grid."""

    image_id: str
    band: str
    crs_code: str
    """As Earth Engine names it: `EPSG:32737`, `SR-ORG:6974`."""
    pixel_m: float
    west_m: float
    north_m: float
    width_px: int
    height_px: int
    dtype: str
    fill: int
    """What masked pixels are written as."""

    @property
    def grid(self) -> PixelGrid:
        """The grid in our terms."""
        return PixelGrid(
            crs=sinusoidal_wkt() if self.crs_code == SINUSOIDAL else self.crs_code,
            width_px=self.width_px,
            height_px=self.height_px,
            pixel_m=self.pixel_m,
            west_m=self.west_m,
            north_m=self.north_m,
        )

    @property
    def raster_key(self) -> tuple[str, str, float, float, float]:
        """Bands with equal keys can be read with one request."""
        return (self.image_id, self.crs_code, self.pixel_m, self.west_m, self.north_m)

    @property
    def href(self) -> str:
        """The address as text."""
        query = {
            "band": self.band,
            "crs": self.crs_code,
            "px": repr(self.pixel_m),
            "x": repr(self.west_m),
            "y": repr(self.north_m),
            "size": f"{self.width_px},{self.height_px}",
            "type": self.dtype,
            "fill": str(self.fill),
        }
        return f"{SCHEME}://{quote(self.image_id)}?{urlencode(query, safe=':,')}"


def parse_href(href: str, scene_id: str) -> BandAddress:
    """Return the address an href holds.

    Raises:
        SceneProblemError: it is none of ours.

    """
    parts = urlsplit(href)
    query = {name: values[0] for name, values in parse_qs(parts.query).items() if parts.scheme == SCHEME}
    try:
        width, height = (int(text) for text in query["size"].split(","))
        return BandAddress(
            image_id=unquote(parts.netloc + parts.path),
            band=query["band"],
            crs_code=query["crs"],
            pixel_m=float(query["px"]),
            west_m=float(query["x"]),
            north_m=float(query["y"]),
            width_px=width,
            height_px=height,
            dtype=query["type"],
            fill=int(query["fill"]),
        )
    except (KeyError, ValueError) as error:
        raise SceneProblemError(
            SceneProblemKind.NOT_FOUND,
            scene_id,
            f"{href[:100]!r} is no band of an Earth Engine image",
            hint="Search the scenes again with the Earth Engine catalogue.",
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeGrid:
    """A band's grid as Earth Engine declares it."""

    crs_code: str
    pixel_m: float
    west_m: float
    north_m: float
    width_px: int
    height_px: int

    def tile(self, column: int, row: int, across: int) -> NativeGrid:
        """Return one of the `across` x `across / 2` equal tiles a global grid is made of."""
        size = self.width_px // across
        return NativeGrid(
            crs_code=self.crs_code,
            pixel_m=self.pixel_m,
            west_m=self.west_m + column * size * self.pixel_m,
            north_m=self.north_m - row * size * self.pixel_m,
            width_px=size,
            height_px=size,
        )


def native_grid(declared: Mapping[str, Any]) -> NativeGrid | None:
    """Return the grid a listing declares for a band, None where it is none we can read (turned, not square, no CRS)."""
    transform = declared.get("affineTransform", {})
    size = declared.get("dimensions", {})
    crs = declared.get("crsCode", "")
    if not crs and "Sinusoidal" in str(declared.get("crsWkt", "")):
        crs = SINUSOIDAL
    pixel, down = float(transform.get("scaleX", 0.0)), float(transform.get("scaleY", 0.0))
    turned = bool(transform.get("shearX")) or bool(transform.get("shearY"))
    if not crs or pixel <= 0 or turned or abs(pixel + down) > _SQUARE_TOLERANCE * pixel:
        return None
    if "width" not in size or "height" not in size:
        return None
    return NativeGrid(
        crs_code=str(crs),
        pixel_m=pixel,
        west_m=float(transform.get("translateX", 0.0)),
        north_m=float(transform.get("translateY", 0.0)),
        width_px=int(size["width"]),
        height_px=int(size["height"]),
    )
