"""Planetary Computer: hrefs that can be opened now, through the platform's own SDK.

The SDK keeps one token per storage container and renews it a minute before it ends, so signing is nearly free; but it
returns an href that already carries a signature as it is, even an expired one (PlanetaryComputer issues 388, 418,
463). So a signature is always cut off first. Tokens last about 45 minutes: sign when about to read, not when searching.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import requests

from farm_intel.domain.errors import NotConfiguredError, SceneProblemError, SceneProblemKind, TransientError
from farm_intel.domain.scenes import Scene
from farm_intel.providers.stac.assets import unsigned
from farm_intel.resilience.guard import CallGuard, Operation

BLOB_HOST_SUFFIX = ".blob.core.windows.net"


def sign_scene(scene: Scene, guard: CallGuard, *, provider: str, timeout_s: float) -> Scene:
    """Return the scene with freshly signed hrefs; files outside Azure blob storage are left alone.

    Raises:
        SceneProblemError: the platform gives no access to the scene's storage.
        TransientError: the token service does not answer.

    """
    bands = {
        name: replace(
            band, href=sign_href(band.href, guard, provider=provider, timeout_s=timeout_s, scene_id=scene.scene_id)
        )
        for name, band in scene.bands.items()
    }
    return replace(scene, bands=bands)


def sign_href(href: str, guard: CallGuard, *, provider: str, timeout_s: float, scene_id: str = "") -> str:
    """Return one freshly signed href; errors as in `sign_scene`."""
    operation = Operation(provider=provider, host=urlsplit(href).netloc, name="sign")
    scene = scene_id or PurePosixPath(urlsplit(href).path).stem
    return guard.call(operation, lambda: _sign(href, scene, guard.remaining_s(timeout_s)))


def _sign(href: str, scene_id: str, timeout_s: float) -> str:
    parts = urlsplit(href)
    if not (parts.hostname or "").endswith(BLOB_HOST_SUFFIX):
        return href
    try:
        from planetary_computer import sas
    except ImportError as error:  # pragma: no cover - a declared dependency
        raise NotConfiguredError("planetary-computer is not installed", hint="Run `make install`.") from error
    account = (parts.hostname or "").partition(".")[0]
    container = parts.path.lstrip("/").partition("/")[0]
    bare = unsigned(href)
    try:
        # No retries inside the SDK: there is one retry policy, and it is around this call.
        token = _within(timeout_s, lambda: sas.get_token(account, container, retry_total=0))
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403, 404):
            raise SceneProblemError(
                SceneProblemKind.ACCESS_DENIED,
                scene_id,
                f"the token service refuses {account}/{container} with {status}",
                hint="Check that the item comes from the Planetary Computer.",
            ) from error
        raise TransientError(f"the token service answered {status} for {account}/{container}") from error
    except (requests.RequestException, ValueError) as error:
        raise TransientError(f"the token service gave no token for {account}/{container}: {error}") from error
    return str(token.sign(bare).href)


def _within[T](timeout_s: float, function: Callable[[], T]) -> T:
    """Return what `function` returns, or fail after `timeout_s`: the SDK itself would wait for ever."""
    results: list[T] = []
    failures: list[Exception] = []

    def run() -> None:
        try:
            results.append(function())
        except (requests.RequestException, ValueError) as error:
            failures.append(error)

    worker = threading.Thread(target=run, daemon=True, name="planetary-computer-token")
    worker.start()
    worker.join(timeout_s)
    if failures:
        raise failures[0]
    if not results:
        raise TransientError(f"the token service did not answer within {timeout_s:g} s")
    return results[0]
