"""The functions of Earth Engine the emulator knows; every other name is refused, so no test passes by accident."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import shapely
import shapely.geometry

from farm_intel.simulation.emulators import earth_engine_reducers as reducers
from farm_intel.simulation.emulators.earth_engine_expressions import Expression
from farm_intel.simulation.emulators.earth_engine_reducers import RegionReducer
from farm_intel.simulation.emulators.earth_engine_values import (
    LONLAT,
    Band,
    BoolArray,
    Collection,
    EmulatorRefusalError,
    Feature,
    FloatArray,
    Grid,
    Image,
    Pixels,
    Projection,
    Region,
)

Function = Callable[..., Any]


def as_image(value: object) -> Image:
    """Return an image, or a constant as one."""
    if isinstance(value, Image):
        return value
    if isinstance(value, int | float | list):
        return constant(value)
    raise EmulatorRefusalError(f"cannot convert {type(value).__name__} to Image")


def constant(value: float | list[float]) -> Image:
    """Return Image.constant: the same everywhere, never masked."""
    values = value if isinstance(value, list) else [value]

    def fill(number: float) -> Band:
        return Band(lambda grid: (np.full(grid.shape, float(number)), np.ones(grid.shape, np.bool_)))

    names = ["constant"] if len(values) == 1 else [f"constant_{i}" for i in range(len(values))]
    return Image(bands={name: fill(number) for name, number in zip(names, values, strict=True)})


def _pairs(image1: Image, image2: Image) -> list[tuple[str, Band, Band]]:
    """Match the bands of two images as Earth Engine does: by name, by order, or one against all."""
    a, b = image1.bands, image2.bands
    if len(a) == len(b):
        if set(a) == set(b):
            return [(name, a[name], b[name]) for name in a]
        return [(name, a[name], other) for name, other in zip(a, b.values(), strict=True)]
    if len(b) == 1:
        return [(name, band, next(iter(b.values()))) for name, band in a.items()]
    if len(a) == 1:
        return [(name, next(iter(a.values())), band) for name, band in b.items()]
    raise EmulatorRefusalError(f"images of {len(a)} and {len(b)} bands cannot be matched")


def _binary(operation: Callable[[FloatArray, FloatArray], Any]) -> Function:
    def apply(image1: object, image2: object) -> Image:
        left, right = as_image(image1), as_image(image2)

        def compute(a: Band, b: Band) -> Band:
            def read(grid: Grid) -> Pixels:
                (x, seen_x), (y, seen_y) = a.read(grid), b.read(grid)
                with np.errstate(all="ignore"):
                    return np.asarray(operation(x, y), np.float64), seen_x & seen_y

            return Band(read)

        bands = {name: compute(a, b) for name, a, b in _pairs(left, right)}
        return Image(bands=bands, projection=left.projection or right.projection)

    return apply


def _unary(operation: Callable[[FloatArray], Any]) -> Function:
    def apply(value: object) -> Image:
        image = as_image(value)

        def compute(band: Band) -> Band:
            def read(grid: Grid) -> Pixels:
                values, seen = band.read(grid)
                with np.errstate(all="ignore"):
                    return np.asarray(operation(values), np.float64), seen

            return Band(read)

        return image.with_bands({name: compute(band) for name, band in image.bands.items()})

    return apply


def _quotient(x: FloatArray, y: FloatArray) -> FloatArray:
    """Divide; Earth Engine documents 0 for a division by 0."""
    return np.where(y == 0, 0.0, x / np.where(y == 0, 1.0, y))


def _cast(dtype: str) -> Function:
    def apply(value: object) -> Image:
        image = as_image(value)

        def compute(band: Band) -> Band:
            def read(grid: Grid) -> Pixels:
                values, seen = band.read(grid)
                limits = np.iinfo(dtype)
                return np.clip(np.trunc(values), limits.min, limits.max), seen

            return Band(read, dtype)

        return image.with_bands({name: compute(band) for name, band in image.bands.items()})

    return apply


def _select(input: object, bandSelectors: Any, newNames: Sequence[str] | None = None) -> Image:  # noqa: A002, N803 - theirs
    image = as_image(input)
    selectors = bandSelectors if isinstance(bandSelectors, list) else [bandSelectors]
    chosen = [image.band(selector) for selector in selectors]
    names = newNames or chosen
    return image.with_bands({name: image.bands[band] for name, band in zip(names, chosen, strict=True)})


def _rename(input: object, names: list[str] | str) -> Image:  # noqa: A002 - theirs
    image = as_image(input)
    new = names if isinstance(names, list) else [names]
    if len(new) != len(image.bands):
        raise EmulatorRefusalError(f"Image.rename: {len(new)} names for {len(image.bands)} bands")
    return image.with_bands(dict(zip(new, image.bands.values(), strict=True)))


def _add_bands(dstImg: object, srcImg: object, names: list[str] | None = None, overwrite: bool = False) -> Image:  # noqa: FBT001, FBT002, N803 - theirs
    target, source = as_image(dstImg), as_image(srcImg)
    bands = dict(target.bands)
    for name in names or list(source.bands):
        place, number = name, 1
        while place in bands and not overwrite:
            place, number = f"{name}_{number}", number + 1
        bands[place] = source.bands[name]
    return target.with_bands(bands)


def _masked(image: object, mask: object = None) -> Image:
    """Return Image.mask: the mask as an image, or the image with this mask alone."""
    subject = as_image(image)
    if mask is None:

        def read_mask(band: Band) -> Band:
            return Band(lambda grid: (band.read(grid)[1].astype(np.float64), np.ones(grid.shape, np.bool_)))

        return subject.with_bands({name: read_mask(band) for name, band in subject.bands.items()})
    return _with_mask(subject, as_image(mask), keep=False)


def _update_mask(image: object, mask: object) -> Image:
    return _with_mask(as_image(image), as_image(mask), keep=True)


def _with_mask(image: Image, mask: Image, *, keep: bool) -> Image:
    masks = list(mask.bands.values())

    def compute(band: Band, condition: Band) -> Band:
        def read(grid: Grid) -> Pixels:
            values, seen = band.read(grid)
            wanted, known = condition.read(grid)
            open_now: BoolArray = known & (wanted != 0)
            return values, (seen & open_now) if keep else open_now

        return Band(read, band.dtype)

    return image.with_bands(
        {
            name: compute(band, masks[0] if len(masks) == 1 else masks[number])
            for number, (name, band) in enumerate(image.bands.items())
        }
    )


def _unmask(input: object, value: object = None, sameFootprint: bool = True) -> Image:  # noqa: A002, FBT001, FBT002, N803 - theirs
    image, filler = as_image(input), as_image(0 if value is None else value)
    if sameFootprint:
        raise EmulatorRefusalError("emulator: Image.unmask only with sameFootprint false")
    fillers = list(filler.bands.values())

    def compute(band: Band, other: Band) -> Band:
        def read(grid: Grid) -> Pixels:
            values, seen = band.read(grid)
            return np.asarray(np.where(seen, values, other.read(grid)[0]), np.float64), np.ones(grid.shape, np.bool_)

        return Band(read)

    return image.with_bands(
        {
            name: compute(band, fillers[0] if len(fillers) == 1 else fillers[number])
            for number, (name, band) in enumerate(image.bands.items())
        }
    )


def _remap(image: object, defaultValue: float | None = None, bandName: str | None = None, **lists: Any) -> Image:  # noqa: N803 - theirs
    subject = as_image(image)
    band = subject.bands[subject.band(bandName or 0)]
    table = dict(zip(lists["from"], lists["to"], strict=True))

    def read(grid: Grid) -> Pixels:
        values, seen = band.read(grid)
        out = np.full(values.shape, 0.0 if defaultValue is None else float(defaultValue))
        hit = np.zeros(values.shape, np.bool_)
        for old, new in table.items():
            where = values == old
            out[where] = new
            hit |= where
        return out, seen if defaultValue is not None else seen & hit

    return subject.with_bands({"remapped": Band(read)})


def _where(input: object, test: object, value: object) -> Image:  # noqa: A002 - theirs
    image, condition, other = as_image(input), as_image(test), as_image(value)
    tests, others = next(iter(condition.bands.values())), next(iter(other.bands.values()))

    def compute(band: Band) -> Band:
        def read(grid: Grid) -> Pixels:
            values, seen = band.read(grid)
            hit, known = tests.read(grid)
            new, there = others.read(grid)
            chosen = known & there & (hit != 0)
            return np.asarray(np.where(chosen, new, values), np.float64), seen

        return Band(read)

    return image.with_bands({name: compute(band) for name, band in image.bands.items()})


def _mosaic(collection: Collection) -> Image:
    """Return ImageCollection.mosaic: the last image that has a pixel wins."""
    images: Sequence[Image] = collection.items
    if not images:
        return Image(bands={})

    def compute(name: str) -> Band:
        def read(grid: Grid) -> Pixels:
            values, seen = np.zeros(grid.shape), np.zeros(grid.shape, np.bool_)
            for image in images:
                found, there = image.bands[name].read(grid)
                values[there] = found[there]
                seen |= there
            return values, seen

        return Band(read, images[0].bands[name].dtype)

    return Image(bands={name: compute(name) for name in images[0].bands})


def _region(kind: str) -> Function:
    def build(coordinates: Any, crs: Mapping[str, Any] | str | None = None, **rest: object) -> Region:
        if rest.get("geodesic"):
            raise EmulatorRefusalError("emulator: only planar geometries")
        name = crs["crs"] if isinstance(crs, Mapping) else crs
        shape = shapely.geometry.shape({"type": kind, "coordinates": coordinates})
        return Region(shape=shape if shape.is_valid else shapely.make_valid(shape), crs=str(name or LONLAT))

    return build


def _feature(geometry: Region | None = None, metadata: Mapping[str, Any] | None = None) -> Feature:
    return Feature(region=geometry, properties=dict(metadata or {}))


def _feature_collection(features: Sequence[Feature] | Feature) -> Collection:
    items = list(features) if isinstance(features, Sequence) else [features]
    return Collection(
        items=[
            Feature(region=item.region, properties=item.properties, feature_id=item.feature_id or str(number))
            for number, item in enumerate(items)
        ]
    )


def _flatten(collection: Collection) -> Collection:
    return Collection(
        items=[
            Feature(region=item.region, properties=item.properties, feature_id=f"{number}_{item.feature_id}")
            for number, part in enumerate(collection.items)
            for item in part.items
        ]
    )


def _merge(collection1: Collection, collection2: Collection) -> Collection:
    def prefixed(prefix: str, part: Collection) -> list[Feature]:
        return [
            Feature(region=item.region, properties=item.properties, feature_id=f"{prefix}_{item.feature_id}")
            for item in part.items
        ]

    return Collection(items=[*prefixed("1", collection1), *prefixed("2", collection2)])


def _feature_select(
    input: Feature,  # noqa: A002 - theirs
    propertySelectors: Sequence[str],  # noqa: N803 - Earth Engine's own names
    newProperties: Sequence[str] | None = None,  # noqa: N803 - Earth Engine's own names
    retainGeometry: bool = True,  # noqa: FBT001, FBT002, N803 - Earth Engine's own names
) -> Feature:
    if newProperties:
        raise EmulatorRefusalError("emulator: Feature.select without new names only")
    wanted = input.properties if ".*" in propertySelectors else set(propertySelectors)
    return Feature(
        region=input.region if retainGeometry else None,
        properties={name: value for name, value in input.properties.items() if name in wanted},
        feature_id=input.feature_id,
    )


class Functions:
    """All functions by name.

    Args:
        load_image: gives an image by asset id.
        limit_pixels: pixels of one reduceRegions beyond which memory "runs out"; None for no limit.

    """

    def __init__(self, load_image: Callable[[str], Image], limit_pixels: Callable[[], int | None]) -> None:
        self._load = load_image
        self._limit = limit_pixels
        self.table: dict[str, Function] = {**_PLAIN, **self._bound()}

    def _bound(self) -> dict[str, Function]:
        return {
            "Image.load": lambda id, version=None: self._load(id),  # noqa: A006, ARG005 - theirs
            "Image.reduceRegions": self._reduce_regions,
            "Image.parseExpression": self._parse,
        }

    def _parse(self, expression: str, argName: str, vars: Sequence[str] = (), **_: object) -> Expression:  # noqa: A002, ARG002, N803 - theirs
        return Expression(expression, argName, self.table)

    def _reduce_regions(
        self,
        image: object,
        collection: Collection,
        reducer: reducers.Reducer,
        crs: Mapping[str, Any] | str | None = None,
        crsTransform: Sequence[float] | None = None,  # noqa: N803 - Earth Engine's own names
        **rest: object,
    ) -> Collection:
        if crs is None or crsTransform is None or rest.get("scale") is not None:
            raise EmulatorRefusalError("emulator: Image.reduceRegions only with crs and crsTransform")
        pixel, _, west, _, _, north = (float(number) for number in crsTransform)
        name = crs["crs"] if isinstance(crs, Mapping) else crs
        projection = Projection(crs=str(name), pixel_m=pixel, west_m=west, north_m=north)
        return RegionReducer(as_image(image), reducer, projection, self._limit()).features(collection)


def _integers(operation: Callable[[Any, Any], Any]) -> Function:
    return _binary(lambda x, y: operation(x.astype(np.int64), y.astype(np.int64)))


_PLAIN: dict[str, Function] = {
    "Image": lambda input: as_image(input),  # noqa: A006, PLW0108 - the argument's name is theirs
    "Image.constant": constant,
    "Image.select": _select,
    "Image.rename": _rename,
    "Image.addBands": _add_bands,
    "Image.mask": _masked,
    "Image.updateMask": _update_mask,
    "Image.unmask": _unmask,
    "Image.remap": _remap,
    "Image.where": _where,
    "Image.add": _binary(np.add),
    "Image.subtract": _binary(np.subtract),
    "Image.multiply": _binary(np.multiply),
    "Image.divide": _binary(_quotient),
    "Image.pow": _binary(np.power),
    "Image.min": _binary(np.minimum),
    "Image.max": _binary(np.maximum),
    "Image.lt": _binary(np.less),
    "Image.lte": _binary(np.less_equal),
    "Image.gt": _binary(np.greater),
    "Image.gte": _binary(np.greater_equal),
    "Image.eq": _binary(np.equal),
    "Image.neq": _binary(np.not_equal),
    "Image.and": _binary(lambda x, y: (x != 0) & (y != 0)),
    "Image.or": _binary(lambda x, y: (x != 0) | (y != 0)),
    "Image.bitwiseAnd": _integers(np.bitwise_and),
    "Image.not": _unary(lambda x: x == 0),
    "Image.sqrt": _unary(np.sqrt),
    "Image.exp": _unary(np.exp),
    "Image.log": _unary(np.log),
    "Image.abs": _unary(np.abs),
    "Image.toUint8": _cast("uint8"),
    "Image.toUint16": _cast("uint16"),
    "Image.toInt16": _cast("int16"),
    "ImageCollection.fromImages": lambda images: Collection(items=[as_image(image) for image in images]),
    "ImageCollection.mosaic": _mosaic,
    "Projection": lambda crs, transform=None, transformWkt=None: {"crs": crs},  # noqa: ARG005, N803 - theirs
    "GeometryConstructors.Polygon": _region("Polygon"),
    "GeometryConstructors.MultiPolygon": _region("MultiPolygon"),
    "Feature": _feature,
    "Feature.select": _feature_select,
    "Collection": _feature_collection,
    "Collection.flatten": _flatten,
    "Collection.merge": _merge,
    "Reducer.mean": lambda: reducers.simple("mean"),
    "Reducer.sum": lambda: reducers.simple("sum"),
    "Reducer.stdDev": lambda: reducers.simple("stdDev"),
    "Reducer.count": lambda: reducers.simple("count"),
    "Reducer.min": lambda numInputs=1: reducers.simple("min"),  # noqa: ARG005, N803 - theirs
    "Reducer.max": lambda numInputs=1: reducers.simple("max"),  # noqa: ARG005, N803 - theirs
    "Reducer.percentile": reducers.percentile,
    "Reducer.combine": reducers.combine,
    "Reducer.unweighted": reducers.unweighted,
}
