"""The simulated farm world: what is where on which day, in closed form, and what every farm's index truly is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date, timedelta
from typing import Protocol

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry import MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry

from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.simulation.layout import (
    SITES,
    Field,
    Layout,
    LayoutBuilder,
    Plot,
    WorldSite,
    WorldTile,
    build_extent,
    build_tiles,
    transformer,
)
from farm_intel.simulation.phenology import DrySpell, field_reflectance
from farm_intel.simulation.quadrature import gradient_nodes
from farm_intel.simulation.sky import Extent, SkyEvents, sky_classes, sky_codes, sky_effects, sky_shapes
from farm_intel.simulation.spectra import BAND_NAMES, SPECTRA, FloatArray

VEGETATION, BARE, WATER = 4, 5, 6
"""Scene classification values of clear ground."""
GREENNESS_OF_VEGETATION = 0.4
"""(nir - red) / (nir + red) above which clear ground is classified as vegetation."""


class EvaluableIndex(Protocol):
    """What the world needs of an index: a name and a formula over reflectances."""

    @property
    def slug(self) -> str:
        """Lower-case name."""
        ...

    def evaluate(self, bands: Mapping[str, npt.NDArray[np.floating]], /) -> npt.NDArray[np.floating]:
        """Return the index for arrays of surface reflectance keyed by common name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldOptions:
    """Everything a world depends on; equal options, equal worlds to the last byte."""

    seed: int = 20260104
    start: date = date(2026, 1, 4)
    """First acquisition."""
    days: int = 65
    """Length in days; 65 days and a revisit of 5 give 13 acquisitions of each tile."""
    revisit_days: int = 5
    """Days between acquisitions of a tile, alternating between two platforms."""
    farms: int = 49
    """Ordinary farms, in turn of `sizes_ha`; six special ones come on top."""
    sizes_ha: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 20.0)
    tile_px: int = 660
    """Edge of a tile in 10 m pixels, a multiple of 12 (so that 20 m and 60 m bands nest) and at least 240."""
    cloudiness: float = 1.0
    """Factor on the number of random clouds; 0 leaves the three days with a fixed sky."""
    noise: float = 0.002
    """Sensor noise, standard deviation at reflectance 0.25; see render.digital_numbers."""
    site: str = "kenya"
    estate_m: float = 0.0
    """Edge of one square, even field beside the ordinary ones, metres; 0 for none. One of 2,900 m holds 5 x 5 whole
    pixels of 463 m wherever their grid lies."""

    dry_farm: str = ""
    """Farm whose field suffers a dry spell; empty for none."""
    dry_from_day: int = 0
    """Days from `start` to the beginning of the dry spell."""
    dry_days: int = 30
    """Length of the dry spell, days; then it rains."""

    def __post_init__(self) -> None:
        """Refuse worlds that cannot be drawn."""
        if self.tile_px % 12 or self.tile_px < 240:
            raise BadRequestError(f"tile_px={self.tile_px} cannot be a tile", hint="Use a multiple of 12 from 240 up.")
        if self.days < 1 or self.revisit_days < 1 or self.farms < 0 or not self.sizes_ha or min(self.sizes_ha) <= 0:
            raise BadRequestError("a world needs days, a revisit time and field sizes above zero")
        if max(self.sizes_ha) > 20.0:
            raise BadRequestError("fields above 20 ha do not fit the world's grid", hint="Use sizes_ha up to 20.")
        if self.estate_m < 0.0:
            raise BadRequestError(f"estate_m={self.estate_m:g} is no length", hint="Use metres above zero, or 0.")
        if self.site not in SITES:
            raise UnknownNameError(f"no site {self.site!r}", hint=f"There are: {', '.join(SITES)}.")

    def as_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {**asdict(self), "start": self.start.isoformat(), "sizes_ha": list(self.sizes_ha)}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> WorldOptions:
        """Return the options `as_dict` gave; a world written before there were estates and dry spells has none."""
        converted: dict[str, object] = {"estate_m": 0.0, "dry_farm": "", "dry_from_day": 0, "dry_days": 30, **values}
        known = {field.name for field in fields(cls)}
        if set(converted) != known:
            raise BadRequestError(
                f"these are not the options of a world: {sorted(set(converted) ^ known)} differ",
                hint="The world was written by another version; delete its folder and build it again.",
            )
        converted["start"] = date.fromisoformat(str(values["start"]))
        sizes = values["sizes_ha"]
        converted["sizes_ha"] = tuple(float(size) for size in sizes) if isinstance(sizes, list) else ()
        return cls(**converted)  # type: ignore[arg-type]  # names checked above, values by __post_init__


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldFarm:
    """One farm of the world."""

    farm_id: str
    name: str
    boundary_wkb: bytes
    """EPSG:4326 longitude/latitude; split at longitude 180 where it crosses it (RFC 7946)."""
    crop: str
    planting_date: date
    size_class_ha: float
    """The class it is scored in; equals its area for ordinary farms."""
    area_ha: float
    even: bool
    """False: green cover changes linearly across the field."""
    inside_world: bool
    """False for the one farm no scene shows."""


