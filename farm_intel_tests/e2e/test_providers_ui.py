"""Fused assets in the Dagster UI over two emulated providers, one of which goes away half way and comes back."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from farm_intel.bootstrap import Container
from farm_intel.domain.observations import Flag, Observation, ObservationStatus
from farm_intel.simulation.catalogue import write_world
from farm_intel.simulation.emulators.fleet import SENTINEL_HUB, STAC, Fleet, emulators
from farm_intel.simulation.world import FarmWorld, WorldOptions
from farm_intel_tests.e2e.test_ui import CHROMIUM, browser_page, choose, finished
from farm_intel_tests.support.dagster_ui import DagsterUi, running_ui, wait_until
from farm_intel_tests.support.installations import install

SHOTS = os.environ.get("E2E_SHOTS", "")

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.slow,
    pytest.mark.xdist_group("e2e"),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed (apt-get install chromium)"),
]

WORLD = WorldOptions(days=5, revisit_days=1, farms=14, tile_px=360, sizes_ha=(1.0, 5.0), cloudiness=0.0)
INDICES = ("ndvi", "ndmi")
BEFORE, WHILE, AFTER = date(2026, 1, 4), date(2026, 1, 5), date(2026, 1, 7)
"""Days materialised with all providers up, with the first one gone, and with it back."""
LAST_DAY = date(2026, 1, 14)
FARMS = 4
RUN_WITHIN_S = 90.0
OPEN_S = 2.0


@dataclass(frozen=True)
class Stage:
    """Everything the play needs."""

    ui: DagsterUi
    page: Page
    fleet: Fleet
    container: Container
    shots: Path

    def rows(self, day: date) -> list[Observation]:
        return list(self.container.observations.observations(start=day, end=day))

    def shot(self, name: str) -> None:
        self.page.screenshot(path=self.shots / f"dagster-{name}.png")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    root = tmp_path_factory.mktemp("providers-ui")
    world = write_world(FarmWorld(WORLD), root / "world")
    document = json.loads(world.farms.read_text())
    fields = [entry for entry in document["features"] if entry["properties"]["id"].startswith("F")]
    document["features"] = fields[:FARMS]
    farms = root / "farms.geojson"
    farms.write_text(json.dumps(document))
    with emulators(world.folder, (STAC, SENTINEL_HUB)) as fleet:
        found = fleet.settings()
        container = install(
            root / "home",
            found.pop("stac_url"),
            farms,
            **found,
            providers=("stac", "sentinel_hub"),
            asset_indices=INDICES,
            harmonise=False,
            history_start=BEFORE,
            history_end=LAST_DAY,
            sensor_lookback_days=1,  # the last day has no scene: automation is on and finds nothing to do
            stac_retries=0,
            read_retries=0,
            provider_retries=1,
            breaker_failures=2,
            breaker_open_s=OPEN_S,
            provider_deadline_s=60.0,
        )
        with running_ui(container, root / "up.log") as ui, browser_page() as page:
            wait_until("the farms as partitions", lambda: len(ui.farms("fused", "ndvi")) == FARMS, within_s=30)
            yield Stage(ui=ui, page=page, fleet=fleet, container=container, shots=Path(SHOTS or root))


def test_a_provider_that_goes_away_is_replaced_visibly_and_trusted_again_when_it_is_back(stage: Stage) -> None:
    materialise(stage, BEFORE)
    assert providers_of(stage.rows(BEFORE)) == {"stac"}

    stage.fleet.servers[STAC].stop()
    materialise(stage, WHILE)
    fallback = stage.rows(WHILE)
    assert providers_of(fallback) == {"sentinel_hub"}
    assert all(Flag.FALLBACK_PROVIDER in row.flags for row in fallback)
    sees_the_switch(stage)

    stage.fleet.servers[STAC].start()
    materialise(stage, AFTER)
    assert providers_of(stage.rows(AFTER)) == {"stac"}, "the breaker let one probe through and believed it"
    assert not any(Flag.FALLBACK_PROVIDER in row.flags for row in stage.rows(AFTER))

    fused = list(stage.container.assessments.fused(indices=["ndvi"], usable=True))
    assert {item.solar_day for item in fused} == {BEFORE, WHILE, AFTER}
    assert all(("fallback_provider" in item.flags) is (item.solar_day == WHILE) for item in fused), (
        "the fused value says so too, and only on that day"
    )
    tells_states(stage)


def materialise(stage: Stage, day: date, group: str = "fused") -> None:
    """Choose a group's assets, one day and all farms in the UI's own dialog, and wait for the run."""
    page, known = stage.page, set(stage.ui.backfill_ids())
    page.goto(f"{stage.ui.url}/assets?asset-selection=group:{group}")
    expect(page.get_by_text("partitions").first).to_be_visible()
    page.locator("label:has(input)").first.click()
    page.get_by_role("button", name=re.compile("Materialize selected")).click()
    dialog = page.get_by_role("dialog")
    dates = dialog.get_by_placeholder("ex: 2026")
    sure = page.get_by_role("button", name="Confirm")
    expect(dates.or_(sure)).to_be_visible()
    if sure.is_visible():  # the providers' own assets need not be there first: the run asks them itself
        sure.click()
    dates.fill(f"[{day}...{day}]")
    dates.press("Enter")
    dialog.get_by_role("button", name="All", exact=True).last.click()
    expect(dialog.get_by_text(f"{FARMS} partitions")).to_be_visible()
    dialog.get_by_role("button", name="Launch backfill").click()
    wait_until("the backfill", lambda: set(stage.ui.backfill_ids()) > known, within_s=20)
    (backfill,) = set(stage.ui.backfill_ids()) - known
    wait_until("its run", lambda: finished(stage.ui, backfill, 1), within_s=RUN_WITHIN_S)
    (run,) = stage.ui.runs_of(backfill)
    assert run["status"] == "SUCCESS", stage.ui.log.read_text()[-4000:]


def providers_of(rows: list[Observation]) -> set[str]:
    observed = [row for row in rows if row.status is ObservationStatus.OBSERVED]
    assert len({row.key.farm_id for row in observed}) == FARMS
    return {row.key.provider for row in observed}


def sees_the_switch(stage: Stage) -> None:
    """The cell's check warns, and its page names the provider that stood in."""
    page = stage.page
    page.goto(f"{stage.ui.url}/assets/fused/ndvi?view=partitions")
    choose(page, str(WHILE))
    choose(page, stage.container.farms.list()[0].farm_id)
    expect(page.get_by_text("Materialized", exact=True).first).to_be_visible()
    expect(page.get_by_text("sentinel_hub").first).to_be_visible()
    stage.shot("fallback")
    page.goto(f"{stage.ui.url}/assets/fused/ndvi?view=checks&checkDetail=agreement")
    expect(page.get_by_text("agreement").first).to_be_visible()
    stage.shot("agreement")


def tells_states(stage: Stage) -> None:
    """Asked in the UI, every farm has a state; seasons and states also follow by themselves, by the sensor."""
    materialise(stage, AFTER, group="state")
    wait_until(
        "states of all farms",
        lambda: (
            {s.farm_id for s in stage.container.assessments.states(start=AFTER, end=AFTER)}
            == {farm.farm_id for farm in stage.container.farms.list()}
        ),
        within_s=RUN_WITHIN_S,
    )
    stage.page.goto(f"{stage.ui.url}/assets/state/farm?view=partitions")
    choose(stage.page, str(AFTER))
    choose(stage.page, stage.container.farms.list()[0].farm_id)
    expect(stage.page.get_by_text("Materialized", exact=True).first).to_be_visible()
    expect(stage.page.get_by_text("interpretation").first).to_be_visible()
    stage.shot("state")
