"""Rendered speech: files named by their content, and the index that says which sentence each of them speaks."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from farm_intel.domain.errors import StoreError
from farm_intel.domain.messages import Audio
from farm_intel.domain.ports import Clock
from farm_intel.storage.database import hold_against_sweep, hold_for_sweep, reading, transaction
from farm_intel.storage.message_tables import speech

GRACE = timedelta(hours=1)
"""Age under which a file without a row is left alone: its row may be about to be committed."""
MIME_TYPE = "audio/wav"

_INCOMING = "incoming"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PREFIXES = tuple(f"{number:02x}" for number in range(256))


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechPruned:
    """What retention took away."""

    rows: int
    files: int
    size_bytes: int


class SpeechStore:
    """Implements `speech.speaker.AudioStore`: files `ab/<sha256>.wav` below a folder, and the table `speech`."""

    def __init__(self, root: Path, engine: Engine, clock: Clock) -> None:
        """Keep the folder, which is made with the first file, and the database."""
        self._root = root
        self._engine = engine
        self._clock = clock

    def find(self, request_hash: str) -> Audio | None:
        """Return a sentence's audio if its whole file is there."""
        with reading(self._engine) as connection:
            row = connection.execute(select(speech).where(speech.c.request_hash == request_hash)).first()
        if row is None or not self._is_there(row.sha256, row.size_bytes):
            return None
        return _audio(row)

    def by_address(self, sha256: str) -> Audio | None:
        """Return the audio of an address, e.g. the one an outbox row holds; None where it is not known."""
        with reading(self._engine) as connection:
            row = connection.execute(select(speech).where(speech.c.sha256 == sha256).limit(1)).first()
        return None if row is None else _audio(row)

    def put(self, request_hash: str, wav: bytes, *, engine: str, language: str, duration_s: float) -> Audio:
        """Keep audio for good and return it; takes the place of what the sentence had.

        The file is flushed and has its final name before the row is committed: no crash leaves a row without its file.

        Raises:
            StoreError: the disk is full or failed.

        """
        sha256 = hashlib.sha256(wav).hexdigest()
        values = {
            "sha256": sha256,
            "path": _relative_path(sha256),
            "mime_type": MIME_TYPE,
            "duration_s": duration_s,
            "engine": engine,
            "language": language,
            "size_bytes": len(wav),
            "rendered_at": self._clock.now(),
        }
        self._keep(sha256, wav)
        with transaction(self._engine) as connection:
            hold_against_sweep(connection)
            self._keep(sha256, wav)  # the sweep may have taken an old file of this content just before
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            statement = dialect.insert(speech).values(request_hash=request_hash, **values)
            connection.execute(statement.on_conflict_do_update(index_elements=["request_hash"], set_=values))
            row = connection.execute(select(speech).where(speech.c.request_hash == request_hash)).one()
        return _audio(row)

    def read(self, audio: Audio) -> bytes:
        """Return a file's content, which is checked against its name.

        Raises:
            StoreError: it is not there, or no longer what its name promises.

        """
        path = self._path(audio.sha256)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                content = file.read()
        except OSError as error:
            raise StoreError(
                f"the audio {audio.sha256} cannot be read: {error.strerror}",
                hint="Retention may have taken it; saying the same text renders it again.",
            ) from error
        if hashlib.sha256(content).hexdigest() != audio.sha256:
            raise StoreError(
                f"the audio {audio.sha256} is damaged", hint="Remove the file; saying the same text renders it again."
            )
        return content

    def prune(self, older_than: datetime, *, keep: Collection[str] = ()) -> SpeechPruned:
        """Remove rows rendered before an instant, then files that no row names.

        Args:
            older_than: UTC.
            keep: SHA-256 of audio that stays whatever its age.

        Returns:
            What was removed.

        Raises:
            StoreError: the database or the disk refused.

        """
        kept = frozenset(keep)
        with transaction(self._engine) as connection:
            old = connection.execute(
                select(speech.c.request_hash, speech.c.sha256).where(speech.c.rendered_at < older_than)
            ).all()
            gone = [row.request_hash for row in old if row.sha256 not in kept]
            for begin in range(0, len(gone), 500):
                connection.execute(delete(speech).where(speech.c.request_hash.in_(gone[begin : begin + 500])))
        files = size_bytes = 0
        for prefix in _PREFIXES:
            swept = self._sweep(prefix, kept)
            files, size_bytes = files + swept[0], size_bytes + swept[1]
        self._sweep_unfinished()
        return SpeechPruned(rows=len(gone), files=files, size_bytes=size_bytes)

    def _sweep(self, prefix: str, keep: frozenset[str]) -> tuple[int, int]:
        """Remove one folder's files without a row; rows of new ones wait meanwhile."""
        if not any(self._files(prefix)):
            return 0, 0
        files = size_bytes = 0
        with transaction(self._engine) as connection:
            hold_for_sweep(connection)
            query = select(speech.c.sha256).where(speech.c.sha256.startswith(prefix))
            named = keep.union(connection.scalars(query))
            for path, state in self._files(prefix):
                if path.stem not in named and self._is_old(state):
                    path.unlink(missing_ok=True)
                    files, size_bytes = files + 1, size_bytes + state.st_size
        return files, size_bytes

    def _sweep_unfinished(self) -> None:
        """Remove what writers left that were killed."""
        for path, state in self._files(_INCOMING):
            if self._is_old(state):
                path.unlink(missing_ok=True)

    def _files(self, folder: str) -> list[tuple[Path, os.stat_result]]:
        try:
            return [(Path(entry.path), entry.stat(follow_symlinks=False)) for entry in os.scandir(self._root / folder)]
        except FileNotFoundError:  # no such folder yet, or a file that has just been renamed
            return []

    def _is_old(self, state: os.stat_result) -> bool:
        # the file system's clock, not ours: nobody can move it
        return datetime.fromtimestamp(state.st_mtime, UTC) < self._clock.now() - GRACE

    def _is_there(self, sha256: str, size_bytes: int) -> bool:
        try:
            return self._path(sha256).stat().st_size == size_bytes
        except FileNotFoundError:
            return False

    def _path(self, sha256: str) -> Path:
        if _SHA256.fullmatch(sha256) is None:
            raise StoreError("that is no address of audio", hint="An address is 64 lower-case hex digits.")
        return self._root / _relative_path(sha256)

    def _keep(self, sha256: str, wav: bytes) -> None:
        """Write a file that is not there; one that is becomes young, so that no sweep takes it before it has a row."""
        try:
            if self._is_there(sha256, len(wav)):
                os.utime(self._path(sha256))
            else:
                self._write(self._path(sha256), wav)
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
            raise StoreError(
                f"audio cannot be kept under {self._root}: {error.strerror}",
                hint="Free some space." if full else "Check the disk and the folder's permissions.",
            ) from error

    def _write(self, path: Path, wav: bytes) -> None:
        incoming = self._root / _INCOMING
        incoming.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(exist_ok=True)
        temporary = incoming / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as file:
                file.write(wav)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        except BaseException:  # re-raised: whatever stopped us, leave no rubbish behind
            temporary.unlink(missing_ok=True)
            raise
        for folder in (path.parent, self._root):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _relative_path(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}.wav"


def _audio(row: Row[Any]) -> Audio:
    return Audio(
        sha256=row.sha256,
        path=row.path,
        mime_type=row.mime_type,
        duration_s=row.duration_s,
        engine=row.engine,
        size_bytes=row.size_bytes,
    )
