"""The live channel over WebSocket: `/v1/stream?ticket=…&last_seq=N`.

Server to client, one JSON object per message:

- `{"type":"event","seq":8,"event":{"id","kind","farm_id","at","payload"}}` in order, from `last_seq + 1` on;
- `{"type":"live","seq":n}` once, when all that was there has been sent;
- `{"type":"withheld","seq":n}` in place of an event of a farm the user may no longer see;
- `{"type":"resync_required","oldest_seq":n,"last_seq":m}`: the cursor cannot be served without a gap; closes 4410.
  The client reads the present state by the other routes and connects again with `last_seq=m`;
- `{"type":"ping","seq":n}` after twenty quiet seconds;
- `{"type":"alert_acknowledged","alert_id","state"}` and `{"type":"error","problem":{…}}` as answers.

Client to server: `{"type":"ack","seq":n}` (cumulative), `{"type":"acknowledge_alert","alert_id":…,"note":…}`.

Close codes: 4403 when access to a farm ends while connected (its event is withheld; what the client may see has
changed, so it has to log in anew, and its cursor goes past that event); 4410 after `resync_required`; 1013 for a client
that takes too long, or while the store refuses: connect again with the last number received; 1011 for a fault of ours.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import aclosing, suppress
from typing import Annotated, Literal

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import Field, TypeAdapter, ValidationError

from farm_intel.api.access import services_of, visible_alert
from farm_intel.api.fields import Body, Identifier, Text
from farm_intel.api.ports import ApiServices
from farm_intel.api.problems import Problem, problem, problem_of, respond
from farm_intel.api.tickets import parse_cursor, wrong_origin
from farm_intel.domain.alerts import Alert
from farm_intel.domain.errors import FarmIntelError
from farm_intel.domain.streams import StreamEvent
from farm_intel.notifying.streaming import CaughtUp, Quiet, ResyncRequired, StreamHub, StreamItem, Told, Withheld

logger = logging.getLogger(__name__)
router = APIRouter()

REVOKED = 4403
RESYNC = 4410
TRY_AGAIN_LATER = 1013
UNEXPECTED = 1011
CLOSE_WITHIN_S = 5.0
"""How long a close frame may wait behind what a slow client has not taken."""
ACK_EVERY_S = 1.0
"""Acknowledgements are cumulative: one write a second tells the same as one per event."""


class Ack(Body):
    """Everything up to `seq` has arrived."""

    type: Literal["ack"]
    seq: Annotated[int, Field(ge=0, lt=2**63, strict=True)]


class AcknowledgeAlert(Body):
    """Acknowledge an alert."""

    type: Literal["acknowledge_alert"]
    alert_id: Identifier
    note: Text = ""


_Said = TypeAdapter[Ack | AcknowledgeAlert](Annotated[Ack | AcknowledgeAlert, Field(discriminator="type")])


class TooSlowError(Exception):
    """The client does not take what it is sent."""


@router.websocket("/v1/stream")
async def stream(websocket: WebSocket) -> None:
    """Admit a client by its ticket and tell it its events until one of the two goes."""
    services = services_of(websocket)
    hub: StreamHub = websocket.app.state.hub
    try:
        admitted = await _admit(websocket, services)
    except FarmIntelError as error:
        admitted = problem_of(error)
    if isinstance(admitted, Problem):
        await websocket.send_denial_response(respond(admitted))
        return
    user_id, cursor = admitted
    with hub.seat(user_id) as seated:
        if not seated:
            await websocket.send_denial_response(respond(problem(429)))
            return
        await websocket.accept()
        await LiveConnection(websocket, services, hub, user_id, cursor).run()


class LiveConnection:
    """One client that is connected."""

    def __init__(self, websocket: WebSocket, services: ApiServices, hub: StreamHub, user_id: str, cursor: int) -> None:
        self._websocket = websocket
        self._services = services
        self._hub = hub
        self._user_id = user_id
        self._sent = cursor
        self._acked = 0
        self._recorded = 0
        self._ack_came = asyncio.Event()
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Tell, hear and record until one of them ends; then end the others and close."""
        tasks = [asyncio.create_task(part()) for part in (self._tell, self._hear, self._record)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        code = next((_close_code(result) for result in results if not isinstance(result, asyncio.CancelledError)), None)
        if code is not None:
            await self._close(code)
        await self._record_ack()

    async def _tell(self) -> int:
        async with aclosing(self._hub.follow(self._user_id, self._sent)) as items:
            async for item in items:
                await self._send(message_of(item))
                if isinstance(item, ResyncRequired):
                    return RESYNC
                if not isinstance(item, Quiet):
                    self._sent = seq_of(item)
                if isinstance(item, Withheld) and item.live:
                    return REVOKED
        return TRY_AGAIN_LATER

    async def _hear(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                said = _Said.validate_json(message.get("text") or "")
            except ValidationError as error:
                await self._send(_refusal(problem(422, f"The message is not understood: {error.errors()[0]['msg']}.")))
                continue
            if isinstance(said, AcknowledgeAlert):
                await self._send(await asyncio.to_thread(self._acknowledge_alert, said))
            elif said.seq > self._sent:
                await self._send(_refusal(problem(400, f"Event {said.seq} has not been sent on this connection.")))
            else:
                self._acked = max(self._acked, said.seq)
                self._ack_came.set()

    async def _record(self) -> None:
        while True:
            await self._ack_came.wait()
            self._ack_came.clear()
            await self._record_ack()
            await self._services.clock.asleep(ACK_EVERY_S)

    async def _record_ack(self) -> None:
        if self._acked > self._recorded:
            try:
                self._recorded = await asyncio.to_thread(self._services.streams.acknowledge, self._user_id, self._acked)
            except FarmIntelError as error:  # the client says it again, and nothing is lost if it does not
                logger.warning("an acknowledgement of user %s is not recorded: %s", self._user_id, error)

    def _acknowledge_alert(self, said: AcknowledgeAlert) -> dict[str, object]:
        try:
            visible_alert(self._services, self._user_id, said.alert_id)
            alert: Alert = self._services.alerts.acknowledge(said.alert_id, self._user_id, said.note)
        except FarmIntelError as error:
            return _refusal(problem_of(error))
        return {"type": "alert_acknowledged", "alert_id": alert.alert_id, "state": alert.state.value}

    async def _send(self, message: dict[str, object]) -> None:
        text = json.dumps(message, separators=(",", ":"))
        try:
            async with self._sending, asyncio.timeout(self._hub.options.send_within_s):
                await self._websocket.send_text(text)
        except TimeoutError as error:
            raise TooSlowError from error

    async def _close(self, code: int) -> None:
        with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):  # it may be gone already
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._websocket.close(code)


def seq_of(item: StreamItem) -> int:
    """Return how far a reader is who has got this item."""
    if isinstance(item, Told):
        return item.event.seq
    return item.last_seq if isinstance(item, ResyncRequired) else item.seq


def message_of(item: StreamItem) -> dict[str, object]:
    """Return the message of an item; the same over WebSocket and server-sent events."""
    match item:
        case Told(event):
            return {"type": "event", "seq": event.seq, "event": _told(event)}
        case Withheld(seq):
            return {"type": "withheld", "seq": seq}
        case CaughtUp(seq):
            return {"type": "live", "seq": seq}
        case Quiet(seq):
            return {"type": "ping", "seq": seq}
        case ResyncRequired(last_seq, oldest_seq):
            return {"type": "resync_required", "oldest_seq": oldest_seq, "last_seq": last_seq}


def _told(event: StreamEvent) -> dict[str, object]:
    return {
        "id": event.event_id,
        "kind": event.kind,
        "farm_id": event.farm_id,
        "at": event.created_at.isoformat(),
        "payload": event.payload,
    }


def _refusal(refused: Problem) -> dict[str, object]:
    return {"type": "error", "problem": refused.model_dump(exclude_defaults=True)}


def _close_code(result: int | BaseException | None) -> int | None:
    """Return the code to close with; None where the client has gone by itself."""
    if result is None or isinstance(result, WebSocketDisconnect):
        return None
    if isinstance(result, int):
        return result
    if isinstance(result, TooSlowError):
        return TRY_AGAIN_LATER
    if isinstance(result, FarmIntelError):
        logger.warning("a live connection ends: %s", result)
        return TRY_AGAIN_LATER
    logger.error("a live connection ends unexpectedly", exc_info=result)
    return UNEXPECTED


async def _admit(websocket: WebSocket, services: ApiServices) -> tuple[str, int] | Problem:
    """Return user and cursor; the ticket is used up last, so that a mistake in the rest does not cost it."""
    refused = wrong_origin(websocket, services)
    if refused is not None:
        return refused
    cursor = parse_cursor(websocket.query_params.get("last_seq"))
    if isinstance(cursor, Problem):
        return cursor
    user_id = await asyncio.to_thread(services.tickets.redeem, websocket.query_params.get("ticket", ""))
    if user_id is None:
        return problem(401, "The ticket is unknown, used or expired; get a new one.")
    if cursor.seq is not None:
        return user_id, cursor.seq
    return user_id, await asyncio.to_thread(services.streams.start, user_id)
