"""Searching a live STAC API, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any, Protocol

from pystac.link import Link
from pystac_client.item_search import ItemSearch

from farm_intel.domain.errors import NotConfiguredError, TransientError
from farm_intel.domain.geo import BBox
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import Scene, SceneProblem, SceneQuery
from farm_intel.providers.stac.http import LimitRefusedError, ServerFailedError, StacHttp
from farm_intel.providers.stac.parsing import scene_from_item

SMALLEST_PAGE = 5
"""A catalogue that cannot answer this few items is down, not overloaded by the page."""


class SceneSource(Protocol):
    """One kind of catalogue behind `StacCatalog`."""

    def find(self, query: SceneQuery) -> Iterator[Scene | SceneProblem]:
        """Yield what the catalogue has around the query's box and days, a day to spare on both sides."""
        ...


def search_link(root: Mapping[str, Any], url: str) -> tuple[str, str] | None:
    """Return method and URL of an API's item search, or None for a static catalogue.

    POST is preferred: long bodies pass it, and paging bodies come back in it.
    """
    links = [link for link in root.get("links", []) if isinstance(link, Mapping) and link.get("rel") == "search"]
    found = [(str(link.get("method", "GET")).upper(), str(link["href"])) for link in links if link.get("href")]
    conforms = [str(entry) for entry in root.get("conformsTo") or []]
    if not found and any("item-search" in entry for entry in conforms):
        return ("POST", f"{url.rstrip('/')}/search")
    return max(found, key=lambda link: link[0] == "POST", default=None)


class ApiSource:
    """A STAC API: asks, pages, and makes the pages smaller when the server cannot carry them."""

    def __init__(
        self, http: StacHttp, search: tuple[str, str], profile: CollectionProfile, *, page_size: int, provider: str
    ) -> None:
        """Keep what a search needs; nothing is asked yet."""
        self._http = http
        self._method, self._url = search
        self._profile = profile
        self._page_size = page_size
        self._provider = provider

    def find(self, query: SceneQuery) -> Iterator[Scene | SceneProblem]:
        """Yield the scenes of the query's box, each once; see `SceneSource`."""
        seen: set[str] = set()
        for box in query.bbox.split():
            for found in self._scenes(query, box):
                if found.scene_id not in seen:
                    seen.add(found.scene_id)
                    yield found

    def _scenes(self, query: SceneQuery, box: BBox) -> list[Scene | SceneProblem]:
        """Return everything over one box, starting over with half the page size where the server chokes on a page.

        Starting over is what all servers' paging allows: some count pages, whose number means another place then.
        """
        while True:
            try:
                return [self._scene(item, query) for page in self._pages(query, box) for item in page["features"]]
            except (ServerFailedError, LimitRefusedError) as error:
                if self._page_size <= SMALLEST_PAGE or not _blames_page_size(error):
                    raise
                self._page_size = max(SMALLEST_PAGE, self._page_size // 2)

    def _pages(self, query: SceneQuery, box: BBox) -> Iterator[dict[str, Any]]:
        search = ItemSearch(
            self._url,
            method=self._method,
            limit=self._page_size,
            collections=[query.collection],
            bbox=[box.west, box.south, box.east, box.north],
            datetime=_utc_range(query),
            stac_io=self._http,
        )
        parameters = search.get_parameters()
        failures = 0

        def give_up(error: TransientError) -> bool:
            """Let a large page fail twice (the first may be chance); smaller pages are the better answer then."""
            nonlocal failures
            failures += _blames_page_size(error)
            return failures >= 2 and self._page_size > SMALLEST_PAGE

        page = self._http.ask(self._url, method=self._method, parameters=parameters, give_up=give_up)
        visited: set[str] = set()
        while True:
            if page.get("type") != "FeatureCollection" or not isinstance(page.get("features"), list):
                raise NotConfiguredError(
                    f"{self._url} answered a search with a {page.get('type')!r}, not with a FeatureCollection",
                    hint="FARM_INTEL_STAC_URL must be the root of a STAC API or a static catalogue.",
                )
            yield page
            following = next((link for link in page.get("links", []) if link.get("rel") == "next"), None)
            if following is None or not page.get("features"):
                return
            if repr(following) in visited:
                raise TransientError(f"{self._url} pages in a circle: {following.get('href')}")
            visited.add(repr(following))
            failures = 0
            page = self._http.ask(Link.from_dict(following), parameters=parameters, give_up=give_up)

    def _scene(self, item: Mapping[str, Any], query: SceneQuery) -> Scene | SceneProblem:
        return scene_from_item(item, self._profile, self._own_href(item), provider=self._provider, needed=query.bands)

    def _own_href(self, item: Mapping[str, Any]) -> str:
        links = [link for link in item.get("links", []) if isinstance(link, Mapping)]
        return next((str(link["href"]) for link in links if link.get("rel") == "self" and link.get("href")), self._url)


def _blames_page_size(error: Exception) -> bool:
    """True where a smaller page may help: 500 and 502 (the answer outgrew the server's limits), or a refused limit."""
    if isinstance(error, ServerFailedError):
        return error.status in (500, 502)
    return isinstance(error, LimitRefusedError)


def _utc_range(query: SceneQuery) -> str:
    """Return the query's solar days as a UTC interval with a day to spare on both sides."""
    start = datetime.combine(query.start - timedelta(days=1), time.min, UTC)
    end = datetime.combine(query.end + timedelta(days=1), time(23, 59, 59), UTC)
    return f"{start:%Y-%m-%dT%H:%M:%SZ}/{end:%Y-%m-%dT%H:%M:%SZ}"
