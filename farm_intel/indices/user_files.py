"""A user's own indices: TOML files with one `[[index]]` table each, under the same validation as the catalogue."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from farm_intel.domain.bands import SYMBOL_COMMON_NAMES
from farm_intel.domain.errors import BadRequestError, FormulaRejectedError
from farm_intel.indices.formula import Formula, parse_formula
from farm_intel.indices.index import SpectralIndex
from farm_intel.indices.interpretation import RGB, Interpretation, parse_interpretation
from farm_intel.indices.ranges import default_range
from farm_intel.indices.tables import Table


def read_user_file(path: Path, palettes: Mapping[str, tuple[RGB, ...]]) -> list[SpectralIndex]:
    """Return the indices of one file, in its order.

    Keys of an `[[index]]` table: name, slug, long_name, formula and reference; optional constants (table),
    valid_range, band_preferences (symbol -> common names), application, note and interpretation (table).

    Args:
        path: a TOML file.
        palettes: the palettes an interpretation may name.

    Raises:
        BadRequestError: the file cannot be read or says something wrong; names file, table and key.
        FormulaRejectedError: a formula is outside the allow-list.

    """
    try:
        document = Table(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadRequestError(f"index file {path} cannot be read: {error}.", hint="It must be TOML.") from error
    indices = [_index(table, palettes) for table in document.tables("index")]
    document.finish()
    return indices


def _index(table: Table, palettes: Mapping[str, tuple[RGB, ...]]) -> SpectralIndex:
    name, slug, long_name = table.text("name"), table.text("slug"), table.text("long_name")
    text, reference = table.text("formula"), table.text("reference")
    constants = table.numbers("constants")
    formula = _formula(table, text, constants)
    preferences = _preferences(table.table("band_preferences"), formula) if table.has("band_preferences") else {}
    interpretation = (
        parse_interpretation(table.table("interpretation"), palettes) if table.has("interpretation") else None
    )
    index = SpectralIndex(
        name=name,
        slug=slug,
        long_name=long_name,
        formula=text,
        reference=reference,
        application=table.text("application", "user"),
        symbols=formula.symbols,
        valid_range=_valid_range(table, formula, interpretation),
        constants=constants,
        band_preferences=preferences,
        interpretation=interpretation,
        note=table.text("note", ""),
    )
    table.finish()
    return index


def _formula(table: Table, text: str, constants: Mapping[str, float]) -> Formula:
    try:
        return parse_formula(text, constants)
    except FormulaRejectedError as error:
        raise FormulaRejectedError(f"{table.where}: {error}") from error


def _valid_range(table: Table, formula: Formula, interpretation: Interpretation | None) -> tuple[float, float]:
    if interpretation is not None:
        if table.has("valid_range") and table.pair("valid_range") != interpretation.valid_range:
            raise BadRequestError(
                f"{table.where}: valid_range differs from the interpretation's {interpretation.valid_range}.",
                hint="Give it in one place.",
            )
        return interpretation.valid_range
    if table.has("valid_range"):
        return table.pair("valid_range")
    try:
        return default_range(formula)
    except BadRequestError as error:
        raise BadRequestError(f"{table.where}: {error}") from error


def _preferences(table: Table, formula: Formula) -> dict[str, tuple[str, ...]]:
    known = {name for names in SYMBOL_COMMON_NAMES.values() for name in names}
    preferences = {symbol: table.texts(symbol) for symbol in table.keys_left()}
    for symbol, names in preferences.items():
        if symbol not in formula.symbols or not known.issuperset(names):
            raise BadRequestError(
                f"{table.where}: {symbol} = {list(names)} does not fit the formula's bands.",
                hint=f"Symbols here are {', '.join(formula.symbols)}; band names are {', '.join(sorted(known))}.",
            )
    return preferences
