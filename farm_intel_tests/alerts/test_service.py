"""Alerts open, go on, resolve and are withdrawn as the stored evaluations say, whatever order they arrive in."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine

from farm_intel.domain.alerts import AlertState
from farm_intel_tests.alerts.lives import World, a_subscription, looks


@pytest.fixture
def world(engine: Engine) -> World:
    world = World(engine)
    world.subscribe(a_subscription())
    return world


def test_a_look_that_holds_opens_one_alert_and_tells_once(world: World) -> None:
    report = world.absorb(looks(world.today, "h"))

    alert = world.only()
    assert (report.opened, report.messages) == (1, 1)
    assert alert.state is AlertState.NOTIFIED
    assert alert.next_at == world.clock.now() + timedelta(hours=2)
    assert world.said() == [("ama", "opened")]
    assert world.kinds(alert) == ["open", "sent", "notified"]
