"""The live channel over server-sent events: `/v1/events`, for programs and pages that only listen.

The same items as over WebSocket: `data:` holds the same JSON, `id:` the number, so that a client that reconnects by
itself sends it back as `Last-Event-ID`. Items other than events carry their type in `event:`. `resync_required` and
`closed` (access to a farm ended while connected) are the last of a stream.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response, StreamingResponse

from farm_intel.api.access import Credentials, Services, user_of
from farm_intel.api.live import message_of, seq_of
from farm_intel.api.ports import ApiServices
from farm_intel.api.problems import Problem, documented, problem, respond
from farm_intel.api.tickets import parse_cursor, wrong_origin
from farm_intel.domain.errors import FarmIntelError
from farm_intel.notifying.streaming import Quiet, ResyncRequired, StreamHub, StreamItem, Told, Withheld

logger = logging.getLogger(__name__)
router = APIRouter(tags=["stream"])

RETRY_MS = 2000
RETRY_AFTER_RESYNC_MS = 60_000
"""A page that ignores `resync_required` comes back with the same cursor; not at once, please."""


@router.get(
    "/v1/events",
    operation_id="followEvents",
    response_class=StreamingResponse,
    responses={
        200: {"description": "The stream", "content": {"text/event-stream": {}}},
        **documented(400, 401, 403, 429, 503),
    },
)
async def follow_events(
    request: Request,
    services: Services,
    credentials: Credentials,
    ticket: Annotated[str, Query()] = "",
    last_seq: Annotated[str | None, Query()] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Follow the user's events; log in by bearer token, or by a ticket where headers cannot be set.

    `Last-Event-ID` counts before `last_seq`: a reconnecting browser repeats the address of its first connection.
    """
    hub: StreamHub = request.app.state.hub
    refused = wrong_origin(request, services)
    if refused is not None:
        return respond(refused)
    cursor = parse_cursor(last_event_id or last_seq)
    if isinstance(cursor, Problem):
        return respond(cursor)
    if credentials is None:
        user_id = await asyncio.to_thread(services.tickets.check, ticket)
    else:
        user_id = user_of(services, credentials.credentials)
    if user_id is None:
        unknown = problem(401, "Neither a known bearer token nor a valid ticket came along.")
        return respond(unknown, {"WWW-Authenticate": "Bearer"})
    if hub.is_full(user_id):
        return respond(problem(429))
    after = await asyncio.to_thread(services.streams.start, user_id) if cursor.seq is None else cursor.seq
    return StreamingResponse(_events(services, hub, user_id, after), 200, _headers(request), "text/event-stream")


def _headers(request: Request) -> dict[str, str]:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    origin = request.headers.get("origin")
    return headers if origin is None else headers | {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


async def _events(services: ApiServices, hub: StreamHub, user_id: str, after: int) -> AsyncIterator[str]:
    yield f"retry: {RETRY_MS}\n\n"
    with hub.seat(user_id) as seated:
        if not seated:  # another of the user's connections was quicker
            return
        try:
            async with aclosing(hub.follow(user_id, after)) as items:
                async for item in items:
                    began_s = services.clock.monotonic_s()
                    yield _frame(item)
                    slow = services.clock.monotonic_s() - began_s > hub.options.send_within_s
                    if slow or (isinstance(item, Withheld) and item.live):
                        yield f"event: closed\ndata: {json.dumps({'reason': 'too slow' if slow else 'revoked'})}\n\n"
                        return
        except FarmIntelError as error:
            logger.warning("a stream of events ends: %s", error)


def _frame(item: StreamItem) -> str:
    if isinstance(item, Quiet):
        return ": quiet\n\n"
    message = message_of(item)
    data = f"data: {json.dumps(message, separators=(',', ':'))}\n\n"
    if isinstance(item, Told):
        return f"id: {item.event.seq}\n{data}"
    if isinstance(item, ResyncRequired):
        return f"retry: {RETRY_AFTER_RESYNC_MS}\nevent: resync_required\n{data}"
    return f"id: {seq_of(item)}\nevent: {message['type']}\n{data}"
