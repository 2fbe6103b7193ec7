"""A farm with looks, states, calendar, log, weather and pixels in memory, and rules as rows of one line."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

import numpy as np

from farm_intel.alerts.evaluating import AlertEvaluating
from farm_intel.alerts.facts import Explains
from farm_intel.alerts.kinds import check_parameters
from farm_intel.alerts.reading import Sources, WeatherDay
from farm_intel.alerts.rules import AlertRules, CropStage
from farm_intel.domain.activities import LogEntry, Occurrence, OccurrenceState
from farm_intel.domain.alerts import AlertRule, Severity
from farm_intel.domain.assessment import (
    Candidate,
    CandidateVerdict,
    Confidence,
    FarmState,
    FusedObservation,
    Season,
    SeasonDay,
    StateReason,
)
from farm_intel.domain.observations import (
    CoverageDay,
    Observation,
    ObservationKey,
    ObservationStatus,
    ZonalStatistics,
)
from farm_intel_tests.support.fake_observing import FakeAssessmentStore
from farm_intel_tests.support.fakes import FakeFarmStore, FakeObservationStore, make_farm

FARM, INDEX = "plot-1", "vigour"
DAY = date(2026, 3, 1)
STAGES = (
    CropStage(crop="maize", name="early", from_day=0, to_day=40, source="test"),
    CropStage(crop="maize", name="mid", from_day=40, to_day=80, source="test"),
)
EXPLAINS = {
    "harvest": Explains(facts=frozenset({"canopy_loss"}), days=30),
    "irrigation": Explains(facts=frozenset({"wetting"}), days=5),
}


def on(number: int) -> date:
    return DAY + timedelta(days=number)


def rule(kind: str, *, index: str = INDEX, stages: tuple[str, ...] = (), crops: tuple[str, ...] = (), **parameters):
    """Return a row of one kind; numbers are made floats, as TOML's are when they are read."""
    given = {name: float(value) if isinstance(value, int) else value for name, value in parameters.items()}
    named = index if kind in {"threshold", "drop", "anomaly", "area_share"} else ""
    return AlertRule(
        slug=f"test_{kind}",
        rule_class="stress",
        kind=kind,
        severity=Severity.WARNING,
        parameters=check_parameters(kind, named, given, "test"),
        index=named,
        stages=stages,
        crops=crops,
        source="test",
        version="1",
    )


@dataclass
class Pixels:
    """Rasters in memory; remembers what was read."""

    rasters: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)

    def values(self, sha256: str, band: int):
        self.read.append(sha256)
        return self.rasters.get((sha256, band))


@dataclass
class Logbook:
    entries: list[LogEntry] = field(default_factory=list)

    def explaining(self, farm_id: str, start: datetime, end: datetime):
        return [one for one in self.entries if one.farm_id == farm_id and start <= one.done_at < end]


@dataclass
class Weather:
    days: list[WeatherDay] = field(default_factory=list)

    def daily(self, farm_id: str, start: date, end: date):
        return [one for one in self.days if farm_id == FARM and start <= one.day <= end]


@dataclass
class Occurrences:
    rows: list[Occurrence] = field(default_factory=list)

    def find(self, *, farm_ids=None, start=None, end=None, limit=1000):
        return [one for one in self.rows if one.farm_id in farm_ids and start <= one.local_date <= end][:limit]


