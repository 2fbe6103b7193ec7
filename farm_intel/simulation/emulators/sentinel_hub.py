"""Sentinel Hub, emulated: OAuth tokens, Process, Statistical and Catalog API over the simulated farm world.

Both families of paths answer (`/api/v1/process` of the library, `/process/v1` of the newer documents). What is not
implemented is refused with its name. Shapes follow recorded answers (see the modules beside this one); prices follow
the documented rule. Modelled, not verified: the choice between scenes of one second, percentiles' interpolation.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import rasterio
import shapely
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from farm_intel.simulation.catalogue import load_world
from farm_intel.simulation.emulators.sentinel_hub_pixels import (
    COLLECTION,
    HubScenes,
    RequestGrid,
    parse_grid,
    sample_layer,
)
from farm_intel.simulation.emulators.sentinel_hub_scripts import (
    Evalscript,
    FloatArray,
    RefusedError,
    ScriptOutput,
    require_only,
)
from farm_intel.simulation.emulators.sentinel_hub_statistics import (
    check_outputs,
    interval_outputs,
    intervals,
    parse_moment,
)
from farm_intel.simulation.layout import transformer
from farm_intel.simulation.scenes import WorldScene, platform_code
from farm_intel.simulation.world import FarmWorld

TOKEN_PATH = "/auth/realms/main/protocol/openid-connect/token"  # noqa: S105 # nosec B105 - a path
CDSE_TOKEN_PATH = "/auth/realms/CDSE/protocol/openid-connect/token"  # noqa: S105 # nosec B105 - a path
CLIENT_ID, CLIENT_SECRET = "farm-intel-emulator", "not-a-secret"
_CATALOG = "/api/v1/catalog/1.0.0"
_REASONS = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden"}
_MOST_ITEMS = 100
_SAMPLE_TYPES: dict[str, np.dtype[Any]] = {
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "FLOAT32": np.dtype(np.float32),
}


@dataclass(slots=True, kw_only=True, eq=False)
class HubState:
    """What the emulated service knows; tests change it, `app.state.hub`."""

    scenes: HubScenes
    clients: Mapping[str, str]
    """Client id -> secret."""
    token_lifetime_s: float = 3600.0
    units_spent: float = 0.0
    units_quota: float | None = None
    """Processing units the account has; None for no end."""
    failing_days: dict[date, object] = field(default_factory=dict)
    """Statistics intervals that begin on these days fail with this `error`, a text or an object; status PARTIAL."""
    _tokens: dict[str, float] = field(default_factory=dict)

    def revoke_tokens(self) -> None:
        """Reject every token handed out so far, as if the client had been changed."""
        self._tokens.clear()

    def new_token(self, client_id: str) -> str:
        """Return a new token in the form of a JWT (its signature is none)."""
        now = time.time()
        claims = {
            "exp": int(now + self.token_lifetime_s),
            "iat": int(now),
            "jti": str(uuid.uuid4()),
            "azp": client_id,
            "typ": "Bearer",
        }
        parts = [json.dumps({"alg": "RS256", "typ": "JWT"}).encode(), json.dumps(claims).encode()]
        parts.append(hashlib.sha256(parts[1]).digest())
        token = ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
        self._tokens[token] = now + self.token_lifetime_s
        return token

    def authorised(self, request: Request) -> bool:
        """Return whether the request carries a token that still holds."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return self._tokens.get(token, 0.0) > time.time()

    def spend(self, units: float) -> None:
        """Take units from the account.

        Raises:
            RefusedError: there are not enough.

        """
        if self.units_quota is not None and self.units_spent + units > self.units_quota:
            raise RefusedError(
                "Insufficient processing units or requests available in your account.",
                status=403,
                code="ACCESS_INSUFFICIENT_PROCESSING_UNITS",
            )
        self.units_spent += units


