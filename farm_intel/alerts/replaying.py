"""Replay an alert: the same rule over what the stores hold now, down to the pixels, and what differs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from farm_intel.alerts.evaluating import AlertEvaluating
from farm_intel.alerts.facts import parse_cell
from farm_intel.alerts.reading import ObservationReader, PixelReader
from farm_intel.alerts.rules import rule_from_dict
from farm_intel.domain.alerts import Alert, Evaluation, RuleVerdict
from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.observations import Observation

VALUE_TOLERANCE = 1e-6
"""Values are stored with six decimals."""
_PIXEL_SPREADS, _PIXEL_FLOOR = 0.5, 0.002
"""How far the plain mean of a raster's pixels may be from the stored mean, which leaves out edge pixels or weighs them:
half the pixels' standard deviation, and the raster's rounding. Conventions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellReplay:
    """One observation an alert rests on, as it is now."""

    cell: str
    stored_mean: float | None
    """None where the observation is not there any more."""
    raster_sha256: str
    """Empty where the provider took the statistics by its own means."""
    pixels: int
    """Valid pixels counted in the raster; 0 without one."""
    pixel_mean: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What came of replaying an alert."""

    alert_id: str
    farm_id: str
    rule: str
    rule_version: str
    day: date
    value_then: float | None
    value_now: float | None
    threshold_then: float | None
    threshold_now: float | None
    verdict_now: RuleVerdict | None
    """None where the rule says nothing of the day any more."""
    cells: tuple[CellReplay, ...]
    differences: tuple[str, ...]
    """One line each; empty where the alert holds as it did."""

    @property
    def same(self) -> bool:
        """True where nothing differs."""
        return not self.differences


class AlertReplaying:
    """Replays alerts over what is stored now."""

    def __init__(self, *, evaluating: AlertEvaluating, observations: ObservationReader, pixels: PixelReader) -> None:
        """Keep what is replayed with."""
        self._evaluating = evaluating
        self._observations = observations
        self._pixels = pixels

    def replay(self, alert: Alert) -> ReplayReport:
        """Evaluate the alert's own rule on the day that opened it, and compare.

        Work that was logged after the alert opened is left out: it was not known.

        Raises:
            BadRequestError: the alert's evidence holds no rule or no day.
            StoreError: a store could not be read.

        """
        row, text = alert.evidence.get("rule"), alert.evidence.get("day", alert.opened_day.isoformat())
        if not isinstance(row, Mapping):
            raise BadRequestError(
                f"alert {alert.alert_id} of farm {alert.farm_id} holds no rule: it cannot be replayed.",
                hint="It was made by an older version; evaluate the rules of its day instead.",
            )
        rule, day = rule_from_dict(row), date.fromisoformat(str(text))
        evaluations = self._evaluating.evaluate([alert.farm_id], (day, day), [rule], as_of=alert.opened_at)
        now = next(iter(evaluations), None)
        cells = [self._cell(str(cell)) for cell in _list(alert.evidence, "cells")]
        return ReplayReport(
            alert_id=alert.alert_id,
            farm_id=alert.farm_id,
            rule=rule.slug,
            rule_version=rule.version,
            day=day,
            value_then=_number(alert.evidence.get("value")),
            value_now=now.value if now else None,
            threshold_then=_number(alert.evidence.get("threshold")),
            threshold_now=now.threshold if now else None,
            verdict_now=now.verdict if now else None,
            cells=tuple(cell for cell, _ in cells),
            differences=(*_compare(alert.evidence, now), *(line for _, lines in cells for line in lines)),
        )

    def _cell(self, text: str) -> tuple[CellReplay, list[str]]:
        key = parse_cell(text)
        found = self._observations.observations(
            farm_ids=[key.farm_id],
            indices=[key.index],
            provider=key.provider,
            collection=key.collection,
            start=key.solar_day,
            end=key.solar_day,
        )
        seen = next(iter(found), None)
        if seen is None or seen.statistics is None:
            gone = CellReplay(cell=text, stored_mean=None, raster_sha256="", pixels=0, pixel_mean=None)
            return gone, [f"cell {text} has no number any more"]
        count, mean, lines = self._pixel_mean(text, seen)
        cell = CellReplay(
            cell=text,
            stored_mean=seen.statistics.mean,
            raster_sha256=seen.raster_sha256 or "",
            pixels=count,
            pixel_mean=mean,
        )
        return cell, lines

    def _pixel_mean(self, text: str, seen: Observation) -> tuple[int, float | None, list[str]]:
        """Return how many pixels the raster has, their mean, and what is wrong with it."""
        if seen.raster_sha256 is None or seen.raster_band is None or seen.statistics is None:
            return 0, None, []
        values = self._pixels.values(seen.raster_sha256, seen.raster_band)
        if values is None or not np.isfinite(values).any():
            return 0, None, [f"cell {text}: raster {seen.raster_sha256} is not there, or empty"]
        values = values[np.isfinite(values)]
        mean = float(values.mean())
        tolerance = _PIXEL_SPREADS * float(values.std()) + _PIXEL_FLOOR
        if abs(mean - seen.statistics.mean) <= tolerance:
            return values.size, mean, []
        return values.size, mean, [f"cell {text}: stored mean {seen.statistics.mean:.4f}, its pixels' {mean:.4f}"]


def _compare(then: Mapping[str, object], now: Evaluation | None) -> list[str]:
    """Return what differs between an alert's evidence and the evaluation of the same day now."""
    if now is None:
        return ["the rule says nothing of the day any more: there is no look"]
    lines: list[str] = []
    if now.verdict is not RuleVerdict.HOLDS:
        note = now.evidence.get("note") or now.evidence.get("log_entries") or ""
        lines.append(f"the verdict was holds and is {now.verdict.value}{f': {note}' if note else ''}")
    for name, value in (("value", now.value), ("threshold", now.threshold)):
        before = _number(then.get(name))
        if not _equal(before, value):
            lines.append(f"the {name} was {before} and is {value}")
    for name in ("cells", "scenes"):
        before_list, after = [str(one) for one in _list(then, name)], [str(one) for one in _list(now.evidence, name)]
        lines += [f"{name}: {one} is not used any more" for one in before_list if one not in after]
        lines += [f"{name}: {one} was not used then" for one in after if one not in before_list]
    lines += _changed(then, now.evidence, "looks", ("index", "day"), "fingerprint")
    lines += _changed(then, now.evidence, "rasters", ("cell",), "sha256")
    return lines


def _changed(
    then: Mapping[str, object], now: Mapping[str, object], name: str, identity: Sequence[str], content: str
) -> list[str]:
    """Return the entries of a list of evidence whose content is another one now."""

    def contents(evidence: Mapping[str, object]) -> dict[str, object]:
        rows = [row for row in _list(evidence, name) if isinstance(row, Mapping)]
        return {" ".join(str(row.get(key)) for key in identity): row.get(content) for row in rows}

    before, after = contents(then), contents(now)
    return [
        f"{name}: {key} was {before[key]} and is {after[key]}"
        for key in before
        if key in after and before[key] != after[key]
    ]


def _list(evidence: Mapping[str, object], name: str) -> list[object]:
    rows = evidence.get(name)
    return list(rows) if isinstance(rows, list | tuple) else []


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _equal(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, abs_tol=VALUE_TOLERANCE, rel_tol=0.0)
