"""The one table from our errors to HTTP: problem details as in RFC 9457, for every error the API can answer with."""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from farm_intel.domain.activities import IllegalTransitionError
from farm_intel.domain.errors import (
    BadRequestError,
    CellsFailedError,
    DeadlineExceededError,
    FarmIntelError,
    NotConfiguredError,
    PermanentError,
    ProviderDownError,
    SceneProblemError,
    StoreError,
    ThrottledError,
    TransientError,
    UnknownNameError,
)

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
PROBLEM_PATH = "/v1/problems/"


class Problem(BaseModel):
    """A problem as RFC 9457 writes it."""

    type: str
    """Address of the page that explains this kind of problem, relative to the API."""
    title: str
    status: int
    detail: str = ""
    instance: str = ""
    """Names this very occurrence in the server's log; only where there is an entry."""
    errors: list[dict[str, str]] = []
    """Where the request was wrong: `where` and `what`; never the value that was sent."""


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One kind of problem: its slug, its status and what to do about it."""

    slug: str
    status: int
    title: str
    advice: str


KINDS: tuple[ProblemKind, ...] = (
    ProblemKind("bad-request", 400, "The request is wrong", "Change the request as the detail says."),
    ProblemKind("unauthenticated", 401, "Nobody is logged in", "Send a valid bearer token or a fresh ticket."),
    ProblemKind("forbidden", 403, "This is not allowed", "Ask an operator for the right, or use another origin."),
    ProblemKind("not-found", 404, "There is no such thing", "It does not exist, or it is not yours to see."),
    ProblemKind("method-not-allowed", 405, "The method does not exist here", "Use one of the `Allow` header."),
    ProblemKind("conflict", 409, "It is not in a state for that", "Read its state; the detail lists what is possible."),
    ProblemKind("too-large", 413, "The request is too large", "Send less than 64 kB."),
    ProblemKind("range", 416, "That range is not in the file", "Ask for bytes below the size in `Content-Range`."),
    ProblemKind("invalid", 422, "A field is wrong", "Correct the fields that `errors` lists."),
    ProblemKind("too-many", 429, "Too many streams at once", "Close one of your streams first."),
    ProblemKind("internal", 500, "Something went wrong here", "Report the `instance`; retrying may not help."),
    ProblemKind("failed-upstream", 502, "What others delivered cannot be used", "Look at the runs for the reason."),
    ProblemKind("unavailable", 503, "It does not work right now", "Try again later, after `Retry-After` if given."),
    ProblemKind("timeout", 504, "It took too long", "Try again later."),
)

ERROR_STATUS: tuple[tuple[type[FarmIntelError], int], ...] = (
    (UnknownNameError, 404),
    (BadRequestError, 400),
    (IllegalTransitionError, 409),
    (SceneProblemError, 502),
    (NotConfiguredError, 503),
    (PermanentError, 500),
    (DeadlineExceededError, 504),
    (ThrottledError, 503),
    (ProviderDownError, 503),
    (TransientError, 503),
    (StoreError, 503),
    (CellsFailedError, 502),
    (FarmIntelError, 500),
)
"""(error, status); the first that fits counts. Details of 5xx stay in the log: they may name hosts and paths."""

_BY_STATUS = {kind.status: kind for kind in KINDS}


class ProblemResponse(JSONResponse):
    """A response that is a problem."""

    media_type = MEDIA_TYPE


def problem(
    status: int, detail: str = "", *, instance: str = "", errors: list[dict[str, str]] | None = None
) -> Problem:
    """Return the problem of a status; one that is not in the table keeps its number and the phrase of HTTP."""
    kind = _BY_STATUS.get(status)
    if kind is None:
        return Problem(type="about:blank", title=HTTPStatus(status).phrase, status=status, detail=detail)
    address = PROBLEM_PATH + kind.slug
    return Problem(type=address, title=kind.title, status=status, detail=detail, instance=instance, errors=errors or [])


def problem_of(error: FarmIntelError) -> Problem:
    """Return the problem one of our errors becomes."""
    status = next(status for base, status in ERROR_STATUS if isinstance(error, base))
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return problem(status, str(error))
    instance = uuid.uuid4().urn
    logger.warning("%s: %s: %s", instance, type(error).__name__, error)
    return problem(status, _BY_STATUS[status].advice, instance=instance)


def respond(body: Problem, headers: Mapping[str, str] | None = None) -> ProblemResponse:
    """Return the response of a problem."""
    return ProblemResponse(body.model_dump(exclude_defaults=True), body.status, dict(headers or {}))


def install_problems(app: FastAPI) -> None:
    """Let every error of the app, the framework's own included, answer as a problem."""
    app.add_exception_handler(FarmIntelError, _own)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(Exception, _unexpected)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route for these statuses, for OpenAPI."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _BY_STATUS[status].title, "content": content} for status in statuses}


async def _own(_request: Request, error: Exception) -> ProblemResponse:
    if not isinstance(error, FarmIntelError):
        raise error
    retry_after_s = error.retry_after_s if isinstance(error, ThrottledError | ProviderDownError) else None
    headers = {} if retry_after_s is None else {"Retry-After": str(math.ceil(retry_after_s))}
    return respond(problem_of(error), headers)


async def _invalid(_request: Request, error: Exception) -> ProblemResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    errors = [
        {"where": ".".join(str(part) for part in entry["loc"]), "what": str(entry["msg"])} for entry in error.errors()
    ]
    return respond(problem(422, f"{len(errors)} field(s) are wrong.", errors=errors))


async def _framework(_request: Request, error: Exception) -> ProblemResponse:
    if not isinstance(error, HTTPException):
        raise error
    phrase = HTTPStatus(error.status_code).phrase
    detail = "" if error.detail == phrase else str(error.detail)
    return respond(problem(error.status_code, detail), error.headers)


async def _unexpected(_request: Request, error: Exception) -> ProblemResponse:
    instance = uuid.uuid4().urn
    logger.error("%s: unexpected", instance, exc_info=error)
    return respond(problem(500, _BY_STATUS[500].advice, instance=instance))
