"""Rule tables of the farm state from `states.toml`, one per crop, read strictly."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.farm_events import STATISTIC_NAMES
from farm_intel.domain.farm_state import (
    UNKNOWN,
    AfterCondition,
    Combination,
    Condition,
    EventRule,
    RuleTable,
    StateRule,
    StateText,
)
from farm_intel.domain.phenology import PhenologyRule
from farm_intel.domain.season import SeasonRule
from farm_intel.domain.state_facts import CROP_PARAMETERS, FACTS, Axis, AxisIndex, BrightnessPair
from farm_intel.indices.index import SpectralIndex
from farm_intel.indices.tables import Table

_PATH = Path(__file__).parent / "states.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A number with a name that rules refer to."""

    value: float
    leave: float
    """Threshold while a state is held."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeasonShares:
    """Parameters of season and phenology; shares are of the span an index has between bare ground and closed canopy."""

    amplitude_share: float
    fraction: float
    trend_window_days: float
    same_start_days: int
    least_spread_share: float
    most_sigma_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRules:
    """The rule tables of every crop."""

    version: str
    generic: RuleTable
    """For crops without a row, and for farms whose crop is not known."""
    by_crop: Mapping[str, RuleTable]
    season: SeasonShares

    def table(self, crop: str | None) -> RuleTable:
        """Return the rule table of a crop; the generic one, with the crop's name, where it has no row."""
        return self.generic if crop is None else self.by_crop.get(crop.strip().lower(), self.generic)

    def season_rule(self, index: SpectralIndex) -> SeasonRule:
        """Return how baseline and trend of an index are made."""
        span = self._span(index)
        return SeasonRule(
            trend_window_days=self.season.trend_window_days,
            same_start_days=self.season.same_start_days,
            least_spread=self.season.least_spread_share * span,
            most_sigma=self.season.most_sigma_share * span,
        )

    def phenology_rule(self, index: SpectralIndex) -> PhenologyRule:
        """Return how seasons of an index are found."""
        return PhenologyRule(
            min_amplitude=self.season.amplitude_share * self._span(index), fraction=self.season.fraction
        )

    def _span(self, index: SpectralIndex) -> float:
        low, high = next(
            ((row.bare, row.full) for row in self.generic.axes if row.index == index.slug), index.display_range
        )
        return abs(high - low)

    @property
    def states(self) -> tuple[str, ...]:
        """Every state a farm can be in, in order of precedence, `unknown` last."""
        return (*dict.fromkeys(row.state for row in self.generic.combinations), UNKNOWN)

    @property
    def events(self) -> tuple[str, ...]:
        """Every event there is a rule for, in order of precedence."""
        return tuple(dict.fromkeys(rule.name for rule in self.generic.events))

    @property
    def indices(self) -> tuple[str, ...]:
        """Every index that some axis can be read from, by preference."""
        return tuple(row.index for row in self.generic.axes)


@cache
def load_state_rules(path: Path = _PATH) -> StateRules:
    """Return the rule tables of a file, by default of this package (read once per process).

    Raises:
        BadRequestError: the file cannot be read or says something wrong; names file, table and key.

    """
    try:
        document = Table(tomllib.loads(path.read_text(encoding="utf-8")), path.name)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadRequestError(f"state rules {path.name} cannot be read: {error}.", hint="It must be TOML.") from error
    return _Reader(document).read()


class _Reader:
    """Reads the document once per crop, so that parameters are put in place of their names."""

    def __init__(self, document: Table) -> None:
        self._document = document

    def read(self) -> StateRules:
        document = self._document
        version = f"{document.text('name')}/{document.number('version'):g}"
        document.text("max_age_source")
        parameters = dict(_parameter(row) for row in document.tables("parameter"))
        if missing := sorted(set(CROP_PARAMETERS) - set(parameters)):
            raise BadRequestError(
                f"{document.where}: parameter {', '.join(missing)} is missing.", hint="Facts need it; add its row."
            )
        generic = self._table(version, None, parameters, frozenset())
        by_crop = dict(self._crop(row, version, parameters) for row in document.tables("crop"))
        season = _season(document.table("season"))
        document.finish()
        return StateRules(version=version, generic=generic, by_crop=by_crop, season=season)

    def _crop(self, row: Table, version: str, parameters: Mapping[str, Parameter]) -> tuple[str, RuleTable]:
        name = row.text("name")
        without: frozenset[str] = frozenset()
        if row.has("without_events"):
            without = frozenset(row.texts("without_events"))
            row.text("without_source")
        own = dict(_parameter(one) for one in row.tables("parameters")) if row.has("parameters") else {}
        row.finish()
        if unknown := sorted(set(own) - set(parameters)):
            raise BadRequestError(f"{row.where}: there is no parameter {', '.join(unknown)}.", hint="Check its name.")
        return name, self._table(version, name, {**parameters, **own}, without)

    def _table(
        self, version: str, crop: str | None, parameters: Mapping[str, Parameter], without: frozenset[str]
    ) -> RuleTable:
        document = self._document
        rules: dict[Axis, list[StateRule]] = {}
        for row in document.tables("rule"):
            rules.setdefault(_axis_name(row), []).append(_state_rule(row, parameters))
        combinations = tuple(_combination(row, rules) for row in document.tables("combination"))
        events = tuple(_event(row, parameters) for row in document.tables("event"))
        states = {row.state for row in combinations} | {UNKNOWN}
        return RuleTable(
            name=f"{version}/{crop or 'generic'}",
            crop=crop,
            axes=tuple(_axis(row) for row in document.tables("axis")),
            parameters={name: one.value for name, one in parameters.items()},
            rules={axis: tuple(rows) for axis, rows in rules.items()},
            combinations=combinations,
            events=tuple(event for event in events if event.name not in without),
            texts={s: StateText(interpretation=f"interpretation.{s}", action=f"action.{s}") for s in states},
            brightness=_brightness(document.table("brightness")),
            max_age_days=int(document.number("max_age_days")),
            event_days=int(document.number("event_days")),
        )


