"""Between the rows of activities and their values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping

from farm_intel.domain.activities import (
    Activity,
    Answer,
    FormValue,
    LogEntry,
    Misfire,
    Occurrence,
    OccurrenceState,
    Overlap,
    Schedule,
    ScheduleKind,
)

type Columns = RowMapping
"""Values of a row by column."""


def activity_columns(activity: Activity) -> dict[str, Any]:
    """Return the columns of a plan, `next_due` aside: it is not part of the plan."""
    schedule = activity.schedule
    return {
        "activity_id": activity.activity_id,
        "farm_id": activity.farm_id,
        "type": activity.type,
        "title": activity.title,
        "schedule_kind": schedule.kind.value,
        "schedule_text": schedule.text,
        "start": schedule.start,
        "until": schedule.until,
        "time_zone": schedule.time_zone,
        "form": json.dumps(dict(activity.form)),
        "assignee": activity.assignee,
        "catchup_window_s": activity.catchup_window.total_seconds(),
        "misfire": activity.misfire.value,
        "overlap": activity.overlap.value,
        "max_attempts": activity.max_attempts,
        "acknowledge": activity.acknowledge,
        "acknowledge_within_s": activity.acknowledge_within.total_seconds(),
        "paused": activity.paused,
        "paused_until": activity.paused_until,
        "pause_note": activity.pause_note,
        "active": activity.active,
        "high_water": activity.high_water,
        "version": activity.version,
        "event_key": activity.event_key,
        "evidence": json.dumps(dict(activity.evidence)),
        "created_by": activity.created_by,
        "created_at": activity.created_at,
        "changed_at": activity.changed_at,
    }


def parse_activity(row: Columns) -> Activity:
    """Return the plan of a row."""
    return Activity(
        activity_id=row["activity_id"],
        farm_id=row["farm_id"],
        type=row["type"],
        title=row["title"],
        schedule=Schedule(
            kind=ScheduleKind(row["schedule_kind"]),
            text=row["schedule_text"],
            start=row["start"],
            time_zone=row["time_zone"],
            until=row["until"],
        ),
        form=json.loads(row["form"]),
        assignee=row["assignee"],
        catchup_window=timedelta(seconds=row["catchup_window_s"]),
        misfire=Misfire(row["misfire"]),
        overlap=Overlap(row["overlap"]),
        max_attempts=row["max_attempts"],
        acknowledge=row["acknowledge"],
        acknowledge_within=timedelta(seconds=row["acknowledge_within_s"]),
        paused=row["paused"],
        paused_until=row["paused_until"],
        pause_note=row["pause_note"],
        active=row["active"],
        high_water=row["high_water"],
        version=row["version"],
        event_key=row["event_key"],
        evidence=json.loads(row["evidence"]),
        created_by=row["created_by"],
        created_at=row["created_at"],
        changed_at=row["changed_at"],
    )


def occurrence_columns(occurrence: Occurrence) -> dict[str, Any]:
    """Return the columns of an occurrence."""
    return {
        "activity_id": occurrence.activity_id,
        "due_at": occurrence.due_at,
        "farm_id": occurrence.farm_id,
        "type": occurrence.type,
        "local_date": occurrence.local_date,
        "local_time": occurrence.local_time,
        "time_zone": occurrence.time_zone,
        "state": occurrence.state.value,
        "reason": occurrence.reason,
        "not_before": occurrence.not_before,
        "lease_until": occurrence.lease_until,
        "token": occurrence.token,
        "worker": occurrence.worker,
        "attempt": occurrence.attempt,
        "activity_version": occurrence.activity_version,
        "title": occurrence.title,
        "form": json.dumps(dict(occurrence.form)),
        "assignee": occurrence.assignee,
        "acknowledge_by": occurrence.acknowledge_by,
        "answer": answer_text(occurrence.answer),
        "run_id": occurrence.run_id,
        "backfilled": occurrence.backfilled,
        "traceparent": occurrence.traceparent,
        "error": occurrence.error,
        "created_at": occurrence.created_at,
        "changed_at": occurrence.changed_at,
    }


def parse_occurrence(row: Columns) -> Occurrence:
    """Return the occurrence of a row."""
    return Occurrence(
        activity_id=row["activity_id"],
        due_at=row["due_at"],
        farm_id=row["farm_id"],
        type=row["type"],
        local_date=row["local_date"],
        local_time=row["local_time"],
        time_zone=row["time_zone"],
        state=OccurrenceState(row["state"]),
        reason=row["reason"],
        not_before=row["not_before"],
        lease_until=row["lease_until"],
        token=row["token"],
        worker=row["worker"],
        attempt=row["attempt"],
        activity_version=row["activity_version"],
        title=row["title"],
        form=json.loads(row["form"]),
        assignee=row["assignee"],
        acknowledge_by=row["acknowledge_by"],
        answer=_parse_answer(row["answer"]),
        run_id=row["run_id"],
        backfilled=row["backfilled"],
        traceparent=row["traceparent"],
        error=row["error"],
        created_at=row["created_at"],
        changed_at=row["changed_at"],
    )


def entry_columns(entry: LogEntry) -> dict[str, Any]:
    """Return the columns of a line of the logbook; work nobody planned has no activity."""
    return {
        "entry_id": entry.entry_id,
        "farm_id": entry.farm_id,
        "type": entry.type,
        "title": entry.title,
        "done": entry.done,
        "done_at": entry.done_at,
        "by": entry.by,
        "quantities": json.dumps(dict(entry.quantities)),
        "reason": entry.reason,
        "note": entry.note,
        "photo": entry.photo,
        "activity_id": entry.activity_id or None,
        "due_at": entry.due_at,
        "event_key": entry.event_key,
        "recorded_at": entry.recorded_at,
    }


def parse_entry(row: Columns) -> LogEntry:
    """Return the line of the logbook of a row."""
    return LogEntry(
        entry_id=row["entry_id"],
        farm_id=row["farm_id"],
        type=row["type"],
        title=row["title"],
        done=row["done"],
        done_at=row["done_at"],
        by=row["by"],
        quantities=json.loads(row["quantities"]),
        reason=row["reason"],
        note=row["note"],
        photo=row["photo"],
        activity_id=row["activity_id"] or "",
        due_at=row["due_at"],
        event_key=row["event_key"],
        recorded_at=row["recorded_at"],
    )


def answer_text(answer: Answer | None) -> str | None:
    """Return an answer as JSON."""
    if answer is None:
        return None
    return json.dumps(
        {
            "done": answer.done,
            "by": answer.by,
            "at": answer.at.isoformat(),
            "reason": answer.reason,
            "quantities": dict(answer.quantities),
            "note": answer.note,
            "photo": answer.photo,
        }
    )


def _parse_answer(text: str | None) -> Answer | None:
    if text is None:
        return None
    values: dict[str, Any] = json.loads(text)
    quantities: Mapping[str, FormValue] = values["quantities"]
    return Answer(
        done=values["done"],
        by=values["by"],
        at=datetime.fromisoformat(values["at"]),
        reason=values["reason"],
        quantities=quantities,
        note=values["note"],
        photo=values["photo"],
    )
