"""The season of one farm and index as a picture: every number with its uncertainty, every hole with its reason."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.farms import Farm
from farm_intel.domain.observations import CoverageDay, Flag, Observation, ObservationKey, ObservationStatus

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from farm_intel.indices.index import SpectralIndex

CAUTION_FLAGS: Mapping[Flag, str] = {
    Flag.MIXED_PIXELS: "mixed pixels",
    Flag.PARTLY_CLOUDY: "partly cloudy",
    Flag.PARTIAL_COVERAGE: "partly covered",
}
"""Flags that make a marker hollow, and their words in the legend."""

HOLES: Mapping[ObservationStatus, tuple[str, str]] = {
    ObservationStatus.CLOUDY: ("cloudy", "#7c8a99"),
    ObservationStatus.OUTSIDE_FOOTPRINT: ("not covered", "#b8a038"),
    ObservationStatus.TOO_FEW_PIXELS: ("too few pixels", "#8d6cab"),
    ObservationStatus.REJECTED: ("rejected", "#d1702d"),
    ObservationStatus.PROVIDER_FAILED: ("failed", "#c23b3b"),
}
"""Days with an acquisition but no number: the lane's name and colour, in drawing order."""

LONGEST_JOIN_DAYS = 40
"""Observations further apart are not joined by a line: what happened between them nobody saw."""

_INK, _QUIET, _GRID = "#22303c", "#66737f", "#e4e8ec"
_LINES = ("#2f5d8a", "#a0522d", "#4b7a47", "#6a4c93")
"""One per provider and collection."""
_WIDTH_IN, _HEIGHT_IN, _LANE_IN, _DPI = 10.5, 4.7, 0.24, 150


@dataclass(frozen=True, slots=True)
class _Series:
    """Numbers of one provider and collection, by day."""

    label: str
    observations: tuple[Observation, ...]

    def values(self, name: str) -> list[float]:
        """Return one statistic per observation."""
        return [float(getattr(o.statistics, name)) for o in self.observations]

    @property
    def days(self) -> list[date]:
        """The solar days."""
        return [o.key.solar_day for o in self.observations]


def season_plot(
    observations: Sequence[Observation],
    index: SpectralIndex,
    farm: Farm,
    calendar: Sequence[CoverageDay] = (),
    *,
    image_format: Literal["png", "svg"] = "png",
) -> bytes:
    """Return the picture of a farm's season.

    Marks: a dot per day in the index's colours, hollow where a flag asks for care; the line ends where nothing was seen
    for 40 days; the dark band is the mean with two standard errors, the light one the spread inside the farm (10th to
    90th percentile). Lanes below show the days that brought no number, by reason.

    Args:
        observations: of this farm and index, any order, any number of providers.
        index: gives name, colours, display range and states.
        farm: gives the title, crop and planting date.
        calendar: the farm's days; adds reasons for days that have no cell of this index.
        image_format: `png` (150 dpi) or `svg`.

    Raises:
        BadRequestError: there is nothing to draw, no number and no reason.

    """
    series = _series(observations)
    holes = _holes(observations, calendar)
    if not series and not any(holes.values()):
        raise BadRequestError(
            f"farm {farm.farm_id} has no observation of {index.slug} in this time, and no day without one either",
            hint="Run `farm-intel backfill` for it first.",
        )
    figure, main, strip, lanes = _canvas(holes)
    _draw_scale(main, strip, index, series)
    for line, colour in zip(series, _cycle(len(series)), strict=True):
        _draw_series(main, line, index, colour)
    _draw_time(main, lanes, series, holes, farm)
    _draw_lanes(lanes, holes)
    sources = {_label(o.key) for o in observations} | {_label(day) for day in calendar}
    _draw_words(figure, main, series, index, farm, sources)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=image_format, dpi=_DPI, facecolor="white")
    return buffer.getvalue()


