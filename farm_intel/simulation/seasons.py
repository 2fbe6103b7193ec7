"""Whole seasons of index observations with known events: what season and state assessment is scored on.

Fields follow the world's crops (`phenology`) over two to three years. What happens to them is drawn from the seed and
kept as truth: harvest, drought, flood and hail, and seasons in which nothing happens. What a sensor reports is made
from reflectance, band by band: soil that is wet after rain, an acquisition every five days with some missing, runs of
cloud, sensor noise, and now and then cloud or shadow that no mask has caught.

The strengths are conventions of this package, chosen within what is published: leaf water loss raises the short-wave
infrared (Gao 1996, https://doi.org/10.1016/S0034-4257(96)00067-3), hail takes leaf area at once and some of it grows
back, standing water hides the ground below it. A harvest of a crop that has already died back leaves no trace in these
bands and is therefore not drawn; hail is drawn once a canopy stands, for on a growing one growth soon hides it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from farm_intel.simulation.phenology import CROPS, DRY_CANOPY_GAIN, Crop
from farm_intel.simulation.spectra import BAND_NAMES, SPECTRA, FloatArray
from farm_intel.simulation.world import EvaluableIndex

HARVEST, DROUGHT, FLOOD, HAIL = "harvest", "drought", "flood", "hail"

_MUDDY_WATER = np.array((0.075, 0.085, 0.105, 0.095, 0.085, 0.065, 0.060, 0.050, 0.045, 0.015, 0.010))
_WET_SOIL_GAIN = np.array((0.62, 0.60, 0.58, 0.57, 0.56, 0.56, 0.56, 0.55, 0.55, 0.50, 0.46))
"""Wet over dry soil, falling towards the short-wave infrared as water absorbs there."""
_SWARD_COVER = 0.2
"""Crops that stay greener than this between seasons are swards."""
_BEFORE_DAYS, _AFTER_DAYS, _AFTER_COUNT, _STANDING = 20, 25, 2, 0.3
"""What it takes to see an event, see `TrueEvent.seen`."""
_LEAST_CUT = 0.18
"""Green cover below which a harvest leaves no trace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeasonOptions:
    """Everything the simulated seasons depend on; equal options, equal seasons."""

    seed: int
    farms: int = 120
    first_planting: date = date(2023, 3, 1)
    revisit_days: int = 5
    missing: float = 0.08
    """Share of acquisitions that do not happen."""
    cloud_odds: float = 0.38
    """Long-run share of acquisitions under cloud; cloud comes in runs."""
    cloud_persistence: float = 0.30
    """How much a cloudy acquisition raises the odds of the next one, 0..1."""
    unmasked: float = 0.03
    """Share of clear acquisitions with cloud or shadow that no mask caught."""
    noise: float = 0.012
    """Relative noise of a field's mean per band and day, standard deviation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueEvent:
    """Something that happened to a field."""

    kind: str
    day: date
    end: date
    strength: float
    """Share of the canopy or of the field that is affected, 0..1."""
    seen: bool = True
    """False where the acquisitions cannot show it: none without cloud in the 20 days before, or fewer than two in the
    25 days after and before the next event (of a flood: while water stood on 30 % of the field). One alone cannot be
    told from unmasked cloud. Nor can the harvest of a crop that has died back to less than 18 % green cover."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedSeason:
    """One planting of a field."""

    planted: date
    shift_days: int
    """Development against the crop's normal, days."""
    vigour: float
    """Factor on the green cover."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedFarm:
    """A field with its true history and what was observed of it."""

    farm_id: str
    crop: str
    seasons: tuple[SimulatedSeason, ...]
    events: tuple[TrueEvent, ...]
    days: tuple[date, ...]
    """Days with a usable observation, ascending."""
    values: Mapping[str, FloatArray]
    """Index -> (days,) observed means."""
    truth: Mapping[str, FloatArray]
    """Index -> (days,) the same without noise, cloud and shadow."""
    contaminated: npt.NDArray[np.bool_]
    """(days,) True where unmasked cloud or shadow is in the value."""
    valid: FloatArray
    """(days,) share of the field that was not masked, 0..1; what no mask catches mostly lies beside what one caught."""
    cover: FloatArray
    """(history days,) true green cover from `start` on."""
    start: date
    end: date


@dataclass(slots=True)
class _Ground:
    """Daily state of a field, arrays over the history."""

    green: FloatArray
    residue: FloatArray
    dryness: FloatArray
    """Leaf water lost, 0..1."""
    water: FloatArray
    """Share of the field under standing water."""
    wet: FloatArray
    """Wetness of the soil, 0..1."""


def simulate_seasons(options: SeasonOptions, indices: Sequence[EvaluableIndex]) -> tuple[SimulatedFarm, ...]:
    """Return farms with their observations; farm k of a seed does not depend on how many farms there are.

    Args:
        options: seed, number and sensing conditions.
        indices: what is observed.

    """
    return tuple(_farm(options, number, indices) for number in range(options.farms))


def _farm(options: SeasonOptions, number: int, indices: Sequence[EvaluableIndex]) -> SimulatedFarm:
    rng = np.random.default_rng([options.seed, number, 4711])
    crop = CROPS[number % len(CROPS)]
    years = int(rng.integers(2, 4))
    seasons = _plantings(rng, crop, options.first_planting, years)
    start = seasons[0].planted - timedelta(days=40)
    length = years * 365 + 20
    ground = _undisturbed(crop, seasons, start, length, rng)
    events = _happenings(rng, crop, seasons, start, length, ground)
    seen, clear_days = _acquisitions(rng, options, length)
    spectra = _reflectance(crop, ground)[clear_days]
    observed, contaminated = _sensed(rng, options, spectra)
    usable = seen.copy()
    usable[clear_days[contaminated]] = False
    return SimulatedFarm(
        farm_id=f"season-{options.seed}-{number:04d}",
        crop=crop.name,
        seasons=seasons,
        events=_with_visibility(events, start, usable, ground),
        days=tuple(start + timedelta(days=int(day)) for day in clear_days),
        values={index.slug: _evaluate(index, observed) for index in indices},
        truth={index.slug: _evaluate(index, spectra) for index in indices},
        contaminated=contaminated,
        valid=_valid_share(rng, contaminated),
        cover=ground.green,
        start=start,
        end=start + timedelta(days=length - 1),
    )


def _evaluate(index: EvaluableIndex, spectra: FloatArray) -> FloatArray:
    return np.asarray(index.evaluate({name: spectra[:, band] for band, name in enumerate(BAND_NAMES)}), np.float64)


def _plantings(rng: np.random.Generator, crop: Crop, first: date, years: int) -> tuple[SimulatedSeason, ...]:
    """Return plantings: short crops twice a year, others once."""
    per_year = 2 if crop.senescence_days < 80 else 1
    count = years * per_year
    return tuple(
        SimulatedSeason(
            planted=first + timedelta(days=round(k * 365 / per_year) + int(rng.integers(-8, 9))),
            shift_days=int(rng.integers(-5, 6)),
            vigour=float(rng.uniform(0.85, 1.05)),
        )
        for k in range(count)
    )


def _logistic(values: FloatArray) -> FloatArray:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -60.0, 60.0))))


def _undisturbed(
    crop: Crop, seasons: Sequence[SimulatedSeason], start: date, length: int, rng: np.random.Generator
) -> _Ground:
    day = np.arange(length, dtype=np.float64)
    green = np.full(length, crop.green_min)
    residue = np.zeros(length)
    for season in seasons:
        age = day - (season.planted - start).days - season.shift_days
        up = _logistic(crop.green_up_rate * (age - crop.green_up_days))
        down = _logistic(crop.senescence_rate * (age - crop.senescence_days))
        grown = crop.green_min + (crop.green_max - crop.green_min) * np.maximum(up - down, 0.0) * season.vigour
        green = np.maximum(green, np.minimum(grown, 0.86))
        ploughed = np.clip((age - crop.senescence_days - 60.0) / 40.0, 0.0, 1.0)
        residue = np.maximum(residue, crop.residue_max * down * (1.0 - ploughed))
    wet = _rain(rng, length)
    zeros = np.zeros(length)
    return _Ground(green=green, residue=residue, dryness=zeros.copy(), water=zeros.copy(), wet=wet)


def _rain(rng: np.random.Generator, length: int) -> FloatArray:
    """Return soil wetness: showers in two rainy seasons a year, drying with a time constant of four days."""
    odds = 0.05 + 0.10 * (np.sin(2.0 * np.pi * np.arange(length) / 182.5) > 0.0)
    wet = np.zeros(length)
    for day in range(1, length):
        shower = float(rng.uniform(0.3, 1.0)) if rng.random() < odds[day] else 0.0
        wet[day] = min(1.0, wet[day - 1] * math.exp(-0.25) + shower)
    return np.asarray(0.7 * wet)


def _happenings(
    rng: np.random.Generator,
    crop: Crop,
    seasons: Sequence[SimulatedSeason],
    start: date,
    length: int,
    ground: _Ground,
) -> list[TrueEvent]:
    """Draw what happens in every season and do it to the ground; at most one disaster a season, then the harvest."""
    events: list[TrueEvent] = []
    for season in seasons:
        zero = (season.planted - start).days + season.shift_days
        disaster = str(rng.choice(("", DROUGHT, FLOOD, HAIL), p=(0.42, 0.20, 0.19, 0.19)))
        happened = _DISASTERS[disaster](rng, crop, zero, length - 50, ground) if disaster else None
        if happened:
            events.append(_dated(happened, start))
        if happened and crop.green_min > _SWARD_COVER:
            continue
        earliest = happened.day + 20 if happened else 0
        if cut := _harvest(rng, crop, zero, (earliest, length - 50), ground):
            events.append(_dated(cut, start))
    return events


@dataclass(frozen=True, slots=True)
class _Happening:
    kind: str
    day: int
    end: int
    strength: float


def _dated(event: _Happening, start: date) -> TrueEvent:
    return TrueEvent(
        kind=event.kind,
        day=start + timedelta(days=event.day),
        end=start + timedelta(days=event.end),
        strength=event.strength,
    )


def _ramp(days: FloatArray, length: float) -> FloatArray:
    return np.clip(days / length, 0.0, 1.0)


def _season_end(crop: Crop, zero: int, length: int) -> int:
    return min(length, zero + round(crop.senescence_days + 6.0 / crop.senescence_rate))


def _drought(rng: np.random.Generator, crop: Crop, zero: int, limit: int, ground: _Ground) -> _Happening | None:
    first, last = crop.green_up_days + 5.0, crop.senescence_days - 32.0
    if last <= first:
        last = first + 1.0
    day = zero + round(rng.uniform(first, last))
    duration, strength = int(rng.integers(28, 56)), float(rng.uniform(0.55, 1.0))
    if day > limit:
        return None
    t = np.arange(ground.green.size, dtype=np.float64)
    stress = strength * _ramp(t - day, 15.0) * (1.0 - _ramp(t - day - duration, 12.0))
    ground.dryness = np.maximum(ground.dryness, stress)
    lost = 0.35 * strength * _ramp(t - day - 5.0, 25.0) * (1.0 - 0.4 * _ramp(t - day - duration, 25.0))
    stop = _season_end(crop, zero, ground.green.size)
    ground.green[:stop] *= 1.0 - lost[:stop]
    ground.wet[day : day + duration] = 0.0
    return _Happening(DROUGHT, day, day + duration, strength)


def _flood(rng: np.random.Generator, crop: Crop, zero: int, limit: int, ground: _Ground) -> _Happening | None:
    day = zero + round(rng.uniform(5.0, crop.senescence_days - 10.0))
    duration, strength = int(rng.integers(10, 29)), float(rng.uniform(0.5, 1.0))
    if day > limit:
        return None
    t = np.arange(ground.green.size, dtype=np.float64)
    standing = (t >= day) & (t < day + duration)
    ground.water = np.where(standing, strength * (1.0 - 0.4 * _ramp(t - day, duration)), ground.water)
    damage = float(rng.uniform(0.2, 0.8)) * strength
    lost = np.where(t >= day, damage * (1.0 - 0.4 * _ramp(t - day - duration, 30.0)), 0.0)
    stop = _season_end(crop, zero, ground.green.size)
    ground.green[:stop] *= 1.0 - lost[:stop]
    ground.wet[day : day + duration + 6] = np.maximum(ground.wet[day : day + duration + 6], 0.7)
    return _Happening(FLOOD, day, day + duration, strength)


def _hail(rng: np.random.Generator, crop: Crop, zero: int, limit: int, ground: _Ground) -> _Happening | None:
    day = zero + round(rng.uniform(crop.green_up_days + 16.0, crop.senescence_days - 16.0))
    strength, regrowth = float(rng.uniform(0.30, 0.65)), float(rng.uniform(0.2, 0.6))
    if day > limit or crop.green_min > _SWARD_COVER:
        return None
    t = np.arange(ground.green.size, dtype=np.float64)
    lost = np.where(t >= day, strength * (1.0 - regrowth * _ramp(t - day - 4.0, 28.0)), 0.0)
    stop = _season_end(crop, zero, ground.green.size)
    litter = 0.4 * strength * ground.green[day] * (t >= day) * np.exp(-np.maximum(t - day, 0.0) / 25.0)
    ground.green[:stop] *= 1.0 - lost[:stop]
    ground.residue = np.minimum(np.maximum(ground.residue, litter), 0.98 - ground.green)
    return _Happening(HAIL, day, day + 28, strength)


_DISASTERS = {DROUGHT: _drought, FLOOD: _flood, HAIL: _hail}


def _harvest(
    rng: np.random.Generator, crop: Crop, zero: int, span: tuple[int, int], ground: _Ground
) -> _Happening | None:
    """Cut the crop around the middle of its senescence, maize not always; swards are cut green and grow back.

    Where little green is left it cannot be seen (`TrueEvent.seen`).
    """
    odds, early, late, stubble = 0.85, -14.0, 5.0, float(rng.uniform(0.3, 0.9))
    sward = crop.green_min > _SWARD_COVER
    if sward:
        odds, early, late = 0.6, -70.0, -20.0
    elif crop.senescence_rate > 0.12:
        odds = 1.0
    day = max(zero + round(crop.senescence_days + rng.uniform(early, late)), span[0])
    if rng.random() >= odds or day > span[1] or ground.water[day] > 0.0:
        return None
    t = np.arange(ground.green.size, dtype=np.float64)
    stop = min(ground.green.size, _season_end(crop, zero, ground.green.size) + 25)
    before = float(ground.green[day])
    if sward:
        left = 0.2 + 0.8 * _ramp(t - day - 5.0, 35.0)
        ground.green[day:] = (ground.green * left)[day:]
        ground.residue[day:] = np.maximum(ground.residue, 0.10)[day:]
        return _Happening(HARVEST, day, day, 1.0)
    ground.green[day:stop] = np.minimum(ground.green[day:stop], crop.green_min)
    later = slice(day, min(ground.green.size, stop + 45))
    ground.residue[later] = crop.residue_max * stubble * (1.0 - _ramp(t - day - 40.0, 40.0))[later]
    return _Happening(HARVEST, day, day, before)


def _reflectance(crop: Crop, ground: _Ground) -> FloatArray:
    """Return (days, bands) surface reflectance of the field's mean."""
    dry = ground.dryness[:, None]
    canopy = SPECTRA[crop.name] * (1.0 + dry * (DRY_CANOPY_GAIN - 1.0))
    soil = SPECTRA["soil"] * (1.0 + ground.wet[:, None] * (_WET_SOIL_GAIN - 1.0))
    green, residue = ground.green[:, None], np.minimum(ground.residue, 1.0 - ground.green)[:, None]
    land = green * canopy + residue * SPECTRA["straw"] + (1.0 - green - residue) * soil
    water = ground.water[:, None]
    return np.asarray((1.0 - water) * land + water * _MUDDY_WATER)


