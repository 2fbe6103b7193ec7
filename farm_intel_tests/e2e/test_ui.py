"""The Dagster UI in a real browser: a backfill over a block, one cell that fails, and only that cell run again."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from farm_intel.bootstrap import Container
from farm_intel.domain.observations import Observation, ObservationKey, ObservationStatus
from farm_intel.simulation.catalogue import write_world
from farm_intel.simulation.range_faults import Fault
from farm_intel.simulation.range_server import RangeServer
from farm_intel.simulation.world import FarmWorld, WorldOptions
from farm_intel_tests.support.dagster_ui import DagsterUi, running_ui, wait_until
from farm_intel_tests.support.installations import install, observe

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SHOTS = os.environ.get("E2E_SHOTS", "")
"""Folder to keep the pictures of docs/dagster.md in; empty: a temporary one."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("e2e"),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed (apt-get install chromium)"),
]

WORLD = WorldOptions(days=5, revisit_days=1, farms=14, tile_px=360, sizes_ha=(0.25, 1.0, 5.0), cloudiness=0.3)
INDICES = ("ndvi", "ndwi")
EARLIER = (date(2026, 1, 4), date(2026, 1, 6))
"""Stored before the UI is opened, so that there is a series to draw whatever run comes first."""
DAYS = (date(2026, 1, 7), date(2026, 1, 8))
VICTIM = (date(2026, 1, 8), "F012")
"""The only farm of the western tile here: what that tile's files refuse hits nobody else."""
EASTERN = ("F002", "F005", "F006", "F010", "F011", "F014", "S-OVERLAP-A", "S-OVERLAP-B")
VICTIM_SCENE = "S2B_36MZD_20260108_0_L2A"
BEHIND_HEADER = 20_000
"""First byte behind directories and overviews: the scene opens, its pixels cannot be had."""
CELLS = len(DAYS) * (1 + len(EASTERN))
LAST_DAY = date(2026, 1, 14)
PARTITIONS = ((LAST_DAY - DAYS[0]).days + 1) * (1 + len(EASTERN))
RUN_WITHIN_S = 60.0


@dataclass(frozen=True)
class Stage:
    """Everything the play needs."""

    ui: DagsterUi
    page: Page
    server: RangeServer
    container: Container
    undisturbed: dict[ObservationKey, Observation]
    """What an installation of its own got from the same files without faults and without Dagster."""
    shots: Path

    def stored(self) -> dict[ObservationKey, Observation]:
        return {row.key: row for row in self.container.observations.observations()}

    def shot(self, name: str) -> None:
        """Keep a picture of the page."""
        self.page.screenshot(path=self.shots / f"dagster-{name}.png")


@contextmanager
def browser_page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.set_default_timeout(20_000)
        expect.set_options(timeout=20_000)
        yield page
        browser.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    root = tmp_path_factory.mktemp("ui")
    world = write_world(FarmWorld(WORLD), root / "world")
    document = json.loads(world.farms.read_text())
    wanted = {VICTIM[1], *EASTERN}
    document["features"] = [entry for entry in document["features"] if entry["properties"]["id"] in wanted]
    farms = root / "farms.geojson"
    farms.write_text(json.dumps(document))
    quiet = install(root / "quiet", world.catalog, farms, asset_indices=INDICES)
    observe(quiet, INDICES, EARLIER[0], DAYS[-1])
    with RangeServer(world.folder) as server:
        container = install(
            root / "home",
            server.url("catalog.json"),
            farms,
            asset_indices=INDICES,
            history_start=DAYS[0],
            history_end=LAST_DAY,
            sensor_lookback_days=1,  # the last day has no scene: automation is on and finds nothing to do
            read_retries=0,
        )
        observe(container, INDICES, *EARLIER)
        with running_ui(container, root / "up.log") as ui, browser_page() as page:
            wait_until("the farms as partitions", lambda: set(ui.farms("stac", "ndvi")) == wanted, within_s=30)
            yield Stage(
                ui=ui,
                page=page,
                server=server,
                container=container,
                undisturbed={row.key: row for row in quiet.observations.observations()},
                shots=Path(SHOTS or root),
            )


