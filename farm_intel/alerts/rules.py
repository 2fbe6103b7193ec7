"""The rule table: `rules.toml` and the users' own files, read strictly into `AlertRule` rows.

A file has `[policy.NAME]` tables (escalation steps), `[[stage]]` rows (crop stages in days after planting) and
`[[rule]]` rows. A user's file may add rules and policies, and replaces those of the same name, and the stages of the
crops it has rows of; a rule of nothing but slug and `off = "yes"` is removed.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

from farm_intel.alerts.kinds import KINDS, check_parameters
from farm_intel.domain.alerts import SUBSCRIBERS, AlertRule, EscalationStep, Severity
from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.indices.tables import Table

_PATH = Path(__file__).parent / "rules.toml"
_SLUG_CHARACTERS = 64
"""Width of the column that holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CropStage:
    """One stage of a crop, in days after planting."""

    crop: str
    name: str
    from_day: int
    to_day: int
    """First day that no longer belongs to it."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRules:
    """Every rule there is, with the stages they may name."""

    rules: tuple[AlertRule, ...]
    stages: tuple[CropStage, ...] = ()
    policies: Mapping[str, tuple[EscalationStep, ...]] = field(default_factory=dict)

    def get(self, slug: str) -> AlertRule:
        """Return one rule.

        Raises:
            UnknownNameError: there is none of that name.

        """
        for rule in self.rules:
            if rule.slug == slug:
                return rule
        raise UnknownNameError(
            f"there is no alert rule {slug!r}", hint=f"There are {', '.join(rule.slug for rule in self.rules)}."
        )

    def stages_of(self, crop: str | None) -> tuple[CropStage, ...]:
        """Return the stages of a crop, in the table's order; none where it has no rows."""
        return tuple(row for row in self.stages if crop is not None and row.crop == crop.strip().lower())

    @property
    def indices(self) -> tuple[str, ...]:
        """Every index some rule reads."""
        return tuple(dict.fromkeys(rule.index for rule in self.rules if rule.index))


OVER = "over"
"""Stage of a crop whose last stage has passed."""


def stage_at(stages: Sequence[CropStage], age_days: int) -> str | None:
    """Return the stage so many days after planting; `over` after the last one, None before planting."""
    if age_days < 0:
        return None
    return next((row.name for row in stages if row.from_day <= age_days < row.to_day), OVER)


def load_alert_rules(user_files: Sequence[Path] = (), *, indices: Sequence[str] | None = None) -> AlertRules:
    """Return the package's rules, with the users' files over them in their order.

    Args:
        user_files: TOML files.
        indices: the indices that exist; None does not check.

    Raises:
        BadRequestError: a file cannot be read or says something wrong; names file, table and key.

    """
    merged = _read_file(_PATH)
    for path in user_files:
        merged = _merge(merged, _read_file(path))
    rules = tuple(_finished(row.rule, row, merged) for row in merged.rules.values() if row.rule is not None)
    for rule in rules:
        if rule.index and indices is not None and rule.index not in indices:
            raise BadRequestError(
                f"alert rule {rule.slug}: there is no index {rule.index!r}.", hint="Correct it, or switch the rule off."
            )
    return AlertRules(rules=rules, stages=merged.stages, policies=merged.policies)


def rule_as_dict(rule: AlertRule) -> dict[str, object]:
    """Return a rule as JSON-ready values: what an alert keeps, so that it can be replayed."""
    return {
        "slug": rule.slug,
        "rule_class": rule.rule_class,
        "kind": rule.kind,
        "severity": rule.severity.name.lower(),
        "parameters": dict(rule.parameters),
        "index": rule.index,
        **({"crops": list(rule.crops)} if rule.crops else {}),
        **({"stages": list(rule.stages)} if rule.stages else {}),
        "looks_to_open": rule.looks_to_open,
        "looks_to_resolve": rule.looks_to_resolve,
        "steps": [
            {
                "after_h": step.after.total_seconds() / 3600.0,
                "audience": step.audience,
                "min_severity": step.min_severity.name.lower(),
            }
            for step in rule.steps
        ],
        "source": rule.source,
        "version": rule.version,
    }


