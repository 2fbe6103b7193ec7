"""What each kind of rule takes as parameters; checked when the table is loaded, so that evaluators need not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from farm_intel.domain.errors import BadRequestError

BELOW, ABOVE = "below", "above"

type Parameters = Mapping[str, float | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """The parameters of one kind of rule."""

    numbers: tuple[str, ...] = ()
    """That must be there."""
    defaults: Parameters = field(default_factory=dict)
    """Everything else there may be, with what holds where a row does not say."""
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Texts that must be one of these."""
    needs_index: bool = False
    hysteresis: str = BELOW
    """On which side of `leave` `enter` lies, where the row has no `direction`; empty for kinds without thresholds."""


_EXPLAINED: Parameters = {"explained_by": "", "explaining_states": "", "explaining_events": "", "min_confidence": 0.5}
_DIRECTION = {"direction": (BELOW, ABOVE)}

KINDS: Mapping[str, Kind] = {
    # value of an index beyond a bound
    "threshold": Kind(
        numbers=("enter", "leave"), defaults={"direction": BELOW, **_EXPLAINED}, choices=_DIRECTION, needs_index=True
    ),
    # fall of an index within `days`, from a level that was at least `from_at_least`
    "drop": Kind(
        numbers=("days", "enter", "leave"),
        defaults={"from_at_least": -10.0, **_EXPLAINED},
        needs_index=True,
        hysteresis=ABOVE,
    ),
    # against the farm's own earlier seasons
    "anomaly": Kind(
        numbers=("enter", "leave"),
        defaults={
            "direction": BELOW,
            "measure": "difference",
            "min_seasons": 1.0,
            "baseline_at_least": -10.0,
            **_EXPLAINED,
        },
        choices={**_DIRECTION, "measure": ("difference", "spreads", "percentile")},
        needs_index=True,
    ),
    # share of the farm's pixels whose value is beyond a bound
    "area_share": Kind(
        numbers=("beyond", "enter", "leave"),
        defaults={"direction": BELOW, "min_valid": 0.6, **_EXPLAINED},
        choices=_DIRECTION,
        needs_index=True,
        hysteresis=ABOVE,
    ),
    # what the farm's state or a dated event says
    "state": Kind(
        defaults={
            "events": "",
            "states": "",
            "facts": "",
            "keeping_states": "",
            "keeping_facts": "",
            "without_log": "",
            **_EXPLAINED,
            "min_confidence": 0.0,
        },
        hysteresis="",
    ),
    # days without a usable look, or without anything from the providers
    "silence": Kind(
        numbers=("enter", "leave"),
        defaults={"of": "looks", "provider": ""},
        choices={"of": ("looks", "provider")},
        hysteresis=ABOVE,
    ),
    # a daily weather value; the unit is part of the variable's name
    "weather": Kind(
        numbers=("enter", "leave"),
        defaults={"variable": "", "direction": BELOW, "statistic": "last", "window_days": 1.0},
        choices={**_DIRECTION, "statistic": ("last", "minimum", "maximum", "mean", "sum")},
    ),
    # days that an activity's oldest unsettled occurrence is late
    "overdue": Kind(numbers=("enter", "leave"), defaults={"types": "", "forget_days": 30.0}, hysteresis=ABOVE),
}
"""Kind -> its parameters. A text with several names separates them by commas."""

EVERY_KIND = ("cool_down_days",)
"""Numbers that any rule may have: days after its end in which the same trouble is no new alert (see lifecycle)."""


def check_parameters(kind: str, index: str, parameters: Parameters, where: str) -> dict[str, float | str]:
    """Return the parameters of a row with every default filled in.

    Raises:
        BadRequestError: one is missing, unknown, of the wrong type, or easier to enter than to leave.

    """
    wanted = KINDS[kind]
    if wanted.needs_index and not index:
        raise BadRequestError(f"{where}: a {kind} rule needs an index.", hint="Add index = ….")
    if missing := [name for name in wanted.numbers if name not in parameters]:
        raise BadRequestError(f"{where}: parameters {', '.join(missing)} are missing.", hint="Add them.")
    full: dict[str, float | str] = dict(wanted.defaults)
    for name, value in parameters.items():
        if name not in wanted.numbers and name not in wanted.defaults and name not in EVERY_KIND:
            known = ", ".join((*wanted.numbers, *wanted.defaults, *EVERY_KIND))
            raise BadRequestError(f"{where}: no parameter {name!r} in {kind} rules.", hint=f"There are {known}.")
        expected = str if isinstance(wanted.defaults.get(name), str) else float
        if not isinstance(value, expected):
            raise BadRequestError(f"{where}: {name} = {value!r} is no {_NAMES[expected]}.", hint="Correct it.")
        full[name] = value
    _check_choices(wanted, full, where)
    _check_hysteresis(wanted, full, where)
    if kind == "state" and not any(full[name] for name in ("events", "states", "facts")):
        raise BadRequestError(f"{where}: nothing opens it.", hint="Name events, states or facts.")
    if kind == "weather" and not full["variable"]:
        raise BadRequestError(f"{where}: it names no variable.", hint='E.g. variable = "temperature_min_c".')
    return full


_NAMES: Mapping[type, str] = {float: "number", str: "text"}


def _check_choices(wanted: Kind, full: Parameters, where: str) -> None:
    for name, choices in wanted.choices.items():
        if full[name] not in choices:
            raise BadRequestError(f"{where}: {name} = {full[name]!r}.", hint=f"Possible: {', '.join(choices)}.")


def _check_hysteresis(wanted: Kind, full: Parameters, where: str) -> None:
    if not wanted.hysteresis:
        return
    # `direction` of an area share is about the pixels; the share itself always has to be large.
    direction = str(full["direction"]) if wanted.hysteresis == BELOW else ABOVE
    enter, leave = float(full["enter"]), float(full["leave"])
    if (leave > enter) if direction == ABOVE else (leave < enter):
        raise BadRequestError(
            f"{where}: it resolves at {leave:g} while it would open at {enter:g}.",
            hint="Put `leave` on the good side of `enter`, or the alert flaps.",
        )