def test_a_backfill_from_the_ui_with_one_failing_cell_and_only_that_cell_again(stage: Stage) -> None:
    stage.server.fail(Fault(pattern=f"*/{VICTIM_SCENE}/B08.tif", min_start=BEHIND_HEADER))
    backfill = launch_backfill(stage)
    failed = sees_one_red_cell(stage, backfill)
    before = stage.stored()
    store_has_all_but_the_victim(stage, before)
    sees_numbers_and_checks(stage, before)
    sees_the_reason(stage, failed)

    stage.server.faults.clear()
    stage.server.reset()
    run_id = reexecute_from_failure(stage, backfill)

    after = stage.stored()
    again = {key for key, row in after.items() if row.run_id == run_id}
    assert again == {key for key in after if (key.solar_day, key.farm_id) == VICTIM}
    assert all(after[key] == before[key] for key in after.keys() - again)
    assert pixels_read(stage) == {VICTIM_SCENE}
    assert numbers(after) == numbers(stage.undisturbed)
    open_partitions(stage)
    expect(stage.page.get_by_text("Failed (0)")).to_be_visible()
    expect(stage.page.get_by_text(f"Materialized ({CELLS})")).to_be_visible()


def launch_backfill(stage: Stage) -> str:
    """Choose both assets, two days and all farms in the UI's own dialog."""
    page = stage.page
    page.goto(f"{stage.ui.url}/assets?asset-selection=group:stac")
    expect(page.get_by_text(f"{PARTITIONS} partitions")).to_have_count(len(INDICES))
    page.locator("label:has(input)").first.click()
    page.get_by_role("button", name=f"Materialize selected ({len(INDICES)})…").click()
    dialog = page.get_by_role("dialog")
    dates = dialog.get_by_placeholder("ex: 2026")
    dates.fill(f"[{DAYS[0]}...{DAYS[-1]}]")
    dates.press("Enter")
    dialog.get_by_role("button", name="All", exact=True).last.click()
    expect(dialog.get_by_text(f"{CELLS} partitions")).to_be_visible()
    stage.shot("backfill")
    dialog.get_by_role("button", name="Launch backfill").click()
    wait_until("the backfill", lambda: bool(stage.ui.backfill_ids()), within_s=20)
    (backfill,) = stage.ui.backfill_ids()
    return backfill


def sees_one_red_cell(stage: Stage, backfill: str) -> str:
    """Wait for one run per day; return the id of the one that failed."""
    wait_until("one run per day", lambda: finished(stage.ui, backfill, len(DAYS)), within_s=RUN_WITHIN_S)
    runs = stage.ui.runs_of(backfill)
    assert sorted(run["status"] for run in runs) == ["FAILURE", "SUCCESS"], stage.ui.log.read_text()
    for slug in INDICES:
        stats = stage.ui.stats("stac", slug)
        assert (stats["numMaterialized"], stats["numFailed"]) == (CELLS - 1, 1)
    open_partitions(stage)
    page = stage.page
    expect(page.get_by_text("Failed (1)")).to_be_visible()
    expect(page.get_by_text(f"Materialized ({CELLS - 1})")).to_be_visible()
    choose(page, str(VICTIM[0]))
    choose(page, VICTIM[1])
    expect(page.get_by_text("failed, and did not materialize this asset")).to_be_visible()
    stage.shot("partitions")
    return next(str(run["id"]) for run in runs if run["status"] == "FAILURE")


def store_has_all_but_the_victim(stage: Stage, stored: dict[ObservationKey, Observation]) -> None:
    hit = {key: row for key, row in stored.items() if (key.solar_day, key.farm_id) == VICTIM}
    assert {row.status for row in hit.values()} == {ObservationStatus.PROVIDER_FAILED}
    assert all("503" in row.reason for row in hit.values())
    others = {key: row for key, row in stage.undisturbed.items() if key not in hit}
    assert numbers({key: row for key, row in stored.items() if key not in hit}) == numbers(others)
    assert (
        sum(row.status is ObservationStatus.OBSERVED and row.key.solar_day in DAYS for row in others.values()) > CELLS
    )


