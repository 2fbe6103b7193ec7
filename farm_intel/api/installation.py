"""The API of an installation, put together from its container: `uvicorn --factory farm_intel.api.installation:app`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from fastapi import FastAPI

from farm_intel.api.app import create_app
from farm_intel.api.ports import ApiAccess, ApiServices, Beat, HeartbeatsPort
from farm_intel.bootstrap import Container, container_from_environment
from farm_intel.domain.routing import ANY

MISSED_BEATS = 5
"""A part of the pump is silent after this many of its intervals, or after the least silence where that is longer."""
LEAST_SILENCE_S = 1200.0
"""Twice the ten minutes after which Dagster's pump beats where nothing is due."""


WATCHED = frozenset({"pump", "alerts"})
"""The parts that beat in every pass; cleaning up does so a few times a day and would look silent in between."""


@dataclass(frozen=True, slots=True)
class _Watched:
    """The heartbeats that have to come in every pass."""

    all: HeartbeatsPort

    def heartbeats(self) -> Sequence[Beat]:
        """Return the latest of each."""
        return [beat for beat in self.all.heartbeats() if beat.name in WATCHED]


def app() -> FastAPI:
    """Return the app of the installation that the environment describes."""
    return app_of(container_from_environment())


def app_of(container: Container) -> FastAPI:
    """Return the app of an installation."""
    settings, reaching = container.settings, container.reaching
    operators = frozenset(settings.api_operators)

    def farms_of(user_id: str) -> frozenset[str] | None:
        """Return whose farms somebody may see: until there are accounts, those subscribed to; operators see all."""
        if user_id in operators:
            return None
        farms = frozenset(one.farm_id for one in reaching.subscriptions.list(user_id=user_id))
        return None if ANY in farms else farms

    def may_see(user_id: str, farm_id: str) -> bool:
        farms = farms_of(user_id)
        return farms is None or farm_id in farms

    return create_app(
        ApiServices(
            streams=reaching.streams,
            tickets=reaching.streams,
            alerts=container.alerts.service,
            activities=container.activities,
            outbox=reaching.outbox,
            audio=reaching.speech_store,
            heartbeats=_Watched(container.activities),
            access=ApiAccess(
                tokens=settings.api_tokens,
                may_see=may_see,
                farms_of=farms_of,
                operators=operators,
                origins=frozenset(settings.api_origins),
            ),
            clock=container.clock,
            silent_after=timedelta(seconds=max(MISSED_BEATS * settings.pump_interval_s, LEAST_SILENCE_S)),
        )
    )
