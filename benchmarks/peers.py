"""The other ways to do it, each as its own documentation would have it, with the same mask, scale and statistics.

A peer is a function of a Job that returns means (farms, dates, indices) and computes all nine statistics on the way.
exactextract is asked for our pixel rule (pixels wholly inside), the others take pixel centres because that is what they
offer. None of them writes rasters; ours always makes the clips.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.data import BANDS_10M, EDGE_M, EDGE_PX, EPSG, HALF_PX, KEYS, NORTH_M, WEST_M
from benchmarks.job import INDICES, PERCENTILES, Floats, Job, masked_indices

_THREADS = 8
"""Readers of stackstac and odc-stac in parallel: more than cores, so that latency overlaps."""
_BOX_PX = 4096
"""Village boxes longer than this are split, or one stray farm would make a box of the whole tile."""
_WHOLE = "min_coverage_frac=1,coverage_weight=none"
_OPERATIONS = tuple(
    [f"{name}({_WHOLE})" for name in ("mean", "median", "stdev", "min", "max")]
    + [f"quantile(q={share / 100},{_WHOLE})" for share in PERCENTILES]
)
GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "VSI_CACHE": "TRUE",
}
"""The usual tuning for COGs over HTTP; every rasterio peer gets it."""

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class Window:
    """Pixels of the 10 m grid, multiples of two so that 20 m bands are exact repeats."""

    row: int
    col: int
    height: int
    width: int

    @classmethod
    def around(cls, bounds: Bounds) -> Window:
        left, bottom, right, top = bounds
        row, col = (max(0, int(np.floor(m / 20)) * 2) for m in (NORTH_M - top, left - WEST_M))
        end_row, end_col = (min(EDGE_PX, int(np.ceil(m / 20)) * 2) for m in (NORTH_M - bottom, right - WEST_M))
        return cls(row, col, end_row - row, end_col - col)

    @property
    def bounds(self) -> Bounds:
        left, top = WEST_M + self.col * 10, NORTH_M - self.row * 10
        return left, top - self.height * 10, left + self.width * 10, top

    @property
    def half(self) -> Window:
        return Window(self.row // 2, self.col // 2, self.height // 2, self.width // 2)


def village_boxes(job: Job) -> Iterator[tuple[npt.NDArray[np.intp], Window]]:
    """Yield (farms, window) per village, split in two along the longer side while it is too long."""
    bounds = job.fields.bounds.to_numpy()
    for village in np.unique(job.fields["village"]):
        waiting = [np.nonzero((job.fields["village"] == village).to_numpy())[0]]
        while waiting:
            farms = waiting.pop()
            low, high = bounds[farms, :2].min(axis=0), bounds[farms, 2:].max(axis=0)
            if (high - low).max() > _BOX_PX * 10 and len(farms) > 1:
                axis = int(np.argmax(high - low))
                order = farms[np.argsort(bounds[farms, axis])]
                waiting += [order[: len(order) // 2], order[len(order) // 2 :]]
            else:
                yield farms, Window.around((low[0], low[1], high[0], high[1]))


# ---------------------------------------------------------------- exactextract over an array of pixels


def _exact(fields: Any, indices: dict[str, npt.NDArray[np.float32]], bounds: Bounds) -> Floats:
    """Return (fields, indices) means; the other statistics are computed and dropped.

    Rasters of one grid go into one call, so that exactextract cuts each field once per grid.
    """
    from exactextract import exact_extract
    from exactextract.raster import NumPyRasterSource

    means = np.full((len(fields), len(INDICES)), np.nan)
    shapes = {values.shape for values in indices.values()}
    for shape in shapes:
        names = [name for name in INDICES if indices[name].shape == shape]
        sources = [NumPyRasterSource(indices[name], *bounds, nodata=np.nan, name=name) for name in names]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = exact_extract(sources, fields[["geometry"]], list(_OPERATIONS), output="pandas")
        columns = [f"{name}_mean" if len(names) > 1 else "mean" for name in names]
        means[:, [INDICES.index(name) for name in names]] = table[columns].to_numpy()
    return means


def _boxes(job: Job, load: Callable[[dict[str, Any], Window], dict[str, npt.NDArray[Any]]]) -> Floats:
    """One cube per village box and date, indices on the whole box, then exactextract."""
    means = job.empty()
    boxes = list(village_boxes(job))
    for number, item in enumerate(job.items()):
        for farms, window in boxes:
            indices = masked_indices(load(item, window))
            means[farms, number] = _exact(job.fields.iloc[farms], indices, window.bounds)
    return means


def _farm_by_farm(job: Job, load: Callable[[dict[str, Any], Window], dict[str, npt.NDArray[Any]]]) -> Floats:
    """One cube per farm and date, then exactextract on it."""
    means = job.empty()
    for number, item in enumerate(job.items()):
        for farm in range(len(job.fields)):
            field = job.fields.iloc[[farm]]
            window = Window.around(tuple(field.total_bounds))
            means[farm, number] = _exact(field, masked_indices(load(item, window)), window.bounds)[0]
    return means


def _native(cube: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return the bands of a 10 m cube on their own grids; windows are even, so every other pixel is the coarse one."""
    return {key: values if key in BANDS_10M else values[::2, ::2] for key, values in cube.items()}