@dataclass
class Field:
    """One farm and everything that is stored of it."""

    observations: FakeObservationStore = field(default_factory=FakeObservationStore)
    assessments: FakeAssessmentStore = field(default_factory=FakeAssessmentStore)
    logbook: Logbook = field(default_factory=Logbook)
    weather: Weather = field(default_factory=Weather)
    occurrences: Occurrences = field(default_factory=Occurrences)
    pixels: Pixels = field(default_factory=Pixels)
    crop: str | None = "maize"
    planted: date | None = None

    def look(self, day: date, value: float | None, *, confidence=0.9, index=INDEX, statistics=None, sha=None, **seen):
        """Store an observation and the fused value made of it."""
        key = ObservationKey(farm_id=FARM, index=index, provider="stac", collection="s2", solar_day=day)
        mean = 0.0 if value is None else value
        numbers = dict.fromkeys(("mean", "median", "std", "min", "max", "p10", "p25", "p75", "p90"), mean)
        self.observations.rows[key] = Observation(
            key=key,
            status=ObservationStatus.OBSERVED,
            statistics=ZonalStatistics(**numbers | {"std": 0.02} | (statistics or {})),
            pixel_count=100,
            valid_pixel_count=100,
            used_pixel_count=80,
            n_effective=80.0,
            standard_error=0.01,
            valid_pixel_fraction=seen.get("valid", 1.0),
            cloud_fraction=0.0,
            covered_fraction=1.0,
            scene_ids=(f"scene-{day}",),
            raster_sha256=sha,
            raster_band=1 if sha else None,
        )
        verdict = CandidateVerdict.CHOSEN if value is not None else CandidateVerdict.LOW_CONFIDENCE
        candidate = Candidate(
            key=key,
            observed_day=day,
            value=mean,
            harmonised=mean,
            harmonisation="",
            standard_error=0.01,
            confidence=Confidence(value=confidence),
            verdict=verdict,
            reason="",
        )
        self.assessments.fused_rows[FARM, index, day] = FusedObservation(
            farm_id=FARM,
            index=index,
            solar_day=day,
            value=value,
            standard_error=0.01,
            confidence=confidence,
            method="single",
            candidates=(candidate,),
            reason="" if value is not None else "none of 1 candidates is usable: low_confidence",
            fingerprint=f"{day} {value}",
        )
        return self

    def state(self, day: date, state: str, *, event: str | None = None, facts=(), confidence=0.8):
        reasons = [StateReason(index=INDEX, fact=fact, value=0.1, threshold=0.2, source="test") for fact in facts]
        reasons.append(StateReason(index=INDEX, fact="canopy_cover", value=0.5, source="test"))
        if event:
            reasons.append(StateReason(index="", fact="event_days_ago", value=3.0))
        self.assessments.state_rows[FARM, day] = FarmState(
            farm_id=FARM,
            day=day,
            state=state,
            since=day,
            confidence=confidence,
            reasons=tuple(reasons),
            interpretation="",
            action="",
            event=event,
            rule_table="test/1",
            fingerprint=f"{day} {state} {event}",
        )
        return self

    def season(self, day: date, value: float, baseline: float | None, *, seasons=1, spread=None, percentile=None):
        old = self.assessments.season_rows.get((FARM, INDEX))
        row = SeasonDay(
            day=day,
            value=value,
            baseline=baseline,
            baseline_spread=spread,
            baseline_seasons=seasons,
            anomaly=None if baseline is None else value - baseline,
            percentile=percentile,
            trend_per_day=None,
            trend_sigma=None,
        )
        days = (*(old.days if old else ()), row)
        self.assessments.season_rows[FARM, INDEX] = Season(farm_id=FARM, index=INDEX, days=days, seasons=())
        return self

    def calendar(self, day: date, status: ObservationStatus):
        self.observations.days[FARM, day] = CoverageDay(
            farm_id=FARM, provider="stac", collection="s2", solar_day=day, status=status, reason=""
        )
        return self

    def log(self, day: date, kind: str, *, recorded: date | None = None, done: bool = True):
        done_at = datetime.combine(day, time(9), UTC)
        self.logbook.entries.append(
            LogEntry(
                entry_id=f"{kind}-{day}",
                farm_id=FARM,
                type=kind,
                title=kind,
                done=done,
                done_at=done_at,
                by="amina",
                recorded_at=datetime.combine(recorded, time(9), UTC) if recorded else done_at,
            )
        )
        return self

    def occurrence(self, day: date, state: OccurrenceState, *, changed: date | None = None, kind="scouting"):
        due = datetime.combine(day, time(6), UTC)
        self.occurrences.rows.append(
            Occurrence(
                activity_id=f"{kind}-{day}",
                due_at=due,
                farm_id=FARM,
                type=kind,
                local_date=day,
                local_time="06:00",
                time_zone="UTC",
                state=state,
                not_before=due,
                created_at=due,
                changed_at=datetime.combine(changed or day, time(12), UTC),
            )
        )
        return self

    def evaluating(self, *, explains=None) -> AlertEvaluating:
        sources = Sources(
            farms=FakeFarmStore([make_farm(FARM, crop=self.crop, planting_date=self.planted)]),
            observations=self.observations,
            assessments=self.assessments,
            logbook=self.logbook,
            weather=self.weather,
            occurrences=self.occurrences,
            pixels=self.pixels,
        )
        return AlertEvaluating(
            sources=sources,
            rules=AlertRules(rules=(), stages=STAGES),
            explains=EXPLAINS if explains is None else explains,
            state_indices=(INDEX,),
        )

    def evaluate(self, row: AlertRule, first: int = 0, last: int = 0, **options):
        """Return the evaluations of one rule from day `first` to day `last`."""
        return list(self.evaluating().evaluate([FARM], (on(first), on(max(first, last))), [row], **options))

    def verdicts(self, row: AlertRule, first: int = 0, last: int = 0) -> list[str]:
        return [one.verdict.value for one in self.evaluate(row, first, last)]
