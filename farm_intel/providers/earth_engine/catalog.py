"""The scene catalogue of Earth Engine: images of a row's collections over a box, from their listings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from farm_intel.domain.errors import NotConfiguredError, SceneProblemKind
from farm_intel.domain.geo import BBox
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import Scene, SceneProblem, SceneQuery, SceneSearch, solar_day
from farm_intel.providers.collections.earth_engine import IMAGE_COLLECTIONS, ImageCollection
from farm_intel.providers.earth_engine.failures import NoSuchAssetError
from farm_intel.providers.earth_engine.images import ImageReader
from farm_intel.providers.earth_engine.session import EarthEngineCalls, EarthEngineSession
from farm_intel.resilience.guard import CallGuard


class EarthEngineCatalog:
    """Implements `domain.ports.SceneCatalog` over image collections; a row may merge several.

    Images are listed, not computed: the listing says everything there is to know of an image (time, footprint,
    properties, every band's grid), and costs no computing quota.

    Args:
        session: shared with readers and statistics.
        profile: an Earth Engine row.
        guard: deadline, breaker, rate and retries.
        provider: name the scenes carry.

    Raises:
        NotConfiguredError: no image collections are known for the row.

    """

    def __init__(
        self, session: EarthEngineSession, profile: CollectionProfile, guard: CallGuard, *, provider: str
    ) -> None:
        if profile.collection not in IMAGE_COLLECTIONS:
            raise NotConfiguredError(
                f"Earth Engine has no image collections for {profile.collection!r}",
                hint=f"There are: {', '.join(IMAGE_COLLECTIONS)}.",
            )
        self.provider = provider
        self.profile = profile
        self._calls = EarthEngineCalls(session, guard, provider)
        self._page_size = min(session.options.page_size, 1000)

    def search(self, query: SceneQuery) -> SceneSearch:
        """Return every scene of the collection over the box whose solar day there is one of the query's.

        Raises:
            NotConfiguredError: the query is for another collection, the collection is not there for this project, or
                the service account is refused.
            TransientError: Earth Engine does not answer.

        """
        if query.collection != self.profile.collection:
            raise NotConfiguredError(
                f"this catalogue serves {self.profile.collection}, not {query.collection}",
                hint="Ask the catalogue of the collection's own provider.",
            )
        scenes: dict[str, Scene] = {}
        problems: dict[SceneProblem, None] = {}
        requests = 0
        for source in IMAGE_COLLECTIONS[query.collection]:
            reader = ImageReader(self.provider, self.profile, source)
            for box in query.bbox.split():
                for page in self._pages(source, box, query):
                    requests += 1
                    for image in page:
                        for found in reader.scenes(image, box):
                            if isinstance(found, SceneProblem):
                                problems[found] = None
                            elif _falls_on(found, query):
                                scenes[found.scene_id] = _with_problems(found, query.bands)
        ordered = sorted(scenes.values(), key=lambda scene: (scene.acquired_at, scene.scene_id))
        return SceneSearch(scenes=tuple(ordered), problems=tuple(problems), requests=requests)

    def refresh(self, scene: Scene) -> Scene:
        """Return the scene as it is: its hrefs are names, and every request carries its own token."""
        return scene

    def _pages(self, source: ImageCollection, box: BBox, query: SceneQuery) -> Iterator[list[Mapping[str, Any]]]:
        parameters: dict[str, Any] = {
            "parent": source.asset_id,
            "pageSize": self._page_size,
            "view": "FULL",
            # solar days reach beyond UTC days on both sides, and a day's image ends a day after it begins
            "startTime": f"{query.start - timedelta(days=1)}T00:00:00Z",
            "endTime": f"{query.end + timedelta(days=3)}T00:00:00Z",
            "region": _region(box),
        }
        while True:
            try:
                page = self._calls.list_images(parameters)
            except NoSuchAssetError as error:
                # a collection that is gone for this project is a matter of set-up; another provider may still answer
                raise NotConfiguredError(
                    error.message, hint=f"Check that the project may read {source.asset_id} and that it still exists."
                ) from error
            yield list(page.get("images") or [])
            token = page.get("nextPageToken")
            if not token:
                return
            parameters["pageToken"] = token


def _region(box: BBox) -> dict[str, Any]:
    west, south, east, north = box.west, box.south, box.east, box.north
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def _falls_on(scene: Scene, query: SceneQuery) -> bool:
    """Return whether the scene's solar day anywhere in the query's box is one of its days."""
    days: set[date] = {
        solar_day(scene.acquired_at, longitude) for part in query.bbox.split() for longitude in (part.west, part.east)
    }
    return any(query.start <= day <= query.end for day in days) and scene.bbox.intersects(query.bbox)


def _with_problems(scene: Scene, bands: frozenset[str]) -> Scene:
    """Return the scene with a problem for every band that is needed and not there."""
    missing = sorted(bands - scene.bands.keys())
    if not missing:
        return scene
    problems = tuple(
        SceneProblem(
            scene_id=scene.scene_id,
            kind=SceneProblemKind.MISSING_ASSET,
            detail=f"{scene.platform or 'the image'} has no such band; there are {', '.join(sorted(scene.bands))}",
            band=name,
        )
        for name in missing
    )
    return replace(scene, problems=problems)
