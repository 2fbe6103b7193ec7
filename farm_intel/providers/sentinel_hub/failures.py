"""What goes wrong with Sentinel Hub, in the words of the one error tree.

Source of the status codes and their meaning: eu-cdse/documentation APIs/SentinelHub/Overview (RateLimiting,
Authentication) and the error bodies of the service's OpenAPI (`{"error": {"status", "reason", "message", "code"}}`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from farm_intel.domain.errors import (
    BadRequestError,
    BudgetExceededError,
    FarmIntelError,
    NotConfiguredError,
    ThrottledError,
    TransientError,
)

_QUOTA = re.compile(r"quota|processing.?units|insufficient.*units|limit exceeded|OUT_OF_(REQUESTS|PU)", re.IGNORECASE)
_TEMPORARY = frozenset({408, 409, 423, 425})
_SHOWN = 300
"""Characters of the service's own words kept in a message."""


class TokenRejectedError(NotConfiguredError):
    """The service does not accept the token (any more); worth one new token, then a matter of credentials."""


def error_for_status(what: str, status: int, headers: Mapping[str, str], body: bytes) -> FarmIntelError:
    """Return the error an answer stands for.

    Args:
        what: the call, for the message: `statistics of …`.
        status: HTTP status, 300 or more.
        headers: of the answer; names in any case.
        body: of the answer, in any form (HTML of a proxy too).

    """
    words = words_of(body)
    said = f"Sentinel Hub answered {what} with {status}{f': {words}' if words else ''}"
    if status == 401:
        return TokenRejectedError(
            said, hint="Check FARM_INTEL_SENTINEL_HUB_CLIENT_ID and _SECRET; the client may be deleted or expired."
        )
    if status == 403:
        return _forbidden(said, words)
    if status == 429:
        lower = {name.lower(): value for name, value in headers.items()}
        return ThrottledError(said, retry_after_s=retry_after_s(lower.get("retry-after"), lower.get("date")))
    if status >= 500 or status in _TEMPORARY:
        return TransientError(said, hint="The service is in trouble; the same call may succeed later.")
    if status in {404, 405} or status < 400:
        return NotConfiguredError(said, hint="Check FARM_INTEL_SENTINEL_HUB_URL and _TOKEN_URL.")
    return BadRequestError(
        said, hint="The request was not understood; this is a fault of farm-intel, please report it."
    )


def _forbidden(said: str, words: str) -> FarmIntelError:
    """Tell a used-up quota, which is answered with 403 and not 429, from a missing right."""
    if _QUOTA.search(words):
        return BudgetExceededError(said, hint="The account's quota is used up; wait for the next month or buy more.")
    return NotConfiguredError(said, hint="The account has no right to this collection or API.")


def retry_after_s(value: str | None, date: str | None = None) -> float | None:
    """Return the seconds a Retry-After header asks for, None where it says nothing usable.

    Sentinel Hub counts in milliseconds (`retry-after: 3398`); proxies in front of it send HTTP dates, which the
    library itself cannot read.

    Args:
        value: of Retry-After.
        date: of the answer's Date header, the clock an HTTP date is to be compared with.

    """
    if value is None:
        return None
    try:
        return max(0.0, float(value.strip())) / 1000.0
    except ValueError:
        pass
    moment = _http_date(value)
    if moment is None:
        return None
    return max(0.0, (moment - (_http_date(date) or datetime.now(UTC))).total_seconds())


def _http_date(value: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value or "")
    except (TypeError, ValueError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def words_of(body: bytes) -> str:
    """Return the service's own words on one line: code and message of its error body, else the text without tags."""
    text = body.decode("utf-8", "replace")
    try:
        content = json.loads(text)
    except ValueError:
        return " ".join(re.sub(r"<[^>]*>", " ", text).split())[:_SHOWN]
    error = content.get("error", content) if isinstance(content, dict) else content
    if not isinstance(error, dict):
        detail = content.get("error_description", "") if isinstance(content, dict) else ""
        return f"{error} {detail}".strip()[:_SHOWN]
    told = [str(error[key]) for key in ("code", "message", "description") if error.get(key)]
    told += [json.dumps(error["errors"])] if error.get("errors") else []
    return " ".join(" ".join(told).split())[:_SHOWN]
