"""From what the Earth Engine client raises to the one error tree.

The client keeps only the message; the HTTP status survives in the exception's context. Many causes share status 400 and
are told apart by their words, and a proxy's HTML page becomes the message "Ok": hence status first, words second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from farm_intel.domain.errors import (
    BadRequestError,
    FarmIntelError,
    NotConfiguredError,
    PermanentError,
    ThrottledError,
    TransientError,
)


class TooLargeError(PermanentError):
    """Earth Engine cannot compute so much at once; half of it may work."""


class NoSuchAssetError(PermanentError):
    """An image or collection does not exist, or the project may not read it."""


_SHOWN_CHARACTERS = 300
_TOO_LARGE = (
    "user memory limit exceeded",
    "computation timed out",
    "too many pixels",
    "total request size",
    "request payload size exceeds",
    "collection query aborted after accumulating",
    "computed value is too large",
    "output of image computation is too large",
    "too many elements",
)
_THROTTLED = (
    "too many concurrent aggregations",
    "too many requests",
    "quota exceeded",
    "rate limit",
    "resource_exhausted",
)
_MISSING = ("not found", "does not exist")
_TRANSIENT_STATUSES = frozenset({408, 500, 502, 503, 504})
_WORDLESS = frozenset({"", "ok"})


def error_of(error: BaseException, what: str) -> FarmIntelError:
    """Return the error to raise for an exception of the client.

    Args:
        error: EEException, or what googleapiclient, google-auth, the transport or the decoders let through.
        what: the call, for the message.

    """
    response = _response_of(error)
    status = int(getattr(response, "status", 0) or 0)
    words = " ".join(str(error).split())
    shown = f"Earth Engine, {what}: {words[:_SHOWN_CHARACTERS]}" + (f" (HTTP {status})" if status else "")
    if words.lower() in _WORDLESS:
        shown = f"Earth Engine, {what}: an answer that is none of its own (HTTP {status or 'unknown'})"
    if _is_credentials_problem(error):
        return NotConfiguredError(
            f"Earth Engine does not accept the service account: {words[:_SHOWN_CHARACTERS]}",
            hint="Check FARM_INTEL_EARTH_ENGINE_CREDENTIALS and that the key was not revoked.",
        )
    by_status = _by_status(status, words.lower(), shown, response)
    if by_status is not None:
        return by_status
    return _by_words(words.lower(), shown, status)


def _by_status(status: int, words: str, shown: str, response: Mapping[str, str] | None) -> FarmIntelError | None:
    if status == 429 or any(word in words for word in _THROTTLED):
        return ThrottledError(shown, retry_after_s=retry_after_s(response))
    if status in _TRANSIENT_STATUSES and not any(word in words for word in _TOO_LARGE):
        return TransientError(shown)
    if status in {401, 403}:
        return NotConfiguredError(
            shown,
            hint="Enable the Earth Engine API for the project and give the service account the role "
            "'Earth Engine Resource Viewer'.",
        )
    return None


def _by_words(words: str, shown: str, status: int) -> FarmIntelError:
    if any(word in words for word in _TOO_LARGE) or status == 413:
        return TooLargeError(shown, hint="Ask for fewer farms or a smaller area at once.")
    if status == 404 or any(word in words for word in _MISSING):
        return NoSuchAssetError(shown, hint="The image may have been replaced; search the catalogue again.")
    if 400 <= status < 500:
        return BadRequestError(shown)
    # without a status nothing was answered, or what came cannot be read
    return TransientError(shown)


def retry_after_s(response: Mapping[str, str] | None) -> float | None:
    """Return the seconds a server asks to wait, None where it does not say so in seconds."""
    text = "" if response is None else str(response.get("retry-after", ""))
    try:
        return max(0.0, float(text))
    except ValueError:
        return None


def _response_of(error: BaseException) -> Mapping[str, str] | None:
    """Return the HTTP answer kept by the error itself or by the one it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        response: Mapping[str, str] | None = getattr(seen, "resp", None)
        if response is not None:
            return response
        seen = seen.__cause__ or seen.__context__
    return None


def _is_credentials_problem(error: BaseException) -> bool:
    from google.auth.exceptions import GoogleAuthError, TransportError

    refused = isinstance(error, GoogleAuthError) and not isinstance(error, TransportError)
    # google-auth says of 5xx answers of the token server that they may be tried again
    return refused and not bool(getattr(error, "retryable", False))


def raised_by_client() -> tuple[type[BaseException], ...]:
    """Return everything the client, its HTTP layer and its decoders are known to raise for a failed call."""
    import ee
    import httplib2  # type: ignore[import-untyped]  # comes with the client, without types
    from google.auth.exceptions import GoogleAuthError
    from googleapiclient.errors import Error as ApiError  # type: ignore[import-untyped]  # as above

    return (
        ee.EEException,
        ApiError,
        GoogleAuthError,
        httplib2.HttpLib2Error,
        OSError,
        json.JSONDecodeError,
    )