def _series(observations: Iterable[Observation]) -> list[_Series]:
    groups: dict[str, list[Observation]] = defaultdict(list)
    for observation in observations:
        if observation.status is ObservationStatus.OBSERVED and observation.statistics is not None:
            groups[_label(observation.key)].append(observation)
    return [
        _Series(label, tuple(sorted(members, key=lambda o: o.key.solar_day)))
        for label, members in sorted(groups.items())
    ]


def _label(of: ObservationKey | CoverageDay) -> str:
    return f"{of.collection} ({of.provider})"


def _holes(observations: Iterable[Observation], calendar: Iterable[CoverageDay]) -> dict[ObservationStatus, list[date]]:
    """Return the days without a number by reason; a day that has a number from anybody is no hole."""
    statuses = {day.solar_day: day.status for day in calendar}
    observed = set()
    for observation in observations:
        statuses[observation.key.solar_day] = observation.status
        if observation.status is ObservationStatus.OBSERVED:
            observed.add(observation.key.solar_day)
    found: dict[ObservationStatus, list[date]] = {status: [] for status in HOLES}
    for day, status in sorted(statuses.items()):
        if status in found and day not in observed:
            found[status].append(day)
    return found


def _cycle(count: int) -> list[str]:
    return [_LINES[k % len(_LINES)] for k in range(count)]


def _canvas(holes: Mapping[ObservationStatus, list[date]]) -> tuple[Figure, Axes, Axes, Axes]:
    """Return the figure with its three axes: the series, the colour strip left of it, the lanes below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lane_count = sum(bool(days) for days in holes.values())
    lanes_in = _LANE_IN * lane_count
    height = _HEIGHT_IN + lanes_in
    figure = Figure(figsize=(_WIDTH_IN, height))
    FigureCanvasAgg(figure)
    bottom, top = 0.78 + lanes_in, 1.02
    left, width = 1.32 / _WIDTH_IN, (_WIDTH_IN - 2.62) / _WIDTH_IN
    box = (bottom / height, (height - bottom - top) / height)
    main = figure.add_axes((left, box[0], width, box[1]))
    strip = figure.add_axes((left - 0.21 / _WIDTH_IN, box[0], 0.13 / _WIDTH_IN, box[1]))
    lanes = figure.add_axes((left, 0.62 / height, width, max(lanes_in, 0.02) / height), sharex=main)
    for axes in (main, strip, lanes):
        for side in axes.spines.values():
            side.set_visible(False)
    return figure, main, strip, lanes


def _draw_scale(main: Axes, strip: Axes, index: SpectralIndex, series: Sequence[_Series]) -> None:
    """Draw what the values mean: the colour strip with its ticks, and the states' limits across the picture."""
    low, high = _value_span(index, series)
    main.set_ylim(low, high)
    strip.set_ylim(low, high)
    levels = np.linspace(low, high, 256)
    strip.imshow(
        index.colour_map.rgb(levels)[:, np.newaxis, :], extent=(0.0, 1.0, low, high), aspect="auto", origin="lower"
    )
    strip.set_xticks([])
    strip.tick_params(length=0, labelsize=9, colors=_QUIET, pad=4)
    strip.set_ylabel(f"{index.name} (no unit)", fontsize=9.5, color=_INK, labelpad=6)
    main.set_yticks(strip.get_yticks())
    main.set_ylim(low, high)
    strip.set_ylim(low, high)
    main.tick_params(axis="y", length=0, labelleft=False)
    main.grid(axis="y", color=_GRID, linewidth=0.8)
    main.set_axisbelow(True)
    for state in index.interpretation.states if index.interpretation else ():
        bottom, top = max(state.lower, low), min(state.upper, high)
        if bottom >= top:
            continue
        if bottom > low:
            main.axhline(bottom, color=_QUIET, linewidth=0.7, linestyle=(0, (1, 3)), zorder=1)
        if (top - bottom) / (high - low) > 0.035:
            words = state.name.replace("_", " ")
            main.annotate(
                words,
                (1.0, (bottom + top) / 2),
                xycoords=("axes fraction", "data"),
                xytext=(7, 0),
                textcoords="offset points",
                fontsize=8.5,
                color=_QUIET,
                va="center",
            )


