"""Confidence, despiking, fusion and smoothing parameters of every index, from quality.toml and the spectra."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations_with_replacement
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from farm_intel.domain.bands import SYMBOL_COMMON_NAMES
from farm_intel.domain.confidence import COMPONENTS, ConfidenceRule
from farm_intel.domain.daily_series import SmoothingRule
from farm_intel.domain.despiking import SpikeRule
from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.domain.fusion import AssessmentRules, FusionRule
from farm_intel.domain.harmonisation import IDENTITY, BandLine, BandpassStep, IndexLine, carry_over, path_to
from farm_intel.domain.looks import Sensor, SensorTable
from farm_intel.domain.observations import Flag
from farm_intel.indices.index import SpectralIndex
from farm_intel.indices.ranges import reference_spectra
from farm_intel.indices.tables import Table

LAND = ("dense_canopy", "sparse_canopy", "senescent_crop", "bare_dry_soil", "bare_wet_soil")
"""What fields are made of: an index's span is taken over these, and adjustments are carried over on their mixtures."""
SHARED_BANDS = ("coastal", "blue", "green", "red", "nir08", "swir16", "swir22")
"""Bands that every sensor with a published adjustment has. An index that asks for `nir` is carried over on `nir08`:
the coefficients were made for it, and Landsat has no other."""

_MIXTURES = np.linspace(0.0, 1.0, 11)
_FILE = "quality.toml"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityTable:
    """quality.toml, parsed."""

    shares: Mapping[str, float]
    confidence: ConfidenceRule
    indices: Mapping[str, Mapping[str, float]]
    """Slug -> numbers that replace a share of the span."""
    sources: Mapping[str, str]
    sensors: SensorTable
    steps: tuple[BandpassStep, ...]
    target: str


def assessment_rules(
    index: SpectralIndex, *, harmonise: bool = True, preference: Sequence[str] = ()
) -> AssessmentRules:
    """Return the rules by which looks of an index are judged and fused.

    Args:
        index: any index of the registry; one without a row of its own gets shares of its span.
        harmonise: bring other sensors to the common one.
        preference: providers, best first, for looks that are equally sure.

    """
    table = quality_table()
    number = _numbers(index, table)
    rules = AssessmentRules(
        index=index.slug,
        sensors=table.sensors,
        confidence=table.confidence,
        spikes=SpikeRule(
            step=number["spike_step"],
            cloud_value=number["cloud_value"],
            beyond=number["beyond"],
            recovery_per_day=number["recovery_per_day"],
        ),
        fusion=FusionRule(
            tolerance=number["tolerance"],
            radiometry_error=number["radiometry_error"],
            mixed_error=number["mixed_error"],
            default_error=number["default_error"],
            source=table.sources.get(index.slug, ""),
        ),
        lines=index_lines(index, table) if harmonise else (),
        preference=tuple(preference),
    )
    return replace(rules, version=hashlib.sha256(repr(rules).encode()).hexdigest()[:16])


def smoothing_rule(index: SpectralIndex) -> SmoothingRule:
    """Return how the daily series of an index is smoothed."""
    table = quality_table()
    number = _numbers(index, table)
    return SmoothingRule(
        bend_per_day=number["bend_per_day"],
        step=number["spike_step"],
        least_sigma=number["least_sigma"],
        source=table.sources.get(index.slug, ""),
    )


def index_lines(index: SpectralIndex, table: QualityTable) -> tuple[IndexLine, ...]:
    """Return the harmonisation of an index for each row of the sensor table."""
    spectra = land_mixtures()
    try:
        index.resolve_bands(spectra)
    except UnknownNameError:  # needs bands that only the common sensor has: nothing to bring to its scale
        return (IDENTITY,) * len(table.sensors.rows)
    routes = (path_to(table.steps, sensor.bandpass, table.target) for sensor in table.sensors.rows)
    return tuple(carry_over(index.slug, index.evaluate, spectra, route) for route in routes)


@cache
def land_mixtures() -> Mapping[str, Floats]:
    """Return common name -> reflectance of pairwise mixtures of what fields are made of, shared bands only."""
    names = {SYMBOL_COMMON_NAMES[symbol][0]: symbol for symbol in next(iter(reference_spectra().values()))}
    rows = [reference_spectra()[material] for material in LAND]
    return MappingProxyType(
        {
            name: np.concatenate(
                [
                    _MIXTURES * a[names[name]] + (1.0 - _MIXTURES) * b[names[name]]
                    for a, b in combinations_with_replacement(rows, 2)
                ]
            )
            for name in SHARED_BANDS
        }
    )


