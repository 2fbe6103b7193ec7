"""From fused cells to daily series, seasons and states, told per farm and per cell."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Protocol

import dagster as dg

from farm_intel.assessing.texts import state_texts
from farm_intel.defs.blocks import Cell, group_cells
from farm_intel.defs.cell_events import CellCheck, CellEvent, CellLedger, CellRecord, Metadata
from farm_intel.defs.groups import CohortGroup
from farm_intel.defs.partitions import partition_key
from farm_intel.defs.ports import FarmIntel
from farm_intel.domain.assessment import DailySeries, FarmState, Phenology, Season
from farm_intel.domain.farm_state import UNKNOWN

DAILY, SEASON, STATE, FARM = "daily", "season", "state", "farm"
STATE_KNOWN = "state_known"
STATE_KNOWN_DESCRIPTION = "Per cell: the farm's state can be told from what was observed; WARN where it is unknown."
LANGUAGE = "en"
"""Of the texts in events: the user interface speaks English; doors for farmers choose theirs."""
SPARKLINE_DAYS = 60
"""Characters of a series' sparkline; longer series are thinned."""
MAX_REASONS = 12
"""Reasons of a state listed in an event; the store has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """Tells results of one cohort in one run."""

    group: CohortGroup
    container: FarmIntel
    ledger: CellLedger
    complete: bool = False
    """Record unchanged results too: a backfill waits for an event of everything it asked for."""

    def daily(self, farm_ids: Sequence[str], slugs: Sequence[str]) -> Iterator[CellEvent]:
        """Smooth the series of farms and yield their events."""
        if not farm_ids or not slugs:
            return
        stored = {
            (series.farm_id, series.index): series.fingerprint
            for series in self.container.assessments.series(farm_ids=farm_ids, indices=slugs)
        }
        told: set[tuple[str, str]] = set()
        for series in self.container.assessing.build_series(farm_ids, slugs):
            told.add((series.farm_id, series.index))
            changed = stored.get((series.farm_id, series.index)) != series.fingerprint
            yield from self.ledger.record(
                self._series(DAILY, series, partial(self._describe_daily, series), changed=changed)
            )
        yield from self._without(DAILY, farm_ids, slugs, told, {*stored})

    def seasons(self, farm_ids: Sequence[str], slugs: Sequence[str]) -> Iterator[CellEvent]:
        """Make the seasons of farms from their stored series and yield their events."""
        if not farm_ids or not slugs:
            return
        stored = {
            (season.farm_id, season.index): season.fingerprint
            for season in self.container.assessments.seasons(farm_ids=farm_ids, indices=slugs)
        }
        told: set[tuple[str, str]] = set()
        for season in self.container.seasons.build_seasons(farm_ids, slugs):
            told.add((season.farm_id, season.index))
            changed = stored.get((season.farm_id, season.index)) != season.fingerprint
            yield from self.ledger.record(
                self._series(SEASON, season, partial(describe_season, season), changed=changed)
            )
        yield from self._without(SEASON, farm_ids, slugs, told, {*stored})

    def states(self, cells: Sequence[Cell]) -> Iterator[CellEvent]:
        """Tell the states of the cells, and of the days between them that changed, and yield their events."""
        for block in group_cells(cells):
            start, end, days = min(block.days), max(block.days), set(block.days)
            stored = {
                (state.farm_id, state.day): state.fingerprint
                for state in self.container.assessments.states(farm_ids=block.farm_ids, start=start, end=end)
            }
            for state in self.container.states.build_states(block.farm_ids, start=start, end=end):
                changed = stored.get((state.farm_id, state.day)) != state.fingerprint
                asked = state.day in days
                if changed or asked:
                    yield from self.ledger.record(self._state(state, changed=changed or (asked and self.complete)))

    def _series(
        self, kind: str, made: "_Fingerprinted", describe: Callable[[], Metadata], *, changed: bool
    ) -> CellRecord:
        return CellRecord(
            asset_key=self.group.asset_key(kind, made.index),
            partition=made.farm_id,
            changed=changed or self.complete,
            describe=describe,
            data_version=made.fingerprint,
        )

    def _without(
        self,
        kind: str,
        farm_ids: Sequence[str],
        slugs: Sequence[str],
        told: set[tuple[str, str]],
        stored: set[tuple[str, str]],
    ) -> Iterator[CellEvent]:
        """Tell of farms that have nothing to be made a series of, so that they are seen to be looked at."""
        for slug in slugs:
            for farm_id in farm_ids:
                if (farm_id, slug) not in told:
                    yield from self.ledger.record(
                        CellRecord(
                            asset_key=self.group.asset_key(kind, slug),
                            partition=farm_id,
                            changed=self.complete or (farm_id, slug) in stored,
                            describe=lambda: {"days": 0, "note": "no usable fused value yet"},
                        )
                    )

    def _describe_daily(self, series: DailySeries) -> Metadata:
        days = len(series.values)
        step = -(-days // SPARKLINE_DAYS)
        # thinned from the end, so that the newest day is always drawn
        shown = [float(value) for value in series.values[::-step][::-1]]
        return {
            "last": round(float(series.values[-1]), 5),
            "last_sigma": round(float(series.sigma[-1]), 5),
            "days": days,
            "start": series.start.isoformat(),
            "end": date.fromordinal(series.start.toordinal() + days - 1).isoformat(),
            "observed_share": round(float(series.observed.mean()), 4),
            "series": dg.MetadataValue.md(f"`{self.container.sparkline(shown)}`"),
            "note": "interpolated between observed days",
            "method": series.method,
        }

    def _state(self, state: FarmState, *, changed: bool) -> CellRecord:
        known = state.state != UNKNOWN
        check: dict[str, str | bool | int | float] = {"state": state.state, "confidence": round(state.confidence, 4)}
        return CellRecord(
            asset_key=self.group.asset_key(STATE, FARM),
            partition=partition_key(state.day, state.farm_id),
            changed=changed,
            describe=lambda: describe_state(state),
            data_version=state.fingerprint,
            check=CellCheck(name=STATE_KNOWN, passed=known, metadata=check),
        )


class _Fingerprinted(Protocol):
    """A series or season of a farm and index."""

    @property
    def farm_id(self) -> str: ...
    @property
    def index(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...


def describe_season(season: Season) -> Metadata:
    """Return the metadata of a season's materialisation: where the farm stands, then its seasons."""
    metadata: dict[str, dg.MetadataValue | str | bool | int | float] = {"note": season.note or "none"}
    metadata["days"] = len(season.days)
    if season.days:
        last = season.days[-1]
        metadata["day"] = last.day.isoformat()
        metadata["baseline_seasons"] = last.baseline_seasons
        numbers = {
            "value": last.value,
            "baseline": last.baseline,
            "anomaly": last.anomaly,
            "percentile": last.percentile,
            "trend_per_day": last.trend_per_day,
        }
        metadata |= {name: round(float(value), 5) for name, value in numbers.items() if value is not None}
    metadata["seasons"] = dg.MetadataValue.md(_seasons_table(season.seasons))
    return metadata


