"""The logbook: unplanned work, what explains a change, and its exports read back by other means."""

from __future__ import annotations

import csv
import io
import json
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from farm_intel.activities.logbook import Work, to_csv
from farm_intel.domain.activities import Answer
from farm_intel.domain.errors import BadRequestError
from farm_intel_tests.activities.kit import START, Bench, Draft


def written(engine: Engine) -> Bench:
    bench = Bench(engine)
    plan = bench.service.plans.create(Draft(acknowledge=True, title='Water, "twice"'), by="joe")
    bench.clock.advance(2 * 3600)
    bench.pump()
    first, second = bench.rows()
    now = bench.clock.now()
    done = Answer(done=True, by="amina", at=now, quantities={"amount_mm": 15.5, "method": "drip"}, note="=HYPERLINK()")
    bench.service.answer(plan.activity_id, first.due_at, done)
    bench.service.answer(plan.activity_id, second.due_at, Answer(done=False, by="juma", at=now, reason="rain\nall day"))
    bench.service.logbook.log(
        Work(
            farm_id="farm-2",
            type="scouting",
            title="A look",
            done_at=now - timedelta(hours=1),
            by="amina",
            quantities={"finding": "nothing"},
            photo="p7",
        )
    )
    return bench


def test_csv_reads_back_as_it_was_and_holds_no_formula(engine: Engine) -> None:
    entries = written(engine).service.logbook.entries()
    lines = list(csv.DictReader(io.StringIO(to_csv(entries), newline="")))
    assert len(lines) == 3
    by_done = {(line["farm_id"], line["done"]): line for line in lines}
    done = by_done["farm-1", "yes"]
    assert json.loads(done["quantities"]) == {"amount_mm": 15.5, "method": "drip"}
    assert done["title"] == 'Water, "twice"'
    assert done["note"] == "'=HYPERLINK()"
    assert done["done_at"] == "2026-06-30T14:00:00+00:00"
    assert by_done["farm-1", "no"]["reason"] == "rain\nall day"
    assert by_done["farm-2", "yes"]["due_at"] == by_done["farm-2", "yes"]["activity_id"] == ""


def test_farmos_document_stands_by_itself(engine: Engine) -> None:
    logbook = written(engine).service.logbook
    text = logbook.farmos(logbook.entries())
    document = json.loads(text)
    logs = document["data"]
    assert sorted((log["type"], log["attributes"]["status"]) for log in logs) == [
        ("log--input", "abandoned"),
        ("log--input", "done"),
        ("log--observation", "done"),
    ]
    there = {(resource["type"], resource["id"]) for resource in document["included"]}
    assert len(there) == len(document["included"])
    resources = logs + document["included"]
    pointed_to = [
        (target["type"], target["id"])
        for resource in resources
        for relation in resource.get("relationships", {}).values()
        for target in (relation["data"] if isinstance(relation["data"], list) else [relation["data"]])
    ]
    assert pointed_to
    assert set(pointed_to) <= there
    assert all(uuid.UUID(resource["id"]).version == 5 for resource in resources)
    (quantity,) = [resource for resource in document["included"] if resource["type"] == "quantity--standard"]
    assert quantity["attributes"] == {"label": "amount_mm", "value": {"decimal": "15.5"}}
    (unit,) = [resource for resource in document["included"] if resource["type"] == "taxonomy_term--unit"]
    assert unit["attributes"]["name"] == "mm"
    done = next(log for log in logs if log["type"] == "log--input" and log["attributes"]["status"] == "done")
    assert done["attributes"]["timestamp"] == "2026-06-30T14:00:00+00:00"
    assert done["attributes"]["notes"]["value"] == "=HYPERLINK()\nmethod: drip\nBy: amina"
    assert logbook.farmos(logbook.entries()) == text  # ids do not change from export to export


def test_only_work_that_was_done_there_and_then_explains_a_change(engine: Engine) -> None:
    logbook = written(engine).service.logbook
    assert [entry.by for entry in logbook.explaining("farm-1", START, START + timedelta(hours=3))] == ["amina"]
    assert logbook.explaining("farm-1", START, START + timedelta(hours=2)) == []  # the end is exclusive
    assert [entry.photo for entry in logbook.explaining("farm-2", START, START + timedelta(hours=3))] == ["p7"]


def test_work_to_come_or_of_no_known_type_is_refused(sqlite_engine: Engine) -> None:
    logbook = Bench(sqlite_engine).service.logbook
    with pytest.raises(BadRequestError, match="to come"):
        logbook.log(Work(farm_id="f", type="scouting", title="x", done_at=START + timedelta(seconds=1), by="a"))
    with pytest.raises(BadRequestError, match="no activity type"):
        logbook.log(Work(farm_id="f", type="dancing", title="x", done_at=START, by="a"))
    with pytest.raises(BadRequestError, match="lacks amount_mm"):
        logbook.log(Work(farm_id="f", type="irrigation", title="x", done_at=START, by="a"))
    assert logbook.entries() == []
