"""How one language writes and says numbers and days, and the texts of it; parsed from the TOML files beside."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
COMPLETE = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What a number measures."""

    name: str
    written: str
    """Behind the number."""
    said: str
    factor: float
    decimals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """One language, with what it lacks in English."""

    code: str
    decimal: str
    months: Sequence[str]
    months_short: Sequence[str]
    tables: Mapping[str, Mapping[str, str]]
    """Table -> key -> text; plain keys of the file are in the table ``."""
    units: Mapping[str, Unit]

    def text(self, table: str, key: str) -> str | None:
        """Return a text, or None where there is none."""
        return self.tables.get(table, {}).get(key)

    def number(self, value: float, decimals: int) -> str:
        """Return a number as it is written, with the language's decimal mark."""
        return _digits(value, decimals).replace(".", self.decimal)

    def said(self, value: float, decimals: int) -> str:
        """Return a number as it is said, without marks: `minus 0 point 1 2`, `moins 0 virgule 12`."""
        say = self.tables["say"]
        digits = _digits(value, decimals)
        whole, _, fraction = digits.removeprefix("-").partition(".")
        words = [say["minus"]] if digits.startswith("-") else []
        words.append(whole)
        if fraction.rstrip("0"):
            words.append(say["point"])
            # "zero eight" would become "eight" as one number
            apart = say["digits"] == "apart" or fraction.startswith("0")
            words += list(fraction) if apart else [fraction]
        return " ".join(words)

    def day(self, day: date, *, short: bool = False) -> str:
        """Return a day in words."""
        months = self.months_short if short else self.months
        plain = self.tables[""]
        number = plain["first_of_month"] if day.day == 1 else str(day.day)
        return fill(
            plain["day_short" if short else "day"],
            {"day": number, "month": months[day.month - 1], "year": str(day.year)},
        )

    def days(self, count: int) -> str:
        """Return a number of days."""
        return fill(self.tables["say"]["one_day" if count == 1 else "days"], {"n": str(count)})


def languages() -> tuple[str, ...]:
    """Return the codes there are texts for, the complete language first."""
    codes = {path.stem for path in FOLDER.glob("*.toml")}
    return (COMPLETE, *sorted(codes - {COMPLETE}))


@cache
def words(code: str) -> Words:
    """Return a language by its code, one of `languages()`."""
    own = _read(code)
    complete = own if code == COMPLETE else _read(COMPLETE)
    tables = {name: {**table, **own[0].get(name, {})} for name, table in complete[0].items()}
    return Words(
        code=code,
        decimal=tables[""]["decimal"],
        months=own[2]["months"],
        months_short=own[2]["months_short"],
        tables=tables,
        units={**complete[1], **own[1]},
    )


_OPTIONAL = re.compile(r"\[([^\]]*)\]")
_VALUE = re.compile(r"\{(\w+)\}")


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return a template with its values, without the optional parts whose values are missing.

    One pass: what a value holds, braces and brackets too, is text and never a template.
    """
    parts = _OPTIONAL.split(template)
    kept = [
        part
        for number, part in enumerate(parts)
        if number % 2 == 0 or all(values.get(name) for name in _VALUE.findall(part))
    ]
    return _VALUE.sub(lambda found: values.get(found[1], ""), "".join(kept))


def placeholders(template: str) -> frozenset[str]:
    """Return the names of a template's values."""
    return frozenset(_VALUE.findall(template))


def _digits(value: float, decimals: int) -> str:
    if not math.isfinite(value):
        return "?"
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0.0 else text


type _Tables = dict[str, dict[str, str]]


def _read(code: str) -> tuple[_Tables, dict[str, Unit], dict[str, list[str]]]:
    document = tomllib.loads((FOLDER / f"{code}.toml").read_text(encoding="utf-8"))
    units = {name: Unit(**row) for name, row in document.pop("unit").items()}
    lists = {name: value for name, value in document.items() if isinstance(value, list)}
    tables: _Tables = {name: value for name, value in document.items() if isinstance(value, dict)}
    tables[""] = {name: value for name, value in document.items() if isinstance(value, str)}
    return tables, units, lists
