"""Searching a live API: paging, antimeridian, solar days, and everything that goes wrong on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from farm_intel.domain.errors import (
    BadRequestError,
    NotConfiguredError,
    PermanentError,
    SceneProblemKind,
    ThrottledError,
    TransientError,
)
from farm_intel.domain.geo import BBox
from farm_intel.domain.scenes import SceneQuery
from farm_intel.providers.stac.catalog import StacCatalog
from farm_intel.resilience.retry import without_waiting
from farm_intel_tests.support.guards import plain_guard
from farm_intel_tests.support.stac_items import make_item
from farm_intel_tests.support.stac_server import Fault, StacServer

AREA = BBox(west=36.2, south=-0.8, east=36.4, north=-0.6)
FIRST = date(2026, 1, 1)
COUNT = 25
ITEMS = [make_item(f"S2_{n:03d}", datetime(2026, 1, 1, 7, 41, tzinfo=UTC) + timedelta(days=n)) for n in range(COUNT)]


@pytest.fixture
def server() -> Iterator[StacServer]:
    with StacServer(ITEMS) as running:
        yield running


@pytest.fixture
def _without_waiting() -> Iterator[None]:
    with without_waiting():
        yield


def catalog(server: StacServer, **changes: Any) -> StacCatalog:
    values: dict[str, Any] = {
        "source": server.url,
        "dialect": "earth-search",
        "collection": "sentinel-2-l2a",
        "timeout_s": 5.0,
        "guard": plain_guard(3),
        "page_size": 10,
        "provider": "stac",
    }
    return StacCatalog(**(values | changes))


def query(bbox: BBox = AREA, start: date = FIRST, days: int = 60, **changes: Any) -> SceneQuery:
    return SceneQuery(
        collection="sentinel-2-l2a", bbox=bbox, start=start, end=start + timedelta(days=days - 1), **changes
    )


def ids(catalogue: StacCatalog, asked: SceneQuery) -> list[str]:
    return sorted(scene.scene_id for scene in catalogue.search(asked).scenes)


ALL = [item["id"] for item in ITEMS]


@pytest.mark.parametrize("style", ["earth-search", "planetary-computer", "page-number"])
@pytest.mark.parametrize("page_size", [1, 7, 25, 100])
def test_every_paging_style_gives_every_scene_once(style: Any, page_size: int) -> None:
    with StacServer(ITEMS, style=style) as server:
        found = catalog(server, page_size=page_size).search(query())

    assert sorted(scene.scene_id for scene in found.scenes) == ALL
    assert len(server.searches()) == -(-COUNT // page_size)
    assert found.requests == len(server.log)


def test_scenes_carry_the_providers_name_and_hrefs_next_to_the_search(server: StacServer) -> None:
    scene = catalog(server, provider="my-stac").search(query()).scenes[0]

    assert scene.provider == "my-stac"
    assert scene.bands["red"].href == f"{server.url}/{scene.scene_id}/red.tif"


def test_needed_bands_that_are_missing_are_noted_on_the_scene(server: StacServer) -> None:
    found = catalog(server).search(query(bands=frozenset({"red", "rededge071"})))

    assert {(p.kind, p.band) for scene in found.scenes for p in scene.problems} == {
        (SceneProblemKind.MISSING_ASSET, "rededge071")
    }


def test_one_broken_item_is_a_problem_of_that_item_only(server: StacServer) -> None:
    server.items[3] = {**server.items[3], "assets": {"thumbnail": {"href": "t.jpg"}}}

    found = catalog(server).search(query())

    assert len(found.scenes) == COUNT - 1
    assert [(p.scene_id, p.kind) for p in found.problems] == [("S2_003", SceneProblemKind.MISSING_ASSET)]


def test_the_server_is_asked_for_a_day_more_on_both_sides(server: StacServer) -> None:
    """Days are solar: at 36 degrees east an acquisition of 23:00 UTC belongs to the next day."""
    server.items = [
        make_item("late", "2026-01-04T23:00:00Z"),
        make_item("early", "2026-01-05T20:00:00Z"),
        make_item("next", "2026-01-05T22:30:00Z"),
    ]

    assert ids(catalog(server), query(start=date(2026, 1, 5), days=1)) == ["early", "late"]
    assert server.searches()[-1]["datetime"] == "2026-01-04T00:00:00Z/2026-01-06T23:59:59Z"


def test_a_box_over_the_antimeridian_is_asked_in_two_halves(server: StacServer) -> None:
    server.items = [
        make_item("west", "2026-01-05T22:30:00Z", west=178.0),
        make_item("east", "2026-01-05T22:30:00Z", west=-180.0),
        make_item("far", "2026-01-05T22:30:00Z", west=0.0),
    ]
    box = BBox(west=178.5, south=-0.8, east=-179.5, north=-0.6)

    assert ids(catalog(server), query(box)) == ["east", "west"]
    assert [body["bbox"] for body in server.searches()] == [[178.5, -0.8, 180.0, -0.6], [-180.0, -0.8, -179.5, -0.6]]


def test_next_to_the_antimeridian_the_solar_day_is_that_of_the_asked_side(server: StacServer) -> None:
    """At 22:30 UTC it is half past ten: of the 6th at 179.5 E, still of the 5th at 179.5 W."""
    server.items = [
        make_item("east", "2026-01-05T22:30:00Z", west=-180.0),
        make_item("west", "2026-01-05T22:30:00Z", west=179.0),
    ]
    east = BBox(west=-179.6, south=-0.8, east=-179.5, north=-0.6)
    west = BBox(west=179.5, south=-0.8, east=179.6, north=-0.6)

    assert ids(catalog(server), query(east, date(2026, 1, 5), 1)) == ["east"]
    assert ids(catalog(server), query(east, date(2026, 1, 6), 1)) == []
    assert ids(catalog(server), query(west, date(2026, 1, 6), 1)) == ["west"]


def test_the_solar_day_of_a_wide_scene_is_that_of_the_asked_place(server: StacServer) -> None:
    """At 22:30 UTC it is past midnight at 36 E and not yet at 15 W, though one image shows both."""
    server.items = [make_item("wide", "2026-01-05T22:30:00Z", west=-20.0, size_deg=60.0)]
    lisbon = BBox(west=-15.0, south=0.6, east=-14.0, north=0.8)
    nairobi = BBox(west=36.2, south=0.6, east=36.4, north=0.8)

    assert ids(catalog(server), query(nairobi, date(2026, 1, 6), 1)) == ["wide"]
    assert ids(catalog(server), query(nairobi, date(2026, 1, 5), 1)) == []
    assert ids(catalog(server), query(lisbon, date(2026, 1, 5), 1)) == ["wide"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("path", ["/", "/search"])
@pytest.mark.usefixtures("_without_waiting")
def test_passing_failures_are_retried_also_for_posts(server: StacServer, status: int, path: str) -> None:
    server.faults = [Fault(path, status, "upstream")]

    assert ids(catalog(server), query()) == ALL


@pytest.mark.parametrize(
    "body",
    ["<html>maintenance</html>", '{"type":"FeatureCollection","features":[{"ty', "[]", "null"],
    ids=["html", "cut", "list", "null"],
)
@pytest.mark.usefixtures("_without_waiting")
def test_a_success_that_is_none_is_retried_and_then_transient(server: StacServer, body: str) -> None:
    server.faults = [Fault("/search", 200, body, times=1)]
    assert ids(catalog(server), query()) == ALL

    server.faults = [Fault("/search", 200, body, times=99)]
    with pytest.raises(TransientError):
        catalog(server).search(query())


@pytest.mark.usefixtures("_without_waiting")
def test_a_server_that_stays_down_is_transient_after_the_retries(server: StacServer) -> None:
    server.faults = [Fault("/search", 504, "upstream timed out", times=99)]

    with pytest.raises(TransientError, match="504: upstream timed out"):
        catalog(server, guard=plain_guard(2)).search(query())

    assert len(server.searches()) == 3


def test_retry_after_in_seconds_is_honoured(server: StacServer) -> None:
    server.faults = [Fault("/search", 429, "slow down", {"Retry-After": "1"})]

    assert ids(catalog(server), query()) == ALL

    first, second = [request.at for request in server.log if request.path == "/search"][:2]
    assert 1.0 <= second - first < 3.0


@pytest.mark.usefixtures("_without_waiting")
@pytest.mark.parametrize("asks", ["3600", "date"])
def test_a_server_that_wants_an_hour_is_not_slept_on(server: StacServer, asks: str) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    server.faults = [Fault("/search", 429, "", {"Retry-After": later if asks == "date" else asks}, times=99)]

    with pytest.raises(ThrottledError) as caught:
        catalog(server).search(query())

    assert caught.value.retry_after_s == pytest.approx(3600, abs=30)
    assert len(server.searches()) == 1


@pytest.mark.usefixtures("_without_waiting")
def test_pages_are_halved_until_the_server_can_carry_them(server: StacServer) -> None:
    """Earth Search answers 502 where a page outgrows its limits; no retry of the same page can help."""
    server.faults = [Fault("/search", 502, "Internal server error", above_limit=12)]
    asking = catalog(server, page_size=100)

    assert ids(asking, query()) == ALL
    assert [body["limit"] for body in server.searches()] == [100, 100, 50, 50, 25, 25, 12, 12, 12]

    server.log.clear()
    assert ids(asking, query()) == ALL
    assert {body["limit"] for body in server.searches()} == {12}


@pytest.mark.usefixtures("_without_waiting")
@pytest.mark.parametrize("style", ["earth-search", "planetary-computer", "page-number"])
def test_halving_in_the_middle_of_the_pages_loses_nothing(style: Any) -> None:
    with StacServer(ITEMS, style=style) as server:
        answer = server.answer

        def failing_second_page(method: str, path: str, body: dict[str, Any]) -> Any:
            later = {"next", "token", "page"} & body.keys()
            if later and body["limit"] > 10:
                return 500, {}, b"{}"
            return answer(method, path, body)

        server.answer = failing_second_page  # type: ignore[method-assign]  # the server is the fake here
        found = catalog(server, page_size=20).search(query())

    assert sorted(scene.scene_id for scene in found.scenes) == ALL


@pytest.mark.usefixtures("_without_waiting")
def test_a_refused_limit_is_halved_too(server: StacServer) -> None:
    server.faults = [Fault("/search", 400, '{"detail":"limit must be <= 25"}', above_limit=25)]

    assert ids(catalog(server, page_size=100), query()) == ALL
    assert [body["limit"] for body in server.searches()] == [100, 50, 25]


@pytest.mark.usefixtures("_without_waiting")
def test_halving_ends_where_the_server_is_simply_down(server: StacServer) -> None:
    server.faults = [Fault("/search", 500, "", times=999)]

    with pytest.raises(TransientError, match="500"):
        catalog(server, page_size=40).search(query())

    assert [body["limit"] for body in server.searches()] == [40, 40, 20, 20, 10, 10, 5, 5, 5, 5]


@pytest.mark.usefixtures("_without_waiting")
def test_forbidden_means_throttled_on_earth_search_only(server: StacServer) -> None:
    forbidden = json.dumps({"message": "Forbidden"})
    server.faults = [Fault("/search", 403, forbidden)]
    assert ids(catalog(server), query()) == ALL

    server.faults = [Fault("/search", 403, forbidden, times=99)]
    with pytest.raises(ThrottledError):
        catalog(server).search(query())
    with pytest.raises(NotConfiguredError, match="credentials"):
        catalog(server, dialect="cdse").search(query())


@pytest.mark.parametrize(("status", "kind"), [(400, BadRequestError), (401, NotConfiguredError), (410, PermanentError)])
def test_refusals_are_not_retried(server: StacServer, status: int, kind: type[PermanentError]) -> None:
    server.faults = [Fault("/search", status, "no", times=99)]

    with pytest.raises(kind, match=str(status)):
        catalog(server).search(query())

    assert len(server.searches()) == 1


def test_a_server_that_never_answers_costs_the_time_limit_and_no_more(server: StacServer) -> None:
    server.faults = [Fault("/search", delay_s=3.0, times=99)]
    asking = catalog(server, timeout_s=0.3, guard=plain_guard(0))
    started = time.monotonic()

    with pytest.raises(TransientError, match="did not answer"):
        asking.search(query())

    assert time.monotonic() - started < 2.0


def test_nobody_at_the_address_is_transient() -> None:
    with StacServer() as gone:
        pass

    with without_waiting(), pytest.raises(TransientError, match="did not answer"):
        catalog(gone, guard=plain_guard(1)).search(query())


def test_a_page_about_something_else_is_not_configured(server: StacServer) -> None:
    with pytest.raises(NotConfiguredError, match="404"):
        catalog(server, source=f"{server.url}/nothing-here").search(query())


def test_a_query_for_another_collection_is_refused(server: StacServer) -> None:
    with pytest.raises(NotConfiguredError, match="landsat"):
        catalog(server).search(SceneQuery(collection="landsat-c2-l2", bbox=AREA, start=FIRST, end=FIRST))


def test_building_a_catalogue_asks_nobody(server: StacServer) -> None:
    catalog(server)

    assert server.log == []


def test_a_server_that_pages_in_a_circle_is_noticed(server: StacServer) -> None:
    server._next = lambda body, _position: {"body": {**body, "next": "0"}}  # type: ignore[method-assign]  # the fake itself

    with without_waiting(), pytest.raises(TransientError, match="circle"):
        catalog(server).search(query())
