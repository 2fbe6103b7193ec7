"""Whether those who watch are alive, and the pages that explain problems; open to everybody."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from farm_intel.api.access import Services
from farm_intel.api.problems import KINDS, PROBLEM_PATH, documented
from farm_intel.domain.errors import UnknownNameError

router = APIRouter(tags=["health"])


class Part(BaseModel):
    """One part of the pump."""

    name: str
    at: datetime
    age_s: float
    silent: bool


class Health(BaseModel):
    """How the watchers are."""

    status: Literal["ok", "silent"]
    """`silent`: a part has not reported for too long, or none ever has; the answer is then 503."""
    live_channel: bool
    """Whether new events are being looked for."""
    parts: list[Part]


class ProblemPage(BaseModel):
    """What a kind of problem means."""

    type: str
    status: int
    title: str
    advice: str


@router.get("/v1/health", operation_id="getHealth", responses={503: {"model": Health, "description": "Silent"}})
def get_health(request: Request, response: Response, services: Services) -> Health:
    """Tell when each part of the pump last went through with all well; names and ages only."""
    now, silent_after = services.clock.now(), services.silent_after
    parts = [
        Part(name=beat.name, at=beat.at, age_s=(now - beat.at).total_seconds(), silent=now - beat.at > silent_after)
        for beat in sorted(services.heartbeats.heartbeats(), key=lambda beat: beat.name)
    ]
    live_channel = not request.app.state.poller.done()
    well = bool(parts) and live_channel and not any(part.silent for part in parts)
    response.status_code = 200 if well else 503
    return Health(status="ok" if well else "silent", live_channel=live_channel, parts=parts)


@router.get(f"{PROBLEM_PATH}{{slug}}", operation_id="getProblem", responses=documented(404))
def get_problem(slug: str) -> ProblemPage:
    """Explain one kind of problem."""
    for kind in KINDS:
        if kind.slug == slug:
            return ProblemPage(type=PROBLEM_PATH + slug, status=kind.status, title=kind.title, advice=kind.advice)
    raise UnknownNameError("there is no problem of that name", hint=f"There are: {', '.join(k.slug for k in KINDS)}.")
