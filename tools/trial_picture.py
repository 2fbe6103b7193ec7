"""The picture of a drought and its alert: two fields over the season, and the first day of the alert under a glass."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from farm_intel.domain.observations import ObservationStatus
from tools.trial_record import Line
from tools.trial_season import CANOPY, MOISTURE
from tools.trial_setting import FARM, Setting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONTROL = "F004"
"""The field beside it, of the same crop, where it rains as ever."""
_INK, _QUIET, _GRID = "#22303c", "#66737f", "#e4e8ec"
_DRY, _SOUND, _ALERT, _RAIN, _SPELL = "#b5541c", "#8a97a3", "#c23b3b", "#2f6da8", "#f4e9d3"
SEEN_DAYS = 5
"""Further than this from a clear look the line is dotted: nobody saw what happened there."""
PEOPLES = ("acknowledged", "watered")
"""How the marks begin of what people did."""
_WIDTH_IN, _HEIGHT_IN, _DPI = 10.5, 8.0, 150
_LEFT, _SPAN = 0.085, 0.795


def draw(stage: Setting) -> bytes:
    """Return the picture of a trial that held, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    marks = [line for line in stage.record.lines if line.mark]
    figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN))
    FigureCanvasAgg(figure)
    upper = figure.add_axes((_LEFT, 0.615, _SPAN, 0.27))
    lower = figure.add_axes((_LEFT, 0.355, _SPAN, 0.225), sharex=upper)
    glass = figure.add_axes((_LEFT, 0.075, 0.89, 0.17))
    for axes, slug in ((upper, MOISTURE), (lower, CANOPY)):
        _draw_fields(axes, stage, slug)
        _draw_spans(axes, stage, marks)
    _name_spans(upper, stage, marks)
    _draw_glass(glass, stage, marks[:-1])
    _join(figure, lower, glass, marks[0].at)
    _draw_time(upper, lower, stage)
    _draw_words(figure, stage)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white")
    return buffer.getvalue()


def _draw_fields(axes: Axes, stage: Setting, slug: str) -> None:
    index = stage.container.registry.get(slug)
    rain = {FARM: f"no rain for {stage.season.world.options.dry_days} days", CONTROL: "rain as ever"}
    for farm_id, colour, weight, below in ((CONTROL, _SOUND, 1.4, False), (FARM, _DRY, 2.0, True)):
        looks = _looks(stage, farm_id, slug)
        series = next(stage.container.assessments.series(farm_ids=[farm_id], indices=[slug]))
        days = [series.start + timedelta(days=offset) for offset in range(len(series.values))]
        seen = np.array([min(abs((day - look).days) for look in looks) <= SEEN_DAYS for day in days])
        values = np.asarray(series.values, np.float64)
        axes.plot(days, values, color=colour, linewidth=1.1, linestyle=(0, (1, 2)), zorder=3)
        axes.plot(days, np.where(seen, values, np.nan), color=colour, linewidth=weight, zorder=4)
        axes.scatter(
            list(looks), list(looks.values()), s=26, color=colour, edgecolors="white", linewidths=0.9, zorder=5
        )
        axes.annotate(
            f"{farm_id}\n{rain[farm_id]}",
            (days[-1], values[-1]),
            xytext=(8, -3 if below else 3),
            textcoords="offset points",
            fontsize=8.5,
            color=colour,
            va="top" if below else "bottom",
            fontweight="bold" if below else "normal",
            annotation_clip=False,
        )
    axes.set_ylabel(f"{index.name} (no unit)", fontsize=9.5, color=_INK)
    axes.yaxis.set_label_coords(-0.055, 0.5)
    axes.set_title(index.long_name, loc="left", fontsize=10, color=_QUIET, pad=5)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, colors=_QUIET)
    _bare(axes)


def _looks(stage: Setting, farm_id: str, slug: str) -> dict[date, float]:
    """Return the mean of each day with a clear look."""
    rows = stage.container.observations.observations(farm_ids=[farm_id], indices=[slug])
    return {
        row.key.solar_day: float(row.statistics.mean)
        for row in rows
        if row.status is ObservationStatus.OBSERVED and row.statistics is not None
    }


def _draw_spans(axes: Axes, stage: Setting, marks: Sequence[Line]) -> None:
    """Draw the dry spell, the rain that ends it, and the alert from its opening to its end."""
    season = stage.season
    axes.axvspan(_x(season.onset), _x(season.rain), color=_SPELL, linewidth=0, zorder=0)
    axes.axvline(_x(season.rain), color=_RAIN, linewidth=1.6, zorder=3)
    for line in (marks[0], marks[-1]):
        axes.axvline(_x(line.at.date()), color=_ALERT, linewidth=1.1, linestyle=(0, (4, 2)), zorder=3)


