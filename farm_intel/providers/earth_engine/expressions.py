"""One scene day as an expression: mask, indices, validity and reasons, then statistics over every farm of a chunk.

Bands of the answer's image: `v<i>` value of index i where it counts; `m<r>` share of mask reason r; `n<i>`, `x<i>`,
`y<i>` shares of clear pixels where index i has no data, an input out of range, or a value out of range; `home` share
the home tile itself shows, where others fill its gaps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from farm_intel.domain.products import CollectionProfile, MaskRule, PixelReason
from farm_intel.domain.scenes import Scene
from farm_intel.indices.index import SpectralIndex
from farm_intel.providers.earth_engine.addresses import BandAddress, parse_href
from farm_intel.providers.earth_engine.formulas import IndexText, all_of, between, index_text, number_text

_UNSEEN = -999.0
"""What masked reflectance is written as, so that conditions can be asked of it."""
_SEEN_ABOVE = -900.0
PERCENTILES = {"p10": 10, "p25": 25, "median": 50, "p75": 75, "p90": 90}
_LARGEST_EXACT = 65_536
"""Pixels of a farm up to which percentiles are taken from the values themselves, not from a histogram."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayImage:
    """What is asked of one day over one home scene."""

    scenes: tuple[Scene, ...]
    """Home first; the others fill what it does not show."""
    of_home_tile: int
    """How many of them, from the first on, are of the home tile."""
    profile: CollectionProfile
    indices: tuple[SpectralIndex, ...]
    reflectance_max: float

    @property
    def home(self) -> Scene:
        """The scene whose grid is used."""
        return self.scenes[0]

    @property
    def servable(self) -> tuple[int, ...]:
        """Positions of the indices the home scene has all bands for."""
        return tuple(
            i
            for i, index in enumerate(self.indices)
            if set(index.resolve_bands(self.profile.bands).values()) <= self.home.bands.keys()
        )

    def mask_reasons(self) -> tuple[PixelReason, ...]:
        """Return the reasons the mask rules can give, without `valid`."""
        rules = (self.profile.mask, *self.profile.more_masks)
        found = {PixelReason(code) for rule in rules for code in set(rule.lookup().tolist())}
        return tuple(sorted(found - {PixelReason.VALID}))


def address(scene: Scene, name: str) -> BandAddress:
    """Return where a band of a scene is."""
    return parse_href(scene.bands[name].href, scene.scene_id)


def value_and_share_images(ee: Any, day: DayImage) -> tuple[Any, Any]:
    """Return the image of values `v<i>` and the image of shares."""
    texts = {i: index_text(day.indices[i], day.profile.bands) for i in day.servable}
    inputs = tuple(dict.fromkeys(name for text in texts.values() for name in text.bands))
    masks = tuple(rule.band for rule in (day.profile.mask, *day.profile.more_masks))
    raw = _merged(ee, day.scenes, (*inputs, *masks))
    reflectance = _reflectance(ee, raw, inputs, day.profile)
    reason = _reasons(raw, day)
    clear = reason.eq(int(PixelReason.VALID))
    values, shares = [], [reason.eq(int(code)).rename(f"m{int(code)}") for code in day.mask_reasons()]
    for i, text in texts.items():
        seen, inside, good = (reflectance.expression(condition) for condition in _validity(text, day, i))
        value = reflectance.expression(text.value)
        shares += [
            clear.And(seen.Not()).rename(f"n{i}"),
            clear.And(seen).And(inside.Not()).rename(f"x{i}"),
            clear.And(seen).And(inside).And(good.Not()).rename(f"y{i}"),
        ]
        values.append(value.updateMask(clear.And(seen).And(inside).And(good)).rename(f"v{i}"))
    if len(day.scenes) > day.of_home_tile:
        at_home = _merged(ee, day.scenes[: day.of_home_tile], masks[:1])
        shares.append(at_home.mask().rename("home"))
    return ee.Image.cat(values), ee.Image.cat(shares)


def _validity(text: IndexText, day: DayImage, i: int) -> tuple[str, str, str]:
    """Return the conditions: data in every input, every input a reflectance, a value in the index's range."""
    low, high = day.indices[i].valid_range
    seen = all_of(f'b("{name}") > {number_text(_SEEN_ABOVE)}' for name in text.bands)
    inside = between(text.bands, 0.0, day.reflectance_max)
    in_range = (f"{text.value} >= {number_text(low)}", f"{text.value} <= {number_text(high)}")
    return seen, inside, all_of((text.finite, *in_range) if text.finite else in_range)


def _select(ee: Any, scene: Scene, names: Sequence[str]) -> Any:
    """Return the bands of a scene under their common names."""
    image_id = address(scene, names[0]).image_id
    return ee.Image(image_id).select([address(scene, name).band for name in names], list(names))


def _merged(ee: Any, scenes: Sequence[Scene], names: Sequence[str]) -> Any:
    """Return the first scene, its gaps filled by the others; a cloud is no gap, so nothing is masked yet."""
    images = [_select(ee, scene, names) for scene in scenes if set(names) <= scene.bands.keys()]
    if len(images) == 1:
        return images[0]
    # the last one that has a pixel wins
    return ee.ImageCollection.fromImages(images[::-1]).mosaic()