class FarmWorld:
    """Pure functions of place and day; no files.

    The ground is painted in order: bare soil, roads, water, fields. The sky follows section `sky`. Nothing here knows
    pixels; `render` turns it into scenes.
    """

    def __init__(self, options: WorldOptions) -> None:
        self.options = options
        self.site: WorldSite = SITES[options.site]
        self.tiles: tuple[WorldTile, WorldTile] = build_tiles(self.site, options.tile_px)
        self.extent: Extent = build_extent(self.site, options.tile_px)
        builder = LayoutBuilder(seed=options.seed, extent=self.extent, start=options.start)
        self.layout: Layout = builder.build(options.sizes_ha, options.farms, options.estate_m)
        self.farms: tuple[WorldFarm, ...] = tuple(self._farm(i) for i in range(len(self.layout.plots)))
        self.covers: tuple[BaseGeometry, ...] = (
            *self.layout.roads,
            *self.layout.waters,
            *(field.shape for field in self.layout.fields),
        )
        """Painted things in order; cover number 0 is the soil below, so covers[i] has number i + 1."""
        self.gradients: FloatArray = np.array(
            [(0.0, 0.0, 0.0)] * (1 + len(self.layout.roads) + len(self.layout.waters))
            + [field.gradient() for field in self.layout.fields]
        )
        """(covers + 1, 3): gradient coordinate s = g[0] * x + g[1] * y + g[2] in the world's plane."""
        self.events = self._events()
        self._dry_spells = self._spells()
        self.gain, self.path = sky_effects()
        self._tree = shapely.STRtree(list(self.covers))
        self._plots = {plot.farm_id: plot for plot in self.layout.plots}
        self._nodes: dict[str, tuple[FloatArray, FloatArray]] = {}

    @property
    def acquisition_days(self) -> tuple[date, ...]:
        """Solar days on which both tiles are acquired, ascending."""
        count = (self.options.days - 1) // self.options.revisit_days + 1
        return tuple(self.options.start + timedelta(days=i * self.options.revisit_days) for i in range(count))

    def is_water(self) -> npt.NDArray[np.bool_]:
        """Return (covers + 1,) True where a cover is water."""
        first = 1 + len(self.layout.roads)
        water = np.zeros(1 + len(self.covers), np.bool_)
        water[first : first + len(self.layout.waters)] = True
        return water

    def ground(self, day: date) -> tuple[FloatArray, FloatArray]:
        """Return every cover's mean reflectance and its slope along the gradient, each (covers + 1, bands)."""
        still = [SPECTRA["soil"]]
        still += [SPECTRA["road"]] * len(self.layout.roads) + [SPECTRA["water"]] * len(self.layout.waters)
        pairs = [(spectrum, np.zeros_like(spectrum)) for spectrum in still]
        pairs += [self.field_spectrum(field, day) for field in self.layout.fields]
        return np.array([mean for mean, _ in pairs]), np.array([slope for _, slope in pairs])

    def field_spectrum(self, field: Field, day: date) -> tuple[FloatArray, FloatArray]:
        """Return mean reflectance and slope of one field, each (bands,)."""
        return field_reflectance(field.crop, field.planted, day, field.unevenness, self._dry_spells.get(field))

    def sky(self, day: date) -> FloatArray:
        """Return the day's sky as ellipses in the world's plane (see sky.sky_shapes)."""
        return sky_shapes(
            seed=self.options.seed,
            day=day,
            extent=self.extent,
            events=self.events,
            cloudiness=self.options.cloudiness,
        )

    def reflectance(
        self, x: npt.ArrayLike, y: npt.ArrayLike, day: date, epsg: int, *, through_sky: bool = True
    ) -> dict[str, FloatArray]:
        """Return surface reflectance at points, as a perfect sensor would report it, by common name.

        Args:
            x: eastings or longitudes in `epsg`, any shape.
            y: northings or latitudes, same shape.
            day: solar day.
            epsg: CRS of the points.
            through_sky: False for the ground alone, without cloud, shadow, haze and snow.

        """
        px, py = self._to_plane(x, y, epsg)
        cover = self._cover(px, py)
        mean, slope = self.ground(day)
        gradient = self.gradients[cover]
        s = gradient[..., 0] * px + gradient[..., 1] * py + gradient[..., 2]
        seen = mean[cover] + slope[cover] * s[..., None]
        if through_sky:
            codes = sky_codes(self.sky(day), px, py)
            seen = self.gain[codes][..., None] * seen + self.path[codes]
        return {name: seen[..., i] for i, name in enumerate(BAND_NAMES)}

    def classes(self, x: npt.ArrayLike, y: npt.ArrayLike, day: date, epsg: int) -> npt.NDArray[np.uint8]:
        """Return scene classification values (Sen2Cor numbering) at points.

        3 shadow, 4 vegetation, 5 bare, 6 water, 8 thin cloud, 9 cloud, 10 haze (thin cirrus), 11 snow.
        """
        px, py = self._to_plane(x, y, epsg)
        ground = self.reflectance(px, py, day, self.site.epsg_east, through_sky=False)
        water = self.is_water()[self._cover(px, py)]
        return sky_classes(sky_codes(self.sky(day), px, py), ground_classes(ground["nir"], ground["red"], water))

    def true_index(self, farm_id: str, day: date, index: EvaluableIndex) -> float:
        """Return the true mean of an index over a farm's ground: no noise, no edges, no sky.

        Exact for even fields. Across a gradient the mean of a ratio is not the ratio of the means: the index is
        integrated along the gradient, weighted by the field's width there (Gauss-Legendre, exact to rounding).
        """
        mean, slope = self.field_spectrum(self.layout.fields[self._plot(farm_id).field], day)
        s, weights = self._gradient_nodes(farm_id)
        seen = mean + slope * s[:, None]
        values = np.asarray(index.evaluate({name: seen[:, i] for i, name in enumerate(BAND_NAMES)}), np.float64)
        return float(np.broadcast_to(values, s.shape) @ weights)

    def clear_fraction(self, farm_id: str, day: date, *, samples: int = 60) -> float:
        """Return the share of a farm's area without cloud, shadow, haze or snow, 0..1, from a grid of points.

        Args:
            farm_id: a farm of this world.
            day: solar day.
            samples: points along each side of the farm's bounding box.

        """
        boundary = self._plot(farm_id).boundary
        west, south, east, north = boundary.bounds
        steps = (np.arange(samples) + 0.5) / samples
        x, y = np.meshgrid(west + steps * (east - west), south + steps * (north - south))
        inside = shapely.contains_xy(boundary, x, y)
        codes = sky_codes(self.sky(day), x[inside], y[inside])
        return float((codes == 0).mean())

    def farm(self, farm_id: str) -> WorldFarm:
        """Return one farm; UnknownNameError where there is none."""
        self._plot(farm_id)
        return next(farm for farm in self.farms if farm.farm_id == farm_id)

    def _plot(self, farm_id: str) -> Plot:
        plot = self._plots.get(farm_id)
        if plot is None:
            raise UnknownNameError(f"no farm {farm_id!r} in this world", hint=f"It has {', '.join(self._plots)}.")
        return plot

    def _gradient_nodes(self, farm_id: str) -> tuple[FloatArray, FloatArray]:
        if farm_id not in self._nodes:
            plot = self._plot(farm_id)
            self._nodes[farm_id] = gradient_nodes(plot.boundary, self.layout.fields[plot.field].gradient())
        return self._nodes[farm_id]

    def _to_plane(self, x: npt.ArrayLike, y: npt.ArrayLike, epsg: int) -> tuple[FloatArray, FloatArray]:
        px, py = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
        if epsg != self.site.epsg_east:
            px, py = transformer(epsg, self.site.epsg_east).transform(px, py)
        return px, py

    def _cover(self, px: FloatArray, py: FloatArray) -> npt.NDArray[np.intp]:
        """Return the number of the topmost cover at points of the plane."""
        cover = np.zeros(px.shape, np.intp)
        points, hits = self._tree.query(shapely.points(px.ravel(), py.ravel()), predicate="intersects")
        np.maximum.at(cover.reshape(-1), points, hits + 1)
        return cover

    def _farm(self, number: int) -> WorldFarm:
        plot = self.layout.plots[number]
        field = self.layout.fields[plot.field]
        return WorldFarm(
            farm_id=plot.farm_id,
            name=plot.name,
            boundary_wkb=shapely.to_wkb(lonlat_boundary(plot.boundary, self.site.epsg_east)),
            crop=field.crop.name,
            planting_date=field.planted,
            size_class_ha=plot.size_class_ha,
            area_ha=plot.boundary.area / 10_000.0,
            even=field.unevenness == 0.0,
            inside_world=plot.boundary.centroid.y < self.extent.north_m,
        )

    def _spells(self) -> dict[Field, DrySpell]:
        options = self.options
        if not options.dry_farm:
            return {}
        plot = next((plot for plot in self.layout.plots if plot.farm_id == options.dry_farm), None)
        if plot is None:
            raise UnknownNameError(f"no farm {options.dry_farm!r} to dry out in this world")
        spell = DrySpell(first_day=options.start + timedelta(days=options.dry_from_day), days=options.dry_days)
        return {self.layout.fields[plot.field]: spell}

    def _events(self) -> SkyEvents:
        days = self.acquisition_days

        def nth(number: int) -> date | None:
            return days[number] if number < len(days) else None

        return SkyEvents(haze=nth(2), overcast=nth(6), snow=nth(7), cloudless=frozenset(days[:2]))