def _value_span(index: SpectralIndex, series: Sequence[_Series]) -> tuple[float, float]:
    """Return the display range, widened to hold the data; for an index nobody interpreted, the data's own range."""
    low, high = index.display_range
    if not series:
        return low, high
    lowest = min(min(line.values("p10")) for line in series)
    highest = max(max(line.values("p90")) for line in series)
    if index.interpretation is None:
        margin = 0.08 * (highest - lowest) or 0.01 * (high - low)
        return lowest - margin, highest + margin
    return min(low, lowest), max(high, highest)


def _draw_series(main: Axes, line: _Series, index: SpectralIndex, colour: str) -> None:
    for run in _runs(line):
        main.fill_between(
            run.days, run.values("p10"), run.values("p90"), color=colour, alpha=0.17, linewidth=0, zorder=2
        )
        means = np.array(run.values("mean"))
        errors = 2 * np.array([o.standard_error or 0.0 for o in run.observations])
        main.fill_between(run.days, means - errors, means + errors, color=colour, alpha=0.42, linewidth=0, zorder=3)
        main.plot(run.days, means, color=colour, linewidth=1.3, zorder=4)
        if len(run.days) == 1:
            main.vlines(run.days, run.values("p10"), run.values("p90"), color=colour, alpha=0.25, linewidth=3, zorder=2)
    means = np.array(line.values("mean"))
    hollow = np.array([any(flag in o.flags for flag in CAUTION_FLAGS) for o in line.observations])
    colours = index.colour_map.rgb(means) / 255.0
    days = np.array(line.days)
    main.scatter(
        days[~hollow],
        means[~hollow],
        s=40,
        c=colours[~hollow],
        edgecolors=_INK,
        linewidths=0.9,
        zorder=6,
        clip_on=False,
    )
    main.scatter(days[hollow], means[hollow], s=36, c="white", edgecolors=_INK, linewidths=1.1, zorder=5, clip_on=False)


def _runs(line: _Series) -> list[_Series]:
    """Return the stretches without a long gap."""
    runs: list[list[Observation]] = []
    for observation in line.observations:
        if runs and (observation.key.solar_day - runs[-1][-1].key.solar_day).days <= LONGEST_JOIN_DAYS:
            runs[-1].append(observation)
        else:
            runs.append([observation])
    return [_Series(line.label, tuple(run)) for run in runs]


