"""What is known of a farm on a day: stored looks, seasons, states, calendar, log, weather and occurrences up to it.

A `DayFacts` cuts everything at its day, so that no evaluator can look ahead, whatever it asks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property

from farm_intel.alerts.reading import PixelReader, WeatherDay
from farm_intel.alerts.rules import CropStage, stage_at
from farm_intel.domain.activities import LogEntry, Occurrence
from farm_intel.domain.assessment import CandidateVerdict, FarmState, FusedObservation, SeasonDay
from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.observations import CoverageDay, Observation, ObservationKey

USED = frozenset({CandidateVerdict.CHOSEN, CandidateVerdict.COMBINED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Explains:
    """What work of one type changes in what a satellite sees, and for how long."""

    facts: frozenset[str]
    """Names that rules carry in `explained_by` and `without_log`, e.g. `canopy_loss`."""
    days: int
    """Days after the work in which a change is explained by it."""


class OnDemand[K, V](Mapping[K, V]):
    """A mapping that is read from its store when somebody looks into it: most farms have no look on most days."""

    def __init__(self, read: Callable[[], Mapping[K, V]]) -> None:
        self._read = read

    @cached_property
    def _found(self) -> Mapping[K, V]:
        return self._read()

    def __getitem__(self, key: K) -> V:
        """Return one value; KeyError where there is none."""
        return self._found[key]

    def __iter__(self) -> Iterator[K]:
        """Iterate over the keys."""
        return iter(self._found)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._found)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FarmFacts:
    """Everything read of one farm; all sequences ascend by day."""

    farm_id: str
    crop: str | None
    planted: date | None
    looks: Mapping[str, Sequence[FusedObservation]]
    """Index -> fused observations, those without a value included."""
    observations: Mapping[ObservationKey, Observation]
    seasons: Mapping[str, Mapping[date, SeasonDay]]
    """Index -> day -> standing against earlier seasons."""
    states: Sequence[FarmState]
    calendar: Sequence[CoverageDay]
    log: Callable[[], Sequence[LogEntry]]
    """Reads it: only what holds asks for an explanation."""
    weather: Sequence[WeatherDay]
    has_weather: Callable[[], bool]
    """Whether any weather of the farm is known, ever."""
    occurrences: Sequence[Occurrence]
    pixels: PixelReader
    explains: Mapping[str, Explains]
    """Activity type -> what it explains."""
    stages: Sequence[CropStage] = ()
    _days: dict[tuple[str, str], list[date]] = field(default_factory=dict, init=False, repr=False)

    def on(self, day: date) -> DayFacts:
        """Return what was known on a day."""
        return DayFacts(farm=self, day=day)

    def look_days(self, index: str) -> list[date]:
        """Return the days of an index's looks, ascending."""
        return self._listed("index", index, lambda: [look.solar_day for look in self.looks.get(index, ())])

    def any_look_days(self) -> list[date]:
        """Return the days on which any index has a look, ascending."""
        return self._listed("any", "", lambda: sorted({k.solar_day for looks in self.looks.values() for k in looks}))

    def state_days(self) -> list[date]:
        """Return the days a state is stored of, ascending."""
        return self._listed("states", "", lambda: [state.day for state in self.states])

    def calendar_days(self) -> list[date]:
        """Return the days of the calendar's rows, ascending, one per row."""
        return self._listed("calendar", "", lambda: [row.solar_day for row in self.calendar])

    def _listed(self, kind: str, name: str, build: Callable[[], list[date]]) -> list[date]:
        key = (kind, name)
        if key not in self._days:
            self._days[key] = build()
        return self._days[key]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DayFacts:
    """What was known of a farm on a day."""

    farm: FarmFacts
    day: date

    def look(self, index: str) -> FusedObservation | None:
        """Return the look of an index on the very day."""
        days = self.farm.look_days(index)
        place = bisect_left(days, self.day)
        return self.farm.looks[index][place] if place < len(days) and days[place] == self.day else None

    def looks(self, index: str, days: float) -> Sequence[FusedObservation]:
        """Return the looks of an index within so many days up to the day, the day's own included."""
        known = self.farm.look_days(index)
        first = bisect_left(known, self.day - timedelta(days=days))
        return self.farm.looks.get(index, ())[first : bisect_right(known, self.day)]

    def latest_usable(self, index: str, days: float) -> FusedObservation | None:
        """Return the latest look with a value within so many days."""
        return next((look for look in reversed(self.looks(index, days)) if look.value is not None), None)

    def season_day(self, index: str) -> SeasonDay | None:
        """Return where the farm stands on the day against its earlier seasons."""
        return self.farm.seasons.get(index, {}).get(self.day)

    def state(self) -> FarmState | None:
        """Return the stored state of the day."""
        days = self.farm.state_days()
        place = bisect_left(days, self.day)
        return self.farm.states[place] if place < len(days) and days[place] == self.day else None

    def calendar(self) -> Sequence[CoverageDay]:
        """Return the calendar up to the day."""
        return self.farm.calendar[: bisect_right(self.farm.calendar_days(), self.day)]

    def log(self, days: float) -> Sequence[LogEntry]:
        """Return the work done within so many days up to the day."""
        first = self.day - timedelta(days=days)
        return [entry for entry in self.farm.log() if entry.done and first <= entry.done_at.date() <= self.day]

    def weather(self, days: float) -> Sequence[WeatherDay]:
        """Return the weather of so many days up to and with the day."""
        return [row for row in self.farm.weather if self.day - timedelta(days=days) < row.day <= self.day]

    def occurrences(self, days: float) -> Sequence[Occurrence]:
        """Return the occurrences scheduled within so many days up to the day."""
        first = self.day - timedelta(days=days)
        return [one for one in self.farm.occurrences if first <= one.local_date <= self.day]

    def stage(self) -> str | None:
        """Return the crop's stage; None where crop, planting or the crop's stages are not known."""
        if self.farm.planted is None or not self.farm.stages:
            return None
        age = (self.day - self.farm.planted).days
        return stage_at(self.farm.stages, age)

    def cells(self, look: FusedObservation) -> list[ObservationKey]:
        """Return the observations a look's value is made of."""
        return [one.key for one in look.candidates if one.verdict in USED]


def cell_text(key: ObservationKey) -> str:
    """Return an observation's key as text; `parse_cell` reads it back."""
    return f"{key.farm_id}|{key.index}|{key.provider}|{key.collection}|{key.solar_day.isoformat()}"


def parse_cell(text: str) -> ObservationKey:
    """Read what `cell_text` returned.

    Raises:
        BadRequestError: it is not the text of a key.

    """
    try:
        farm_id, index, provider, collection, day = text.split("|")
        return ObservationKey(
            farm_id=farm_id, index=index, provider=provider, collection=collection, solar_day=date.fromisoformat(day)
        )
    except ValueError as error:
        raise BadRequestError(
            f"{text!r} is no observation key.", hint="It is farm|index|provider|collection|day."
        ) from error


def group_looks(looks: Sequence[FusedObservation]) -> dict[str, dict[str, list[FusedObservation]]]:
    """Return farm -> index -> looks, in the order given."""
    groups: dict[str, dict[str, list[FusedObservation]]] = defaultdict(lambda: defaultdict(list))
    for look in looks:
        groups[look.farm_id][look.index].append(look)
    return groups


def known_by(entries: Sequence[LogEntry], as_of: datetime | None) -> list[LogEntry]:
    """Return the entries that had been recorded by a time, ascending by when the work was done."""
    known = [entry for entry in entries if as_of is None or entry.recorded_at <= as_of]
    return sorted(known, key=lambda entry: (entry.done_at, entry.entry_id))
