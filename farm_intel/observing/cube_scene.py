"""One scene of an analyst's cube: raw numbers read by stackstac, everything that makes them indices by our rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from farm_intel.domain.errors import SceneProblemError, SceneProblemKind, UnknownNameError
from farm_intel.domain.products import CollectionProfile, MaskRule, PixelReason
from farm_intel.domain.scenes import Scene
from farm_intel.observing.cube_grid import CubeGrid, unreadable

if TYPE_CHECKING:
    from farm_intel.engine.options import EngineOptions
    from farm_intel.engine.reflectance import ProbeResult
    from farm_intel.indices.index import SpectralIndex

_PROBE_EDGE_PX = 512
_NOTHING = np.iinfo(np.int32).min
"""Stands for pixels outside the file and for the file's own nodata; no product has such a number."""

type Reasons = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRules:
    """What makes raw numbers indices, the same for every scene of a cube."""

    grid: CubeGrid
    indices: tuple[SpectralIndex, ...]
    profile: CollectionProfile
    options: EngineOptions
    gdal: Mapping[str, Any]
    """Arguments of `rasterio.Env`."""


@dataclass(frozen=True, slots=True)
class SceneStep:
    """The indices of one scene, or of several of one day, on the grid."""

    values: dict[str, npt.NDArray[np.float32]]
    """Slug -> (y, x), NaN where there is no number."""
    seen: npt.NDArray[np.bool_]
    """(y, x) True where there is data, clear or not."""

    def filled_by(self, other: SceneStep) -> SceneStep:
        """Return this step with the pixels it has no data for taken from another."""
        values = {slug: np.where(self.seen, mine, other.values[slug]) for slug, mine in self.values.items()}
        return SceneStep(values, self.seen | other.seen)


def scene_step(scene: Scene, rules: SceneRules) -> SceneStep:
    """Return the indices of one scene on the grid, and where it has data.

    Args:
        scene: with hrefs that can be opened now.
        rules: of the cube.

    Raises:
        SceneProblemError: a file is missing or cannot be read, or the radiometry cannot be decided.

    """
    from farm_intel.engine.reflectance import decide_radiometry, resolve_radiometry

    profile = rules.profile
    masks = (profile.mask, *profile.more_masks)
    names = _needed_bands(scene, masks, rules.indices)
    stated = {name: resolve_radiometry(profile, scene, scene.bands[name]) for name in names}
    probe = _probe(scene, rules) if any(rule.needs_probe for rule in stated.values()) else None
    decided = decide_radiometry(scene.scene_id, stated, probe)
    raw = _read(scene, [*names, *(mask.band for mask in masks)], rules)
    classes = [
        _with_nodata(numbers, scene, mask, rules) for mask, numbers in zip(masks, raw[len(names) :], strict=True)
    ]
    reasons = _reasons(masks, classes, rules)
    clear = reasons == PixelReason.VALID
    seen = reasons != PixelReason.NODATA
    reflectance = {}
    for band, numbers in zip(names, raw, strict=False):
        there = _is_there(scene, band, numbers, profile)
        seen &= there | ~clear
        usable = clear & there
        if profile.valid_dn is not None:
            usable &= (numbers >= profile.valid_dn[0]) & (numbers <= profile.valid_dn[1])
        rho = numbers.astype(np.float64) * decided.bands[band].scale + decided.bands[band].offset
        inside = usable & (rho > 0) & (rho <= rules.options.reflectance_max)
        reflectance[band] = np.where(inside, rho, np.nan)
    return SceneStep({index.slug: _evaluate(index, reflectance) for index in rules.indices}, seen)


def _needed_bands(scene: Scene, masks: Sequence[MaskRule], indices: Sequence[SpectralIndex]) -> list[str]:
    """Return the bands the indices read; a scene without one of them, or without a mask, is left out."""
    for mask in masks:
        if mask.band not in scene.bands:
            raise SceneProblemError(SceneProblemKind.MISSING_ASSET, scene.scene_id, f"no mask band {mask.band}")
    try:
        return sorted({band for index in indices for band in index.resolve_bands(scene.bands).values()})
    except UnknownNameError as error:
        raise SceneProblemError(SceneProblemKind.MISSING_ASSET, scene.scene_id, error.message) from error


def _is_there(
    scene: Scene, band: str, numbers: npt.NDArray[np.int64], profile: CollectionProfile
) -> npt.NDArray[np.bool_]:
    nodata = scene.bands[band].nodata
    nothing = profile.radiometry.nodata if nodata is None else nodata
    return np.asarray((numbers != _NOTHING) & (numbers != nothing), np.bool_)


