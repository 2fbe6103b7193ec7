"""Which alert proposes which work, as data; users' files are merged with the package's."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from farm_intel.domain.errors import BadRequestError

_OWN = Path(__file__).with_name("triggers.toml")
_COMPLETE = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One row."""

    rule: str
    """Slug of the alert rule."""
    type: str
    """Slug of the activity type."""
    titles: Mapping[str, str]
    """Language -> title of the activity."""

    def title(self, language: str) -> str:
        """Return the title in a language, in English where it is missing."""
        return self.titles.get(language) or self.titles[_COMPLETE]


def load_triggers(files: Sequence[Path] = ()) -> tuple[Trigger, ...]:
    """Return the rows of the package and of users' files, which add rows or switch pairs off.

    Raises:
        BadRequestError: a file cannot be read, or a row is not one; names file and row.

    """
    rows: dict[tuple[str, str], Trigger] = {}
    for path in (_OWN, *files):
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8")).get("trigger", [])
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise BadRequestError(f"the triggers in {path.name} cannot be read: {error}") from error
        for number, row in enumerate(tables if isinstance(tables, list) else [tables], start=1):
            pair, trigger = _trigger(row, f"{path.name}, trigger {number}")
            rows.pop(pair, None)
            if trigger is not None:
                rows[pair] = trigger
    return tuple(rows.values())


def _trigger(row: object, where: str) -> tuple[tuple[str, str], Trigger | None]:
    hint = 'A row has rule = "…", type = "…" and title = { en = "…" }, or off = true instead of the title.'
    if not isinstance(row, Mapping) or set(row) - {"rule", "type", "title", "off"}:
        raise BadRequestError(f"{where} is no trigger", hint=hint)
    rule, kind, titles = row.get("rule"), row.get("type"), row.get("title")
    if not isinstance(rule, str) or not isinstance(kind, str):
        raise BadRequestError(f"{where} names no rule or no type", hint=hint)
    if row.get("off") is True:
        return (rule, kind), None
    if (
        not isinstance(titles, Mapping)
        or not titles.get(_COMPLETE)
        or not all(isinstance(t, str) for t in titles.values())
    ):
        raise BadRequestError(f"{where} has no English title", hint=hint)
    return (rule, kind), Trigger(rule=rule, type=kind, titles=dict(titles))