def _acquisitions(
    rng: np.random.Generator, options: SeasonOptions, length: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Return (length,) True on clear days, and those days."""
    clear = np.zeros(length, np.bool_)
    cloudy = False
    for day in range(int(rng.integers(0, options.revisit_days)), length, options.revisit_days):
        stay = options.cloud_persistence
        odds = (1.0 - stay) * options.cloud_odds + (stay if cloudy else 0.0)
        cloudy = bool(rng.random() < odds)
        clear[day] = not cloudy and rng.random() >= options.missing
    return clear, np.flatnonzero(clear)


def _sensed(
    rng: np.random.Generator, options: SeasonOptions, spectra: FloatArray
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return what the sensor reports, and where cloud or shadow is in it."""
    count, bands = spectra.shape
    common = 1.0 + options.noise * rng.standard_normal((count, 1))
    seen = spectra * common * (1.0 + options.noise * rng.standard_normal((count, bands)))
    seen += 0.0015 * rng.standard_normal((count, bands))
    contaminated: npt.NDArray[np.bool_] = np.asarray(rng.random(count) < options.unmasked)
    share = rng.uniform(0.15, 0.75, (count, 1))
    shade = rng.random((count, 1)) < 0.35
    haze = 0.012 * share * np.linspace(1.0, 0.0, bands)
    spoiled = np.where(shade, seen * (1.0 - 0.8 * share) + haze, (1.0 - share) * seen + share * SPECTRA["cloud"])
    return np.maximum(np.where(contaminated[:, None], spoiled, seen), 1e-4), contaminated


def _valid_share(rng: np.random.Generator, contaminated: npt.NDArray[np.bool_]) -> FloatArray:
    partly = rng.random(contaminated.size) < np.where(contaminated, 0.7, 0.15)
    return np.where(partly, rng.uniform(0.3, 0.95, contaminated.size), 1.0)


def _with_visibility(
    events: Sequence[TrueEvent], start: date, usable: npt.NDArray[np.bool_], ground: _Ground
) -> tuple[TrueEvent, ...]:
    """Return the events ascending, those marked unseen that usable acquisitions before and after do not show."""
    ordered = sorted(events, key=lambda event: event.day)
    following = [*((event.day - start).days for event in ordered), usable.size][1:]
    return tuple(
        replace(event, seen=_is_seen(event, (event.day - start).days, until, usable, ground))
        for event, until in zip(ordered, following, strict=True)
    )


def _is_seen(event: TrueEvent, first: int, until: int, usable: npt.NDArray[np.bool_], ground: _Ground) -> bool:
    if event.kind == HARVEST and event.strength < _LEAST_CUT:
        return False
    before = usable[max(first - _BEFORE_DAYS, 0) : first]
    span = slice(first, min(first + _AFTER_DAYS, until))
    after = usable[span] & (ground.water[span] >= _STANDING) if event.kind == FLOOD else usable[span]
    return bool(before.any()) and int(after.sum()) >= _AFTER_COUNT