def _draw_time(
    main: Axes,
    lanes: Axes,
    series: Sequence[_Series],
    holes: Mapping[ObservationStatus, list[date]],
    farm: Farm,
) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    days = [day for line in series for day in line.days] + [day for some in holes.values() for day in some]
    first, last = min(days), max(days)
    planted = farm.planting_date
    if planted is not None and first - timedelta(days=60) <= planted <= last:
        first = min(first, planted)
        main.axvline(date2num(planted), color="#4b7a47", linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
        main.annotate(
            f"planted {planted.day} {planted:%b}",
            (date2num(planted), 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(4, -3),
            textcoords="offset points",
            fontsize=8.5,
            color="#4b7a47",
            va="top",
        )
    margin = max((last - first).days * 0.02, 2.0)
    main.set_xlim(date2num(first) - margin, date2num(last) + margin)
    locator = AutoDateLocator(minticks=5, maxticks=14)
    lanes.xaxis.set_major_locator(locator)
    lanes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    lanes.xaxis.get_offset_text().set(fontsize=9.5, color=_INK)
    lanes.tick_params(axis="x", length=0, labelsize=9.5, colors=_INK, pad=6)
    main.tick_params(axis="x", length=0, labelbottom=False)
    main.grid(axis="x", color=_GRID, linewidth=0.8)


def _draw_lanes(lanes: Axes, holes: Mapping[ObservationStatus, list[date]]) -> None:
    used = [(HOLES[status], days) for status, days in holes.items() if days]
    lanes.set_ylim(len(used) - 0.5, -0.5)
    lanes.set_yticks(range(len(used)), [f"{name}  {len(days)}" for (name, _), days in used])
    lanes.tick_params(axis="y", length=0, labelsize=8.5, pad=5)
    lanes.grid(axis="x", color=_GRID, linewidth=0.8)
    lanes.set_axisbelow(True)
    for row, ((_, colour), days) in enumerate(used):
        lanes.scatter(days, [row] * len(days), marker="|", s=62, linewidths=2.2, color=colour, clip_on=False)
    for label, ((_, colour), _) in zip(lanes.get_yticklabels(), used, strict=True):
        label.set_color(colour)


def _draw_words(
    figure: Figure,
    main: Axes,
    series: Sequence[_Series],
    index: SpectralIndex,
    farm: Farm,
    sources: Iterable[str],
) -> None:
    height = float(figure.get_size_inches()[1])
    left = 0.42 / _WIDTH_IN
    title = f"{farm.name}: {index.name}"
    figure.text(left, 1 - 0.36 / height, title, fontsize=15, fontweight="bold", color=_INK, va="center")
    facts = [index.long_name, f"{farm.area_ha:,.{_decimals(farm.area_ha)}f} ha"]
    facts += [farm.crop] if farm.crop else []
    facts += [f"planted {farm.planting_date:%Y-%m-%d}"] if farm.planting_date else []
    figure.text(left, 1 - 0.66 / height, "  ·  ".join(facts), fontsize=10, color=_QUIET, va="center")
    _draw_legend(main, series)
    figure.text(left, 0.17 / height, _source_line(series, sources), fontsize=8, color=_QUIET, va="center")
    if not series:
        main.text(
            0.5,
            0.5,
            "no day with a number",
            transform=main.transAxes,
            ha="center",
            va="center",
            fontsize=12,
            color=_QUIET,
        )


def _draw_legend(main: Axes, series: Sequence[_Series]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    if len(series) > 1:
        lines = [
            Line2D([], [], color=colour, label=line.label)
            for line, colour in zip(series, _cycle(len(series)), strict=True)
        ]
        main.add_artist(
            main.legend(
                handles=lines, loc="upper right", fontsize=8.5, labelcolor=_INK, framealpha=0.9, edgecolor=_GRID
            )
        )
    flags = {flag for line in series for o in line.observations for flag in o.flags}
    dot: dict[str, Any] = {"linestyle": "none", "marker": "o", "markeredgecolor": _INK, "markersize": 6}
    if series:
        handles.append(Line2D([], [], markerfacecolor="#8fbf6f", label="clear", **dot))
    if careful := [words for flag, words in CAUTION_FLAGS.items() if flag in flags]:
        handles.append(Line2D([], [], markerfacecolor="white", label=", ".join(careful), **dot))
    if series:
        handles.append(Patch(color=_LINES[0], alpha=0.5, linewidth=0, label="mean ± 2 standard errors"))
        handles.append(Patch(color=_LINES[0], alpha=0.2, linewidth=0, label="spread in the field (p10 to p90)"))
        main.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(-0.012, 1.0),
            ncols=len(handles),
            frameon=False,
            fontsize=8.5,
            labelcolor=_INK,
            handlelength=1.3,
            columnspacing=1.5,
            borderpad=0.2,
        )


def _source_line(series: Sequence[_Series], sources: Iterable[str]) -> str:
    """Return where the numbers come from; where there are none, who was asked."""
    parts = []
    for line in series:
        gsd_m = Counter(o.gsd_m for o in line.observations).most_common(1)[0][0]
        pixels = f", {gsd_m:g} m pixels" if gsd_m else ""
        days = f"{len(line.days)} day{'s' * (len(line.days) != 1)} with a number"
        parts.append(f"{line.label}{pixels}, {days}")
    parts = parts or sorted(sources)
    more = " Standard errors assume independent pixels." if len(parts) == 1 else ""
    return f"Source: {'; '.join(parts)}. Days are solar days.{more}"


def _decimals(area_ha: float) -> int:
    """Return how many decimals an area of this size deserves."""
    return 2 if area_ha < 10 else 1 if area_ha < 100 else 0
