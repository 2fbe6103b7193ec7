"""What a trial of alerts keeps of itself: a story of who was told what when, and what was checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo


class TrialError(Exception):
    """A step of the trial did not hold, and what follows rests on it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the story."""

    at: datetime
    """UTC, on the trial's clock."""
    what: str
    told: str = ""
    """Who learnt of it, and how."""
    mark: str = ""
    """A few words for the picture; empty where it shows nothing of it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that has to hold."""

    name: str
    held: bool
    detail: str


@dataclass(slots=True, kw_only=True)
class Record:
    """The trial so far."""

    time_zone: ZoneInfo
    """Of the farms: what the story is told in."""
    lines: list[Line] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    """Texts of at most 160 characters as anna got them."""
    said: str = ""
    """What the voice was to say, in words."""
    heard: str = ""
    """What a recogniser heard of it."""

    def tell(self, at: datetime, what: str, told: str = "", *, mark: str = "") -> None:
        """Add a line to the story."""
        self.lines.append(Line(at, what, told, mark))

    def check(self, name: str, held: object, detail: object = "") -> None:
        """Keep what was checked; the trial goes on."""
        self.checks.append(Check(name, bool(held), str(detail)))

    def require(self, name: str, held: object, detail: object = "") -> None:
        """Keep what was checked and end the trial where it does not hold.

        Raises:
            TrialError: it does not.

        """
        self.check(name, held, detail)
        if not held:
            raise TrialError(f"{name}: {detail}")

    @property
    def held(self) -> bool:
        """True where everything did, and something was checked."""
        return bool(self.checks) and all(check.held for check in self.checks)

    def story(self) -> str:
        """Return the story as a table, on the farms' clocks."""
        rows = [("day", "time", "what happened", "who was told, and how")]
        for line in self.lines:
            local = line.at.astimezone(self.time_zone)
            rows.append((f"{local:%d %b}", f"{local:%H:%M}", line.what, line.told))
        spoken = f"\n\nsaid:  {self.said}\nheard: {self.heard}" if self.said else ""
        return "\n".join([_table(rows), *(["", *self.read] if self.read else [])]) + spoken

    def verdicts(self) -> str:
        """Return what was checked as a table."""
        rows = [("", "checked", "found")]
        rows += [("ok" if check.held else "NO", check.name, check.detail) for check in self.checks]
        return _table(rows)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