def _name_spans(axes: Axes, stage: Setting, marks: Sequence[Line]) -> None:
    season = stage.season
    opened, resolved = marks[0].at.date(), marks[-1].at.date()
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.08 * (high - low), high + 0.3 * (high - low))
    bar: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "va": "center", "ha": "center", "fontsize": 9}
    axes.plot(
        [_x(opened), _x(resolved)],
        [0.93, 0.93],
        transform=axes.get_xaxis_transform(),
        color=_ALERT,
        linewidth=13,
        solid_capstyle="butt",
        zorder=6,
    )
    days = (resolved - opened).days
    axes.annotate(
        f"alert, {days} days",
        (_x(opened + (resolved - opened) / 2), 0.93),
        color="white",
        fontweight="bold",
        zorder=7,
        **(bar | {"fontsize": 8.5}),
    )
    axes.annotate(
        "last rain",
        (_x(season.onset), 0.04),
        xytext=(4, 0),
        textcoords="offset points",
        color="#8a7340",
        **(bar | {"ha": "left"}),
    )
    axes.annotate(
        "rain",
        (_x(season.rain), 0.04),
        xytext=(5, 0),
        textcoords="offset points",
        color=_RAIN,
        **(bar | {"ha": "left"}),
    )
    axes.annotate(
        f"resolves\n{resolved.day} {resolved:%b}",
        (_x(resolved), 0.93),
        xytext=(5, 0),
        textcoords="offset points",
        color=_ALERT,
        **(bar | {"ha": "left", "fontsize": 8}),
    )
    axes.annotate(
        f"opens\n{opened.day} {opened:%b}",
        (_x(opened), 0.93),
        xytext=(-5, 0),
        textcoords="offset points",
        color=_ALERT,
        **(bar | {"ha": "right", "fontsize": 8}),
    )


def _draw_glass(axes: Axes, stage: Setting, marks: Sequence[Line]) -> None:
    """Draw the hours after the opening, one column per thing that happened."""
    axes.set_facecolor("#faf7f5")
    axes.set_xlim(-0.06, len(marks) - 0.02)
    axes.set_ylim(-1.0, 1.0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.axhline(0.12, color=_QUIET, linewidth=1.0, zorder=2)
    for column, line in enumerate(marks):
        by_people = line.mark.startswith(PEOPLES)
        colour = _RAIN if by_people else _ALERT
        local = line.at.astimezone(stage.record.time_zone)
        axes.scatter([column], [0.12], s=52, color=colour, edgecolors="white", linewidths=1.2, zorder=4)
        axes.text(column, 0.62, f"{local.day} {local:%b %H:%M}", fontsize=8.5, color=_QUIET, va="center")
        axes.text(column, 0.36, line.mark, fontsize=9, fontweight="bold", color=colour, va="center")
        axes.text(column, -0.12, _by_channel(line.told), fontsize=8, color=_QUIET, va="top", linespacing=1.4)
    _bare(axes)


def _join(figure: Figure, axes: Axes, glass: Axes, at: datetime) -> None:
    """Join a day of the season with the hours under the glass."""
    from matplotlib.patches import ConnectionPatch

    for corner in (0.0, 1.0):
        figure.add_artist(
            ConnectionPatch(
                xyA=(_x(at.date()), -0.13),  # below the dates
                coordsA=axes.get_xaxis_transform(),
                xyB=(corner, 1.0),
                coordsB=glass.transAxes,
                color=_ALERT,
                linewidth=0.8,
                alpha=0.5,
            )
        )


def _draw_time(upper: Axes, lower: Axes, stage: Setting) -> None:
    from matplotlib.dates import ConciseDateFormatter, DayLocator

    days = stage.season.days
    upper.set_xlim(_x(days[0]) - 1, _x(days[-1]) + 1)
    locator = DayLocator(bymonthday=(1, 11, 21))
    lower.xaxis.set_major_locator(locator)
    lower.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    lower.xaxis.get_offset_text().set_visible(False)
    upper.tick_params(labelbottom=False)


def _draw_words(figure: Figure, stage: Setting) -> None:
    farm = stage.container.farms.get(FARM)
    left = 0.036
    figure.text(left, 0.962, "A drought, and who was told", fontsize=15, fontweight="bold", color=_INK, va="center")
    facts = f"simulated season {stage.season.days[0].year}  ·  two fields of {farm.crop}, {farm.area_ha:.0f} ha each"
    facts += "  ·  dots: clear looks, dotted: clouds"
    figure.text(left, 0.928, facts, fontsize=9.5, color=_QUIET, va="center")
    figure.text(
        left,
        0.025,
        f"The alert's first hours, {stage.record.time_zone.key} time. Red: what the system did; blue: what anna did.",
        fontsize=8,
        color=_QUIET,
        va="center",
    )


def _by_channel(told: str) -> str:
    """Return who was told, one channel a line."""
    people = [part for part in told.partition(";")[0].split(", ") if " by " in part]
    channels: dict[str, list[str]] = {}
    for part in people:
        name, _, channel = part.partition(" by ")
        channels.setdefault(channel, []).append(name)
    return "\n".join(f"{channel}: {', '.join(names)}" for channel, names in channels.items()) or told


def _bare(axes: Axes) -> None:
    for side in axes.spines.values():
        side.set_visible(False)


def _x(day: date) -> float:
    from matplotlib.dates import date2num

    return float(date2num(day))


def _t(at: datetime) -> float:
    from matplotlib.dates import date2num

    return float(date2num(at))
