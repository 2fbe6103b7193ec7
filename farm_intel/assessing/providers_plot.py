"""What every provider says of one farm and index, in one picture: where they agree, and what was made of it."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np

from farm_intel.domain.assessment import Candidate, CandidateVerdict, DailySeries, FusedObservation
from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.farms import Farm

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from farm_intel.indices.index import SpectralIndex

_INK, _QUIET, _GRID = "#22303c", "#66737f", "#e4e8ec"
_LOOKS = (
    ("#2f5d8a", "o"),
    ("#d1702d", "s"),
    ("#4b7a47", "^"),
    ("#8d6cab", "D"),
    ("#b8a038", "v"),
    ("#c23b3b", "P"),
    ("#3a9a9a", "X"),
)
"""Colour and marker of each provider; told apart by both, for readers who do not see all colours."""
_REFUSED = (CandidateVerdict.DESPIKED, CandidateVerdict.LOW_CONFIDENCE, CandidateVerdict.CONTEXT_ONLY)
_WIDTH_IN, _HEIGHT_IN, _DPI = 10.5, 6.2, 150
_SPREAD_DAYS = 0.16
"""Markers of one day are set this far apart, so that those that agree can be seen at all."""


def providers_plot(
    fused: Sequence[FusedObservation],
    series: DailySeries | None,
    index: SpectralIndex,
    farm: Farm,
    *,
    image_format: Literal["png", "svg"] = "png",
) -> bytes:
    """Return the picture of what every provider says of a farm.

    Above: a mark per provider and day with two standard errors, crossed out where the fusion refused it, and the daily
    series with two standard deviations as a band. Below: each provider's number minus the fused one of its day, the
    day's own zero line in between.

    Args:
        fused: fused observations of the farm and index, with their candidates.
        series: its interpolated daily series.
        index: gives name and range.
        farm: gives the title.
        image_format: `png` (150 dpi) or `svg`.

    Raises:
        BadRequestError: there is nothing to draw.

    """
    groups = _by_provider(fused)
    if not groups:
        raise BadRequestError(
            f"farm {farm.farm_id} has no number of {index.slug} from any provider in this time",
            hint="Run `farm-intel backfill` for it first.",
        )
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN))
    FigureCanvasAgg(figure)
    main, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1))
    figure.subplots_adjust(left=0.085, right=0.975, top=0.84, bottom=0.11, hspace=0.1)
    if series is not None:
        _draw_series(main, series)
    reference = {item.solar_day: item.value for item in fused if item.value is not None}
    for place, (provider, candidates) in enumerate(groups.items()):
        shift = timedelta(days=_SPREAD_DAYS * (place - (len(groups) - 1) / 2))
        _draw_provider(main, provider, candidates, _LOOKS[place % len(_LOOKS)], shift)
        _draw_differences(below, candidates, reference, _LOOKS[place % len(_LOOKS)], shift)
    for axes in (main, below):
        axes.grid(color=_GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, labelsize=9, colors=_QUIET)
        for side in axes.spines.values():
            side.set_visible(False)
    below.axhline(0.0, color=_QUIET, linewidth=0.9)
    main.set_ylabel(f"{index.name} (no unit)", fontsize=9.5, color=_INK)
    below.set_ylabel("minus fused", fontsize=9.5, color=_INK)
    locator = AutoDateLocator(minticks=5, maxticks=14)
    below.xaxis.set_major_locator(locator)
    below.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    main.legend(loc="lower left", bbox_to_anchor=(-0.012, 1.0), ncols=4, frameon=False, fontsize=8.5, labelcolor=_INK)
    figure.text(
        0.04, 0.955, f"{farm.name}: {index.name} by {_counted(len(groups))}", fontsize=15, fontweight="bold", color=_INK
    )
    figure.text(0.04, 0.025, _source_line(groups, reference), fontsize=8, color=_QUIET)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=image_format, dpi=_DPI, facecolor="white")
    return buffer.getvalue()


def _by_provider(fused: Sequence[FusedObservation]) -> dict[str, list[Candidate]]:
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for item in sorted(fused, key=lambda each: each.solar_day):
        for candidate in item.candidates:
            groups[candidate.key.provider].append(candidate)
    return dict(sorted(groups.items()))


def _draw_series(axes: Axes, series: DailySeries) -> None:
    days = [series.start + timedelta(days=n) for n in range(len(series.values))]
    low, high = series.values - 2 * series.sigma, series.values + 2 * series.sigma
    axes.fill_between(days, low, high, color=_QUIET, alpha=0.18, linewidth=0, zorder=1)
    axes.plot(
        days,
        series.values,
        color=_QUIET,
        linewidth=1.2,
        zorder=2,
        label="daily series, interpolated (± 2 standard deviations)",
    )


def _draw_provider(
    axes: Axes, provider: str, candidates: Sequence[Candidate], look: tuple[str, str], shift: timedelta
) -> None:
    colour, marker = look
    days = [np.datetime64(c.observed_day) + np.timedelta64(round(shift.total_seconds()), "s") for c in candidates]
    values = np.array([c.harmonised for c in candidates])
    axes.errorbar(
        days,
        values,
        yerr=2 * np.array([c.standard_error for c in candidates]),
        fmt=marker,
        markersize=5.5,
        color=colour,
        markeredgecolor="white",
        markeredgewidth=0.5,
        elinewidth=1.0,
        zorder=4,
        label=f"{provider}, {len(candidates)} days",
    )
    refused = np.array([c.verdict in _REFUSED for c in candidates])
    if refused.any():
        axes.scatter(np.array(days)[refused], values[refused], marker="x", s=70, color=_INK, linewidths=1.2, zorder=5)


def _draw_differences(
    axes: Axes,
    candidates: Sequence[Candidate],
    reference: Mapping[date, float],
    look: tuple[str, str],
    shift: timedelta,
) -> None:
    colour, marker = look
    pairs = [
        (np.datetime64(c.observed_day) + np.timedelta64(round(shift.total_seconds()), "s"), c.harmonised - value)
        for c in candidates
        if c.verdict not in _REFUSED and (value := reference.get(c.observed_day)) is not None
    ]
    if pairs:
        axes.plot(*zip(*pairs, strict=True), linestyle="none", marker=marker, markersize=4.5, color=colour)


def _counted(providers: int) -> str:
    return f"{providers} provider{'s' * (providers != 1)}"


def _source_line(groups: dict[str, list[Candidate]], reference: Mapping[date, float]) -> str:
    differences = [
        abs(c.harmonised - value)
        for candidates in groups.values()
        for c in candidates
        if c.verdict not in _REFUSED and (value := reference.get(c.observed_day)) is not None
    ]
    worst = f" Largest difference from the fused value {max(differences):.4f}." if differences else ""
    return f"Crossed out: refused by the fusion. Bars: two standard errors. Days are solar days.{worst}"
