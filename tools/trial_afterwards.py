"""What has to hold when the season is over: nothing lost, nothing twice, everything reproducible."""

from __future__ import annotations

from farm_intel.domain.alerts import AlertState
from farm_intel.domain.messages import MessageState
from tools.trial_setting import FARM, Setting
from tools.trial_story import RULE


def check_afterwards(stage: Setting) -> None:
    """Check the installation after the season."""
    container, record = stage.container, stage.record
    alerts = container.alerts.list(limit=1000)
    droughts = [alert for alert in alerts if alert.rule == RULE and alert.state is not AlertState.SUPPRESSED]
    record.check(
        "one drought, one alert, on no other farm",
        [alert.farm_id for alert in droughts] == [FARM],
        ", ".join(f"{alert.farm_id} {alert.opened_day}" for alert in droughts),
    )
    sequence = [int(event["seq"]) for event in stage.anna.events]
    head = container.reaching.streams.heads(["anna"]).get("anna", 0)
    record.check(
        "the live channel has no gap and nothing twice", sequence == list(range(1, head + 1)), f"{head} events"
    )
    states = [message.state for message in container.reaching.outbox.list(limit=10_000)]
    record.check("every message was sent", states and set(states) == {MessageState.SENT}, f"{len(states)} messages")
    differing = {
        alert.alert_id: report.differences
        for alert in alerts
        if (report := container.alerts.replay(alert.alert_id)).differences
    }
    record.check(
        "every alert replays without differences", alerts and not differing, differing or f"{len(alerts)} alerts"
    )
    replay = stage.command("alerts", "replay", droughts[0].alert_id) if droughts else None
    record.check(
        "`farm-intel alerts replay` says the same",
        replay is not None and replay.returncode == 0,
        (replay.stderr if replay else "").strip()[-200:],
    )
    wrong = container.check_store(rehash=True, repair=False)
    record.check("fsck finds nothing", not wrong, wrong or "every raster hashed")
    findings = container.alerts.audit()
    record.check("the auditor finds nothing", not findings, [finding.detail for finding in findings] or "none stuck")
    before = _everything(stage)
    stage.season.evaluate(stage.season.days)
    stage.container.pump.run(run_id="trial again")
    after = _everything(stage)
    record.check("a second evaluation of the season changes nothing", before == after, f"{len(before)} rows compared")


def _everything(stage: Setting) -> list[object]:
    """Return alerts, their histories and all messages."""
    container = stage.container
    alerts = container.alerts.list(limit=1000)
    histories = [event for alert in alerts for event in container.alerts.history(alert.alert_id)]
    return [*alerts, *histories, *container.reaching.outbox.list(limit=10_000)]
