"""What a store of rasters does, wherever it keeps them: a folder, or a bucket of an object store."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

SUFFIX = ".tif"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file as the store shows it from outside."""

    name: str
    """The raster's address, or the name of a temporary file."""
    size_bytes: int
    modified_at: float
    """Seconds since 1970, UTC."""


class RasterStore(ABC):
    """Immutable files named by the SHA-256 of their content, `ab/<sha256>.tif`: whole under that name, or not there."""

    @staticmethod
    def address(content: bytes) -> str:
        """Return the SHA-256 of the content in hex: the name it is stored and found under."""
        return hashlib.sha256(content).hexdigest()

    @staticmethod
    def relative_path(sha256: str) -> str:
        """Return where the raster of this address lies, relative to the root."""
        return f"{sha256[:2]}/{sha256}{SUFFIX}"

    @staticmethod
    def address_of_path(relative_path: str) -> str:
        """Return the address that a path relative to the root stands for."""
        return PurePosixPath(relative_path).stem

    @property
    @abstractmethod
    def place(self) -> str:
        """Folder or URL of the root, for messages; no secret is part of it."""

    @abstractmethod
    def href(self, sha256: str) -> str:
        """Return the URL of a raster, whether it exists or not."""

    @abstractmethod
    def exists(self, sha256: str) -> bool:
        """Return True where the raster is stored.

        Raises:
            StoreError: the store does not answer.

        """

    @abstractmethod
    def lost(self, addresses: Collection[str]) -> set[str]:
        """Return those of the addresses, of any number, that are known not to be stored any more."""

    @abstractmethod
    def read(self, sha256: str) -> bytes:
        """Return the content.

        Raises:
            StoreError: it is not there or cannot be read.

        """

    @abstractmethod
    def put_many(self, contents: Mapping[str, bytes]) -> None:
        """Make rasters permanent: address -> content.

        One that is there already is replaced by itself: that costs less than asking for every file first, marks it as
        young, so that the reaper leaves it until its row is committed, and mends one whose content is no longer what
        its name promises.

        Raises:
            StoreError: the store is full, failed or does not answer; no final name was given to an incomplete file.

        """

    @abstractmethod
    def objects(self, prefix: str) -> dict[str, StoredFile]:
        """Return address and state of every stored raster whose address begins with these two hex digits."""

    @abstractmethod
    def state(self, sha256: str) -> StoredFile | None:
        """Return the state of one raster now, None where it is not there."""

    @abstractmethod
    def remove(self, sha256: str) -> None:
        """Delete a raster; one that is gone already is no error."""

    @abstractmethod
    def unfinished(self) -> Iterator[StoredFile]:
        """Yield temporary files: of a writer that is at work now, or of one that was killed."""

    @abstractmethod
    def remove_unfinished(self, name: str) -> None:
        """Delete a temporary file; one that is gone already is no error."""
