"""The registry: every index this installation knows, from the catalogue and the user's files."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from farm_intel.domain.bands import resolve_symbol
from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.indices.index import SpectralIndex
from farm_intel.indices.interpretation import RGB, Interpretation, parse_interpretation, parse_palettes
from farm_intel.indices.tables import Table

__all__ = ["IndexRegistry", "SpectralIndex", "load_registry"]

_DATA = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class IndexRegistry:
    """Indices by slug; immutable, adding gives a new registry."""

    _rows: Mapping[str, SpectralIndex]
    _palettes: Mapping[str, tuple[RGB, ...]]

    def get(self, slug: str) -> SpectralIndex:
        """Return one index.

        Raises:
            UnknownNameError: no index has this slug; names the nearest ones.

        """
        if slug in self._rows:
            return self._rows[slug]
        raise UnknownNameError(f"there is no index {slug!r}.", hint=self._hint(slug))

    def list(self) -> tuple[SpectralIndex, ...]:
        """Return all indices ordered by slug."""
        return tuple(self._rows[slug] for slug in sorted(self._rows))

    def select(self, slugs: Iterable[str]) -> tuple[SpectralIndex, ...]:
        """Return indices in the order asked, each once.

        Raises:
            UnknownNameError: one of them does not exist.

        """
        return tuple(self.get(slug) for slug in dict.fromkeys(slugs))

    def servable(self, available_bands: Collection[str]) -> tuple[SpectralIndex, ...]:
        """Return the indices whose every band is among the common names, ordered by slug."""
        return tuple(
            index
            for index in self.list()
            if all(resolve_symbol(symbol, available_bands, index.band_preferences) for symbol in index.symbols)
        )

    def with_user_files(self, paths: Iterable[Path]) -> IndexRegistry:
        """Return a registry that also holds the indices of TOML files.

        Raises:
            BadRequestError: a file cannot be read or says something wrong; names file, table and key.
            FormulaRejectedError: a formula is outside the allow-list.

        """
        from farm_intel.indices.user_files import read_user_file

        rows = dict(self._rows)
        origins: dict[str, Path] = {}
        for path in paths:
            for index in read_user_file(path, self._palettes):
                _refuse_duplicate(index, rows, origins.get(index.slug), path)
                rows[index.slug] = index
                origins[index.slug] = path
        return IndexRegistry(rows, self._palettes)

    def _hint(self, slug: str) -> str:
        from difflib import get_close_matches

        near = get_close_matches(slug.lower(), self._rows, n=5, cutoff=0.6)
        return f"Did you mean {', '.join(near)}?" if near else "`farm-intel indices list` shows all."


def load_registry(user_files: Sequence[Path] = ()) -> IndexRegistry:
    """Return the catalogue (read once per process) with the user's files added (read every time).

    Raises:
        BadRequestError: a user file cannot be read or says something wrong.
        FormulaRejectedError: a user's formula is outside the allow-list.

    """
    return _catalogue().with_user_files(user_files) if user_files else _catalogue()


@cache
def _catalogue() -> IndexRegistry:
    import tomllib

    data = json.loads((_DATA / "catalogue.json").read_text(encoding="utf-8"))
    with (_DATA / "interpretation.toml").open("rb") as file:
        meanings = Table(tomllib.load(file), "interpretation.toml")
    palettes = parse_palettes(meanings.table("palettes"))
    interpretations: dict[str, Interpretation] = {}
    for table in meanings.tables("interpretation"):
        slug = table.text("index")
        interpretations[slug] = parse_interpretation(table, palettes)
    rows = {row["slug"]: _from_row(row, interpretations.pop(row["slug"], None)) for row in data["indices"]}
    if interpretations or len(rows) != len(data["indices"]):
        raise BadRequestError(
            f"the catalogue repeats a slug or lacks {sorted(interpretations)}.",
            hint="Run tools/make_index_catalogue.py.",
        )
    return IndexRegistry(rows, palettes)


def _from_row(row: Mapping[str, Any], interpretation: Interpretation | None) -> SpectralIndex:
    low, high = row["valid_range"]
    return SpectralIndex(
        name=row["name"],
        slug=row["slug"],
        long_name=row["long_name"],
        formula=row["formula"],
        reference=row["reference"],
        application=row["application"],
        symbols=tuple(row["symbols"]),
        valid_range=interpretation.valid_range if interpretation else (low, high),
        constants=row["constants"],
        band_preferences={symbol: tuple(names) for symbol, names in row.get("band_preferences", {}).items()},
        interpretation=interpretation,
        date_of_addition=row["date_of_addition"],
        note=row.get("note", ""),
    )


def _refuse_duplicate(index: SpectralIndex, rows: Mapping[str, SpectralIndex], origin: Path | None, path: Path) -> None:
    taken = rows.get(index.slug) or next((row for row in rows.values() if row.name == index.name), None)
    if taken is None:
        return
    where = f"an earlier index of {origin}" if origin else "the catalogue"
    raise BadRequestError(
        f"{path}: index {index.slug!r} ({index.name}) is already in {where} as {taken.slug!r} ({taken.name}).",
        hint="Give it a name and slug of its own; the catalogue's definitions cannot be replaced.",
    )
