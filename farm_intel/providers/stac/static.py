"""Static catalogues: links are followed once, scenes are kept in memory, and what changed on disk is read again."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from pathlib import PurePosixPath
from typing import Any

from farm_intel.domain.errors import NotConfiguredError, SceneProblemKind
from farm_intel.domain.products import CollectionProfile
from farm_intel.domain.scenes import Scene, SceneProblem, SceneQuery
from farm_intel.providers.stac.assets import is_remote, local_path, resolve_href
from farm_intel.providers.stac.documents import (
    DocumentReader,
    Stamp,
    UnreadableDocumentError,
    entry_document,
    json_files,
)
from farm_intel.providers.stac.parsing import note_missing_bands, scene_from_item

_PARALLEL_READS = 8
_FOLLOWED = ("child", "item")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """What one document contributed."""

    stamp: Stamp | None
    children: tuple[str, ...] = ()
    found: tuple[Scene | SceneProblem, ...] = ()
    collections: frozenset[str] = frozenset()
    is_folder: bool = False
    """Folders are listed anew every time: their stamp does not tell of changes in subfolders."""


@dataclass(slots=True)
class _Index:
    scenes: list[Scene] = field(default_factory=list)
    """Ordered by time."""
    times: list[datetime] = field(default_factory=list)
    problems: list[SceneProblem] = field(default_factory=list)
    collections: frozenset[str] = frozenset()


class StaticSource:
    """A catalogue, collection, item collection or folder of items, at a path or a URL."""

    def __init__(self, source: str, reader: DocumentReader, profile: CollectionProfile, *, provider: str) -> None:
        """Keep where to look; nothing is read yet."""
        self._entry = entry_document(source)
        self._reader = reader
        self._profile = profile
        self._provider = provider
        self._documents: dict[str, _Document] = {}
        self._index: _Index | None = None
        self._lock = threading.Lock()

    def find(self, query: SceneQuery) -> Iterator[Scene | SceneProblem]:
        """Yield the scenes over the query's box, a day to spare on both sides, and every unusable document.

        Raises:
            NotConfiguredError: the entry document cannot be read, or holds other collections only.
            TransientError: a server does not answer.

        """
        index = self._current()
        if not index.scenes and index.collections:
            raise NotConfiguredError(
                f"{self._entry} has no items of collection {query.collection!r}, only of "
                f"{', '.join(sorted(index.collections))}",
                hint="Set FARM_INTEL_STAC_COLLECTION and FARM_INTEL_STAC_DIALECT to what the catalogue holds.",
            )
        first = datetime.combine(query.start - timedelta(days=1), time.min, UTC)
        last = datetime.combine(query.end + timedelta(days=1), time.max, UTC)
        for scene in index.scenes[bisect_left(index.times, first) : bisect_right(index.times, last)]:
            if scene.bbox.intersects(query.bbox):
                yield note_missing_bands(scene, self._profile, query.bands)
        yield from index.problems

    def _current(self) -> _Index:
        """Return the index, rebuilt from what changed since the last look."""
        with self._lock:
            before = self._documents
            self._documents = self._walk(before)
            unchanged = (
                self._index is not None
                and self._documents.keys() == before.keys()
                and all(document is before[href] for href, document in self._documents.items())
            )
            if self._index is None or not unchanged:
                self._index = _build(self._documents.values())
            return self._index

    def _walk(self, known: Mapping[str, _Document]) -> dict[str, _Document]:
        """Follow the links from the entry, level by level; known documents whose stamp is the same are not read."""
        visited: dict[str, _Document] = {}
        with ThreadPoolExecutor(_PARALLEL_READS) as pool:
            level = [self._entry]
            while level:
                read = lambda href: self._document(href, known.get(href))  # noqa: E731 - reads as one line
                documents = pool.map(read, level) if is_remote(self._entry) else map(read, level)
                visited.update(zip(level, documents, strict=True))
                children = dict.fromkeys(child for href in level for child in visited[href].children)
                level = [child for child in children if child not in visited]
        return visited

    def _document(self, href: str, known: _Document | None) -> _Document:
        """Return what a document says, from memory where its stamp is unchanged."""
        stamp = self._reader.stamp(href)
        if known is not None and not known.is_folder and stamp is not None and known.stamp == stamp:
            return known
        if not is_remote(href) and local_path(href).is_dir():
            children = tuple(json_files(local_path(href)))
            return _same(known, _Document(stamp=stamp, children=children, is_folder=True))
        try:
            content = self._reader.read(href)
        except UnreadableDocumentError as error:
            if href == self._entry:
                raise NotConfiguredError(
                    str(error), hint="FARM_INTEL_STAC_URL must be a STAC API, a static catalogue or a folder of items."
                ) from error
            kind = SceneProblemKind.NOT_FOUND if stamp is None else SceneProblemKind.UNREADABLE_FILE
            problem = SceneProblem(scene_id=PurePosixPath(href).stem, kind=kind, detail=str(error))
            return _same(known, _Document(stamp=stamp, found=(problem,)))
        return self._parsed(href, stamp, content)

    def _parsed(self, href: str, stamp: Stamp | None, content: Mapping[str, Any]) -> _Document:
        if content.get("type") in ("Feature", "FeatureCollection"):
            items = [content] if content["type"] == "Feature" else content.get("features") or []
            items = [item for item in items if isinstance(item, Mapping) and isinstance(item.get("assets"), Mapping)]
            ours = [item for item in items if item.get("collection") in (None, self._profile.collection)]
            return _Document(
                stamp=stamp,
                found=tuple(scene_from_item(item, self._profile, href, provider=self._provider) for item in ours),
                collections=frozenset(str(item["collection"]) for item in items if item.get("collection")),
            )
        links = [link for link in content.get("links") or [] if isinstance(link, Mapping)]
        hrefs = (resolve_href(str(link.get("href")), href) for link in links if link.get("rel") in _FOLLOWED)
        return _Document(stamp=stamp, children=tuple(child for child in hrefs if child is not None))


def _same(known: _Document | None, document: _Document) -> _Document:
    """Return the known document where nothing about it changed, so that the index can tell by identity."""
    return known if known == document else document


def _build(documents: Iterable[_Document]) -> _Index:
    scenes: list[Scene] = []
    problems: list[SceneProblem] = []
    collections: set[str] = set()
    for document in documents:
        collections |= document.collections
        for found in document.found:
            if isinstance(found, Scene):
                scenes.append(found)
            else:
                problems.append(found)
    unique = {scene.scene_id: scene for scene in scenes}
    ordered = sorted(unique.values(), key=lambda scene: (scene.acquired_at, scene.scene_id))
    return _Index(ordered, [scene.acquired_at for scene in ordered], problems, frozenset(collections))