def _stack(item: dict[str, Any], window: Window) -> dict[str, npt.NDArray[Any]]:
    import dask
    import stackstac

    with warnings.catch_warnings(), dask.config.set(scheduler="threads", num_workers=_THREADS):
        warnings.simplefilter("ignore")
        cube = stackstac.stack(
            [item],
            assets=list(KEYS),
            epsg=EPSG,
            resolution=10,
            bounds=window.bounds,
            chunksize=1024,
            dtype="uint16",
            fill_value=np.uint16(0),
            rescale=False,
            xy_coords=False,
            properties=False,
            band_coords=False,
        ).to_numpy()[0]
    return _native(dict(zip(KEYS, cube, strict=True)))


def _odc(item: dict[str, Any], window: Window) -> dict[str, npt.NDArray[Any]]:
    import odc.stac
    import pystac
    from affine import Affine
    from odc.geo.geobox import GeoBox

    left, _, _, top = window.bounds
    geobox = GeoBox((window.height, window.width), Affine(10, 0, left, 0, -10, top), f"EPSG:{EPSG}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odc.stac.configure_rio(cloud_defaults=True)
        cube = odc.stac.load(
            [pystac.Item.from_dict(item)], bands=list(KEYS), geobox=geobox, resampling="nearest", pool=_THREADS
        )
    return _native({key: cube[key].to_numpy()[0] for key in KEYS})


def stackstac_box(job: Job) -> Floats:
    return _boxes(job, _stack)


def stackstac_farm(job: Job) -> Floats:
    return _farm_by_farm(job, _stack)


def odc_box(job: Job) -> Floats:
    return _boxes(job, _odc)


# ---------------------------------------------------------------- whole scenes


def _hrefs(item: dict[str, Any]) -> dict[str, str]:
    return {key: item["assets"][key]["href"] for key in KEYS}


def _scene(item: dict[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Read all bands of a scene whole, decoding with both cores."""
    import rasterio

    bands = {}
    with rasterio.Env(**GDAL, GDAL_NUM_THREADS="ALL_CPUS"):
        for key, href in _hrefs(item).items():
            with rasterio.open(href) as dataset:
                bands[key] = dataset.read(1)
    return bands


def _scene_indices(bands: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
    """Return the indices over the whole tile; strips keep intermediate arrays in the cache."""
    out = {name: np.empty((HALF_PX, HALF_PX) if name == "ndmi" else (EDGE_PX, EDGE_PX), np.float32) for name in INDICES}
    for row in range(0, HALF_PX, 30):
        coarse, fine = slice(row, row + 30), slice(2 * row, 2 * row + 60)
        strip = {key: values[fine if key in BANDS_10M else coarse] for key, values in bands.items()}
        for name, values in masked_indices(strip).items():
            out[name][coarse if name == "ndmi" else fine] = values
    return out


def exactextract_scene(job: Job) -> Floats:
    means = job.empty()
    bounds = (WEST_M, NORTH_M - EDGE_M, WEST_M + EDGE_M, NORTH_M)
    for number, item in enumerate(job.items()):
        means[:, number] = _exact(job.fields, _scene_indices(_scene(item)), bounds)
    return means


def rasterstats_scene(job: Job) -> Floats:
    from affine import Affine
    from rasterstats import zonal_stats

    statistics = ["mean", "median", "std", "min", "max", *(f"percentile_{share}" for share in PERCENTILES)]
    means = job.empty()
    for number, item in enumerate(job.items()):
        for name, raster in _scene_indices(_scene(item)).items():
            pixel_m = EDGE_M / len(raster)
            transform = Affine(pixel_m, 0, WEST_M, 0, -pixel_m, NORTH_M)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                rows = zonal_stats(list(job.fields.geometry), raster, affine=transform, nodata=np.nan, stats=statistics)
            place = INDICES.index(name)
            means[:, number, place] = [np.nan if row["mean"] is None else row["mean"] for row in rows]
    return means


# ---------------------------------------------------------------- one farm, one date, every time from the start


def rasterio_farm(job: Job) -> Floats:
    """Open, read a window, close; for each farm, date and band."""
    import rasterio
    import rasterio.windows
    from affine import Affine
    from rasterio.features import geometry_mask

    means = job.empty()
    with rasterio.Env(**GDAL):
        for number, item in enumerate(job.items()):
            for farm, field in enumerate(job.fields.geometry):
                window = Window.around(field.bounds)
                bands = {}
                for key, href in _hrefs(item).items():
                    part = window if key in BANDS_10M else window.half
                    with rasterio.open(href) as dataset:
                        place = rasterio.windows.Window(part.col, part.row, part.width, part.height)
                        bands[key] = dataset.read(1, window=place)
                left, _, _, top = window.bounds
                inside = {
                    pixel_m: ~geometry_mask([field], bands[key].shape, Affine(pixel_m, 0, left, 0, -pixel_m, top))
                    for pixel_m, key in ((10, "red"), (20, "scl"))
                }
                indices = masked_indices(bands)
                means[farm, number] = [
                    _numpy_mean(indices[name][inside[20 if name == "ndmi" else 10]]) for name in INDICES
                ]
    return means


def _numpy_mean(values: npt.NDArray[np.float32]) -> float:
    """Return the mean; the other eight statistics are computed and dropped."""
    values = values[np.isfinite(values)]
    if not values.size:
        return float("nan")
    np.percentile(values, (*PERCENTILES, 50))
    _ = values.std(), values.min(), values.max()
    return float(values.mean(dtype=np.float64))


def riotiler_farm(job: Job) -> Floats:
    """Ask rio-tiler for the feature of each band and for the statistics of the indices, as a tile server does.

    All bands come on the 10 m grid; its own grid starts at the feature, so it need not be even.
    """
    import rasterio
    from rasterio.crs import CRS
    from rio_tiler.io import Reader
    from rio_tiler.models import ImageData
    from shapely.geometry import mapping

    crs = CRS.from_epsg(EPSG)
    means = job.empty()
    with rasterio.Env(**GDAL):
        for number, item in enumerate(job.items()):
            for farm, field in enumerate(job.fields.geometry):
                shape = mapping(field)
                size: dict[str, int] = {}
                images = {}
                for key, href in _hrefs(item).items():
                    with Reader(href) as reader:
                        images[key] = reader.feature(shape, shape_crs=crs, dst_crs=crs, **size)
                    # the first band is a 10 m one: the others follow its grid
                    size = {"height": images[key].height, "width": images[key].width}
                outside = np.ma.getmaskarray(images["red"].array)[0]
                indices = _fine_indices({key: image.array.data[0] for key, image in images.items()})
                masked = np.ma.array(indices, mask=outside | ~np.isfinite(indices))
                image = ImageData(masked, bounds=images["red"].bounds, crs=crs)
                rows = image.statistics(percentiles=list(PERCENTILES)).values()
                means[farm, number] = [row.mean if row.valid_pixels else np.nan for row in rows]
    return means


def _fine_indices(bands: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """Return (indices, height, width) with every band at 10 m, coarse ones repeated."""
    doubled = {
        key: values if key not in BANDS_10M else np.repeat(np.repeat(values, 2, 0), 2, 1)
        for key, values in bands.items()
    }
    indices = masked_indices(doubled)
    return np.stack([indices[name] if name == "ndmi" else indices[name][::2, ::2] for name in INDICES])


@dataclass(frozen=True)
class Peer:
    """A contender that is not ours."""

    run: Callable[[Job], Floats]
    title: str
    rule: str
    """Which pixels it counts: `whole` (wholly inside) or `centre`."""
    imports: tuple[str, ...]
    """Modules to import before the clock starts."""
    per_farm: bool = False
    """Its cost per farm-date does not depend on how many there are, so a sample is enough."""


_EXACT = ("exactextract", "exactextract.raster")
PEERS = {
    "stackstac-box": Peer(
        stackstac_box, "stackstac + exactextract, village box", "whole", ("stackstac", "dask.array", *_EXACT)
    ),
    "stackstac-farm": Peer(
        stackstac_farm, "stackstac + exactextract, farm by farm", "whole", ("stackstac", "dask.array", *_EXACT), True
    ),
    "odc-box": Peer(odc_box, "odc-stac + exactextract, village box", "whole", ("odc.stac", "pystac", *_EXACT)),
    "exactextract-scene": Peer(exactextract_scene, "exactextract, whole scene", "whole", ("rasterio", *_EXACT)),
    "rasterstats-scene": Peer(rasterstats_scene, "rasterstats, whole scene", "centre", ("rasterio", "rasterstats")),
    "rasterio-farm": Peer(
        rasterio_farm, "rasterio window, farm by farm", "centre", ("rasterio", "rasterio.features"), True
    ),
    "riotiler-farm": Peer(
        riotiler_farm, "rio-tiler feature, farm by farm", "centre", ("rasterio", "rio_tiler.io"), True
    ),
}
