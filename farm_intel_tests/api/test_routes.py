"""The routes: who may what, what is refused, and that every refusal is a problem document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from farm_intel.api.problems import ERROR_STATUS, KINDS, problem_of
from farm_intel.api.serving import listen
from farm_intel.domain import errors
from farm_intel.domain.activities import IllegalTransitionError, OccurrenceState
from farm_intel.domain.alerts import AlertState
from farm_intel.domain.errors import NotConfiguredError, ThrottledError
from farm_intel.domain.messages import MessageState
from farm_intel_tests.api.support import FakeAlerts, World, bearer

ROUTES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "/v1/alerts", None),
    ("GET", "/v1/alerts/al_1", None),
    ("POST", "/v1/alerts/al_1/acknowledge", {"note": "seen"}),
    ("POST", "/v1/alerts/al_1/snooze", {"until": "2099-01-01T00:00:00Z"}),
    ("POST", "/v1/alerts/al_1/resolve", {"reason": "it rained"}),
    ("POST", "/v1/occurrences/act_1/2026-06-30T12:00:00+00:00/answer", {"done": True}),
    ("GET", "/v1/occurrences/dead-letters", None),
    ("POST", "/v1/occurrences/act_1/2026-06-30T12:00:00+00:00/replay", None),
    ("POST", "/v1/occurrences/act_1/2026-06-30T12:00:00+00:00/drop", {"note": "too late"}),
    ("GET", "/v1/outbox?state=dead", None),
    ("POST", "/v1/outbox/msg_1/replay", None),
    ("POST", "/v1/outbox/msg_1/drop", {"note": "the address is gone"}),
    ("GET", f"/v1/audio/{'a' * 64}", None),
    ("POST", "/v1/stream/tickets", None),
    ("GET", "/v1/events", None),
]


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    with TestClient(world.app(), raise_server_exceptions=False) as client:
        yield client


def is_problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["title"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    return body


class TestWhoMay:
    def test_the_table_above_has_every_route(self, world: World) -> None:
        paths = {route.path for route in _routes(world)}

        assert len(ROUTES) == len(paths - {"/v1/health", "/v1/problems/{slug}"})

    @pytest.mark.parametrize(("method", "path", "body"), ROUTES)
    @pytest.mark.parametrize(
        "headers", [{}, {"Authorization": "Bearer guess"}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}]
    )
    def test_nobody_gets_anything(
        self, client: TestClient, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> None:
        answer = client.request(method, path, json=body, headers=headers)

        is_problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize(("method", "path", "body"), ROUTES)
    def test_without_tokens_everybody_is_nobody(self, world: World, method: str, path: str, body: Any) -> None:
        world.tokens = {}
        with TestClient(world.app()) as client:
            is_problem(client.request(method, path, json=body, headers=bearer("anna")), 401)

    @pytest.mark.parametrize(
        ("method", "path", "body"), [row for row in ROUTES if "/al_1" in row[1] or "/act_1" in row[1]]
    )
    def test_what_is_not_theirs_does_not_exist(
        self, world: World, client: TestClient, method: str, path: str, body: Any
    ) -> None:
        world.grants.revoked.add(("anna", "farm-a"))
        hidden = is_problem(client.request(method, path, json=body, headers=bearer("anna")), 404)
        unknown_path = path.replace("al_1", "al_9").replace("act_1", "act_9")
        unknown = is_problem(client.request(method, unknown_path, json=body, headers=bearer("anna")), 404)

        assert hidden["detail"] == unknown["detail"].replace("al_9", "al_1").replace("act_9", "act_1")
        assert world.alerts.notes == []
        assert world.activities.waiting.state is OccurrenceState.WAITING

    def test_lists_hold_only_what_is_theirs(self, world: World, client: TestClient) -> None:
        world.grants.revoked.add(("anna", "farm-b"))

        alerts = client.get("/v1/alerts", headers=bearer("anna")).json()["alerts"]

        assert [alert["alert_id"] for alert in alerts] == ["al_1"]

    @pytest.mark.parametrize(("method", "path", "body"), [row for row in ROUTES if "/outbox" in row[1]])
    def test_the_outbox_is_for_operators(
        self, world: World, client: TestClient, method: str, path: str, body: Any
    ) -> None:
        is_problem(client.request(method, path, json=body, headers=bearer("anna")), 403)
        assert world.outbox.letter.state is MessageState.DEAD
        assert client.request(method, path, json=body, headers=bearer("olga")).status_code == 200

    def test_no_address_and_no_secret_is_shown(self, client: TestClient) -> None:
        text = client.get("/v1/outbox?state=dead", headers=bearer("olga")).text

        assert "msg_1" in text
        assert "very-secret" not in text


class TestEffects:
    def test_an_alert_is_acknowledged_once_resolved_it_is_over(self, world: World, client: TestClient) -> None:
        def post(verb: str, body: dict[str, str]) -> Any:
            return client.post(f"/v1/alerts/al_1/{verb}", json=body, headers=bearer("anna"))

        assert post("acknowledge", {"note": "seen"}).json()["state"] == "acknowledged"
        assert post("snooze", {"until": "2099-01-01T00:00:00+03:00"}).json()["state"] == "snoozed"
        is_problem(post("snooze", {"until": "2001-01-01T00:00:00Z"}), 400)
        assert post("resolve", {"reason": "rain"}).json()["state"] == "resolved"
        assert "nothing: it is over" in is_problem(post("acknowledge", {}), 409)["detail"]
        assert [note[1:] for note in world.alerts.notes] == [("anna", "seen"), ("anna", ""), ("anna", "rain")]

    def test_alerts_are_filtered(self, world: World, client: TestClient) -> None:
        world.alerts.acknowledge("al_2", "anna", "")
        answer = client.get("/v1/alerts?state=acknowledged&state=snoozed", headers=bearer("anna"))

        assert [alert["alert_id"] for alert in answer.json()["alerts"]] == ["al_2"]
        assert AlertState(answer.json()["alerts"][0]["state"]) is AlertState.ACKNOWLEDGED

    def test_alerts_come_in_pages(self, client: TestClient) -> None:
        first = client.get("/v1/alerts?limit=1", headers=bearer("anna")).json()
        second = client.get(f"/v1/alerts?limit=1&cursor={first['next']}", headers=bearer("anna")).json()

        assert [page["alerts"][0]["alert_id"] for page in (first, second)] == ["al_1", "al_2"]
        assert second["next"] == ""

    def test_pages_are_full_whatever_is_hidden(self, world: World, client: TestClient) -> None:
        world.grants.revoked.add(("anna", "farm-a"))
        page = client.get("/v1/alerts?limit=1", headers=bearer("anna")).json()

        assert ([alert["alert_id"] for alert in page["alerts"]], page["next"]) == (["al_2"], "")
        hidden = client.get("/v1/alerts?farm_id=farm-a", headers=bearer("anna")).json()
        assert (hidden["alerts"], hidden["next"]) == ([], "")

    def test_an_occurrence_is_answered_by_who_asks_at_the_servers_time(self, world: World, client: TestClient) -> None:
        path = "/v1/occurrences/act_1/2026-06-30T15:00:00+03:00/answer"
        body = {"done": True, "quantities": {"amount_mm": 18.5, "kind": "drip", "all": True}, "note": "ok"}

        answer = client.post(path, json=body, headers=bearer("anna"))

        assert answer.json()["state"] == "done"
        given = world.activities.waiting.answer
        assert given is not None
        assert (given.by, dict(given.quantities)) == ("anna", body["quantities"])
        assert abs((given.at - world.clock.now()).total_seconds()) < 60
        is_problem(client.post(path, json=body, headers=bearer("anna")), 409)

    def test_an_occurrence_given_up_is_read_replayed_and_dropped(self, world: World, client: TestClient) -> None:
        path = "/v1/occurrences/act_1/2026-06-30T12:00:00Z"
        listing = "/v1/occurrences/dead-letters"
        assert client.get(listing, headers=bearer("anna")).json() == []
        is_problem(client.post(f"{path}/replay", headers=bearer("anna")), 409)

        world.activities.waiting = replace(world.activities.waiting, state=OccurrenceState.FAILED)
        assert [row["activity_id"] for row in client.get(listing, headers=bearer("anna")).json()] == ["act_1"]
        assert client.post(f"{path}/replay", headers=bearer("anna")).json()["state"] == "due"

        world.activities.waiting = replace(world.activities.waiting, state=OccurrenceState.FAILED)
        dropped = client.post(f"{path}/drop", json={"note": "too late"}, headers=bearer("anna")).json()
        assert (dropped["state"], dropped["reason"]) == ("skipped", "dropped by anna: too late")

    def test_a_dead_letter_is_replayed(self, world: World, client: TestClient) -> None:
        assert client.post("/v1/outbox/msg_1/replay", headers=bearer("olga")).json()["state"] == "pending"
        assert client.get("/v1/outbox?state=dead", headers=bearer("olga")).json() == {"messages": []}
        is_problem(client.post("/v1/outbox/msg_2/drop", json={"note": "x"}, headers=bearer("olga")), 404)


class TestBadRequests:
    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/v1/alerts/al_1/acknowledge", {"note": "x", "by": "ben"}),
            ("/v1/alerts/al_1/acknowledge", {"note": "nul \x00 byte"}),
            ("/v1/alerts/al_1/acknowledge", {"note": "x" * 2001}),
            ("/v1/alerts/al_1/acknowledge", []),
            ("/v1/alerts/al_1/snooze", {"until": "2099-01-01T00:00:00"}),
            ("/v1/alerts/al_1/snooze", {"until": "0001-01-01T00:00:00+14:00"}),
            ("/v1/alerts/al_1/snooze", {}),
            ("/v1/alerts/al_1/resolve", {"reason": ""}),
            ("/v1/alerts/al%001/resolve", {"reason": "x"}),
            (f"/v1/alerts/{'x' * 65}/resolve", {"reason": "x"}),
            ("/v1/occurrences/act_1/yesterday/answer", {"done": True}),
            ("/v1/occurrences/act_1/2026-06-30T12:00:00/answer", {"done": True}),
            ("/v1/occurrences/act_1/2026-06-30T12:00:00Z/answer", {"done": False}),
            ("/v1/occurrences/act_1/2026-06-30T12:00:00Z/answer", {"done": True, "at": "2001-01-01T00:00:00Z"}),
            ("/v1/occurrences/act_1/2026-06-30T12:00:00Z/answer", {"done": True, "quantities": {"a b": 1}}),
            ("/v1/occurrences/act_1/2026-06-30T12:00:00Z/answer", {"done": True, "quantities": {"a": [1]}}),
        ],
    )
    def test_wrong_fields_are_named(self, world: World, client: TestClient, path: str, body: Any) -> None:
        problem = is_problem(client.post(path, json=body, headers=bearer("anna")), 422)

        assert problem["errors"][0]["where"]
        assert world.alerts.notes == []

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
    def test_quantities_are_numbers(self, client: TestClient, number: str) -> None:
        answer = client.post(
            "/v1/occurrences/act_1/2026-06-30T12:00:00Z/answer",
            content=f'{{"done": true, "quantities": {{"amount_mm": {number}}}}}',
            headers=bearer("anna") | {"Content-Type": "application/json"},
        )
        is_problem(answer, 422)

    def test_no_value_that_was_sent_comes_back(self, client: TestClient) -> None:
        answer = client.post("/v1/alerts/al_1/acknowledge", json={"pin": "hunter2"}, headers=bearer("anna"))

        assert "hunter2" not in answer.text

    @pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b'{"note": "\\ud800"}'])
    def test_bodies_that_are_no_json(self, client: TestClient, content: bytes) -> None:
        answer = client.post(
            "/v1/alerts/al_1/acknowledge",
            content=content,
            headers=bearer("anna") | {"Content-Type": "application/json"},
        )
        is_problem(answer, answer.status_code)
        assert answer.status_code in {400, 422}

    @pytest.mark.parametrize("declared", [True, False])
    def test_bodies_that_are_too_large(self, client: TestClient, declared: bool) -> None:
        content = b'{"note": "' + b"x" * 70_000 + b'"}'
        headers = bearer("anna") | {"Content-Type": "application/json"}
        sent = content if declared else iter([content[:40_000], content[40_000:]])
        is_problem(client.post("/v1/alerts/al_1/acknowledge", content=sent, headers=headers), 413)

    def test_the_frameworks_own_errors_are_problems_too(self, client: TestClient) -> None:
        is_problem(client.get("/v1/nothing"), 404)
        refused = client.delete("/v1/alerts")
        assert is_problem(refused, 405)["type"] == "/v1/problems/method-not-allowed"
        assert refused.headers["allow"] == "GET"
        is_problem(client.get("/v1/alerts?limit=0", headers=bearer("anna")), 422)


class TestProblems:
    def test_every_error_of_the_tree_has_its_status(self) -> None:
        leaves = set(_descendants(errors.FarmIntelError)) | {IllegalTransitionError}

        for leaf in leaves:
            base = next(base for base, _ in ERROR_STATUS if issubclass(leaf, base))
            assert base is not errors.FarmIntelError, f"{leaf.__name__} has no line of its own in the table"
        assert {status for _, status in ERROR_STATUS} <= {kind.status for kind in KINDS}

    def test_details_of_failures_stay_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        told = problem_of(errors.StoreError("the database postgresql://db.internal/x refused"))

        assert told.status == 503
        assert "db.internal" not in told.model_dump_json()
        assert told.instance in caplog.text

    def test_a_fault_of_ours_is_a_problem_without_its_secrets(self, world: World) -> None:
        class Broken(FakeAlerts):
            def get(self, alert_id: str) -> Any:
                raise RuntimeError(f"password of {alert_id}")

        world.alerts = Broken()
        with TestClient(world.app(), raise_server_exceptions=False) as client:
            told = is_problem_without_headers(client.get("/v1/alerts/al_1", headers=bearer("anna")))

        assert "password" not in json.dumps(told)

    def test_throttling_says_when_to_come_back(self, world: World) -> None:
        class Throttled(FakeAlerts):
            def get(self, alert_id: str) -> Any:
                raise ThrottledError(f"not so fast with {alert_id}", retry_after_s=2.2)

        world.alerts = Throttled()
        with TestClient(world.app()) as client:
            answer = client.get("/v1/alerts/al_1", headers=bearer("anna"))

        is_problem(answer, 503)
        assert answer.headers["retry-after"] == "3"

    def test_every_type_is_a_page(self, client: TestClient) -> None:
        for kind in KINDS:
            page = client.get(f"/v1/problems/{kind.slug}")
            assert (page.status_code, page.json()["status"]) == (200, kind.status)
        is_problem(client.get("/v1/problems/unheard-of"), 404)


def is_problem_without_headers(answer: Any) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    body: dict[str, Any] = answer.json()
    return body


class TestHealth:
    def test_it_is_open_and_tells_who_is_silent(self, world: World, client: TestClient) -> None:
        assert client.get("/v1/health").json()["status"] == "silent", "nobody has ever reported"
        world.heartbeats.beats = {"pump": world.clock.now(), "alerts": world.clock.now()}
        well = client.get("/v1/health")
        world.clock.advance(301)
        world.heartbeats.beats["pump"] = world.clock.now()
        ill = client.get("/v1/health")

        assert (well.status_code, well.json()["status"], well.json()["live_channel"]) == (200, "ok", True)
        assert (ill.status_code, ill.json()["status"]) == (503, "silent")
        assert {part["name"]: part["silent"] for part in ill.json()["parts"]} == {"alerts": True, "pump": False}


class TestOpenApi:
    def test_every_route_is_in_the_document_under_a_stable_name(self, world: World, client: TestClient) -> None:
        document = client.get("/v1/openapi.json").json()
        served = {(route.path, method.lower()) for route in _routes(world) for method in route.methods}
        told = {(path, method) for path, item in document["paths"].items() for method in item}

        assert served == told
        assert {operation["operationId"] for item in document["paths"].values() for operation in item.values()} == {
            "listAlerts",
            "getAlert",
            "acknowledgeAlert",
            "snoozeAlert",
            "resolveAlert",
            "answerOccurrence",
            "listOutbox",
            "listDeadOccurrences",
            "replayOccurrence",
            "dropOccurrence",
            "replayMessage",
            "dropMessage",
            "getAudio",
            "getHealth",
            "getProblem",
            "issueTicket",
            "followEvents",
        }
        assert "Problem" in document["components"]["schemas"]
        assert _references(document) <= set(document["components"]["schemas"])


class TestServing:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "farm.example.org", ""])  # noqa: S104 - refused
    def test_it_listens_on_this_machine_only(self, host: str) -> None:
        with pytest.raises(NotConfiguredError, match="may not listen"):
            listen(host, 0)

    def test_a_taken_port_is_told(self) -> None:
        first = listen("127.0.0.1", 0)
        first.listen()
        with pytest.raises(NotConfiguredError, match="cannot listen"):
            listen("127.0.0.1", first.getsockname()[1])
        first.close()


def _routes(world: World) -> list[APIRoute]:
    return [route for route in _flat(world.app().routes) if isinstance(route, APIRoute)]


def _flat(routes: Any) -> Iterator[Any]:
    for route in routes:
        included = getattr(route, "original_router", route)  # FastAPI keeps included routers as they are
        yield from [route] if included is route else _flat(included.routes)


def _descendants(base: type) -> Iterator[type]:
    for child in base.__subclasses__():
        if child.__module__.startswith("farm_intel."):
            yield child
            yield from _descendants(child)


def _references(part: Any) -> set[str]:
    if isinstance(part, dict):
        own = {str(part["$ref"]).rsplit("/", 1)[-1]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*(_references(value) for value in part.values()))
    return set().union(*(_references(value) for value in part)) if isinstance(part, list) else set()