def sees_numbers_and_checks(stage: Stage, stored: dict[ObservationKey, Observation]) -> None:
    """Open a green cell, find the stored mean and its pictures, and the quality check's answer per cell."""
    page = stage.page
    key, row = next(
        (key, row)
        for key, row in stored.items()
        if row.status is ObservationStatus.OBSERVED and key.solar_day == DAYS[1] and key.farm_id == "F006"
    )
    assert row.statistics is not None
    choose(page, key.farm_id)
    expect(page.get_by_text("Materialized", exact=True)).to_be_visible()
    expect(page.get_by_text(f"{round(row.statistics.mean, 5)}", exact=True)).to_be_visible()
    expect(page.get_by_role("img", name="thumbnail")).to_be_visible()
    expect(page.get_by_role("img", name="series")).to_be_visible()
    stage.shot("cell")
    page.goto(f"{stage.ui.url}/assets/stac/{INDICES[0]}?view=checks&checkDetail=quality")
    expect(page.get_by_text("has_number")).to_be_visible()
    stage.shot("check")
    page.goto(f"{stage.ui.url}/asset-groups~group:%22stac%22")
    expect(page.get_by_text("(1 failed)")).to_have_count(len(INDICES))
    page.goto(f"{stage.ui.url}/asset-groups")
    expect(page.get_by_text("season", exact=True).last).to_be_visible()
    if SHOTS:
        page.wait_for_timeout(4_000)  # arrows are drawn after the boxes, and nothing tells when
    stage.shot("lineage")


def sees_the_reason(stage: Stage, run_id: str) -> None:
    page = stage.page
    page.goto(f"{stage.ui.url}/runs/{run_id}")
    cell = f"{VICTIM[0]}|{VICTIM[1]}"
    expect(page.get_by_text(re.compile(re.escape(cell) + ".*503", re.DOTALL)).first).to_be_visible()


def reexecute_from_failure(stage: Stage, backfill: str) -> str:
    """Press the backfill page's own button; return the id of the only run it makes."""
    page = stage.page
    # the button stays grey until the daemon has closed the backfill
    wait_until(
        "the first backfill's end", lambda: stage.ui.backfill_status(backfill) == "COMPLETED_FAILED", within_s=60
    )
    page.goto(f"{stage.ui.url}/runs/b/{backfill}")
    expect(page.get_by_text(f"{CELLS} partitions")).to_be_visible()
    page.locator("button:has([aria-label=expand_more])").last.click()
    page.get_by_text("Re-execute from failure").click()
    wait_until("the second backfill", lambda: len(stage.ui.backfill_ids()) == 2, within_s=20)
    second = next(name for name in stage.ui.backfill_ids() if name != backfill)
    wait_until("its run", lambda: finished(stage.ui, second, 1), within_s=RUN_WITHIN_S)
    (run,) = stage.ui.runs_of(second)
    cell = f"{VICTIM[0]}|{VICTIM[1]}"
    assert run["status"] == "SUCCESS", stage.ui.log.read_text()
    assert (run["tags"]["dagster/asset_partition_range_start"], run["tags"]["dagster/asset_partition_range_end"]) == (
        cell,
        cell,
    )
    return str(run["id"])


def finished(ui: DagsterUi, backfill: str, count: int) -> bool:
    runs = ui.runs_of(backfill)
    return len(runs) == count and all(run["status"] in {"SUCCESS", "FAILURE", "CANCELED"} for run in runs)


def open_partitions(stage: Stage) -> None:
    stage.page.goto(f"{stage.ui.url}/assets/stac/{INDICES[0]}?view=partitions")


def choose(page: Page, partition: str) -> None:
    """Click a day or a farm; a second click on a day would let go of it."""
    page.locator("span").filter(has_text=re.compile(f"^{partition}$")).first.click()


def pixels_read(stage: Stage) -> set[str]:
    """Return the scenes whose image files were asked for since the last reset."""
    log = stage.server.log
    assert log is not None
    return {record.path.split("/")[-2] for record in log if record.path.endswith(".tif")}


def numbers(rows: dict[ObservationKey, Observation]) -> dict[ObservationKey, object]:
    """Return what does not depend on when, by whom and from which address a cell was computed."""
    return {key: (row.status, row.statistics, row.scene_ids, row.raster_sha256) for key, row in rows.items()}
