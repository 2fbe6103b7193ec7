"""Rasters in a bucket: S3, Google Cloud Storage or Azure Blob Storage, by obstore.

An object appears under its name when it has arrived whole, or not at all, so nothing temporary is needed. Credentials,
region and endpoint come from the environment variables of each service (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`,
`GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME` and their like).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from farm_intel.domain.errors import BadRequestError, StoreError
from farm_intel.storage.raster_store import SUFFIX, RasterStore, StoredFile

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore, RetryConfig

_SCHEMES = ("s3", "gs", "az")
_AT_ONCE = 32
"""Requests under way; waiting for the network is all they do."""
_MOST_ASKED = 512
"""Objects that are asked for one by one. Above it a bucket is believed to keep what was put: asking for the rasters of
a whole estate would cost more than computing what one lost object makes missing, and `farm-intel fsck` lists them."""
_MOST_TEXT = 200
_RETRIES: RetryConfig = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}


class ObjectRasters(RasterStore):
    """Content-addressed objects under a URL: `<url>/ab/<sha256>.tif`."""

    def __init__(self, url: str) -> None:
        """Keep the URL, `s3://bucket/prefix`; nothing is asked yet.

        Raises:
            BadRequestError: no bucket, or a service that we do not know.

        """
        scheme, _, rest = url.partition("://")
        if scheme not in _SCHEMES or not rest.strip("/"):
            raise BadRequestError(
                f"{url!r} is no place for rasters",
                hint=f"FARM_INTEL_RASTER_ROOT is a folder, or a bucket: {', '.join(f'{s}://…' for s in _SCHEMES)}.",
            )
        self._url = url.rstrip("/")

    @property
    def place(self) -> str:
        """The URL."""
        return self._url

    @cached_property
    def _store(self) -> ObjectStore:
        from obstore.store import from_url

        with self._failing("open the bucket"):
            # 30 s a request by default; client options would hide AWS_ALLOW_HTTP
            return from_url(self._url, retry_config=_RETRIES)

    def href(self, sha256: str) -> str:
        """Return the object's URL."""
        return f"{self._url}/{self.relative_path(sha256)}"

    def exists(self, sha256: str) -> bool:
        """Return True where the object is there."""
        return self.state(sha256) is not None

    def lost(self, addresses: Collection[str]) -> set[str]:
        """Return the addresses without an object; of more than _MOST_ASKED, none."""
        if len(addresses) > _MOST_ASKED:
            return set()
        known = list(addresses)
        there = _side_by_side(self.exists, known)
        return {sha256 for sha256, found in zip(known, there, strict=True) if not found}

    def read(self, sha256: str) -> bytes:
        """Return the content."""
        import obstore

        with self._failing(f"read raster {sha256}"):
            return bytes(obstore.get(self._store, self.relative_path(sha256)).bytes())

    def put_many(self, contents: Mapping[str, bytes]) -> None:
        """Put the objects, a few at once."""
        import obstore

        store = self._store

        def put(sha256: str) -> None:
            obstore.put(store, self.relative_path(sha256), contents[sha256], use_multipart=False)

        with self._failing(f"store {len(contents)} rasters"):
            _side_by_side(put, contents)

    def objects(self, prefix: str) -> dict[str, StoredFile]:
        """Return the objects under two hex digits."""
        import obstore

        found: dict[str, StoredFile] = {}
        with self._failing("list rasters"):
            for page in obstore.list(self._store, prefix):
                for entry in page:
                    name = entry["path"].rpartition("/")[2]
                    if name.endswith(SUFFIX):
                        state = _state(name.removesuffix(SUFFIX), entry)
                        found[state.name] = state
        return found

    def state(self, sha256: str) -> StoredFile | None:
        """Return size and time of an object, None where it is not there."""
        import obstore

        with self._failing(f"ask for raster {sha256}"):
            try:
                return _state(sha256, obstore.head(self._store, self.relative_path(sha256)))
            except FileNotFoundError:
                return None

    def remove(self, sha256: str) -> None:
        """Delete an object."""
        import obstore

        with self._failing(f"remove raster {sha256}"), suppress(FileNotFoundError):
            obstore.delete(self._store, self.relative_path(sha256))

    def unfinished(self) -> Iterator[StoredFile]:
        """Yield nothing: an object that did not arrive whole is none."""
        return iter(())

    def remove_unfinished(self, name: str) -> None:
        """Do nothing, there are none."""

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        """Raise our error for obstore's: of its text only the beginning, a service may answer with a page."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            text = " ".join(str(error).partition("Debug source")[0].split())[:_MOST_TEXT]
            raise StoreError(
                f"cannot {what} at {self._url}: {text or type(error).__name__}",
                hint="Check bucket, credentials and endpoint in the environment of the process; `farm-intel fsck` "
                "lists rasters that are missing.",
            ) from error


def _state(sha256: str, meta: ObjectMeta) -> StoredFile:
    return StoredFile(name=sha256, size_bytes=meta["size"], modified_at=meta["last_modified"].timestamp())


def _side_by_side[T](action: Callable[[str], T], names: Iterable[str]) -> list[T]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(action, names))
