"""Earth Engine's REST service over the farm world, for the real client: token, discovery, listings, computing.

The interface description and the list of algorithms are Google's own, as they ship in the client's wheel for its tests.
Expressions are really evaluated; whatever is not emulated is refused by name. What it cannot say: whether the service
accepts a graph it accepts, pyramids at coarser scales, its histogram percentiles, cost and latency.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from farm_intel.domain.errors import NotConfiguredError
from farm_intel.simulation.catalogue import load_world
from farm_intel.simulation.emulators.earth_engine_assets import AssetStore
from farm_intel.simulation.emulators.earth_engine_functions import Functions, as_image
from farm_intel.simulation.emulators.earth_engine_graph import GraphWalk
from farm_intel.simulation.emulators.earth_engine_values import Collection, EmulatorRefusalError, Feature, Grid
from farm_intel.simulation.emulators.earth_engine_world import world_assets
from farm_intel.simulation.emulators.hosting import Receive, Scope, Send
from farm_intel.simulation.world import FarmWorld

LARGEST_ANSWER_BYTES = 50_331_648
_MOST_FEATURES = 1000
_TOKEN_S = 3599
_LISTING_PARAMETERS = ("filter", "view")
"""`listAssets` takes these in the service; the description in the wheel leaves them out."""


class EarthEngineEmulator:
    """An ASGI application; attributes may be changed while it runs.

    Args:
        assets: the image collections.

    """

    def __init__(self, assets: AssetStore) -> None:
        self.restricted = False
        """Say in every answer that the project's computing quota is used up."""
        self.memory_pixels: int | None = None
        """Pixels of one reduceRegions, and of one computePixels, beyond which memory runs out."""
        self._tokens: set[str] = set()
        self._lock = threading.Lock()
        self._assets = assets
        self._functions = Functions(assets.load, lambda: self.memory_pixels)
        project = "/v1/projects/{project}"
        self._app = Starlette(
            routes=[
                Route("/token", self._token, methods=["POST"]),
                Route("/$discovery/rest", self._discovery),
                Route(f"{project}/algorithms", self._guarded(self._algorithms)),
                Route(f"{project}/value:compute", self._guarded(self._value), methods=["POST"]),
                Route(f"{project}/table:computeFeatures", self._guarded(self._features), methods=["POST"]),
                Route(f"{project}/image:computePixels", self._guarded(self._pixels), methods=["POST"]),
                Route(f"{project}/assets/{{rest:path}}", self._guarded(self._listing)),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._app(scope, receive, send)

    def expire_tokens(self) -> None:
        """Refuse every token given out so far."""
        with self._lock:
            self._tokens.clear()

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return JSONResponse({"error": "unsupported_grant_type"}, 400)
        claims = form.get("assertion", "").split(".")
        if len(claims) != 3 or "iss" not in json.loads(base64.urlsafe_b64decode(claims[1] + "==")):
            return JSONResponse({"error": "invalid_grant", "error_description": "Invalid JWT"}, 400)
        token = f"ya29.{uuid.uuid4().hex}"
        with self._lock:
            self._tokens.add(token)
        kind = "Bearer"
        return JSONResponse({"access_token": token, "expires_in": _TOKEN_S, "token_type": kind})

    async def _discovery(self, request: Request) -> Response:
        text = _wheel_file("cloud_api_discovery_document.json")
        version = request.query_params.get("version", "v1")
        described = json.loads(
            text.replace("https://earthengine.googleapis.com/", str(request.base_url)).replace("v1alpha", version)
        )
        listing = described["resources"]["projects"]["resources"]["assets"]["methods"]["listAssets"]
        for name in _LISTING_PARAMETERS:
            listing["parameters"][name] = {"type": "string", "location": "query"}
        return JSONResponse(described)

    def _guarded(self, answer: Callable[[Request, bytes], Response]) -> Callable[[Request], Any]:
        """Return an endpoint that wants a token, works outside the event loop and tells refusals as the service."""

        async def endpoint(request: Request) -> Response:
            body = await request.body()
            bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
            if bearer not in self._tokens:
                message = "Request had invalid authentication credentials. Expected OAuth 2 access token."
                return refusal(401, message, "UNAUTHENTICATED")
            try:
                response = await run_in_threadpool(answer, request, body)
            except EmulatorRefusalError as error:
                response = refusal(error.code, str(error), error.status)
            if self.restricted:
                response.headers["x-earth-engine-quota-status"] = "parallelism_restricted=true"
            return response

        return endpoint

    def _algorithms(self, request: Request, body: bytes) -> Response:
        del request, body
        return Response(_wheel_file("algorithms.json"), media_type="application/json")

    def _run(self, body: bytes) -> tuple[dict[str, Any], Any]:
        asked = json.loads(body)
        return asked, GraphWalk(asked["expression"], self._functions.table).run()

    def _value(self, request: Request, body: bytes) -> Response:
        del request
        _, found = self._run(body)
        if not isinstance(found, str | int | float | list | dict | None):
            raise EmulatorRefusalError(f"emulator: value:compute of a {type(found).__name__}")
        return JSONResponse({"result": found})

    def _features(self, request: Request, body: bytes) -> Response:
        del request
        asked, found = self._run(body)
        if not isinstance(found, Collection) or not all(isinstance(item, Feature) for item in found.items):
            raise EmulatorRefusalError("table:computeFeatures: the expression is no FeatureCollection")
        size = min(int(asked.get("pageSize") or _MOST_FEATURES), _MOST_FEATURES)
        first = _from_token(asked.get("pageToken"))
        page = [item.as_json() for item in found.items[first : first + size]]
        answer: dict[str, Any] = {"type": "FeatureCollection", "features": page}
        if first + size < len(found.items):
            answer["nextPageToken"] = _to_token(first + size)
        return JSONResponse(answer)

    def _pixels(self, request: Request, body: bytes) -> Response:
        del request
        asked, found = self._run(body)
        image = as_image(found)
        if asked.get("fileFormat") != "NPY":
            raise EmulatorRefusalError(f"emulator: fileFormat {asked.get('fileFormat')}")
        grid = _grid(asked["grid"])
        pixels = grid.width * grid.height
        size = pixels * sum(np.dtype(band.dtype).itemsize + 1 for band in image.bands.values())
        if size > LARGEST_ANSWER_BYTES:
            message = f"Total request size ({size} bytes) must be less than or equal to {LARGEST_ANSWER_BYTES} bytes."
            raise EmulatorRefusalError(message)
        if self.memory_pixels is not None and pixels * len(image.bands) > self.memory_pixels:
            raise EmulatorRefusalError("User memory limit exceeded.")
        data = np.zeros(grid.shape, [(name, band.dtype) for name, band in image.bands.items()])
        for name, band in image.bands.items():
            values, seen = band.read(grid)
            # masked pixels look like a measured zero, as in the service
            data[name] = np.where(seen, values, 0)
        file = io.BytesIO()
        np.save(file, data)
        return Response(file.getvalue(), media_type="application/octet-stream")

    def _listing(self, request: Request, body: bytes) -> Response:
        del body
        name, _, verb = request.path_params["rest"].rpartition(":")
        if verb != "listAssets":
            raise EmulatorRefusalError(f"emulator: assets with {verb or 'no verb'}")
        found = self._assets.search(name, request.query_params.get("filter", ""))
        size = int(request.query_params.get("pageSize") or _MOST_FEATURES)
        first = _from_token(request.query_params.get("pageToken"))
        answer: dict[str, Any] = {"assets": [image.listing() for image in found[first : first + size]]}
        if first + size < len(found):
            answer["nextPageToken"] = _to_token(first + size)
        return JSONResponse(answer)


def earth_engine_app(world: FarmWorld | Path) -> EarthEngineEmulator:
    """Return the emulator over a world, or over the world that was written into a folder."""
    return EarthEngineEmulator(world_assets(load_world(world) if isinstance(world, Path) else world))


def throwaway_key(base_url: str, *, project: str = "farm-test") -> str:
    """Return the JSON text of a throw-away service account key whose tokens come from the emulator.

    Args:
        base_url: of the running emulator, without a trailing slash.
        project: cloud project the key belongs to.

    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return json.dumps(
        {
            "type": "service_account",
            "project_id": project,
            "private_key_id": "emulated",
            "private_key": pem,
            "client_email": f"farm-intel@{project}.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": f"{base_url}/token",
        }
    )


def error_body(code: int, message: str, status: str) -> bytes:
    """Return the body of an error as the service writes it; for `Fault.body`."""
    error = {"code": code, "message": message, "status": status}
    return json.dumps({"error": {**error, "errors": [{"message": message, "domain": "global"}]}}).encode()


def refusal(code: int, message: str, status: str) -> Response:
    """Return an error as the service answers it."""
    return Response(error_body(code, message, status), code, media_type="application/json")


def _grid(asked: dict[str, Any]) -> Grid:
    transform, size = asked["affineTransform"], asked["dimensions"]
    return Grid(
        crs=asked.get("crsCode", "EPSG:4326"),
        pixel_m=float(transform["scaleX"]),
        west_m=float(transform["translateX"]),
        north_m=float(transform["translateY"]),
        width=int(size["width"]),
        height=int(size["height"]),
    )


def _to_token(place: int) -> str:
    return base64.urlsafe_b64encode(str(place).encode()).decode()


def _from_token(token: str | None) -> int:
    return int(base64.urlsafe_b64decode(token)) if token else 0


def _wheel_file(name: str) -> str:
    """Return a file of the client's own tests, without importing the client."""
    found = importlib.util.find_spec("ee")
    if found is None or found.origin is None:
        raise NotConfiguredError(
            "the Earth Engine emulator needs the package earthengine-api",
            hint="Install farm-intel with the extra 'earth-engine'.",
        )
    return (Path(found.origin).parent / "tests" / name).read_text(encoding="utf-8")
