"""Fused cells, series, seasons and states through the daemon, while one provider's emulator is stopped and started."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import pytest

from farm_intel.bootstrap import Container
from farm_intel.domain.observations import Flag
from farm_intel.simulation.catalogue import write_world
from farm_intel.simulation.emulators.fleet import SENTINEL_HUB, STAC, Fleet, emulators
from farm_intel.simulation.world import FarmWorld, WorldOptions
from farm_intel_tests.support.dagster_ui import DagsterUi, running_ui, wait_until
from farm_intel_tests.support.installations import install

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e")]

WORLD = WorldOptions(days=5, revisit_days=1, farms=14, tile_px=360, sizes_ha=(1.0, 5.0), cloudiness=0.0)
FARMS = ("F002", "F005", "F006")
DAYS = (date(2026, 1, 7), date(2026, 1, 8))
LAST_DAY = date(2026, 1, 14)
"""The last day has no scene, so that the providers' own sensors find nothing to do."""
WITHIN_S = 120.0

_LAUNCH = """mutation($params: LaunchBackfillParams!){launchPartitionBackfill(backfillParams: $params){__typename
  ... on LaunchBackfillSuccess{backfillId} ... on PythonError{message}}}"""
_LATEST = """query($key: AssetKeyInput!, $partition: String!){assetNodeOrError(assetKey: $key){... on AssetNode{
  latestMaterializationByPartition(partitions: [$partition]){metadataEntries{label
    ... on TextMetadataEntry{text} ... on MarkdownMetadataEntry{mdStr} ... on FloatMetadataEntry{floatValue}}}}}}"""
_CHECKS = """query($key: AssetKeyInput!){assetNodeOrError(assetKey: $key){... on AssetNode{
  assetChecksOrError{... on AssetChecks{checks{name
    executionForLatestMaterialization{status evaluation{success severity}}}}}}}}"""
_CONFIGURED = """{repositoriesOrError{... on RepositoryConnection{nodes{
  allTopLevelResourceDetails{name description configFields{name defaultValueAsJson}}}}}}"""


