"""The app, made from its services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from farm_intel.api import alerts, audio, events, health, live, occurrences, outbox, tickets
from farm_intel.api.ports import ApiServices
from farm_intel.api.problems import Problem, install_problems
from farm_intel.api.walls import BodyLimit, SecurityHeaders
from farm_intel.notifying.streaming import StreamHub

TITLE = "farm-intel"
VERSION = "1"


def create_app(services: ApiServices) -> FastAPI:
    """Return the app over these services; its one poller runs for as long as the app does."""
    app = FastAPI(
        title=TITLE,
        version=VERSION,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.hub = StreamHub(services.streams, services.access.may_see, services.clock, services.stream_options)
    for part in (alerts, occurrences, outbox, audio, health, tickets, events, live):
        app.include_router(part.router)
    install_problems(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(SecurityHeaders)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.poller = asyncio.create_task(app.state.hub.run())
    try:
        yield
    finally:
        app.state.poller.cancel()
        with suppress(asyncio.CancelledError):
            await app.state.poller


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        app.openapi_schema = document
    return app.openapi_schema
