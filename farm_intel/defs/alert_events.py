"""What the alert rules say of a farm on a day, told per cell with the check that shows it on the page."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from hashlib import sha256

import dagster as dg

from farm_intel.defs import compat
from farm_intel.defs.blocks import Cell, group_cells
from farm_intel.defs.cell_events import CellCheck, CellEvent, CellLedger, CellRecord, Metadata
from farm_intel.defs.groups import CohortGroup
from farm_intel.defs.partitions import partition_key
from farm_intel.defs.ports import FarmIntel
from farm_intel.domain.alerts import Alert, AlertRule, Evaluation, RuleVerdict, Severity

ALERTS = "alerts"
NO_ALERT = "no_alert"
NO_ALERT_DESCRIPTION = (
    "Per cell: no alert rule holds. WARN where one of severity info or warning does, ERROR where a critical one does."
)
FARMS_AT_ONCE = 20
"""Farms evaluated together: bounds what is held in memory over long blocks."""
NAMED = 30
"""Cells, scenes and rasters listed in an event; the store has them all."""
ORDER = (
    RuleVerdict.HOLDS,
    RuleVerdict.EXPLAINED,
    RuleVerdict.BETWEEN,
    RuleVerdict.CLEAR,
    RuleVerdict.UNKNOWN,
)
"""In which order verdicts are listed: what matters first."""
LINEAGE = ("cells", "scenes", "rasters")
"""Lists of an evaluation's evidence that say what it was made from."""
GONE_RULE = "the rule is no longer in the table"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertTeller:
    """Tells what the rules say of the cells of one cohort in one run."""

    group: CohortGroup
    container: FarmIntel
    ledger: CellLedger
    complete: bool = False
    """Record cells nothing can be said of too: a backfill waits for an event of everything it asked for."""

    @property
    def asset_key(self) -> dg.AssetKey:
        """The cohort's alert asset."""
        return alert_key(self.group)

    def tell(self, cells: Sequence[Cell]) -> Iterator[CellEvent]:
        """Evaluate the cells, let alerts open and resolve, and yield the events of what changed or was never told."""
        for block in group_cells(cells):
            for first in range(0, len(block.farm_ids), FARMS_AT_ONCE):
                yield from self._block(block.farm_ids[first : first + FARMS_AT_ONCE], block.days)

    def _block(self, farm_ids: Sequence[str], days: Sequence[date]) -> Iterator[CellEvent]:
        found: dict[Cell, list[Evaluation]] = {(day, farm_id): [] for day in days for farm_id in farm_ids}
        asked = set(found)
        for evaluation in self.container.alerts.evaluate(farm_ids, start=min(days), end=max(days)):
            found.setdefault((evaluation.day, evaluation.farm_id), []).append(evaluation)
        # not what the store knew before: a run that died after the store did and before its events left them stale
        told = compat.told_versions(self.ledger.instance, self.asset_key, [partition_key(*cell) for cell in found])
        for cell, evaluations in sorted(found.items()):
            record = self._record(cell, evaluations)
            changed = told.get(record.partition) != record.data_version
            if self._is_told(evaluations, before=record.partition in told) and (changed or cell in asked):
                yield from self.ledger.record(replace(record, changed=changed or self.complete))

    def _is_told(self, evaluations: Sequence[Evaluation], *, before: bool) -> bool:
        """Return whether a cell has an event: one nothing can be said of only where the old event would stand."""
        return before or self.complete or any(one.verdict is not RuleVerdict.UNKNOWN for one in evaluations)

    def _record(self, cell: Cell, evaluations: Sequence[Evaluation]) -> CellRecord:
        (day, farm_id), alerts = cell, self.container.alerts
        return CellRecord(
            asset_key=self.asset_key,
            partition=partition_key(day, farm_id),
            changed=True,
            describe=lambda: describe_alerts(evaluations, alerts.rules, alerts.of_day(farm_id, day)),
            data_version=data_version(evaluations),
            check=judge_alerts(evaluations, alerts.rules),
        )


def alert_key(group: CohortGroup) -> dg.AssetKey:
    """Return the key of a cohort's alert asset."""
    return group.asset_key(ALERTS, "farm")


