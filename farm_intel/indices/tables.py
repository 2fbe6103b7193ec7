"""Reading TOML and JSON tables strictly: a missing, unknown or mistyped key is an error that names its place."""

from __future__ import annotations

import math
from collections.abc import Mapping

from farm_intel.domain.errors import BadRequestError


class Table:
    """One table of a file; remembers which keys were read, so that `finish` can refuse the others."""

    def __init__(self, values: Mapping[str, object], where: str) -> None:
        self._values = values
        self.where = where
        """Place for messages: file and table."""
        self._read: set[str] = set()

    def has(self, key: str) -> bool:
        """Return whether the key is there."""
        return key in self._values

    def keys_left(self) -> list[str]:
        """Return the keys nobody has read yet, in file order."""
        return [key for key in self._values if key not in self._read]

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text that is not empty (a default may be)."""
        value = self._get(key, default)
        if not isinstance(value, str) or (not value.strip() and value != default):
            raise self._wrong(key, value, "a text")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a finite number."""
        return self._as_number(key, self._get(key, default))

    def bound(self, key: str, default: float | None = None) -> float:
        """Return a number that may be infinite: a bound that everything keeps."""
        value = self._get(key, default)
        return value if isinstance(value, float) and math.isinf(value) else self._as_number(key, value)

    def pair(self, key: str) -> tuple[float, float]:
        """Return two numbers, the smaller first."""
        value = self._get(key, None)
        if not isinstance(value, list) or len(value) != 2:
            raise self._wrong(key, value, "two numbers, the smaller first")
        low, high = (self._as_number(key, part) for part in value)
        if not low < high:
            raise self._wrong(key, value, "two numbers, the smaller first")
        return low, high

    def two(self, key: str) -> tuple[float, float]:
        """Return two numbers in any order."""
        value = self._get(key, None)
        if not isinstance(value, list) or len(value) != 2:
            raise self._wrong(key, value, "two numbers")
        return self._as_number(key, value[0]), self._as_number(key, value[1])

    def flag(self, key: str) -> bool:
        """Return true or false; false if the key is not there."""
        value = self._get(key, default=False)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def numbers(self, key: str) -> dict[str, float]:
        """Return a table of numbers; empty if the key is not there."""
        inner = self.table(key) if self.has(key) else Table({}, self.where)
        return {name: inner.number(name) for name in inner.keys_left()}

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self._get(key, None)
        if not isinstance(value, list) or not value or not all(isinstance(part, str) for part in value):
            raise self._wrong(key, value, "a list of texts")
        return tuple(value)

    def table(self, key: str) -> Table:
        """Return a table inside this one."""
        value = self._get(key, None)
        if not isinstance(value, dict):
            raise self._wrong(key, value, "a table")
        return Table(value, f"{self.where}, {key}")

    def tables(self, key: str) -> list[Table]:
        """Return a list of tables inside this one."""
        value = self._get(key, None)
        if not isinstance(value, list) or not value or not all(isinstance(part, dict) for part in value):
            raise self._wrong(key, value, "a list of tables")
        return [Table(part, f"{self.where}, {key} {number}") for number, part in enumerate(value, start=1)]

    def finish(self) -> None:
        """Refuse keys that nobody has read: they are misspelt.

        Raises:
            BadRequestError: names them.

        """
        if left := self.keys_left():
            raise BadRequestError(
                f"{self.where}: unknown key {', '.join(left)}.", hint=f"Known here are {', '.join(sorted(self._read))}."
            )

    def _get(self, key: str, default: object) -> object:
        self._read.add(key)
        value = self._values.get(key, default)
        if value is None:
            raise BadRequestError(f"{self.where}: {key} is missing.", hint=f"Add {key} = ….")
        return value

    def _as_number(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._wrong(key, value, "a finite number")
        return float(value)

    def _wrong(self, key: str, value: object, wanted: str) -> BadRequestError:
        return BadRequestError(f"{self.where}: {key} = {value!r} is not {wanted}.", hint=f"Give {wanted}.")
