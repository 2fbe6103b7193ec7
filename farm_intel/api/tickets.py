"""Tickets that open the live channel, and what is checked at its door."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from farm_intel.api.access import Services, User
from farm_intel.api.ports import ApiServices
from farm_intel.api.problems import Problem, documented, problem

router = APIRouter(prefix="/v1/stream", tags=["stream"], responses=documented(401, 503))

_NUMBER = re.compile(r"[0-9]{1,18}")  # below 2**63, whatever is sent


class Ticket(BaseModel):
    """A ticket for `/v1/stream` (once) or `/v1/events` (until it expires)."""

    ticket: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reader wants to go on; None for after the last event that was acknowledged."""

    seq: int | None


@router.post("/tickets", operation_id="issueTicket", status_code=201)
def issue_ticket(services: Services, user: User) -> Ticket:
    """Issue a ticket: the only credential that may stand in an address, for addresses end up in logs."""
    expires_at = services.clock.now() + services.access.ticket_ttl
    return Ticket(ticket=services.tickets.issue(user, services.access.ticket_ttl), expires_at=expires_at)


def wrong_origin(connection: HTTPConnection, services: ApiServices) -> Problem | None:
    """Return why a page may not open the channel.

    Browsers always name the page's origin when they open a WebSocket; programs that are no browsers send none, and
    nothing can borrow a login from those.
    """
    origin = connection.headers.get("origin")
    if origin is None or origin in services.access.origins:
        return None
    return problem(403, "Pages of this origin may not open the live channel.")


def parse_cursor(text: str | None) -> Cursor | Problem:
    """Return the cursor a client sent."""
    if text is None:
        return Cursor(None)
    if _NUMBER.fullmatch(text) is None:
        return problem(400, "`last_seq` is the number of the last event received, at most 18 digits.")
    return Cursor(int(text))
