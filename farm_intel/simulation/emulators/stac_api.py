"""A STAC API over a written world that speaks like Earth Search, the Planetary Computer, CDSE or USGS landsatlook.

One app per dialect: landing page, conformance, collections, items, search by GET and POST with each catalogue's paging,
and the object stores the hrefs lead to. Blobs of the Planetary Computer are reached by naming this server as the
readers' HTTP proxy: requests in absolute form for `*.blob.core.windows.net` end here. What a real catalogue does not
know is refused with 400, so that no test passes by accident.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from farm_intel.simulation.emulators.data_faults import DataFaults, faulty_items
from farm_intel.simulation.emulators.dressing import (
    CDSE,
    EARTH_SEARCH,
    PLANETARY_COMPUTER,
    USGS,
    dressed_items,
    read_world_items,
)
from farm_intel.simulation.emulators.files import BlobStore, WorldFileStore, s3_answer
from farm_intel.simulation.emulators.hosting import Receive, Scope, Send
from farm_intel.simulation.emulators.searching import SearchRefusedError, matching, with_fields

Json = dict[str, Any]
SAS_TTL_S = 2700.0
"""Life of real tokens, 45 minutes."""
_STAC = "https://api.stacspec.org/v1.0.0"
_CONFORMANCE = (
    f"{_STAC}/core",
    f"{_STAC}/collections",
    f"{_STAC}/ogcapi-features",
    f"{_STAC}/item-search",
    f"{_STAC}/item-search#fields",
    f"{_STAC}/item-search#sort",
    f"{_STAC}/item-search#query",
    f"{_STAC}/item-search#filter",
    "http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/filter",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-text",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-json",
    "http://www.opengis.net/spec/cql2/1.0/conf/basic-cql2",
)
_COMPARISONS = frozenset({"eq", "neq", "lt", "lte", "gt", "gte", "startsWith", "endsWith", "contains"})
_BLOB = re.compile(r"^https?://([^./]+)\.blob\.core\.windows\.net(?::\d+)?/(.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class DialectRules:
    """How one catalogue's API differs from the others."""

    default_limit: int
    max_limit: int
    page_key: str
    """Parameter that names the next page."""
    page_prefix: str
    """What stands before the page's place in it."""
    counts: bool
    """Tells `numberMatched`."""
    text_filter_in_post: bool
    query_operators: frozenset[str]


RULES: Mapping[str, DialectRules] = {
    # stac-server (Node): query knows "in", POST bodies page by "next", everything is counted.
    **dict.fromkeys(
        (EARTH_SEARCH, USGS),
        DialectRules(
            default_limit=10,
            max_limit=10_000,
            page_key="next",
            page_prefix="",
            counts=True,
            text_filter_in_post=True,
            query_operators=_COMPARISONS | {"in"},
        ),
    ),
    # stac-fastapi-pgstac: no count, opaque tokens, CQL2 as JSON only in POST bodies.
    **dict.fromkeys(
        (PLANETARY_COMPUTER, CDSE),
        DialectRules(
            default_limit=10,
            max_limit=1_000,
            page_key="token",
            page_prefix="next:",
            counts=False,
            text_filter_in_post=False,
            query_operators=_COMPARISONS,
        ),
    ),
}


