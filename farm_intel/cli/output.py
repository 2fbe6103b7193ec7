"""Printing: tables, JSON and CSV on stdout; progress and remarks on stderr."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

import click

from farm_intel.domain.errors import BadRequestError

Row = Mapping[str, Any]

format_option = click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="How data is printed.",
)


class Day(click.ParamType[date]):
    """A calendar day, YYYY-MM-DD."""

    name = "YYYY-MM-DD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Parse the day or fail as bad usage."""
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a day like 2026-04-30", param, ctx)


DAY = Day()


def check_range(start: date | None, end: date | None) -> None:
    """Refuse a range that is upside down, which would otherwise look like an empty store.

    Raises:
        BadRequestError: the range is upside down.

    """
    if start is not None and end is not None and end < start:
        raise BadRequestError(f"the range ends on {end}, before it starts on {start}", hint="Exchange the two.")


def split_list(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Click callback: a comma-separated option becomes a tuple."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if value else ()


def jsonable(value: Any) -> Any:
    """Return a value JSON can hold; days and times in ISO form."""
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not printable as JSON")


def emit(rows: Iterable[Row], columns: Sequence[str], output_format: str, *, empty: str) -> None:
    """Print rows in the chosen format; a table says `empty` when there are none.

    Args:
        rows: mappings; JSON prints all their keys, table and CSV the `columns`.
        columns: keys in order.
        output_format: `table`, `json` or `csv`.
        empty: what to say instead of an empty table.

    """
    if output_format == "json":
        click.echo(json.dumps([dict(row) for row in rows], default=jsonable, ensure_ascii=False, indent=2))
    elif output_format == "csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell_text(row.get(column), float_format=".9g") for column in columns] for row in rows)
        click.echo(buffer.getvalue(), nl=False)
    else:
        _emit_table(list(rows), columns, empty)


def _cell_text(value: Any, *, float_format: str = ".4f") -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:{float_format}}"
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(part, dict) for part in value)):
        return json.dumps(value, default=jsonable, ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        return " ".join(str(part) for part in value)
    return str(value)


def _shown(value: Any) -> str:
    """Return a value for the eye: moments to the minute in UTC, mappings as `name=value`, the rest as text."""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC) if value.tzinfo else value:%Y-%m-%d %H:%M}{'Z' if value.tzinfo else ''}"
    if isinstance(value, dict) and not any(isinstance(part, (dict, list)) for part in value.values()):
        return ", ".join(
            f"{name}={part:g}" if isinstance(part, float) else f"{name}={part}" for name, part in value.items()
        )
    return _cell_text(value)


def _emit_table(rows: Sequence[Row], columns: Sequence[str], empty: str) -> None:
    if not rows:
        click.echo(empty)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        numeric = all(isinstance(row.get(column), (int, float, type(None))) for row in rows)
        table.add_column(column.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_shown(row.get(column)) for column in columns))
    width = None if sys.stdout.isatty() else 200
    Console(width=width, highlight=False).print(table)


class ConsoleProgress:
    """Draws how far the work is: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, update: Callable[[int, int, str], None]) -> None:
        """Keep the drawing function."""
        self._update = update

    def advance(self, done: int, total: int, detail: str) -> None:
        """Tell that `done` of `total` units are finished."""
        self._update(done, total, detail)


@contextmanager
def progress_bar(title: str) -> Iterator[ConsoleProgress]:
    """Yield a progress whose drawing goes to stderr."""
    if not sys.stderr.isatty():
        last = [-1]

        def line(done: int, total: int, detail: str) -> None:
            tenth = done * 10 // max(total, 1)
            if tenth != last[0]:
                last[0] = tenth
                click.echo(f"{title}: {done}/{total} {detail}", err=True)

        yield ConsoleProgress(line)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        bar = bars.add_task(title, total=None, detail="")
        yield ConsoleProgress(
            lambda done, total, detail: bars.update(bar, completed=done, total=total, detail=detail),
        )
