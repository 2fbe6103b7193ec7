"""The scene catalogue of one STAC source, whatever kind it turns out to be."""

from __future__ import annotations

import threading
from datetime import date

from farm_intel.domain.errors import NotConfiguredError
from farm_intel.domain.geo import BBox
from farm_intel.domain.products import AccessKind, CollectionProfile
from farm_intel.domain.scenes import Scene, SceneProblem, SceneQuery, SceneSearch, solar_day
from farm_intel.providers.collections import profile
from farm_intel.providers.stac.api import ApiSource, SceneSource, search_link
from farm_intel.providers.stac.assets import is_remote
from farm_intel.providers.stac.documents import DocumentReader
from farm_intel.providers.stac.http import StacHttp
from farm_intel.providers.stac.signing import sign_href, sign_scene
from farm_intel.providers.stac.static import StaticSource
from farm_intel.resilience.clock import SystemClock
from farm_intel.resilience.guard import CallGuard


class StacCatalog:
    """Implements `domain.ports.SceneCatalog` over a STAC API, a static catalogue or a folder of items.

    What the source is, is found out at the first search; building the object asks nobody and opens nothing.

    Args:
        source: root URL of a STAC API; URL or path of a catalog.json, collection.json or item collection; or a folder
            with a catalogue or with item files in it.
        dialect: catalogue dialect of the profile rows.
        collection: collection to search.
        timeout_s: longest wait for one answer, seconds.
        page_size: items per page asked of an API; halved where the API fails on large pages.
        provider: name the scenes carry.
        guard: lets requests through and retries what may be retried.

    Raises:
        NotConfiguredError: there is no profile for dialect and collection.

    """

    def __init__(
        self,
        *,
        source: str,
        dialect: str,
        collection: str,
        timeout_s: float,
        page_size: int,
        provider: str,
        guard: CallGuard,
    ) -> None:
        self.provider = provider
        self.profile: CollectionProfile = profile(dialect, collection)
        self._source = source
        self._timeout_s = timeout_s
        self._page_size = page_size
        self._guard = guard
        self._clock = SystemClock()
        self._http = StacHttp(
            timeout_s=timeout_s,
            guard=self._guard,
            provider=provider,
            clock=self._clock,
            forbidden_means_throttled=dialect == "earth-search",
        )
        self._lock = threading.Lock()
        self._found: SceneSource | None = None

    def search(self, query: SceneQuery) -> SceneSearch:
        """Return every scene of the collection over the box whose solar day there is one of the query's.

        Raises:
            NotConfiguredError: the query is for another collection, or the source is no STAC catalogue.
            TransientError: the catalogue does not answer.

        """
        if query.collection != self.profile.collection:
            raise NotConfiguredError(
                f"this catalogue is set up for {self.profile.collection!r}, not for {query.collection!r}",
                hint="Set FARM_INTEL_STAC_COLLECTION.",
            )
        asked_before = self._http.request_count
        scenes: list[Scene] = []
        problems: list[SceneProblem] = []
        for found in self._sources().find(query):
            if isinstance(found, SceneProblem):
                problems.append(found)
            elif any(query.start <= day <= query.end for day in _solar_days(found, query.bbox)):
                scenes.append(found)
        return SceneSearch(
            scenes=tuple(scenes), problems=tuple(problems), requests=self._http.request_count - asked_before
        )

    def refresh(self, scene: Scene) -> Scene:
        """Return the scene with hrefs that can be opened now; see `SceneCatalog`."""
        if self.profile.access is not AccessKind.PLANETARY_COMPUTER:
            return scene
        return sign_scene(scene, self._guard, provider=self.provider, timeout_s=self._timeout_s)

    def sign(self, href: str) -> str:
        """Return one href that can be opened now; block readers call it when a signature has run out."""
        if self.profile.access is not AccessKind.PLANETARY_COMPUTER:
            return href
        return sign_href(href, self._guard, provider=self.provider, timeout_s=self._timeout_s)

    def _sources(self) -> SceneSource:
        with self._lock:
            if self._found is None:
                self._found = self._recognise()
            return self._found

    def _recognise(self) -> SceneSource:
        """Return the API or static catalogue at the source, judged by its root document."""
        reader = DocumentReader(self._http, self._clock)
        if is_remote(self._source):
            search = search_link(self._http.ask(self._source), self._source)
            if search is not None:
                return ApiSource(self._http, search, self.profile, page_size=self._page_size, provider=self.provider)
        return StaticSource(self._source, reader, self.profile, provider=self.provider)


def _solar_days(scene: Scene, box: BBox) -> set[date]:
    """Return the solar days of the scene where it meets the box: two next to the antimeridian, else one."""
    return {
        solar_day(scene.acquired_at, longitude_deg)
        for part in scene.bbox.split()
        for asked in box.split()
        if part.intersects(asked)
        for longitude_deg in (max(part.west, asked.west), min(part.east, asked.east))
    }
