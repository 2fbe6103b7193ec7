"""A drought in the Dagster UI: its alert asset is materialised there, its check fails, the pump tells people."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect

from farm_intel.activities.drafts import check_draft, draft_of
from farm_intel.domain.activities import OccurrenceState, Schedule, ScheduleKind
from farm_intel.domain.alerts import AlertState, Subscription
from farm_intel.observing.model import ObserveRequest
from farm_intel.simulation.catalogue import write_world
from farm_intel.simulation.world import FarmWorld, WorldOptions
from farm_intel_tests.e2e.test_providers_ui import Stage
from farm_intel_tests.e2e.test_ui import CHROMIUM, browser_page, choose, finished
from farm_intel_tests.support.dagster_ui import running_ui, wait_until
from farm_intel_tests.support.installations import install

SHOTS = os.environ.get("E2E_SHOTS", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("e2e"),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed (apt-get install chromium)"),
]

DRY = "F003"
WORLD = WorldOptions(
    seed=4, farms=6, sizes_ha=(5.0,), tile_px=360, days=65, cloudiness=0.5, dry_farm=DRY, dry_from_day=45, dry_days=30
)
INDICES = ("ndvi", "ndwi", "ndmi")
ALERT_DAY = date(2026, 2, 28)
"""The second look that shows the lost leaf water confirms the drought of the one before."""
RUN_WITHIN_S = 120.0
PUMP_WITHIN_S = 150.0


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Yield an installation that has seen a drought come, with work planned and somebody to tell."""
    root = tmp_path_factory.mktemp("alerts-ui")
    world = write_world(FarmWorld(WORLD), root / "world")
    days = [WORLD.start + timedelta(days=number) for number in range(WORLD.days)]
    container = install(
        root / "home",
        str(world.catalog),
        world.farms,
        asset_indices=INDICES,
        history_start=ALERT_DAY - timedelta(days=4),  # few enough days for the page to list them all
        history_end=ALERT_DAY + timedelta(days=4),
        sensor_lookback_days=1,  # the last days have no scene: nothing but the pump works by itself
        alert_news_days=10_000,  # the world lies in the past, and its alerts are to be told all the same
        pump_interval_s=5,
        speech_engines=("flite", "espeak-ng"),
    )
    farms = tuple(farm.farm_id for farm in container.farms.list())
    request = ObserveRequest(
        provider="stac", collection="sentinel-2-l2a", indices=INDICES, farm_ids=farms, days=tuple(days)
    )
    for _ in container.observing.observe(request, run_id="e2e"):
        pass
    for _ in container.assessing.fuse(farms, INDICES, start=days[0], end=days[-1]):
        pass
    for _ in container.assessing.build_series(farms, INDICES):
        pass
    for _ in container.seasons.build_seasons(farms, INDICES):
        pass
    for _ in container.states.build_states(farms, start=days[0], end=days[-1]):
        pass
    container.reaching.subscriptions.subscribe(
        Subscription(subscription_id="", user_id="anna", channel="stream", address="")
    )
    _plan_work(container, farms[0])
    with running_ui(container, root / "up.log") as ui, browser_page() as page:
        wait_until("the farms as partitions", lambda: len(ui.farms("alerts", "farm")) == len(farms), within_s=60)
        yield Stage(ui=ui, page=page, fleet=None, container=container, shots=Path(SHOTS or root))  # type: ignore[arg-type]  # no emulators here


def _plan_work(container, farm_id: str) -> None:
    kind = container.activity_types.get("irrigation")
    yesterday = datetime.combine(container.clock.now().date() - timedelta(days=1), datetime.min.time())
    schedule = Schedule(
        kind=ScheduleKind.EVERY_DAYS, text="1", start=yesterday.replace(hour=6), time_zone="Africa/Nairobi"
    )
    draft = draft_of(kind, farm_id=farm_id, title="Water the maize", schedule=schedule)
    plan = container.activities.plans.create(check_draft(draft, container.activity_types), by="e2e")
    now = container.clock.now()
    made = container.activities.plans.backfill(plan.activity_id, now - timedelta(days=2), now, by="e2e")
    assert made, "yesterday's date has fallen due"