@dataclass(frozen=True)
class Stage:
    """Two providers' emulators, an installation that asks them in order, and its user interface."""

    ui: DagsterUi
    fleet: Fleet
    container: Container

    def backfill(self, assets: Sequence[Sequence[str]], partitions: Sequence[str]) -> str:
        """Launch a backfill as the page's own button does, wait for its end and return its status."""
        return self.ended(self.launch(assets, partitions))

    def launch(self, assets: Sequence[Sequence[str]], partitions: Sequence[str]) -> str:
        """Launch a backfill and return its id."""
        params = {"assetSelection": [{"path": list(key)} for key in assets], "partitionNames": list(partitions)}
        launched = self.ui.query(_LAUNCH, {"params": params})["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def ended(self, name: str) -> str:
        """Wait for a backfill's end and return its status."""
        wait_until(
            f"backfill {name}",
            lambda: self.ui.backfill_status(name).startswith(("COMPLETED", "FAILED")),
            within_s=WITHIN_S,
        )
        return self.ui.backfill_status(name)

    def metadata(self, key: Sequence[str], partition: str) -> dict[str, object]:
        found = self.ui.query(_LATEST, {"key": {"path": list(key)}, "partition": partition})["assetNodeOrError"]
        (latest,) = found["latestMaterializationByPartition"]
        if latest is None:
            return {}
        return {
            entry["label"]: entry.get("text") or entry.get("mdStr") or entry.get("floatValue")
            for entry in latest["metadataEntries"]
        }


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    root = tmp_path_factory.mktemp("fused")
    world = write_world(FarmWorld(WORLD), root / "world")
    document = json.loads(world.farms.read_text())
    document["features"] = [entry for entry in document["features"] if entry["properties"]["id"] in FARMS]
    farms = root / "farms.geojson"
    farms.write_text(json.dumps(document))
    with emulators(world.folder, (STAC, SENTINEL_HUB)) as fleet:
        settings = fleet.settings()
        container = install(
            root / "home",
            settings.pop("stac_url"),
            farms,
            providers=(STAC, SENTINEL_HUB),
            asset_indices=("ndvi",),
            history_start=DAYS[0],
            history_end=LAST_DAY,
            sensor_lookback_days=1,
            stac_retries=0,
            breaker_open_s=1.0,
            **settings,
        )
        with running_ui(container, root / "up.log") as ui:
            wait_until("the farms as partitions", lambda: set(ui.farms("stac", "ndvi")) == {*FARMS}, within_s=40)
            yield Stage(ui, fleet, container)


def cells(day: date) -> list[str]:
    return [f"{day}|{farm}" for farm in FARMS]


def test_a_provider_that_is_down_is_replaced_visibly_and_asked_again_when_it_is_back(stage: Stage) -> None:
    stage.fleet.servers[STAC].stop()

    assert stage.backfill([("fused", "ndvi")], cells(DAYS[0])) == "COMPLETED_SUCCESS", stage.ui.log.read_text()

    rows = list(stage.container.observations.observations())
    assert {row.key.provider for row in rows} == {SENTINEL_HUB}
    assert all(Flag.FALLBACK_PROVIDER in row.flags for row in rows)
    assert stage.ui.stats("sentinel_hub", "ndvi")["numMaterialized"] == len(FARMS)
    assert stage.ui.stats("stac", "ndvi")["numMaterialized"] == 0
    told = stage.metadata(("fused", "ndvi"), cells(DAYS[0])[0])
    assert str(told["fallback"]).startswith("stac -> sentinel_hub: ")
    assert "| sentinel_hub |" in str(told["candidates"])
    assert warned(stage, "fused", "ndvi") == {"agreement"}
    assert warned(stage, "sentinel_hub", "ndvi") == {"quality"}

    stage.fleet.servers[STAC].start()
    assert stage.backfill([("fused", "ndvi")], cells(DAYS[1])) == "COMPLETED_SUCCESS", stage.ui.log.read_text()

    assert stage.ui.stats("stac", "ndvi")["numMaterialized"] == len(FARMS)
    assert stage.ui.stats("sentinel_hub", "ndvi")["numMaterialized"] == len(FARMS)
    assert "fallback" not in stage.metadata(("fused", "ndvi"), cells(DAYS[1])[0])
    assert stage.ui.stats("fused", "ndvi")["numMaterialized"] >= 2 * len(FARMS)


def test_series_seasons_and_states_are_materialised_from_the_page(stage: Stage) -> None:
    series = stage.launch([("daily", "ndvi"), ("season", "ndvi")], FARMS)
    states = stage.launch([("state", "farm")], cells(DAYS[0]) + cells(DAYS[1]))

    assert stage.ended(series) == "COMPLETED_SUCCESS", stage.ui.log.read_text()
    assert stage.ended(states) == "COMPLETED_SUCCESS", stage.ui.log.read_text()

    assert stage.ui.stats("daily", "ndvi")["numMaterialized"] == len(FARMS)
    assert stage.ui.stats("season", "ndvi")["numMaterialized"] == len(FARMS)
    stored = {(state.farm_id, state.day): state for state in stage.container.assessments.states()}
    told = stage.metadata(("state", "farm"), f"{DAYS[1]}|{FARMS[0]}")
    assert told["state"] == stored[FARMS[0], DAYS[1]].state


def test_the_sensor_assesses_what_changed_by_itself(stage: Stage) -> None:
    """States are told up to the newest day, which nobody asked for."""
    days = (LAST_DAY - DAYS[0]).days + 1
    wait_until(
        "states of every day",
        lambda: stage.ui.stats("state", "farm")["numMaterialized"] == days * len(FARMS),
        within_s=WITHIN_S,
    )


def test_the_page_of_resources_tells_what_a_provider_is(stage: Stage) -> None:
    (repository,) = stage.ui.query(_CONFIGURED)["repositoriesOrError"]["nodes"]
    details = {entry["name"]: entry for entry in repository["allTopLevelResourceDetails"]}
    assert set(details) == {"farm_intel", STAC, SENTINEL_HUB}
    told = {entry["name"]: json.loads(entry["defaultValueAsJson"]) for entry in details[SENTINEL_HUB]["configFields"]}
    assert told["collection"] == "sentinel-2-l2a"
    assert told["deadline_s"] == stage.container.settings.provider_deadline_s


def warned(stage: Stage, *key: str) -> set[str]:
    """Return the checks of an asset whose newest result is a warning."""
    found = stage.ui.query(_CHECKS, {"key": {"path": list(key)}})["assetNodeOrError"]["assetChecksOrError"]["checks"]
    return {
        check["name"]
        for check in found
        if (run := check["executionForLatestMaterialization"]) is not None
        and run["evaluation"] is not None
        and not run["evaluation"]["success"]
        and run["evaluation"]["severity"] == "WARN"
    }