def sentinel_hub_app(
    world: FarmWorld | Path,
    *,
    clients: Mapping[str, str] | None = None,
    token_lifetime_s: float = 3600.0,
    units_quota: float | None = None,
) -> Starlette:
    """Return the emulator; its state is `app.state.hub`, a HubState.

    Args:
        world: the world, or the folder one was written into.
        clients: client id -> secret; by default `CLIENT_ID` with `CLIENT_SECRET`.
        token_lifetime_s: how long tokens hold.
        units_quota: processing units the account has.

    """
    loaded = world if isinstance(world, FarmWorld) else load_world(world)
    app = Starlette(
        routes=[
            *(Route(path, _token, methods=["POST"]) for path in (TOKEN_PATH, CDSE_TOKEN_PATH, "/oauth/token")),
            *(Route(path, _process, methods=["POST"]) for path in ("/api/v1/process", "/process/v1")),
            *(Route(path, _statistics, methods=["POST"]) for path in ("/api/v1/statistics", "/statistics/v1")),
            *(Route(f"{path}/search", _search, methods=["POST"]) for path in (_CATALOG, "/catalog/v1")),
        ]
    )
    app.state.hub = HubState(
        scenes=HubScenes(loaded),
        clients=clients if clients is not None else {CLIENT_ID: CLIENT_SECRET},
        token_lifetime_s=token_lifetime_s,
        units_quota=units_quota,
    )
    return app


async def _token(request: Request) -> Response:
    hub: HubState = request.app.state.hub
    form = {key: values[0] for key, values in parse_qs((await request.body()).decode()).items()}
    if form.get("grant_type") != "client_credentials":
        content = {"error": "unsupported_grant_type", "error_description": "Unsupported grant_type"}
        return JSONResponse(content, 400)
    client_id = form.get("client_id", "")
    if not client_id or hub.clients.get(client_id) != form.get("client_secret"):
        content = {"error": "invalid_client", "error_description": "Invalid client or Invalid client credentials"}
        return JSONResponse(content, 401)
    return JSONResponse(
        {
            "access_token": hub.new_token(client_id),
            "expires_in": int(hub.token_lifetime_s),
            "refresh_expires_in": 0,
            "token_type": "Bearer",  # nosec B105 - a kind of token
            "not-before-policy": 0,
            "scope": "email profile SH",
        }
    )


async def _answer(request: Request, work: Callable[[HubState, Any, Request], Response]) -> Response:
    """Check the token, do the work in a thread, answer what is refused in the service's form."""
    hub: HubState = request.app.state.hub
    if not hub.authorised(request):
        return _error(401, "You are not authorized! Please provide a valid access token.", "COMMON_UNAUTHORIZED")
    try:
        body = json.loads(await request.body())
        return await run_in_threadpool(work, hub, body, request)
    except RefusedError as error:
        return _error(error.status, str(error), error.code)
    except (ValueError, KeyError, TypeError) as error:
        return _error(400, f"{type(error).__name__}: {error}", "COMMON_BAD_PAYLOAD")


def _error(status: int, message: str, code: str) -> JSONResponse:
    content = {"status": status, "reason": _REASONS.get(status, "Error"), "message": message, "code": code}
    return JSONResponse({"error": content}, status)


async def _process(request: Request) -> Response:
    return await _answer(request, _process_image)


def _process_image(hub: HubState, body: Any, request: Request) -> Response:
    require_only(body, ("input", "evalscript", "output"), "process")
    output = body.get("output", {})
    require_only(output, ("width", "height", "resx", "resy", "responses"), "output")
    item = _input(body)
    grid = parse_grid(body["input"]["bounds"], output)
    script = Evalscript(body["evalscript"])
    period = item["dataFilter"]["timeRange"]
    scenes = hub.scenes.over(
        grid,
        parse_moment(period["from"]),
        parse_moment(period["to"]),
        item["dataFilter"].get("mosaickingOrder", "mostRecent"),
    )
    out = script.run(sample_layer(hub.scenes, script, item, grid, scenes))
    files = {}
    for response in output.get("responses", [{"identifier": "default", "format": {"type": "image/png"}}]):
        if response["format"]["type"] != "image/tiff":
            raise RefusedError(f"this emulator does not implement format {response['format']['type']}")
        name = response["identifier"]
        if name not in script.outputs:
            raise RefusedError(f"Output {name} requested but missing from function setup()")
        files[f"{name}.tif"] = _tiff(out[name], script.outputs[name], grid)
    price = _price(grid, script, doubled=any(o.sample_type == "FLOAT32" for o in script.outputs.values()))
    price = max(price, 0.005)
    hub.spend(price)
    headers = {"x-processingunits-spent": str(price)}
    if len(files) == 1 and "tar" not in request.headers.get("accept", ""):
        return Response(next(iter(files.values())), media_type="image/tiff", headers=headers)
    return Response(_tar(files), media_type="application/x-tar", headers=headers)


