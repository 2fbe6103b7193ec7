"""What every rule said of every farm and day: the ground alerts are computed from, inside their transaction."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from itertools import batched

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Insert

from farm_intel.domain.alerts import Evaluation, RuleVerdict
from farm_intel.storage.alert_rows import evaluation_of
from farm_intel.storage.alert_tables import alert_evaluations as table

_FARMS_PER_STATEMENT = 500
"""Below every database's limit of parameters."""
_LATEST_DAYS = 10

type _Key = tuple[str, str, date]
"""Farm, rule and day."""


def news(connection: Connection, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Return what says something new of any farms; the same fingerprint again is nothing.

    Of two for one farm, rule and day the later in the sequence counts. One without a fingerprint is always new.
    """
    latest = {_key(one): one for one in evaluations}
    return _new(latest, _known(connection, list(latest.values())))


def record(
    connection: Connection, evaluations: Sequence[Evaluation], *, now: datetime
) -> tuple[list[Evaluation], dict[str, date]]:
    """Store what one farm's evaluations say anew.

    Returns:
        What was new, see `news`; and rule -> earliest day whose verdict is another one now, where an unknown is as good
        as none.

    """
    latest = {_key(one): one for one in evaluations}
    known = _known(connection, list(latest.values()))
    new = _new(latest, known)
    if new:
        connection.execute(_upsert(connection), [_values(evaluation, now) for evaluation in new])
    turned: dict[str, date] = {}
    for one in new:
        _, before = known.get(_key(one), ("", RuleVerdict.UNKNOWN))
        if one.verdict is not before:
            turned[one.rule] = min(turned.get(one.rule, one.day), one.day)
    return new, turned


def _new(latest: Mapping[_Key, Evaluation], known: Mapping[_Key, tuple[str, RuleVerdict]]) -> list[Evaluation]:
    return [one for key, one in latest.items() if not one.fingerprint or known.get(key, ("",))[0] != one.fingerprint]


def _key(evaluation: Evaluation) -> _Key:
    return evaluation.farm_id, evaluation.rule, evaluation.day


def _upsert(connection: Connection) -> Insert:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement: postgresql.Insert | sqlite.Insert = dialect.insert(table)
    new = statement.excluded
    return statement.on_conflict_do_update(
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


def verdicts(
    connection: Connection, farm_id: str, rules: Collection[str], *, since: date
) -> dict[str, list[Evaluation]]:
    """Return rule -> what it said of a farm from a day on, ascending, without unknowns and what it rests on.

    The evidence is most of a row, and unknown days are most rows; folding does without both.
    """
    columns = (table.c.rule, table.c.day, table.c.verdict, table.c.value, table.c.threshold, table.c.fingerprint)
    query = select(*columns).where(
        table.c.farm_id == farm_id,
        table.c.rule.in_(rules),
        table.c.day >= since,
        table.c.verdict != RuleVerdict.UNKNOWN.value,
    )
    found: dict[str, list[Evaluation]] = defaultdict(list)
    for rule, day, verdict, value, threshold, fingerprint in connection.execute(
        query.order_by(table.c.rule, table.c.day)
    ):
        evaluation = Evaluation(
            farm_id=farm_id,
            rule=rule,
            day=day,
            verdict=RuleVerdict(verdict),
            value=value,
            threshold=threshold,
            fingerprint=fingerprint,
        )
        found[rule].append(evaluation)
    return found


def last_recorded(connection: Connection, farm_id: str, rule: str, *, before: datetime) -> datetime | None:
    """Return when the latest days of a rule were recorded last, but before an instant; None where they were not."""
    latest = (
        select(table.c.recorded_at)
        .where(table.c.farm_id == farm_id, table.c.rule == rule)
        .order_by(table.c.day.desc())
        .limit(_LATEST_DAYS)
    )
    return max((at for at in connection.scalars(latest) if at < before), default=None)


def _known(connection: Connection, evaluations: Sequence[Evaluation]) -> dict[_Key, tuple[str, RuleVerdict]]:
    """Return fingerprint and verdict of what is stored of the farms, rules and days."""
    found: dict[_Key, tuple[str, RuleVerdict]] = {}
    if not evaluations:
        return found
    days = [evaluation.day for evaluation in evaluations]
    columns = (table.c.farm_id, table.c.rule, table.c.day, table.c.fingerprint, table.c.verdict)
    query = select(*columns).where(
        table.c.rule.in_({evaluation.rule for evaluation in evaluations}),
        table.c.day.between(min(days), max(days)),
    )
    for farm_ids in batched(sorted({evaluation.farm_id for evaluation in evaluations}), _FARMS_PER_STATEMENT):
        for farm_id, rule, day, fingerprint, verdict in connection.execute(query.where(table.c.farm_id.in_(farm_ids))):
            found[farm_id, rule, day] = fingerprint, RuleVerdict(verdict)
    return found


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
