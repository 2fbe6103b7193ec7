"""Assessments as columns of plain values, and back; days of series and seasons as packed bytes.

Packed numbers are float32 rounded to six decimals, compressed: a spectral index is not known any better, and the round
trip is exact at that precision for values below eight.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Row

from farm_intel.domain.assessment import (
    Candidate,
    CandidateVerdict,
    Confidence,
    DailySeries,
    FarmState,
    FusedObservation,
    Phenology,
    Season,
    SeasonDay,
    StateReason,
)
from farm_intel.domain.observations import ObservationKey
from farm_intel.storage.assessment_tables import fused_observations
from farm_intel.storage.bulk import ColumnValues, Same, instant_text

_DECIMALS = 6
_LEVEL = 1
"""Noise does not compress; level 1 takes what the missing values and the high bytes give."""
_SEASON_NUMBERS = (
    "value",
    "baseline",
    "baseline_spread",
    "anomaly",
    "percentile",
    "trend_per_day",
    "trend_sigma",
)
FUSED_COLUMNS = tuple(fused_observations.columns.keys())
"""In the order parse_fused reads them: by position, because named access to a row costs more than all the rest."""
_PHENOLOGY_DAYS = ("start", "peak", "end")

Columns = dict[str, ColumnValues]


def fused_columns(fused: Sequence[FusedObservation], recorded_at: datetime, connection: Connection) -> Columns:
    """Return the columns of fused observations."""
    return {
        "farm_id": [item.farm_id for item in fused],
        "index_slug": [item.index for item in fused],
        "solar_day": [item.solar_day.isoformat() for item in fused],
        "value": [item.value for item in fused],
        "standard_error": [item.standard_error for item in fused],
        "confidence": [item.confidence for item in fused],
        "method": [item.method for item in fused],
        "flags": [_texts(item.flags) for item in fused],
        "reason": [item.reason for item in fused],
        "candidates": [f"[{','.join(map(_candidate, item.candidates))}]" for item in fused],
        "fingerprint": [item.fingerprint for item in fused],
        "recorded_at": Same(instant_text(recorded_at, connection)),
    }


def parse_fused(row: Row[Any]) -> FusedObservation:
    """Return the fused observation of a row with FUSED_COLUMNS."""
    cells: tuple[Any, ...] = tuple(row)
    farm, slug, day, value, error, confidence, method, flags, reason, candidates, fingerprint, recorded_at = cells
    return FusedObservation(
        farm_id=farm,
        index=slug,
        solar_day=day,
        value=value,
        standard_error=error,
        confidence=confidence,
        method=method,
        candidates=tuple([_parse_candidate(values, farm, slug) for values in json.loads(candidates)])
        if candidates != "[]"
        else (),
        flags=_parse_texts(flags),
        reason=reason,
        fingerprint=fingerprint,
        recorded_at=recorded_at,
    )


def series_columns(series: Sequence[DailySeries], recorded_at: datetime, connection: Connection) -> Columns:
    """Return the columns of daily series."""
    return {
        "farm_id": [item.farm_id for item in series],
        "index_slug": [item.index for item in series],
        "start": [item.start.isoformat() for item in series],
        "days": [len(item.values) for item in series],
        "packed": [_pack([item.values, item.sigma], [item.observed]) for item in series],
        "method": [item.method for item in series],
        "fingerprint": [item.fingerprint for item in series],
        "recorded_at": Same(instant_text(recorded_at, connection)),
    }


def parse_series(row: Row[Any]) -> DailySeries:
    """Return the daily series of a row."""
    (values, sigma), (observed,) = _unpack(row.packed, row.days, numbers=2, whole=1)
    return DailySeries(
        farm_id=row.farm_id,
        index=row.index_slug,
        start=row.start,
        values=values,
        sigma=sigma,
        observed=observed.astype(np.bool_),
        method=row.method,
        fingerprint=row.fingerprint,
    )


def season_columns(seasons: Sequence[Season], recorded_at: datetime, connection: Connection) -> Columns:
    """Return the columns of seasons."""
    return {
        "farm_id": [item.farm_id for item in seasons],
        "index_slug": [item.index for item in seasons],
        "packed": [_pack_days(item.days) for item in seasons],
        "phenology": [_json([_phenology(one) for one in item.seasons]) for item in seasons],
        "note": [item.note for item in seasons],
        "fingerprint": [item.fingerprint for item in seasons],
        "recorded_at": Same(instant_text(recorded_at, connection)),
    }


def parse_season(row: Row[Any]) -> Season:
    """Return the seasons of a row."""
    return Season(
        farm_id=row.farm_id,
        index=row.index_slug,
        days=_unpack_days(row.packed),
        seasons=tuple(_parse_phenology(values) for values in json.loads(row.phenology)),
        note=row.note,
        fingerprint=row.fingerprint,
    )


def state_columns(states: Sequence[FarmState], recorded_at: datetime, connection: Connection) -> Columns:
    """Return the columns of farm states."""
    return {
        "farm_id": [item.farm_id for item in states],
        "day": [item.day.isoformat() for item in states],
        "state": [item.state for item in states],
        "since": [item.since.isoformat() for item in states],
        "confidence": [item.confidence for item in states],
        "reasons": [_json([_reason(reason) for reason in item.reasons]) for item in states],
        "interpretation": [item.interpretation for item in states],
        "action": [item.action for item in states],
        "event": [item.event for item in states],
        "crop": [item.crop for item in states],
        "rule_table": [item.rule_table for item in states],
        "fingerprint": [item.fingerprint for item in states],
        "recorded_at": Same(instant_text(recorded_at, connection)),
    }


def parse_state(row: Row[Any]) -> FarmState:
    """Return the farm state of a row."""
    return FarmState(
        farm_id=row.farm_id,
        day=row.day,
        state=row.state,
        since=row.since,
        confidence=row.confidence,
        reasons=tuple(StateReason(**values) for values in json.loads(row.reasons)),
        interpretation=row.interpretation,
        action=row.action,
        event=row.event,
        crop=row.crop,
        rule_table=row.rule_table,
        fingerprint=row.fingerprint,
    )


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _candidate(item: Candidate) -> str:
    """Return compact JSON of a candidate; written by hand, because json.dumps costs five times as much."""
    key, confidence = item.key, item.confidence
    components = ",".join([f"{_quoted(name)}:{_number(value)}" for name, value in confidence.components.items()])
    return (
        f'{{"provider":{_quoted(key.provider)},"collection":{_quoted(key.collection)},'
        f'"solar_day":"{key.solar_day}","observed_day":"{item.observed_day}","value":{_number(item.value)},'
        f'"harmonised":{_number(item.harmonised)},"harmonisation":{_quoted(item.harmonisation)},'
        f'"standard_error":{_number(item.standard_error)},"confidence":{_number(confidence.value)},"components":{{{components}}},'
        f'"verdict":"{item.verdict.value}","reason":{_quoted(item.reason)},"flags":{_texts(item.flags)}}}'
    )


def _number(value: float) -> str:
    number = float(value)  # numpy's scalars write their type into their repr
    return repr(number) if math.isfinite(number) else json.dumps(number)


@lru_cache(maxsize=65536)
def _quoted(text: str) -> str:
    return json.dumps(text)


@lru_cache(maxsize=4096)
def _texts(texts: tuple[str, ...]) -> str:
    return _json(texts)


def _parse_candidate(values: dict[str, Any], farm: str, slug: str) -> Candidate:
    return Candidate(
        key=ObservationKey(
            farm_id=farm,
            index=slug,
            provider=values["provider"],
            collection=values["collection"],
            solar_day=date.fromisoformat(values["solar_day"]),
        ),
        observed_day=date.fromisoformat(values["observed_day"]),
        value=values["value"],
        harmonised=values["harmonised"],
        harmonisation=values["harmonisation"],
        standard_error=values["standard_error"],
        confidence=Confidence(value=values["confidence"], components=values["components"]),
        verdict=CandidateVerdict(values["verdict"]),
        reason=values["reason"],
        flags=tuple(values["flags"]),
    )


@lru_cache(maxsize=4096)
def _parse_texts(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _phenology(item: Phenology) -> dict[str, object]:
    days = {name: getattr(item, name) for name in _PHENOLOGY_DAYS}
    return {
        **{name: None if day is None else day.isoformat() for name, day in days.items()},
        "start_sigma_days": item.start_sigma_days,
        "peak_value": item.peak_value,
        "end_sigma_days": item.end_sigma_days,
        "amplitude": item.amplitude,
        "complete": item.complete,
        "note": item.note,
    }


def _parse_phenology(values: dict[str, Any]) -> Phenology:
    days = {name: values[name] and date.fromisoformat(values[name]) for name in _PHENOLOGY_DAYS}
    return Phenology(**(values | days))


def _reason(item: StateReason) -> dict[str, object]:
    return {
        "index": item.index,
        "fact": item.fact,
        "value": item.value,
        "threshold": item.threshold,
        "source": item.source,
    }


def _pack_days(days: Sequence[SeasonDay]) -> bytes:
    numbers = [np.array([_nan(getattr(day, name)) for day in days], np.float64) for name in _SEASON_NUMBERS]
    whole = [np.array([day.day.toordinal() for day in days]), np.array([day.baseline_seasons for day in days])]
    return _pack(numbers, whole)


def _unpack_days(packed: bytes) -> tuple[SeasonDay, ...]:
    size = 4 * (len(_SEASON_NUMBERS) + 2)
    count = len(zlib.decompress(packed)) // size
    numbers, (ordinals, seasons) = _unpack(packed, count, numbers=len(_SEASON_NUMBERS), whole=2)
    columns = [[None if number != number else number for number in column.tolist()] for column in numbers]  # noqa: PLR0124 - NaN stands for None
    return tuple(
        SeasonDay(
            day=date.fromordinal(ordinal), baseline_seasons=count, **dict(zip(_SEASON_NUMBERS, values, strict=True))
        )
        for ordinal, count, *values in zip(ordinals.tolist(), seasons.tolist(), *columns, strict=True)
    )


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _pack(numbers: Iterable[npt.NDArray[Any]], whole: Iterable[npt.NDArray[Any]]) -> bytes:
    parts = [np.round(np.asarray(array, np.float64), _DECIMALS).astype("<f4").tobytes() for array in numbers]
    parts += [np.asarray(array).astype("<i4").tobytes() for array in whole]
    return zlib.compress(b"".join(parts), _LEVEL)


def _unpack(
    packed: bytes, days: int, *, numbers: int, whole: int
) -> tuple[list[npt.NDArray[np.float64]], list[npt.NDArray[np.int32]]]:
    content = zlib.decompress(packed)
    floats = np.frombuffer(content, "<f4", numbers * days).astype(np.float64).round(_DECIMALS)
    integers = np.frombuffer(content, "<i4", whole * days, offset=4 * numbers * days)
    return list(floats.reshape(numbers, days)), list(integers.reshape(whole, days).astype(np.int32))