def _input(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the one data source of a request."""
    require_only(body["input"], ("bounds", "data"), "input")
    if len(body["input"]["data"]) != 1:
        raise RefusedError("this emulator does not implement data fusion")
    item: Mapping[str, Any] = body["input"]["data"][0]
    require_only(item, ("type", "dataFilter", "processing"), "input.data")
    if item["type"] != COLLECTION:
        raise RefusedError(f"this emulator has no collection {item['type']}")
    require_only(item.get("dataFilter", {}), ("timeRange", "mosaickingOrder"), "dataFilter")
    processing = item.get("processing", {})
    require_only(processing, ("upsampling", "downsampling", "harmonizeValues"), "processing")
    for way in ("upsampling", "downsampling"):
        if processing.get(way, "NEAREST") != "NEAREST":
            raise RefusedError(f"this emulator does not implement {way} {processing[way]}")
    return item


def _price(grid: RequestGrid, script: Evalscript, *, doubled: bool) -> float:
    bands = len([band for band in script.bands if band != "dataMask"])
    area = max(grid.width * grid.height / 262_144, 0.01)
    return area * max(bands, 1) / 3 * (2 if doubled else 1)


def _tiff(values: FloatArray, output: ScriptOutput, grid: RequestGrid) -> bytes:
    kind = _SAMPLE_TYPES.get(output.sample_type)
    if kind is None:
        raise RefusedError(f"this emulator does not implement sampleType {output.sample_type}")
    bands = values.shape[1]
    image = values.T.reshape(bands, grid.height, grid.width)
    if kind.kind == "u":
        limits = np.iinfo(kind)
        image = np.clip(np.rint(np.nan_to_num(image)), limits.min, limits.max)
    west, south, east, north = grid.bounds
    profile = {
        "driver": "GTiff",
        "dtype": kind.name,
        "count": bands,
        "width": grid.width,
        "height": grid.height,
        "crs": f"EPSG:{grid.epsg}",
        "transform": rasterio.transform.from_bounds(west, south, east, north, grid.width, grid.height),
        "compress": "deflate",
        "interleave": "pixel",
    }
    with rasterio.MemoryFile() as memory:
        with memory.open(**profile) as target:
            target.write(image.astype(kind))
        return bytes(memory.read())


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


async def _statistics(request: Request) -> Response:
    return await _answer(request, _compute_statistics)


def _compute_statistics(hub: HubState, body: Any, request: Request) -> Response:
    del request
    require_only(body, ("input", "aggregation", "calculations"), "statistics")
    aggregation = body["aggregation"]
    known = ("evalscript", "timeRange", "aggregationInterval", "resx", "resy", "width", "height")
    require_only(aggregation, known, "aggregation")
    item = _input(body)
    grid = parse_grid(body["input"]["bounds"], aggregation)
    script = Evalscript(aggregation["evalscript"])
    check_outputs(script)
    order = item.get("dataFilter", {}).get("mosaickingOrder", "mostRecent")
    price = _price(grid, script, doubled=False)
    data: list[dict[str, Any]] = []
    cost = 0.0
    for start, end in intervals(aggregation):
        scenes = hub.scenes.over(grid, start, end, order)
        if not scenes:
            continue
        entry: dict[str, Any] = {"interval": {"from": _stamp(start), "to": _stamp(end)}}
        failure = hub.failing_days.get(start.date())
        if failure is None:
            out = script.run(sample_layer(hub.scenes, script, item, grid, scenes))
            entry["outputs"] = interval_outputs(script, out, grid, body.get("calculations") or {})
            cost += price
        else:
            entry["error"] = failure
        data.append(entry)
    cost = max(cost, 0.01)
    hub.spend(cost)
    status = "PARTIAL" if any("error" in entry for entry in data) else "OK"
    return JSONResponse({"data": data, "status": status}, headers={"x-processingunits-spent": str(cost)})


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


async def _search(request: Request) -> Response:
    return await _answer(request, _search_page)


def _search_page(hub: HubState, body: Any, request: Request) -> Response:
    require_only(body, ("collections", "datetime", "bbox", "intersects", "limit", "next", "filter-lang"), "search")
    limit = body.get("limit", 10)
    if not 1 <= limit <= _MOST_ITEMS:
        raise RefusedError(f"limit must be between 1 and {_MOST_ITEMS}")
    start, end = (parse_moment(part) for part in body["datetime"].split("/"))
    area = None
    if "bbox" in body:
        area = shapely.box(*body["bbox"])
    elif "intersects" in body:
        area = shapely.geometry.shape(body["intersects"])
    found = [
        scene
        for scene in hub.scenes.scenes
        if COLLECTION in body["collections"]
        and start <= scene.acquired_at <= end
        and (area is None or hub.scenes.footprints[scene.scene_id].intersects(area))
    ]
    found.sort(key=lambda scene: (scene.acquired_at, scene.scene_id), reverse=True)
    first = int(body.get("next", 0))
    page = found[first : first + limit]
    context: dict[str, int] = {"limit": limit, "returned": len(page)}
    if first + limit < len(found):
        context["next"] = first + limit
    base = f"{str(request.base_url).rstrip('/')}{_CATALOG}"
    return JSONResponse(
        {
            "type": "FeatureCollection",
            "features": [_feature(hub, scene, base) for scene in page],
            "links": [{"href": f"{base}/search", "rel": "self", "type": "application/json"}],
            "context": context,
        },
        media_type="application/geo+json",
    )


def product_name(scene: WorldScene) -> str:
    """Return the product's name, which is the id of its feature."""
    return (
        f"{platform_code(scene.platform)}_MSIL2A_{scene.acquired_at:%Y%m%dT%H%M%S}_N{scene.baseline.replace('.', '')}"
        f"_R092_T{scene.tile.name.zfill(5)}_{scene.generated_at:%Y%m%dT%H%M%S}"
    )


def _feature(hub: HubState, scene: WorldScene, base: str) -> dict[str, Any]:
    """Return a scene as the service's catalogue does; `proj:bbox` is wider than the tile, as recorded."""
    outline = hub.scenes.footprints[scene.scene_id]
    parts = [shapely.geometry.mapping(part)["coordinates"] for part in shapely.get_parts(outline)]
    west, south, east, north = outline.bounds
    to_tile = transformer(4326, scene.tile.epsg)
    x, y = to_tile.transform(np.array([west, east, east, west]), np.array([south, south, north, north]))
    name = product_name(scene)
    return {
        "stac_version": "1.0.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/eo/v1.0.0/schema.json",
            "https://stac-extensions.github.io/projection/v1.0.0/schema.json",
        ],
        "id": name,
        "type": "Feature",
        "geometry": {
            "type": "MultiPolygon",
            "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC::CRS84"}},
            "coordinates": parts,
        },
        "bbox": [west, south, east, north],
        "collection": COLLECTION,
        "properties": {
            "datetime": _stamp(scene.acquired_at),
            "created": _stamp(scene.generated_at + timedelta(hours=1)),
            "platform": scene.platform,
            "instruments": ["msi"],
            "constellation": "sentinel-2",
            "gsd": 10,
            "eo:cloud_cover": 0.0,
            "proj:epsg": scene.tile.epsg,
            "proj:bbox": [float(x.min()), float(y.min()), float(x.max()), float(y.max())],
        },
        "links": [{"href": f"{base}/collections/{COLLECTION}/items/{name}", "rel": "self", "type": "application/json"}],
        "assets": {"data": {"href": f"s3://emulator/{name}/", "title": "s3", "type": "inode/directory"}},
    }