def test_a_drought_is_seen_in_the_ui_and_told_by_the_pump(stage: Stage) -> None:
    assert not stage.container.alerts.list()

    _materialise(stage, "alerts", ALERT_DAY, of=len(stage.container.farms.list()))
    (alert,) = [one for one in stage.container.alerts.list() if one.rule == "drought_stress"]
    assert (alert.farm_id, alert.opened_day) == (DRY, ALERT_DAY)

    page = stage.page
    page.goto(f"{stage.ui.url}/assets/alerts/farm?view=partitions")
    choose(page, str(ALERT_DAY))
    choose(page, DRY)
    expect(page.get_by_text("Materialized", exact=True).first).to_be_visible()
    expect(page.get_by_text("drought_stress").first).to_be_visible()
    stage.shot("alert")
    page.goto(f"{stage.ui.url}/assets/alerts/farm?view=checks&checkDetail=no_alert")
    expect(page.get_by_text("no_alert").first).to_be_visible()
    page.get_by_text("Partitions", exact=True).last.click()
    choose(page, str(ALERT_DAY))
    choose(page, DRY)
    expect(page.get_by_text("drought_stress").first).to_be_visible()
    stage.shot("alert-check")

    _is_told_by_the_pump(stage)


def _is_told_by_the_pump(stage: Stage) -> None:
    """The sensor sees what is due and asks for one run, which tells of the alert, proposes work and speaks."""
    streams = stage.container.reaching.streams

    def kinds() -> list[str]:
        return [event.kind for event in streams.events_after("anna", 0, 100).events]

    def rules() -> set[object]:
        return {event.payload.get("rule_class") for event in streams.events_after("anna", 0, 100).events}

    wait_until("the audio", lambda: "audio" in kinds(), within_s=PUMP_WITHIN_S)
    wait_until("the alert itself", lambda: "stress" in rules(), within_s=PUMP_WITHIN_S)
    assert "activity" in rules(), "the work the alert proposes is asked for too"
    (alert,) = [one for one in stage.container.alerts.list() if one.rule == "drought_stress"]
    assert alert.state is AlertState.NOTIFIED

    def asked() -> set[str]:
        waiting = stage.container.activities.occurrences(states=[OccurrenceState.WAITING])
        return {row.farm_id for row in waiting}

    # the audio may be that of other work, a pass of the pump earlier
    wait_until("the work the alert proposes", lambda: DRY in asked(), within_s=PUMP_WITHIN_S)
    stage.page.goto(f"{stage.ui.url}/runs")
    expect(stage.page.get_by_text("pump_job").first).to_be_visible()
    stage.shot("pump")
    stage.page.goto(f"{stage.ui.url}/automation")
    expect(stage.page.get_by_text("pump", exact=True).first).to_be_visible()


def _materialise(stage: Stage, group: str, day: date, *, of: int) -> None:
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
    if sure.is_visible():  # what it rests on was made outside of Dagster
        sure.click()
    dates.fill(f"[{day}...{day}]")
    dates.press("Enter")
    dialog.get_by_role("button", name="All", exact=True).last.click()
    expect(dialog.get_by_text(f"{of} partitions").first).to_be_visible()
    dialog.get_by_role("button", name="Launch backfill").click()
    wait_until("the backfill", lambda: set(stage.ui.backfill_ids()) > known, within_s=20)
    (backfill,) = set(stage.ui.backfill_ids()) - known
    wait_until("its run", lambda: finished(stage.ui, backfill, 1), within_s=RUN_WITHIN_S)
    (run,) = stage.ui.runs_of(backfill)
    assert run["status"] == "SUCCESS", stage.ui.log.read_text()[-4000:]
