"""What every rule said of every farm and day: the ground alerts are computed from, inside their transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime
from itertools import batched

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from farm_intel.domain.alerts import Evaluation, RuleVerdict
from farm_intel.storage.alert_rows import evaluation_of
from farm_intel.storage.alert_tables import alert_evaluations as table

_ROWS_PER_STATEMENT = 500
"""Nine columns each: far below every database's limit of parameters."""


def record(connection: Connection, evaluations: Sequence[Evaluation], *, now: datetime) -> list[Evaluation]:
    """Store what one farm's evaluations say anew and return those; the same fingerprint again is nothing.

    Of two for one rule and day the later in the sequence counts. An evaluation without a fingerprint is always new.
    """
    latest = {(evaluation.rule, evaluation.day): evaluation for evaluation in evaluations}
    known = _fingerprints(connection, list(latest.values()))
    changed = [
        evaluation
        for key, evaluation in latest.items()
        if not evaluation.fingerprint or known.get(key) != evaluation.fingerprint
    ]
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    for chunk in batched(changed, _ROWS_PER_STATEMENT):
        statement = dialect.insert(table).values([_values(evaluation, now) for evaluation in chunk])
        new = statement.excluded
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["farm_id", "rule", "day"],
                set_={
                    "verdict": new.verdict,
                    "value": new.value,
                    "threshold": new.threshold,
                    "evidence": new.evidence,
                    "fingerprint": new.fingerprint,
                    "recorded_at": new.recorded_at,
                },
            )
        )
    return changed


def of_rule(
    connection: Connection, farm_id: str, rule: str, *, start: date | None = None, end: date | None = None
) -> list[Evaluation]:
    """Return the evaluations of a rule on a farm, ascending by day; both ends included."""
    query = select(table).where(table.c.farm_id == farm_id, table.c.rule == rule).order_by(table.c.day)
    if start is not None:
        query = query.where(table.c.day >= start)
    if end is not None:
        query = query.where(table.c.day <= end)
    return [evaluation_of(row) for row in connection.execute(query)]


def verdicts(connection: Connection, farm_id: str, rule: str) -> list[Evaluation]:
    """Return everything a rule said of a farm without what it rests on, ascending by day.

    The evidence is most of a row; folding years of looks does without.
    """
    columns = (table.c.day, table.c.verdict, table.c.value, table.c.threshold, table.c.fingerprint)
    query = select(*columns).where(table.c.farm_id == farm_id, table.c.rule == rule).order_by(table.c.day)
    return [
        Evaluation(
            farm_id=farm_id,
            rule=rule,
            day=day,
            verdict=RuleVerdict(verdict),
            value=value,
            threshold=threshold,
            fingerprint=fingerprint,
        )
        for day, verdict, value, threshold, fingerprint in connection.execute(query)
    ]


def _fingerprints(connection: Connection, evaluations: Sequence[Evaluation]) -> dict[tuple[str, date], str]:
    if not evaluations:
        return {}
    days = [evaluation.day for evaluation in evaluations]
    query = select(table.c.rule, table.c.day, table.c.fingerprint).where(
        table.c.farm_id == evaluations[0].farm_id,
        table.c.rule.in_({evaluation.rule for evaluation in evaluations}),
        table.c.day.between(min(days), max(days)),
    )
    return {(row.rule, row.day): row.fingerprint for row in connection.execute(query)}


def _values(evaluation: Evaluation, now: datetime) -> dict[str, object]:
    return {
        "farm_id": evaluation.farm_id,
        "rule": evaluation.rule,
        "day": evaluation.day,
        "verdict": evaluation.verdict.value,
        "value": evaluation.value,
        "threshold": evaluation.threshold,
        "evidence": json.dumps(evaluation.evidence, sort_keys=True),
        "fingerprint": evaluation.fingerprint,
        "recorded_at": now,
    }
