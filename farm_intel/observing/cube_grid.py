"""The grid of an analyst's cube: the pixels of the farm's home tile, as its files have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from farm_intel.domain.errors import SceneProblemError, SceneProblemKind
from farm_intel.domain.farms import Farm
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import Scene

MARGIN_PX = 2
"""Pixels around the farm, so that an analyst sees its edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CubeGrid:
    """The grid of a cube: the home tile's own pixels around the farm."""

    epsg: int
    resolution_m: float
    coarsest_m: float
    """Pixel edge of the coarsest band; the bounds lie on its pixel edges."""
    bounds: tuple[float, float, float, float]
    """(left, bottom, right, top) on pixel edges of the file."""
    covered: float
    """Share of the farm inside the file."""
    off_centre_m: float
    """Distance of the farm from the file's centre."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        left, bottom, right, top = self.bounds
        return round((top - bottom) / self.resolution_m), round((right - left) / self.resolution_m)


def unreadable(scene: Scene, names: Sequence[str], error: Exception) -> SceneProblemError:
    """Return our error for one of GDAL's, whose text holds the whole address, signature included: it is not told."""
    text = str(error)
    band = next((f"band {name}" for name in names if scene.bands[name].href in text), "one of its files")
    return SceneProblemError(
        SceneProblemKind.UNREADABLE_FILE,
        scene.scene_id,
        f"{band} cannot be read",
        hint="It is missing, cut off, or closed to us; `farm-intel calendar` says how the observations took it.",
    )


def home_grid(
    scene: Scene, farm: Farm, profile: CollectionProfile, *, margin_px: int, gdal: Mapping[str, Any]
) -> CubeGrid:
    """Return the pixels around the farm on the grid of the scene's finest band, edges even for coarser bands.

    Args:
        scene: with hrefs that can be opened now.
        farm: its boundary.
        profile: names the bands.
        margin_px: pixels of the coarsest band around the farm.
        gdal: arguments of `rasterio.Env`.

    Raises:
        SceneProblemError: a file cannot be opened or has no EPSG code.

    """
    import rasterio
    import shapely
    from pyproj import Transformer
    from rasterio.errors import RasterioError

    files = []
    names = sorted(set(scene.bands) & {*profile.bands, profile.mask.band})
    try:
        with rasterio.Env(**gdal):
            for name in names:
                with rasterio.open(scene.bands[name].href) as file:
                    files.append((file.transform, file.crs, file.bounds))
    except RasterioError as error:
        raise unreadable(scene, names, error) from error
    transform, crs, frame = min(files, key=lambda entry: abs(float(entry[0].a)))
    coarsest = max(abs(float(entry[0].a)) for entry in files)
    epsg = crs.to_epsg() if crs else None
    if epsg is None:
        raise SceneProblemError(
            SceneProblemKind.MISSING_PROJECTION,
            scene.scene_id,
            "its projection has no EPSG code, and stackstac knows no other",
            hint="The rasters beside the observations hold these pixels; or choose another --provider.",
        )
    to_tile = Transformer.from_crs(4326, epsg, always_xy=True)
    boundary = shapely.transform(
        shapely.from_wkb(farm.boundary_wkb), lambda xy: np.column_stack(to_tile.transform(xy[:, 0], xy[:, 1]))
    )
    margin = margin_px * coarsest
    west, south, east, north = shapely.bounds(boundary)
    left = transform.c + np.floor((west - margin - transform.c) / coarsest) * coarsest
    right = transform.c + np.ceil((east + margin - transform.c) / coarsest) * coarsest
    top = transform.f - np.floor((transform.f - north - margin) / coarsest) * coarsest
    bottom = transform.f - np.ceil((transform.f - south + margin) / coarsest) * coarsest
    inside = shapely.intersection(boundary, shapely.box(*frame))
    centre = shapely.Point((frame.left + frame.right) / 2, (frame.bottom + frame.top) / 2)
    return CubeGrid(
        epsg=epsg,
        resolution_m=float(transform.a),
        coarsest_m=coarsest,
        bounds=(float(left), float(bottom), float(right), float(top)),
        covered=float(inside.area / boundary.area),
        off_centre_m=float(shapely.distance(shapely.centroid(boundary), centre)),
    )