class StacApi:
    """The app; call it as ASGI. `blobs.sas_ttl_s` and `items` may be changed while it is served."""

    def __init__(self, world_folder: Path, dialect: str, *, faults: DataFaults, sas_ttl_s: float) -> None:
        self.dialect = dialect
        self.items = faulty_items(dressed_items(read_world_items(world_folder), dialect), faults)
        """The catalogue's items; `{base}` in hrefs stands for the server's address."""
        self._rules = RULES[dialect]
        self._files = WorldFileStore(world_folder)
        self.blobs = BlobStore(self._files, sas_ttl_s)
        routes = [
            Route("/", self._landing),
            Route("/conformance", self._conformance),
            Route("/collections", self._collections),
            Route("/collections/{collection}", self._collection),
            Route("/collections/{collection}/items", self._collection_items),
            Route("/collections/{collection}/items/{item}", self._item),
            Route("/search", self._search, methods=["GET", "POST"]),
            Route("/data/{path:path}", self._data),
        ]
        if dialect == PLANETARY_COMPUTER:
            routes.append(Route("/sas/{account}/{container}", self._token))
        routes.append(Route("/{bucket:str}/{key:path}", self._object))
        self._router = Starlette(routes=routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; absolute-form targets are a proxy's and lead to blob storage."""
        blob = _BLOB.match(scope["path"]) if scope["type"] == "http" else None
        if blob is not None and self.dialect == PLANETARY_COMPUTER:
            response = self.blobs.blob(blob[1], blob[2], Request(scope, receive))
            await response(scope, receive, send)
            return
        await self._router(scope, receive, send)

    async def _landing(self, request: Request) -> Response:
        root = _root(request)
        search = {"rel": "search", "type": "application/geo+json", "href": f"{root}/search"}
        return JSONResponse(
            {
                "type": "Catalog",
                "stac_version": "1.1.0" if self.dialect == CDSE else "1.0.0",
                "id": self.dialect,
                "title": f"Simulated {self.dialect}",
                "description": "An emulated catalogue over a simulated farm world.",
                "conformsTo": list(_CONFORMANCE),
                "links": [
                    {"rel": "self", "type": "application/json", "href": f"{root}/"},
                    {"rel": "root", "type": "application/json", "href": f"{root}/"},
                    {"rel": "conformance", "type": "application/json", "href": f"{root}/conformance"},
                    {"rel": "data", "type": "application/json", "href": f"{root}/collections"},
                    {**search, "method": "GET"},
                    {**search, "method": "POST"},
                ],
            }
        )

    async def _conformance(self, _: Request) -> Response:
        return JSONResponse({"conformsTo": list(_CONFORMANCE)})

    async def _collections(self, request: Request) -> Response:
        names = dict.fromkeys(item["collection"] for item in self.items)
        found = [self._described(name, _root(request)) for name in names]
        return JSONResponse({"collections": found, "links": [{"rel": "self", "href": f"{_root(request)}/collections"}]})

    async def _collection(self, request: Request) -> Response:
        name = request.path_params["collection"]
        if not any(item["collection"] == name for item in self.items):
            return _refusal(404, f"no collection {name!r}")
        return JSONResponse(self._described(name, _root(request)))

    async def _collection_items(self, request: Request) -> Response:
        parameters = _from_query(request)
        if "collections" in parameters:
            return _refusal(400, "collections is no parameter of a collection's items")
        return self._page({**parameters, "collections": [request.path_params["collection"]]}, request)

    async def _item(self, request: Request) -> Response:
        wanted = request.path_params["collection"], request.path_params["item"]
        found = next((item for item in self.items if (item["collection"], item["id"]) == wanted), None)
        if found is None:
            return _refusal(404, f"no item {wanted[1]!r} in {wanted[0]!r}")
        return JSONResponse(_linked(found, _root(request)), media_type="application/geo+json")

    async def _search(self, request: Request) -> Response:
        if request.method == "GET":
            return self._page(_from_query(request), request)
        try:
            body = await request.json()
        except json.JSONDecodeError as error:
            return _refusal(400, f"the body is no JSON: {error}")
        if not isinstance(body, dict):
            return _refusal(400, "the body is no JSON object")
        if isinstance(body.get("filter"), str) and not self._rules.text_filter_in_post:
            return _refusal(400, "filter: Input should be a valid dictionary")
        return self._page(body, request)

    async def _data(self, request: Request) -> Response:
        return self._files.answer(request.path_params["path"], request)

    async def _token(self, request: Request) -> Response:
        return self.blobs.token(request.path_params["account"], request.path_params["container"])

    async def _object(self, request: Request) -> Response:
        bucket = request.path_params["bucket"]
        buckets = {EARTH_SEARCH: "usgs-landsat", USGS: "usgs-landsat", CDSE: "eodata"}
        if buckets.get(self.dialect) != bucket:
            return _refusal(404, f"nothing at {request.url.path}")
        return s3_answer(bucket, request.path_params["key"], request, self._files)

    def _described(self, name: str, root: str) -> Json:
        items = [item for item in self.items if item["collection"] == name]
        boxes = [item["bbox"] for item in items]
        starts = [
            item["properties"].get("datetime") or item["properties"].get("start_datetime") or "" for item in items
        ]
        bbox = [min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes)]
        return {
            "type": "Collection",
            "stac_version": "1.1.0" if self.dialect == CDSE else "1.0.0",
            "id": name,
            "title": name,
            "description": f"{name}, simulated",
            "license": "proprietary",
            "extent": {"spatial": {"bbox": [bbox]}, "temporal": {"interval": [[min(starts), max(starts)]]}},
            "links": [
                {"rel": "self", "type": "application/json", "href": f"{root}/collections/{name}"},
                {"rel": "root", "type": "application/json", "href": f"{root}/"},
                {"rel": "items", "type": "application/geo+json", "href": f"{root}/collections/{name}/items"},
            ],
        }

    def _page(self, asked: Mapping[str, Any], request: Request) -> Response:
        rules = self._rules
        try:
            limit = _limit(asked.get("limit"), rules)
            first = _place(asked, rules)
            found = matching(self.items, asked, query_operators=rules.query_operators)
            root = _root(request)
            page = [with_fields(_linked(item, root), asked.get("fields")) for item in found[first : first + limit]]
        except SearchRefusedError as error:
            return _refusal(400, str(error))
        links: list[Json] = [{"rel": "root", "type": "application/json", "href": f"{root}/"}]
        if first + limit < len(found):
            links.append(self._next_link(asked, request, limit, first + limit))
        answer: Json = {"type": "FeatureCollection", "features": page, "links": links, "numberReturned": len(page)}
        if rules.counts:
            answer["numberMatched"] = len(found)
            answer["context"] = {"limit": limit, "matched": len(found), "returned": len(page)}
        return JSONResponse(answer, media_type="application/geo+json")

    def _next_link(self, asked: Mapping[str, Any], request: Request, limit: int, place: int) -> Json:
        token = f"{self._rules.page_prefix}{place}"
        link: Json = {"rel": "next", "type": "application/geo+json", "method": request.method}
        if request.method == "POST":
            body = {**asked, "limit": limit, self._rules.page_key: token}
            return {**link, "merge": False, "href": f"{_root(request)}{request.url.path}", "body": body}
        url = request.url.include_query_params(**{self._rules.page_key: token})
        return {**link, "href": str(url)}


