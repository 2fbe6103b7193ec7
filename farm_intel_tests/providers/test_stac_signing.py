"""Planetary Computer signing through the real SDK, its token service on 127.0.0.1."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from planetary_computer import sas
from planetary_computer.settings import Settings

from farm_intel.domain.errors import SceneProblemError, SceneProblemKind, TransientError
from farm_intel.domain.scenes import Scene
from farm_intel.providers.collections import profile
from farm_intel.providers.stac.catalog import StacCatalog
from farm_intel.providers.stac.parsing import scene_from_item
from farm_intel.resilience.retry import without_waiting
from farm_intel_tests.support.guards import plain_guard
from farm_intel_tests.support.stac_items import make_item
from farm_intel_tests.support.stac_server import Fault, StacServer

TOKEN_PATH = "/sas/sentinel2l2a01/sentinel2-l2"  # noqa: S105 - a path
HOST = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/37/M/BV"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StacServer]:
    """Point the SDK at a local token service the way users do: by its environment variable."""
    with StacServer() as running, without_waiting():
        monkeypatch.setenv("PC_SDK_SAS_URL", f"{running.url}/sas")
        Settings.get.cache_clear()
        sas.TOKEN_CACHE.clear()
        yield running
    Settings.get.cache_clear()
    sas.TOKEN_CACHE.clear()


def catalog(dialect: str = "planetary-computer", **changes: Any) -> StacCatalog:
    values: dict[str, Any] = {
        "source": "https://planetarycomputer.microsoft.com/api/stac/v1",
        "dialect": dialect,
        "collection": "sentinel-2-l2a",
        "timeout_s": 5.0,
        "guard": plain_guard(2),
        "page_size": 10,
        "provider": "stac",
    }
    return StacCatalog(**(values | changes))


def scene(base: str = HOST) -> Scene:
    item = make_item("S2B_MSIL2A_20260104T074101_R092_T37MBV_20260104T101010", "2026-01-04T07:41:01Z")
    item["assets"] = {key: {"href": f"{base}/{key}.tif"} for key in ("B04", "B08", "SCL")}
    row = profile("planetary-computer", "sentinel-2-l2a")
    parsed = scene_from_item(item, row, "https://h/item.json", provider="stac")
    assert isinstance(parsed, Scene)
    return parsed


def expiry(href: str) -> datetime:
    return datetime.fromisoformat(parse_qs(urlsplit(href).query)["se"][0])


def test_refreshing_signs_every_band_with_one_token_and_leaves_the_scene_alone(server: StacServer) -> None:
    unsigned = scene()

    signed = catalog().refresh(unsigned)

    assert [request.path for request in server.log] == [TOKEN_PATH]
    for name, file in signed.bands.items():
        bare, _, query = file.href.partition("?")
        assert bare == unsigned.bands[name].href
        assert "sig=" in query
        assert expiry(file.href) > datetime.now(UTC) + timedelta(minutes=30)
    assert signed.version_text == unsigned.version_text
    assert "?" not in unsigned.bands["red"].href


def test_an_expired_signature_is_replaced_though_the_sdk_would_keep_it(server: StacServer) -> None:
    server.token_ttl_s = 61
    stale = catalog().refresh(scene())
    sas.TOKEN_CACHE.clear()
    server.token_ttl_s = 2700

    fresh = catalog().refresh(stale)

    old, new = stale.bands["red"].href, fresh.bands["red"].href
    assert sas.sign_url(old) == old
    assert new != old
    assert new.count("sig=") == 1
    assert expiry(new) > expiry(old)


def test_a_token_about_to_end_is_renewed_and_a_good_one_is_not(server: StacServer) -> None:
    catalog().refresh(scene())
    catalog().refresh(scene())
    assert len(server.log) == 1

    server.token_ttl_s = 30
    sas.TOKEN_CACHE.clear()
    catalog().refresh(scene())
    asked = len(server.log)
    server.token_ttl_s = 2700
    signed = catalog().refresh(scene())

    assert len(server.log) == asked + 1
    assert expiry(signed.bands["red"].href) > datetime.now(UTC) + timedelta(minutes=30)


def test_single_hrefs_are_signed_for_block_readers(server: StacServer) -> None:
    href = catalog().sign(f"{HOST}/B04.tif?st=1&se=2020-01-01&sp=rl&sig=old")

    assert href.startswith(f"{HOST}/B04.tif?")
    assert "old" not in href
    assert len(server.log) == 1


def test_files_elsewhere_are_not_signed(server: StacServer) -> None:
    elsewhere = scene("https://example.test/data")

    assert catalog().refresh(elsewhere) == elsewhere
    assert server.log == []


@pytest.mark.parametrize("dialect", ["earth-search", "cdse"])
def test_other_catalogues_have_nothing_to_refresh(server: StacServer, dialect: str) -> None:
    assert catalog(dialect).refresh(scene()) == scene()
    assert catalog(dialect).sign(f"{HOST}/B04.tif") == f"{HOST}/B04.tif"
    assert server.log == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_failing_token_service_is_retried_and_then_transient(server: StacServer, status: int) -> None:
    server.faults = [Fault(TOKEN_PATH, status, "busy", times=2)]
    assert "sig=" in catalog().refresh(scene()).bands["red"].href

    sas.TOKEN_CACHE.clear()
    server.faults = [Fault(TOKEN_PATH, status, "busy", times=99)]
    with pytest.raises(TransientError):
        catalog().refresh(scene())


def test_nonsense_from_the_token_service_is_transient(server: StacServer) -> None:
    server.faults = [Fault(TOKEN_PATH, 200, "<html>", times=99)]

    with pytest.raises(TransientError, match="no token"):
        catalog().refresh(scene())


@pytest.mark.parametrize("status", [401, 403, 404])
def test_refused_access_is_a_problem_of_that_scene(server: StacServer, status: int) -> None:
    server.faults = [Fault(TOKEN_PATH, status, "no", times=99)]

    with pytest.raises(SceneProblemError) as caught:
        catalog().refresh(scene())

    assert caught.value.kind is SceneProblemKind.ACCESS_DENIED
    assert caught.value.scene_id == scene().scene_id
    assert len(server.log) == 1


def test_a_silent_token_service_costs_the_time_limit(server: StacServer) -> None:
    server.faults = [Fault(TOKEN_PATH, delay_s=2.0, times=99)]

    with pytest.raises(TransientError, match=r"within 0\.3 s"):
        catalog(timeout_s=0.3, guard=plain_guard(0)).refresh(scene())