def _with_nodata(
    numbers: npt.NDArray[np.int64], scene: Scene, mask: MaskRule, rules: SceneRules
) -> npt.NDArray[np.int64]:
    """Return a mask with its file's nodata put back: stackstac leaves it out, but to us it is a class like others."""
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with rasterio.Env(**rules.gdal), rasterio.open(scene.bands[mask.band].href) as file:
            nodata = file.nodata
    except RasterioError as error:
        raise unreadable(scene, [mask.band], error) from error
    return numbers if nodata is None else np.where(numbers == _NOTHING, np.int64(nodata), numbers)


def _reasons(masks: Sequence[MaskRule], raw: Sequence[npt.NDArray[np.int64]], rules: SceneRules) -> Reasons:
    """Return the reason of every pixel: the first mask's, dilated; where that is valid, the next one's."""
    from farm_intel.engine.gathering import dilate_reasons

    found = _looked_up(masks[0], raw[0])
    radius = rules.options.mask_dilation_px
    if radius:
        ratio = round(rules.grid.coarsest_m / rules.grid.resolution_m)
        # the bounds lie on edges of the coarsest pixels, so that every ratio-th one stands for a mask pixel
        found = dilate_reasons(np.ascontiguousarray(found[::ratio, ::ratio]), radius)
        found = found.repeat(ratio, axis=0).repeat(ratio, axis=1)
    for mask, numbers in zip(masks[1:], raw[1:], strict=True):
        np.copyto(found, _looked_up(mask, numbers), where=found == PixelReason.VALID)
    return found


def _looked_up(mask: MaskRule, numbers: npt.NDArray[np.int64]) -> Reasons:
    table = mask.lookup()
    known = (numbers >= 0) & (numbers < table.size)
    return np.where(known, table[np.where(known, numbers, 0)], np.uint8(PixelReason.NODATA))


def _evaluate(index: SpectralIndex, reflectance: dict[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.float32]:
    low, high = index.valid_range
    with np.errstate(all="ignore"):
        values = index.evaluate(reflectance)
        inside = (values >= low) & (values <= high)
    return np.where(inside, values, np.nan).astype(np.float32)


def _read(scene: Scene, names: Sequence[str], rules: SceneRules) -> npt.NDArray[np.int64]:
    """Return (band, y, x) raw numbers by stackstac, nearest neighbour."""
    import stackstac
    from rasterio.errors import RasterioError
    from stackstac.rio_env import LayeredEnv

    item: dict[str, Any] = {
        "id": scene.scene_id,
        "type": "Feature",
        "bbox": [scene.bbox.west, scene.bbox.south, scene.bbox.east, scene.bbox.north],
        "properties": {"datetime": scene.acquired_at.isoformat()},
        "assets": {name: {"href": scene.bands[name].href, "type": "image/tiff"} for name in names},
    }
    try:
        stack = stackstac.stack(
            [item],
            assets=list(names),
            epsg=rules.grid.epsg,
            bounds=rules.grid.bounds,
            resolution=rules.grid.resolution_m,
            snap_bounds=False,
            dtype=np.dtype(np.int32),
            fill_value=np.int32(_NOTHING),
            rescale=False,
            xy_coords=False,
            properties=False,
            band_coords=False,
            errors_as_nodata=(),
            gdal_env=LayeredEnv(always=dict(rules.gdal)),
        )
        # scenes are read beside each other, so that threads of its own would only be more of them
        values: npt.NDArray[np.int64] = stack.data[0].compute(scheduler="synchronous").astype(np.int64)
    except (RasterioError, RuntimeError) as error:
        raise unreadable(scene, names, error) from error
    return values


def _probe(scene: Scene, rules: SceneRules) -> ProbeResult | None:
    """Ask the darkest band of the whole scene whether the offset is in its pixels; None without such a band."""
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.errors import RasterioError

    from farm_intel.engine.reflectance import DARK_BANDS, probe_offset

    name = next((name for name in DARK_BANDS if name in scene.bands), None)
    if name is None:
        return None
    mask_rule = rules.profile.mask
    try:
        small = []
        with rasterio.Env(**rules.gdal):
            for band in (name, mask_rule.band):
                with rasterio.open(scene.bands[band].href) as file:
                    shrink = max(1.0, max(file.shape) / _PROBE_EDGE_PX)
                    shape = tuple(max(1, round(edge / shrink)) for edge in file.shape)
                    small.append(file.read(1, out_shape=shape, resampling=Resampling.nearest))
    except RasterioError as error:
        raise unreadable(scene, [name, mask_rule.band], error) from error
    dark, mask = small
    rows = np.arange(dark.shape[0]) * mask.shape[0] // dark.shape[0]
    cols = np.arange(dark.shape[1]) * mask.shape[1] // dark.shape[1]
    return probe_offset(dark, _looked_up(mask_rule, mask[rows][:, cols].astype(np.int64)) == PixelReason.VALID)