def _reflectance(ee: Any, raw: Any, inputs: Sequence[str], profile: CollectionProfile) -> Any:
    numbers = raw.select(list(inputs))
    if profile.valid_dn is not None:
        low, high = profile.valid_dn
        numbers = numbers.updateMask(numbers.gte(low).And(numbers.lte(high)))
    rule = profile.radiometry
    return ee.Image(numbers.multiply(rule.scale).add(rule.offset)).unmask(_UNSEEN, sameFootprint=False)


def _reasons(raw: Any, day: DayImage) -> Any:
    """Return the image of PixelReason codes; nowhere masked."""
    home, profile = day.home, day.profile
    reason = _rule_image(raw, home, profile.mask)
    for rule in profile.more_masks:
        reason = reason.where(reason.eq(int(PixelReason.VALID)), _rule_image(raw, home, rule))
    return reason


def _rule_image(raw: Any, home: Scene, rule: MaskRule) -> Any:
    """Return one rule's reasons, as `MaskRule.lookup` would tabulate them."""
    code = raw.select([rule.band]).unmask(address(home, rule.band).fill, sameFootprint=False)
    if rule.reasons:
        known = sorted(rule.reasons.items())
        return code.remap([value for value, _ in known], [int(reason) for _, reason in known], int(rule.otherwise))
    reason = code.multiply(0)
    # the first match wins, so it is painted last; flags come before fields
    for bits, value, found in reversed(rule.fields):
        reason = reason.where(code.bitwiseAnd(bits).eq(value), int(found))
    for bits, found in reversed(rule.flags):
        reason = reason.where(code.bitwiseAnd(bits).neq(0), int(found))
    return reason


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmRegions:
    """One farm of a request."""

    number: int
    """Position in the request's list of farms."""
    whole: BaseGeometry
    pure: Mapping[int, BaseGeometry]
    """Ratio -> outline of the pixels wholly inside, where there are enough."""


def statistics_table(
    ee: Any, day: DayImage, farms: Sequence[FarmRegions], by_ratio: Mapping[int, Sequence[int]]
) -> Any:
    """Return the FeatureCollection of all statistics of a chunk of farms.

    One row `ratio` 0 per farm over its whole boundary (means and spread weighted by coverage, and all shares), and one
    per ratio over the pixels wholly inside (each counted once).

    Args:
        ee: the initialised client.
        day: what is asked.
        farms: the chunk.
        by_ratio: coarsest input's pixel edge in base pixels -> positions of the indices it decides for.

    """
    values, shares = value_and_share_images(ee, day)
    grid = _base_grid(day)
    reducer = _statistics_reducer(ee)
    whole = ee.FeatureCollection([_feature(ee, farm.whole, grid.crs_code, farm.number, 0) for farm in farms])
    counted = shares.reduceRegions(collection=whole, reducer=ee.Reducer.mean(), **_projection(grid))
    table = values.reduceRegions(collection=counted, reducer=reducer, **_projection(grid))
    for ratio, indices in sorted(by_ratio.items()):
        pure = [
            _feature(ee, farm.pure[ratio], grid.crs_code, farm.number, ratio) for farm in farms if ratio in farm.pure
        ]
        chosen = [f"v{i}" for i in indices]
        if not pure or not chosen:
            continue
        rows = values.select(chosen).reduceRegions(
            collection=ee.FeatureCollection(pure), reducer=reducer.unweighted(), **_projection(grid)
        )
        table = table.merge(rows)
    return table.select([".*"], None, False)  # noqa: FBT003 - retainGeometry: the answer need not repeat the outlines


def _base_grid(day: DayImage) -> BandAddress:
    """Return the address of the finest band that is read."""
    names = {name for i in day.servable for name in day.indices[i].resolve_bands(day.profile.bands).values()}
    found = [address(day.home, name) for name in sorted({*names, day.profile.mask.band})]
    return min(found, key=lambda band: band.pixel_m)


def _projection(grid: BandAddress) -> dict[str, Any]:
    return {
        "crs": grid.crs_code,
        "crsTransform": [grid.pixel_m, 0, grid.west_m, 0, -grid.pixel_m, grid.north_m],
    }


def _feature(ee: Any, shape: BaseGeometry, crs: str, number: int, ratio: int) -> Any:
    geojson = mapping(shape)
    build = ee.Geometry.Polygon if shape.geom_type == "Polygon" else ee.Geometry.MultiPolygon
    coordinates = _lists(geojson["coordinates"])
    return ee.Feature(build(coordinates, proj=crs, geodesic=False), {"farm": number, "ratio": ratio})


def _lists(value: Any) -> Any:
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _statistics_reducer(ee: Any) -> Any:
    reducer = ee.Reducer.mean()
    further = (
        ee.Reducer.stdDev(),
        ee.Reducer.min(),
        ee.Reducer.max(),
        ee.Reducer.count(),
        ee.Reducer.percentile(list(PERCENTILES.values()), list(PERCENTILES), None, None, _LARGEST_EXACT),
    )
    for other in further:
        reducer = reducer.combine(other, sharedInputs=True)
    return reducer
