"""Reading STAC documents one by one, from disk or over HTTP, with a stamp that tells whether one has changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm_intel.domain.errors import PermanentError
from farm_intel.domain.ports import Clock
from farm_intel.providers.stac.assets import is_remote, local_path
from farm_intel.providers.stac.http import BrokenAnswerError, StacHttp

REMOTE_AGE_S = 300.0
"""A static catalogue on a server is read again after this long; there is no cheap way to ask whether it changed."""

Stamp = tuple[int, int]


class UnreadableDocumentError(PermanentError):
    """A document of a catalogue that is not there or is no JSON object."""


@dataclass(frozen=True, slots=True)
class DocumentReader:
    """Reads documents by href."""

    http: StacHttp
    clock: Clock

    def read(self, href: str) -> dict[str, Any]:
        """Return the JSON object at a path or URL.

        Raises:
            UnreadableDocumentError: it is not there, or no JSON object (cut, HTML).
            TransientError: the server does not answer.

        """
        if is_remote(href):
            try:
                return self.http.ask(href)
            except (PermanentError, BrokenAnswerError) as error:
                raise UnreadableDocumentError(str(error)) from error
        try:
            value = json.loads(local_path(href).read_bytes())
        except (OSError, ValueError) as error:
            raise UnreadableDocumentError(f"{href} cannot be read: {error}") from error
        if not isinstance(value, dict):
            raise UnreadableDocumentError(f"{href} holds no JSON object")
        return value

    def stamp(self, href: str) -> Stamp | None:
        """Return what changes when the document does: time and size of a file, an age class of a URL; None if gone."""
        if is_remote(href):
            return (int(self.clock.now().timestamp() // REMOTE_AGE_S), 0)
        try:
            status = local_path(href).stat()
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size)


def entry_document(source: str) -> str:
    """Return the document a folder is entered by: its catalogue, its collection, or the folder itself."""
    if is_remote(source):
        return source
    folder = local_path(source)
    if folder.is_dir():
        for name in ("catalog.json", "collection.json"):
            if (folder / name).is_file():
                return str((folder / name).absolute())
    return str(folder.absolute())


def json_files(folder: Path) -> Iterator[str]:
    """Yield the JSON files of a folder and its subfolders, sorted."""
    yield from (str(path) for path in sorted(folder.rglob("*")) if path.suffix in (".json", ".geojson"))