def _parameter(row: Table) -> tuple[str, Parameter]:
    name, value = row.text("name"), row.number("value")
    parameter = Parameter(value=value, leave=row.number("leave", value), source=row.text("source"))
    row.finish()
    return name, parameter


def _axis_name(row: Table) -> Axis:
    text = row.text("axis")
    if text not in set(Axis):
        raise BadRequestError(f"{row.where}: no axis {text!r}.", hint=f"There are {', '.join(Axis)}.")
    return Axis(text)


def _axis(row: Table) -> AxisIndex:
    axis = AxisIndex(
        index=row.text("index"),
        axis=_axis_name(row),
        bare=row.number("bare"),
        full=row.number("full"),
        source=row.text("source"),
    )
    row.finish()
    return axis


def _season(row: Table) -> SeasonShares:
    row.text("source")
    shares = SeasonShares(
        amplitude_share=row.number("amplitude_share"),
        fraction=row.number("fraction"),
        trend_window_days=row.number("trend_window_days"),
        same_start_days=int(row.number("same_start_days")),
        least_spread_share=row.number("least_spread_share"),
        most_sigma_share=row.number("most_sigma_share"),
    )
    row.finish()
    return shares


def _brightness(row: Table) -> BrightnessPair:
    row.text("source")
    pair = BrightnessPair(
        normalised=row.text("normalised"),
        adjusted=row.text("adjusted"),
        adjustment=row.number("adjustment"),
        least=row.number("least"),
    )
    row.finish()
    return pair


def _state_rule(row: Table, parameters: Mapping[str, Parameter]) -> StateRule:
    row.text("axis")
    rule = StateRule(
        state=row.text("state"),
        conditions=tuple(_condition(one, parameters) for one in row.tables("when")),
        persist=int(row.number("persist")),
    )
    row.finish()
    return rule


def _condition(row: Table, parameters: Mapping[str, Parameter], *, finish: bool = True) -> Condition:
    fact = row.text("fact")
    if fact not in FACTS:
        raise BadRequestError(f"{row.where}: no fact {fact!r}.", hint=f"There are {', '.join(sorted(FACTS))}.")
    sides = [key for key in ("above", "below", "above_parameter", "below_parameter") if row.has(key)]
    if len(sides) != 1:
        raise BadRequestError(f"{row.where}: {len(sides)} thresholds for {fact}.", hint="Give exactly one.")
    side = sides[0]
    if side.endswith("_parameter"):
        name = row.text(side)
        if name not in parameters:
            raise BadRequestError(f"{row.where}: no parameter {name!r}.", hint="Add its row or correct the name.")
        one = parameters[name]
    else:
        value = row.bound(side)
        one = Parameter(value=value, leave=row.bound("leave", value), source=row.text("source"))
    above = side.startswith("above")
    if (one.leave > one.value) if above else (one.leave < one.value):
        raise BadRequestError(
            f"{row.where}: {fact} is harder to keep ({one.leave:g}) than to enter ({one.value:g}).",
            hint="Put `leave` on the lenient side of the threshold, or the state flaps.",
        )
    optional = row.text("unknown", "fails") == "holds"
    if finish:
        row.finish()
    return Condition(fact=fact, above=above, enter=one.value, leave=one.leave, source=one.source, optional=optional)


def _combination(row: Table, rules: Mapping[Axis, list[StateRule]]) -> Combination:
    state = row.text("state")
    axes = {axis: frozenset(row.texts(axis.value)) for axis in Axis if row.has(axis.value)}
    for axis, names in axes.items():
        if wrong := names - {rule.state for rule in rules.get(axis, ())}:
            raise BadRequestError(f"{row.where}: {axis.value} has no state {', '.join(sorted(wrong))}.")
    row.finish()
    return Combination(state=state, axes=axes)


def _event(row: Table, parameters: Mapping[str, Parameter]) -> EventRule:
    low, high = row.pair("after_days")
    rule = EventRule(
        name=row.text("name"),
        onset=tuple(_condition(one, parameters) for one in row.tables("onset")),
        after=tuple(_after(one, parameters) for one in row.tables("after")) if row.has("after") else (),
        after_days=(low, high),
        after_count=int(row.number("after_count")),
        between=row.text("dated") == "between",
        quiet_days=row.number("quiet_days"),
        mutes=row.numbers("mutes"),
    )
    row.finish()
    return rule


def _after(row: Table, parameters: Mapping[str, Parameter]) -> AfterCondition:
    condition = _condition(row, parameters, finish=False)
    statistic, change = row.text("statistic"), row.text("change", "no") == "yes"
    if statistic not in STATISTIC_NAMES:
        raise BadRequestError(
            f"{row.where}: no statistic {statistic!r}.", hint=f"There are {', '.join(sorted(STATISTIC_NAMES))}."
        )
    row.finish()
    return AfterCondition(condition=condition, statistic=statistic, change=change)