def data_version(evaluations: Sequence[Evaluation]) -> str:
    """Return a hash that changes with any of the evaluations."""
    parts = sorted(f"{one.rule}={one.verdict.value}:{one.fingerprint}" for one in evaluations)
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def judge_alerts(evaluations: Sequence[Evaluation], rules: Mapping[str, AlertRule]) -> CellCheck:
    """Return the check of a cell: it passes while no rule holds."""
    holding = sorted(
        (one for one in evaluations if one.verdict is RuleVerdict.HOLDS),
        key=lambda one: (-_severity(one, rules), one.rule),
    )
    metadata: dict[str, str | bool | int | float] = {"rules_that_hold": len(holding)}
    if holding:
        metadata["severity"] = _severity(holding[0], rules).name.lower()
        metadata["rules"] = ", ".join(one.rule for one in holding)
        metadata["because"] = "; ".join(_because(one, rules) for one in holding)
    critical = bool(holding) and _severity(holding[0], rules) is Severity.CRITICAL
    return CellCheck(
        name=NO_ALERT,
        passed=not holding,
        severity=dg.AssetCheckSeverity.ERROR if critical else dg.AssetCheckSeverity.WARN,
        metadata=metadata,
    )


def describe_alerts(
    evaluations: Sequence[Evaluation], rules: Mapping[str, AlertRule], alerts: Sequence[Alert]
) -> Metadata:
    """Return the metadata of a cell: what each rule says and why, the alerts of the day, what it rests on."""
    counts = {verdict: sum(one.verdict is verdict for one in evaluations) for verdict in ORDER}
    metadata: dict[str, dg.MetadataValue | str | bool | int | float] = {
        verdict.value: counts[verdict] for verdict in ORDER if verdict is not RuleVerdict.BETWEEN or counts[verdict]
    }
    if len(evaluations) == counts[RuleVerdict.UNKNOWN]:
        metadata["note"] = "nothing could be evaluated: no usable look"
    metadata["rules"] = dg.MetadataValue.md(_rules_table(evaluations, rules))
    metadata["alerts"] = dg.MetadataValue.md(_alerts_table(alerts))
    told = [one for one in evaluations if one.verdict is not RuleVerdict.UNKNOWN]
    for kind in LINEAGE:
        if names := _named_in(told, kind):
            metadata[kind] = dg.MetadataValue.md(_listed(names))
    return metadata


def _severity(evaluation: Evaluation, rules: Mapping[str, AlertRule]) -> Severity:
    rule = rules.get(evaluation.rule)
    return rule.severity if rule else Severity.WARNING


def _because(evaluation: Evaluation, rules: Mapping[str, AlertRule]) -> str:
    rule = rules.get(evaluation.rule)
    measured = f"{_number(evaluation.value)} against {_number(evaluation.threshold)}"
    return f"{evaluation.rule}: {measured} ({rule.source if rule else GONE_RULE})"


def _rules_table(evaluations: Sequence[Evaluation], rules: Mapping[str, AlertRule]) -> str:
    ordered = sorted(evaluations, key=lambda one: (ORDER.index(one.verdict), -_severity(one, rules), one.rule))
    rows = []
    for one in ordered:
        rule = rules.get(one.rule)
        rows.append(
            f"| {one.rule} | {one.verdict.value} | {_number(one.value)} | {_number(one.threshold)} "
            f"| {_severity(one, rules).name.lower()} | {plain(rule.source if rule else GONE_RULE)} "
            f"| {plain(str(one.evidence.get('note', '')))} |"
        )
    head = ["| rule | says | value | threshold | severity | source | note |", "|---|---|---|---|---|---|---|"]
    return "\n".join([*head, *rows])


def _alerts_table(alerts: Sequence[Alert]) -> str:
    if not alerts:
        return "none"
    rows = [
        f"| `{one.alert_id}` | {one.rule} | {one.severity.name.lower()} | {one.state.value} | {one.opened_day} "
        f"| {plain(one.reason)} |"
        for one in alerts
    ]
    head = ["| alert | rule | severity | state | since | reason |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *rows])


def _named_in(evaluations: Sequence[Evaluation], kind: str) -> list[str]:
    names: dict[str, None] = {}
    for one in evaluations:
        listed = one.evidence.get(kind)
        if isinstance(listed, Collection) and not isinstance(listed, str | Mapping):
            names |= dict.fromkeys(_name(item) for item in listed)
    return list(names)


def _name(item: object) -> str:
    """Return an item of a lineage in words; a raster says whose it is, its address and its band."""
    return " ".join(map(str, item.values())) if isinstance(item, Mapping) else str(item)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    lines = [f"- `{name}`" for name in names[:NAMED]]
    return "\n".join([*lines, f"- and {more} more"] if more > 0 else lines)


def plain(text: str) -> str:
    """Return text that does not break a table."""
    return " ".join(text.replace("|", "/").split())


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