@cache
def quality_table() -> QualityTable:
    """Return quality.toml, read once per process.

    Raises:
        BadRequestError: the file says something wrong; names table and key.

    """
    import tomllib

    with (Path(__file__).parent / _FILE).open("rb") as file:
        table = Table(tomllib.load(file), _FILE)
    shares = table.numbers("shares")
    confidence = _confidence(table.table("confidence"))
    rows = [_index_row(row, shares) for row in table.tables("index")]
    sensors = SensorTable(rows=tuple(_sensor(row) for row in table.tables("sensors")))
    harmonisation = table.table("harmonisation")
    target, steps = harmonisation.text("target"), harmonisation.tables("steps")
    harmonisation.finish()
    table.finish()
    return QualityTable(
        shares=shares,
        confidence=confidence,
        indices={slug: numbers for slug, numbers, _ in rows},
        sources={slug: source for slug, _, source in rows},
        sensors=sensors,
        steps=tuple(_step(row) for row in steps),
        target=target,
    )


def _numbers(index: SpectralIndex, table: QualityTable) -> dict[str, float]:
    """Return every parameter in index units: of the row, of the interpretation, or a share of the span."""
    span = _span(index)
    numbers = {name: share * span for name, share in table.shares.items()}
    numbers["cloud_value"] = _over("cloud", index)
    if index.interpretation is not None:
        numbers["spike_step"] = index.interpretation.quality.outlier_step
    return {name: float(f"{value:.6g}") for name, value in (numbers | dict(table.indices.get(index.slug, {}))).items()}


def _span(index: SpectralIndex) -> float:
    values = [_over(material, index) for material in LAND]
    finite = [value for value in values if math.isfinite(value)]
    span = max(finite) - min(finite) if finite else 0.0
    return span if span > 0.0 else index.valid_range[1] - index.valid_range[0]


def _over(material: str, index: SpectralIndex) -> float:
    spectrum = reference_spectra()[material]
    bands = {name: value for symbol, value in spectrum.items() for name in SYMBOL_COMMON_NAMES[symbol][:1]}
    try:
        return float(index.evaluate(bands))
    except UnknownNameError:  # thermal bands have no reference spectrum
        return math.nan


def _confidence(table: Table) -> ConfidenceRule:
    weights, factors = table.numbers("weights"), table.numbers("flag_factors")
    if set(weights) != set(COMPONENTS):
        raise BadRequestError(f"{table.where}: weights are for {', '.join(COMPONENTS)}.", hint="Give each one weight.")
    unknown = sorted(set(factors) - {flag.value for flag in Flag})
    if unknown:
        raise BadRequestError(f"{table.where}: no flag {', '.join(unknown)}.", hint="See domain.observations.Flag.")
    rule = ConfidenceRule(
        weights=MappingProxyType(weights),
        flag_factors=MappingProxyType(factors),
        full_n_effective=table.number("full_n_effective"),
        mixed_purity=table.number("mixed_purity"),
        uncorroborated=table.number("uncorroborated"),
        minimum=table.number("minimum"),
        source=table.text("source"),
    )
    table.finish()
    return rule


def _index_row(table: Table, shares: Mapping[str, float]) -> tuple[str, dict[str, float], str]:
    slug, source = table.text("index"), table.text("source")
    numbers = {name: table.number(name) for name in table.keys_left()}
    unknown = sorted(set(numbers) - set(shares) - {"cloud_value"})
    if unknown:
        raise BadRequestError(
            f"{table.where}: unknown key {', '.join(unknown)}.", hint=f"Known are {', '.join(sorted(shares))}."
        )
    return slug, numbers, source


def _sensor(table: Table) -> Sensor:
    sensor = Sensor(
        family=table.text("family"),
        bandpass=table.text("bandpass"),
        trust=table.number("trust"),
        pattern=table.text("pattern"),
        source=table.text("source"),
    )
    table.finish()
    return sensor


def _step(table: Table) -> BandpassStep:
    inverted = table.flag("inverted")
    bands = _lines(table.table("bands"))
    step = BandpassStep(
        start=table.text("from"),
        target=table.text("to"),
        bands={name: line.inverted() for name, line in bands.items()} if inverted else bands,
        source=table.text("source"),
        published=_lines(table.table("published")) if table.has("published") else {},
    )
    table.finish()
    return step


def _lines(table: Table) -> dict[str, BandLine]:
    lines: dict[str, BandLine] = {}
    for name in table.keys_left():
        slope, offset = table.two(name)
        lines[name] = BandLine(slope=slope, offset=offset)
    return lines
