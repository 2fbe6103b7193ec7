"""Why a farm has no recent number: nothing passed over, it was cloudy, the provider was down, or nobody asked yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from farm_intel.domain.observations import CoverageDay, ObservationStatus
from farm_intel.domain.ports import ObservationStore


class Freshness(StrEnum):
    """Whether a farm has a recent number and, where not, what there is to do about it."""

    FRESH = "fresh"
    PROVIDER_DOWN = "provider_down"
    """A scene was there and could not be read: look at the provider."""
    QUEUED = "queued"
    """Days of the window have not been asked for: look at runs and schedules."""
    CLOUDY = "cloudy"
    """Everything was asked, the passes were clouded: wait."""
    UNUSABLE = "unusable"
    """Passes were clear but gave no number (swath edge, field too small for the pixels): look at the reasons."""
    NO_PASS = "no_pass"  # noqa: S105 # nosec B105 - a satellite pass, no password
    """Everything was asked, no satellite passed over: wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshnessQuestion:
    """Whose numbers are meant."""

    farm_ids: tuple[str, ...]
    provider: str
    collection: str
    index: str
    start: date
    """First solar day that counts as recent."""
    end: date
    """Last solar day that has passed."""


def farm_freshness(store: ObservationStore, question: FreshnessQuestion) -> dict[str, Freshness]:
    """Return the freshness of every farm asked about; only farms without a number cost a look at their calendar."""
    observed = {
        row.key.farm_id
        for row in store.observations(
            farm_ids=question.farm_ids,
            indices=[question.index],
            provider=question.provider,
            collection=question.collection,
            start=question.start,
            end=question.end,
            statuses=[ObservationStatus.OBSERVED],
        )
    }
    return {
        farm_id: Freshness.FRESH if farm_id in observed else _why_stale(_calendar(store, question, farm_id), question)
        for farm_id in question.farm_ids
    }


def _calendar(store: ObservationStore, question: FreshnessQuestion, farm_id: str) -> Sequence[CoverageDay]:
    rows = store.calendar(farm_id=farm_id, provider=question.provider, start=question.start, end=question.end)
    return [row for row in rows if row.collection == question.collection]


def _why_stale(rows: Iterable[CoverageDay], question: FreshnessQuestion) -> Freshness:
    """Return the first reason that somebody could act on, else the one to wait for."""
    by_day = {row.solar_day: row.status for row in rows}
    statuses = set(by_day.values())
    if ObservationStatus.PROVIDER_FAILED in statuses:
        return Freshness.PROVIDER_DOWN
    if len(by_day) < (question.end - question.start).days + 1:
        return Freshness.QUEUED
    if ObservationStatus.CLOUDY in statuses:
        return Freshness.CLOUDY
    if statuses & {ObservationStatus.TOO_FEW_PIXELS, ObservationStatus.REJECTED, ObservationStatus.OBSERVED}:
        return Freshness.UNUSABLE
    return Freshness.NO_PASS