def rule_from_dict(values: Mapping[str, object]) -> AlertRule:
    """Read what `rule_as_dict` returned.

    Raises:
        BadRequestError: something is missing or wrong; names it.

    """
    table = Table(values, "stored alert rule")
    parameters = table.table("parameters")
    return AlertRule(
        slug=table.text("slug"),
        rule_class=table.text("rule_class"),
        kind=table.text("kind"),
        severity=_severity(table, "severity"),
        parameters=_parameters(parameters),
        index=table.text("index", ""),
        crops=_names(table, "crops"),
        stages=_names(table, "stages"),
        looks_to_open=int(table.number("looks_to_open")),
        looks_to_resolve=int(table.number("looks_to_resolve")),
        steps=tuple(_step(step) for step in table.tables("steps")) if values.get("steps") else (),
        source=table.text("source"),
        version=table.text("version"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A rule before its policy is looked up."""

    rule: AlertRule | None
    """None where it is switched off."""
    policy: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    rules: Mapping[str, _Row]
    stages: tuple[CropStage, ...]
    policies: Mapping[str, tuple[EscalationStep, ...]]


def _merge(below: _File, above: _File) -> _File:
    crops = {stage.crop for stage in above.stages}
    return _File(
        rules={**below.rules, **above.rules},
        stages=(*(stage for stage in below.stages if stage.crop not in crops), *above.stages),
        policies={**below.policies, **above.policies},
    )


@cache
def _read_file(path: Path) -> _File:
    try:
        document = Table(tomllib.loads(path.read_text(encoding="utf-8")), path.name)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadRequestError(f"alert rules {path.name} cannot be read: {error}.", hint="It must be TOML.") from error
    policies: dict[str, tuple[EscalationStep, ...]] = {}
    if document.has("policy"):
        table = document.table("policy")
        for name in table.keys_left():
            policy = table.table(name)
            policies[name] = _steps(policy)
            policy.finish()
    stages = tuple(_stage(row) for row in document.tables("stage")) if document.has("stage") else ()
    rules: dict[str, _Row] = {}
    for row in document.tables("rule") if document.has("rule") else ():
        slug = _slug(row)
        if slug in rules:
            raise BadRequestError(f"{row.where}: {slug} is there twice.", hint="Give it another slug.")
        rules[slug] = _rule(slug, row)
    document.finish()
    return _File(rules=rules, stages=stages, policies=policies)


def _finished(rule: AlertRule, row: _Row, merged: _File) -> AlertRule:
    """Return the rule with its steps and version, checked against policies and stages."""
    if row.policy not in merged.policies:
        raise BadRequestError(
            f"{row.where}: there is no policy {row.policy!r}.", hint=f"There are {', '.join(sorted(merged.policies))}."
        )
    known = {stage.name for stage in merged.stages}
    if wrong := sorted(set(rule.stages) - known):
        raise BadRequestError(
            f"{row.where}: no crop has the stage {', '.join(wrong)}.", hint=f"There are {', '.join(sorted(known))}."
        )
    rule = replace(rule, steps=merged.policies[row.policy])
    text = json.dumps({**rule_as_dict(rule), "version": ""}, sort_keys=True)
    return replace(rule, version=blake2b(text.encode(), digest_size=12).hexdigest())


def _slug(row: Table) -> str:
    slug = row.text("slug")
    if len(slug) > _SLUG_CHARACTERS or not slug.replace("_", "").isalnum() or slug != slug.lower():
        raise BadRequestError(f"{row.where}: slug = {slug!r} is no slug.", hint="Use a-z, 0-9 and _; at most 64.")
    return slug


def _rule(slug: str, row: Table) -> _Row:
    if row.text("off", "no") == "yes":
        row.finish()
        return _Row(rule=None, policy="", where=row.where)
    kind = row.text("kind")
    if kind not in KINDS:
        raise BadRequestError(f"{row.where}: no kind {kind!r}.", hint=f"There are {', '.join(sorted(KINDS))}.")
    parameters = _parameters(row.table("parameters")) if row.has("parameters") else {}
    index = row.text("index", "")
    rule = AlertRule(
        slug=slug,
        rule_class=row.text("class"),
        kind=kind,
        severity=_severity(row, "severity"),
        parameters=check_parameters(kind, index, parameters, f"{row.where} ({slug})"),
        index=index,
        crops=tuple(crop.strip().lower() for crop in _names(row, "crops")),
        stages=_names(row, "stages"),
        looks_to_open=_looks(row, "looks_to_open"),
        looks_to_resolve=_looks(row, "looks_to_resolve"),
        source=row.text("source"),
    )
    policy = row.text("policy")
    row.finish()
    return _Row(rule=rule, policy=policy, where=row.where)


def _looks(row: Table, key: str) -> int:
    value = row.number(key, 1)
    if value != int(value) or value < 1:
        raise BadRequestError(f"{row.where}: {key} = {value:g} is no number of looks.", hint="Give 1 or more.")
    return int(value)


def _parameters(table: Table) -> dict[str, float | str]:
    result: dict[str, float | str] = {}
    for key in table.keys_left():
        try:
            result[key] = table.number(key)
        except BadRequestError:
            result[key] = table.text(key, "")
    return result


def _names(table: Table, key: str) -> tuple[str, ...]:
    return table.texts(key) if table.has(key) else ()


def _severity(table: Table, key: str) -> Severity:
    text = table.text(key)
    if text.upper() not in Severity.__members__:
        raise BadRequestError(
            f"{table.where}: no severity {text!r}.", hint=f"There are {', '.join(s.name.lower() for s in Severity)}."
        )
    return Severity[text.upper()]


def _steps(policy: Table) -> tuple[EscalationStep, ...]:
    steps = tuple(_step(step) for step in policy.tables("steps")) if policy.has("steps") else ()
    if any(later.after <= earlier.after for earlier, later in pairwise(steps)):
        raise BadRequestError(f"{policy.where}: steps do not come one after another.", hint="Let after_h grow.")
    return steps


def _step(step: Table) -> EscalationStep:
    after_h = step.number("after_h")
    if after_h <= 0.0:
        raise BadRequestError(
            f"{step.where}: after_h = {after_h:g} is not after the alert.",
            hint="Subscribers are told of the opening itself; give when they are told again.",
        )
    result = EscalationStep(
        after=timedelta(hours=after_h),
        audience=step.text("audience", SUBSCRIBERS),
        min_severity=_severity(step, "min_severity") if step.has("min_severity") else Severity.INFO,
    )
    step.finish()
    return result


def _stage(row: Table) -> CropStage:
    stage = CropStage(
        crop=row.text("crop").strip().lower(),
        name=row.text("name"),
        from_day=int(row.number("from_day")),
        to_day=int(row.number("to_day")),
        source=row.text("source"),
    )
    if stage.to_day <= stage.from_day:
        raise BadRequestError(f"{row.where}: {stage.name} ends before it begins.", hint="Let to_day be later.")
    row.finish()
    return stage


__all__ = ["OVER", "AlertRules", "CropStage", "load_alert_rules", "rule_as_dict", "rule_from_dict", "stage_at"]