def _seasons_table(seasons: Sequence[Phenology]) -> str:
    rows = [
        f"| {_day(one.start)} | {_day(one.peak)} | {_day(one.end)} | {_number(one.amplitude)} "
        f"| {'yes' if one.complete else 'no'} | {one.note} |"
        for one in seasons
    ]
    head = ["| start | peak | end | amplitude | complete | note |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *rows]) if rows else "no season found"


def _day(day: date | None) -> str:
    return "" if day is None else day.isoformat()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def describe_state(state: FarmState) -> Metadata:
    """Return the metadata of a state's materialisation: the state, what it means, what it rests on."""
    texts = state_texts(LANGUAGE)
    rows = [
        f"| {texts.reason(reason)} | {reason.value:.4g} | {_number(reason.threshold)} | {reason.source} |"
        for reason in state.reasons[:MAX_REASONS]
    ]
    head = ["| reason | value | threshold | source |", "|---|---|---|---|"]
    return {
        "state": state.state,
        "since": state.since.isoformat(),
        "confidence": round(state.confidence, 4),
        "event": state.event or "none",
        "interpretation": texts.interpretation(state),
        "action": texts.action(state),
        "reasons": dg.MetadataValue.md("\n".join([*head, *rows])),
        "crop": state.crop or "unknown",
        "rule_table": state.rule_table,
    }
