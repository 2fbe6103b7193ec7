"""Rendered speech by its content hash, for those who were sent it."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

from fastapi import APIRouter, Header, Path
from fastapi.responses import Response

from farm_intel.api.access import Services, User
from farm_intel.api.problems import documented, problem, respond
from farm_intel.domain.errors import StoreError, UnknownNameError
from farm_intel.domain.messages import Audio

router = APIRouter(prefix="/v1/audio", tags=["audio"], responses=documented(401, 404, 416, 422, 503))

Sha256 = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]

_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


@router.get(
    "/{sha256}",
    operation_id="getAudio",
    response_class=Response,
    responses={
        200: {"description": "The audio", "content": {"audio/wav": {}}},
        206: {"description": "The bytes that were asked for", "content": {"audio/wav": {}}},
    },
)
def get_audio(
    services: Services,
    user: User,
    sha256: Sha256,
    range_: Annotated[str, Header(alias="Range")] = "",
    if_range: Annotated[str, Header()] = "",
) -> Response:
    """Return the audio of one of the user's own events, whole or one range of it.

    The hash never becomes a path here: the path comes from the record of that hash, so nothing else can be named.
    """
    audio = _own_audio(services, user, sha256)
    content = services.audio.read(audio)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise StoreError(f"audio {sha256} is not what it was when it was rendered", hint="Remove it; it is made again.")
    etag = f'"{sha256}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, max-age=31536000, immutable"}
    asked = _RANGE.fullmatch(range_.strip()) if not if_range or if_range == etag else None
    if asked is None or asked.groups() == ("", ""):
        return Response(content, 200, headers, audio.mime_type)
    start, stop = _bounds(asked[1], asked[2], len(content))
    if start >= stop:
        return respond(
            problem(416, f"The file has {len(content)} bytes."), {"Content-Range": f"bytes */{len(content)}"}
        )
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
    return Response(content[start:stop], 206, headers, audio.mime_type)


def _own_audio(services: Services, user_id: str, sha256: str) -> Audio:
    farms = services.streams.farms_told_of(user_id, sha256)
    told = any(not farm or services.access.may_see(user_id, farm) for farm in farms)
    audio = services.audio.by_address(sha256) if told else None
    if audio is None:
        raise UnknownNameError(f"there is no audio {sha256} among your events", hint="Take the hash from an event.")
    return audio


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """Return start and stop of a range in bytes; empty where it is not in the file (RFC 9110, 14.1.2)."""
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size