def ground_classes(
    nir: npt.NDArray[np.floating], red: npt.NDArray[np.floating], water: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """Return the classification of clear ground: water, vegetation where it is green, bare elsewhere."""
    green = nir - red > GREENNESS_OF_VEGETATION * (nir + red)
    return np.where(water, WATER, np.where(green, VEGETATION, BARE)).astype(np.uint8)


def lonlat_boundary(shape: BaseGeometry, epsg: int) -> BaseGeometry:
    """Return a boundary in EPSG:4326, as two parts where it crosses longitude 180.

    Straight edges stay straight: over 2 km the difference between the plane and longitude/latitude is below 1 cm.
    """
    to_lonlat = transformer(epsg, 4326)

    def project(xy: FloatArray) -> FloatArray:
        lon, lat = to_lonlat.transform(xy[:, 0], xy[:, 1])
        return np.column_stack([lon, lat])

    lonlat = shapely.transform(shape, project)
    west, _, east, _ = lonlat.bounds
    if east - west < 180.0:
        return lonlat
    unwrapped = shapely.transform(lonlat, lambda xy: np.column_stack([xy[:, 0] % 360.0, xy[:, 1]]))
    eastern = unwrapped.intersection(box(180.0, -90.0, 360.0, 90.0))
    halves = (
        unwrapped.intersection(box(0.0, -90.0, 180.0, 90.0)),
        shapely.transform(eastern, lambda xy: xy - (360.0, 0.0)),
    )
    return MultiPolygon([part for half in halves for part in _polygons(half)])


def _polygons(shape: BaseGeometry) -> list[Polygon]:
    return [part for part in shapely.get_parts(shape).tolist() if isinstance(part, Polygon)]
