"""Evalscripts (version 3), written from the registry's formulas and the collection's mask rule; nothing is pasted in.

A formula is a tree of a closed set of node types, so printing it cannot put anything into a script but arithmetic.
Numbers are JavaScript doubles; the engine computes in single precision, which differs by less than 1e-6.
Source: eu-cdse/documentation APIs/SentinelHub/Evalscript/V3.qmd, Statistical/Examples.qmd (a mask band per output).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from farm_intel.domain.errors import BadRequestError, FormulaRejectedError
from farm_intel.domain.products import CollectionProfile, MaskRule, PixelReason
from farm_intel.indices.formula import Node, Number, Operation, Symbol
from farm_intel.indices.index import SpectralIndex

REASONS_OUTPUT = "farm_intel_reasons"
"""Id of the output whose bands are shares of masked pixels."""
DATA_MASK = "dataMask"

_FUNCTIONS: Mapping[str, str] = {
    "sqrt": "Math.sqrt",
    "exp": "Math.exp",
    "log": "Math.log",
    "abs": "Math.abs",
    "min": "Math.min",
    "max": "Math.max",
    "**": "Math.pow",
}
_INFIX = frozenset({"+", "-", "*", "/"})

type ReasonBand = tuple[str, PixelReason, str]
"""Name of a band of the reasons output, the reason, and the slug of the index it is told for (empty for all)."""


def to_javascript(node: Node, variables: Mapping[str, str]) -> str:
    """Return a formula's tree as a fully bracketed JavaScript expression.

    Args:
        node: the tree.
        variables: band symbol -> variable that holds its reflectance.

    Raises:
        FormulaRejectedError: an operator this printer does not know (a new one in the formula language).

    """
    match node:
        case Number(value=value):
            return repr(value) if value >= 0 else f"({value!r})"
        case Symbol(name=name):
            return variables[name]
        case Operation(operator="neg", operands=(operand,)):
            return f"(-{to_javascript(operand, variables)})"
        case Operation(operator=operator, operands=operands):
            parts = [to_javascript(operand, variables) for operand in operands]
            if operator in _INFIX:
                return f"({parts[0]} {operator} {parts[1]})"
            if operator in _FUNCTIONS:
                return f"{_FUNCTIONS[operator]}({', '.join(parts)})"
            raise FormulaRejectedError(f"operator {operator!r} has no JavaScript form")


def pixels_script(bands: Sequence[str], mask: str) -> str:
    """Return the script that hands bands over in 16 bits, and `dataMask` last.

    Reflectance becomes 10000 rho + 1000, the digital number of today's products, by the service's own conversion: a
    request cannot choose its scene, and where a neighbouring tile fills in, that tile's processing baseline decides
    whether its digital numbers carry the offset, which the answer does not tell.

    Args:
        bands: the service's names, e.g. `B04`, `SCL`.
        mask: the one among them that holds classes.

    """
    inputs = [*bands, DATA_MASK]
    whole = {mask, DATA_MASK}
    units = ["DN" if band in whole else "REFLECTANCE" for band in inputs]
    values = ", ".join(f"sample.{band}" if band in whole else f"number(sample.{band})" for band in inputs)
    return "\n".join(
        [
            "//VERSION=3",
            "function setup() {",
            f"  return {{input: [{{bands: {json.dumps(inputs)}, units: {json.dumps(units)}}}],",
            f'          output: {{id: "default", bands: {len(inputs)}, sampleType: "UINT16"}}, mosaicking: "SIMPLE"}};',
            "}",
            "function number(reflectance) { return Math.max(1, Math.round(10000 * reflectance) + 1000); }",
            "function evaluatePixel(sample) {",
            f"  return [{values}];",
            "}",
            "",
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsScript:
    """A script for statistics, and how to read what it puts out."""

    text: str
    bands: tuple[str, ...]
    """Input bands, without `dataMask`: what the price depends on."""
    outputs: tuple[str, ...]
    """Slug of each index; its output carries the same id."""
    reasons: tuple[ReasonBand, ...]
    """Bands of the reasons output, in order."""


def statistics_script(
    indices: Sequence[SpectralIndex], profile: CollectionProfile, *, reflectance_max: float
) -> StatisticsScript:
    """Return the script that computes indices under the collection's mask and our rules for what counts.

    A pixel counts for an index where it has data, the mask rule calls it valid, every band the index reads is above 0
    and at most `reflectance_max`, and the index is finite and within its valid range: word for word the engine's rule.
    Each index has a mask of its own; the shares of everything masked come in one more output over all pixels with data.

    Args:
        indices: at least one; slugs become output ids.
        profile: bands and mask rule; only mask rules with classes are known here.
        reflectance_max: see EngineOptions.

    Raises:
        BadRequestError: the collection's mask is of a kind that has no script, or there are no indices.
        UnknownNameError: the collection has no band for an index.

    """
    if not indices:
        raise BadRequestError("a statistics script needs at least one index")
    names = [index.resolve_bands(profile.bands) for index in indices]
    used = list(dict.fromkeys(name for bands in names for name in bands.values()))
    bands = [profile.assets[name] for name in used]
    mask_band = profile.assets[profile.mask.band]
    told = _reason_bands(indices, profile)
    slugs = [index.slug for index in indices]
    body = [
        f"  const told = REASONS[sample.{mask_band}];",
        f"  const reason = sample.dataMask !== 1 ? -1 : told === undefined ? {profile.mask.otherwise.value} : told;",
        f"  const clear = reason === {PixelReason.VALID.value};",
    ]
    for number, (index, resolved) in enumerate(zip(indices, names, strict=True)):
        body += _index_lines(number, index, resolved, profile)
    body += [
        "  return {",
        *(f"    {json.dumps(slug)}: [good{n} ? value{n} : 0]," for n, slug in enumerate(slugs)),
        f"    {json.dumps(REASONS_OUTPUT)}: [{', '.join(_share(entry, slugs) for entry in told)}],",
        f"    dataMask: [{', '.join(f'good{n} ? 1 : 0' for n in range(len(slugs)))}, sample.dataMask]",
        "  };",
    ]
    text = "\n".join(
        [
            "//VERSION=3",
            *_setup_lines(bands, mask_band, slugs, [name for name, _, _ in told]),
            f"const REASONS = {_reason_table(profile.mask)};",
            f"function usable(reflectance) {{ return reflectance > 0 && reflectance <= {reflectance_max!r}; }}",
            "function evaluatePixel(sample) {",
            *body,
            "}",
            "",
        ]
    )
    return StatisticsScript(text=text, bands=(*bands, mask_band), outputs=tuple(slugs), reasons=told)


def _setup_lines(bands: Sequence[str], mask_band: str, slugs: Sequence[str], told: Sequence[str]) -> list[str]:
    inputs = [*bands, mask_band, DATA_MASK]
    units = ["REFLECTANCE"] * len(bands) + ["DN", "DN"]
    outputs = [
        *(f'    {{id: {json.dumps(slug)}, bands: 1, sampleType: "FLOAT32"}},' for slug in slugs),
        f'    {{id: {json.dumps(REASONS_OUTPUT)}, bands: {json.dumps(list(told))}, sampleType: "UINT8"}},',
        f"    {{id: {json.dumps(DATA_MASK)}, bands: {json.dumps([*slugs, REASONS_OUTPUT])}}}",
    ]
    return [
        "function setup() {",
        f"  return {{input: [{{bands: {json.dumps(inputs)}, units: {json.dumps(units)}}}],",
        '          mosaicking: "SIMPLE", output: [',
        *outputs,
        "  ]};",
        "}",
    ]


def _index_lines(
    number: int, index: SpectralIndex, resolved: Mapping[str, str], profile: CollectionProfile
) -> list[str]:
    variables = {symbol: f"sample.{profile.assets[name]}" for symbol, name in resolved.items()}
    inputs = " && ".join(f"usable({variable})" for variable in dict.fromkeys(variables.values()))
    low, high = (repr(float(edge)) for edge in index.valid_range)
    return [
        f"  const inputs{number} = clear && {inputs};",
        f"  const value{number} = {to_javascript(index.expression.root, variables)};",
        f"  const good{number} = inputs{number} && value{number} >= {low} && value{number} <= {high};",
    ]


def _reason_table(rule: MaskRule) -> str:
    if not rule.reasons:
        raise BadRequestError(f"the mask {rule.band!r} is a bit field, for which there is no statistics script")
    return json.dumps({str(value): int(reason) for value, reason in sorted(rule.reasons.items())})


def _reason_bands(indices: Sequence[SpectralIndex], profile: CollectionProfile) -> tuple[ReasonBand, ...]:
    """Return the bands of the reasons output: what the mask can say, then two per index."""
    masks = sorted({*profile.mask.reasons.values(), profile.mask.otherwise} - {PixelReason.VALID})
    told: list[ReasonBand] = [(reason.name.lower(), reason, "") for reason in masks]
    for index in indices:
        told.append((f"{index.slug}_input", PixelReason.REFLECTANCE_OUT_OF_RANGE, index.slug))
        told.append((f"{index.slug}_value", PixelReason.INDEX_OUT_OF_RANGE, index.slug))
    return tuple(told)


def _share(entry: ReasonBand, slugs: Sequence[str]) -> str:
    _, reason, slug = entry
    if not slug:
        return f"reason === {int(reason)} ? 1 : 0"
    number = slugs.index(slug)
    if reason is PixelReason.REFLECTANCE_OUT_OF_RANGE:
        return f"clear && !inputs{number} ? 1 : 0"
    return f"inputs{number} && !good{number} ? 1 : 0"
