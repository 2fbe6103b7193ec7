"""The scene catalogue over Sentinel Hub's Catalog API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sentinelhub.api.catalog import SentinelHubCatalog as LibraryCatalog
from sentinelhub.constants import CRS, MimeType, RequestType
from sentinelhub.download.models import DownloadRequest
from sentinelhub.geometry import BBox

from farm_intel.domain import geo
from farm_intel.domain.errors import NotConfiguredError, TransientError
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import Scene, SceneProblem, SceneQuery, SceneSearch, solar_day
from farm_intel.providers.sentinel_hub.client import Answer, SentinelHubGateway
from farm_intel.providers.sentinel_hub.options import SentinelHubOptions
from farm_intel.providers.sentinel_hub.scenes import scene_from_feature
from farm_intel.resilience.guard import CallGuard

_SOLAR_MARGIN = timedelta(hours=13)
"""A solar day begins at most this long before or after the day of the same date in UTC."""
_MOST_PAGES = 1000


class SentinelHubCatalog:
    """Implements `domain.ports.SceneCatalog`; building it asks nobody.

    Args:
        options: account and deployment.
        profile: which collection, as `providers.collections` describes it.
        guard: every request goes through it.
        provider: name the scenes carry.

    """

    def __init__(
        self, options: SentinelHubOptions, profile: CollectionProfile, guard: CallGuard, *, provider: str
    ) -> None:
        self.provider = provider
        self.profile = profile
        self._gateway = SentinelHubGateway(options, guard)

    def search(self, query: SceneQuery) -> SceneSearch:
        """Return every scene of the collection over the box whose solar day there is one of the query's.

        Raises:
            NotConfiguredError: the query is for another collection, or account or address are wrong.
            TransientError: the catalogue does not answer.

        """
        if query.collection != self.profile.collection:
            raise NotConfiguredError(
                f"this Sentinel Hub catalogue is set up for {self.profile.collection!r}, not for {query.collection!r}",
                hint="Ask the provider that serves the collection.",
            )
        scenes: dict[str, Scene] = {}
        problems: dict[str, SceneProblem] = {}
        requests = 0
        for page in self._pages(query):
            requests += 1
            for feature in page:
                found = scene_from_feature(feature, self.profile, provider=self.provider)
                if isinstance(found, SceneProblem):
                    problems[found.scene_id] = found
                elif any(query.start <= day <= query.end for day in _solar_days(found, query.bbox)):
                    scenes[found.scene_id] = found
        return SceneSearch(scenes=tuple(scenes.values()), problems=tuple(problems.values()), requests=requests)

    def refresh(self, scene: Scene) -> Scene:
        """Return the scene as it is: its references are not signed and do not end."""
        return scene

    def _pages(self, query: SceneQuery) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Yield the features of every page; a box across longitude 180 is asked for in its two halves."""
        for box in query.bbox.split():
            payload = self._payload(query, box)
            for _ in range(_MOST_PAGES):
                features, following = self._ask(payload)
                yield features
                if following is None or not features:
                    break
                payload = {**payload, "next": following}

    def _payload(self, query: SceneQuery, box: geo.BBox) -> dict[str, Any]:
        """Return the body the library's own catalogue would send for the first page."""
        start = datetime.combine(query.start, time(), UTC) - _SOLAR_MARGIN
        end = datetime.combine(query.end + timedelta(days=1), time(), UTC) + _SOLAR_MARGIN
        search = LibraryCatalog(config=self._gateway.config).search(
            self._gateway.collection(self.profile),
            time=(start, end),
            bbox=BBox((box.west, box.south, box.east, box.north), CRS.WGS84),
            limit=self._gateway.options.page_size,
        )
        return dict(search.params)

    def _ask(self, payload: Mapping[str, Any]) -> tuple[Sequence[Mapping[str, Any]], Any]:
        options = self._gateway.options
        request = DownloadRequest(
            url=f"{options.base_url.rstrip('/')}/api/v1/catalog/1.0.0/search",
            headers={"Content-Type": MimeType.JSON.get_string()},
            request_type=RequestType.POST,
            post_values=dict(payload),
            data_type=MimeType.JSON,
            use_session=True,
        )
        return self._gateway.send(
            "search", request, units=0.0, what=f"a search of {self.profile.collection}", decode=parse_page
        )


def parse_page(answer: Answer) -> tuple[Sequence[Mapping[str, Any]], Any]:
    """Return the features of a page and what to ask for next, None on the last page.

    Raises:
        TransientError: the answer is no feature collection (empty, broken off, a proxy's page).

    """
    try:
        content = json.loads(answer.content)
        features = [dict(feature) for feature in content["features"]]
        following = (content.get("context") or {}).get("next")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TransientError(
            f"Sentinel Hub's catalogue sent {answer.content[:60]!r} where a feature collection was due",
            hint="A proxy may have answered in its place; the same search may succeed later.",
        ) from error
    return features, following


def _solar_days(scene: Scene, box: geo.BBox) -> set[date]:
    """Return the solar days of the scene where it meets the box: two next to the antimeridian, else one."""
    return {
        solar_day(scene.acquired_at, longitude_deg)
        for part in scene.bbox.split()
        for asked in box.split()
        if part.intersects(asked)
        for longitude_deg in (max(part.west, asked.west), min(part.east, asked.east))
    }