def stac_api_app(
    world_folder: Path, dialect: str, *, faults: DataFaults | None = None, sas_ttl_s: float = SAS_TTL_S
) -> StacApi:
    """Return the ASGI app of a catalogue over a written world.

    Args:
        world_folder: what `simulation.catalogue.write_world` wrote.
        dialect: `earth-search`, `planetary-computer`, `cdse` or `usgs`.
        faults: what is wrong with its data.
        sas_ttl_s: life of the Planetary Computer's tokens, seconds; zero or less hands out expired ones.

    Raises:
        UnknownNameError: no such dialect.

    """
    return StacApi(world_folder, dialect, faults=faults or DataFaults(), sas_ttl_s=sas_ttl_s)


def _root(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"


def _linked(item: Json, root: str) -> Json:
    """Return the item with its links and with the server's address in its hrefs."""
    home = f"{root}/collections/{item['collection']}"
    assets = {key: {**asset, "href": asset["href"].replace("{base}", root)} for key, asset in item["assets"].items()}
    links = [
        {"rel": "self", "type": "application/geo+json", "href": f"{home}/items/{item['id']}"},
        {"rel": "collection", "type": "application/json", "href": home},
        {"rel": "parent", "type": "application/json", "href": home},
        {"rel": "root", "type": "application/json", "href": f"{root}/"},
    ]
    return {**item, "assets": assets, "links": links}


def _refusal(status: int, description: str) -> Response:
    code = {400: "BadRequest", 404: "NotFoundError"}.get(status, "Error")
    return JSONResponse({"code": code, "description": description}, status)


def _limit(value: object, rules: DialectRules) -> int:
    if value is None:
        return rules.default_limit
    try:
        limit = int(str(value))
    except ValueError as error:
        raise SearchRefusedError(f"limit {value!r} is no number") from error
    if not 1 <= limit <= rules.max_limit:
        raise SearchRefusedError(f"limit must be between 1 and {rules.max_limit}")
    return limit


def _place(asked: Mapping[str, Any], rules: DialectRules) -> int:
    for key in ("next", "token"):
        if key in asked and key != rules.page_key:
            raise SearchRefusedError(f"unknown search parameters: {key}")
    text = str(asked.get(rules.page_key) or f"{rules.page_prefix}0")
    place = text.removeprefix(rules.page_prefix)
    if not place.isdigit() or not text.startswith(rules.page_prefix):
        raise SearchRefusedError(f"{rules.page_key} {text!r} names no page")
    return int(place)


def _from_query(request: Request) -> Json:
    """Return a GET's parameters in the form of a POST body."""
    asked: Json = dict(request.query_params)
    for key in ("collections", "ids", "bbox"):
        if key in asked:
            asked[key] = asked[key].split(",")
    for key in ("intersects", "query"):
        if key in asked:
            try:
                asked[key] = json.loads(asked[key])
            except json.JSONDecodeError:
                asked[key] = {"type": asked[key]}
    if asked.get("filter-lang") == "cql2-json" and "filter" in asked:
        asked["filter"] = json.loads(asked["filter"])
    if "sortby" in asked:
        asked["sortby"] = [
            {"field": name.lstrip("+- "), "direction": "desc" if name.startswith("-") else "asc"}
            for name in asked["sortby"].split(",")
        ]
    if "fields" in asked:
        names = asked["fields"].split(",")
        include = [name.lstrip("+ ") for name in names if not name.startswith("-")]
        asked["fields"] = {"include": include, "exclude": [name[1:] for name in names if name.startswith("-")]}
    return asked
