"""Audio is permanent and whole before its row is there, and retention takes what is old and nothing else."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from farm_intel.domain.errors import StoreError
from farm_intel.storage.database import reading
from farm_intel.storage.message_tables import speech
from farm_intel.storage.speech import GRACE, SpeechStore
from farm_intel_tests.speech.support import FakeEngine, dead, murmur, speaker


class LaterClock:
    """Implements `Clock`: the machine's, moved; files carry the machine's own time."""

    def __init__(self) -> None:
        self.later = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.later


@pytest.fixture
def clock() -> LaterClock:
    return LaterClock()


@pytest.fixture
def store(engine, tmp_path, clock) -> SpeechStore:
    return SpeechStore(tmp_path / "audio", engine, clock)


def put(store, number, engine="fake", wav=None):
    wav = wav or f"wav {number}".encode()
    return store.put(f"{number:064x}", wav, engine=engine, language="en", duration_s=1.5)


def files(store) -> set[str]:
    return {path.name for path in store._root.rglob("*") if path.is_file()}


def rows(engine) -> int:
    with reading(engine) as connection:
        return connection.scalar(select(func.count()).select_from(speech))


def test_what_is_put_is_found_and_read(store, tmp_path):
    audio = put(store, 1)

    assert store.find(f"{1:064x}") == audio == store.by_address(audio.sha256)
    assert store.read(audio) == b"wav 1"
    assert audio.sha256 == hashlib.sha256(b"wav 1").hexdigest()
    assert (tmp_path / "audio" / audio.path).read_bytes() == b"wav 1"
    assert (audio.engine, audio.duration_s, audio.mime_type, audio.size_bytes) == ("fake", 1.5, "audio/wav", 5)
    assert files(store) == {f"{audio.sha256}.wav"}
    assert store.find("f" * 64) is None
    assert store.by_address("f" * 64) is None


def test_putting_again_takes_the_place_of_what_was_there(store, engine):
    put(store, 1, "tone", b"melody")

    better = put(store, 1, "flite", b"speech")

    assert store.find(f"{1:064x}") == better
    assert rows(engine) == 1


def test_a_file_that_is_gone_or_cut_is_not_found_and_a_damaged_one_not_given_out(store):
    audio = put(store, 1)
    path = store._root / audio.path
    path.write_bytes(b"wav 2")
    with pytest.raises(StoreError, match="damaged"):
        store.read(audio)
    path.write_bytes(b"wa")
    assert store.find(f"{1:064x}") is None
    path.unlink()
    assert store.find(f"{1:064x}") is None
    with pytest.raises(StoreError, match="cannot be read"):
        store.read(audio)
    assert store.read(put(store, 1)) == b"wav 1"


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_only_an_address_becomes_a_path(store, sha256):
    with pytest.raises(StoreError, match="no address"):
        store.read(replace(put(store, 1), sha256=sha256))


def test_a_link_in_place_of_a_file_is_not_followed(store, tmp_path):
    audio = put(store, 1)
    (tmp_path / "elsewhere").write_bytes(b"wav 1")
    path = store._root / audio.path
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StoreError, match="cannot be read"):
        store.read(audio)


def test_retention_takes_old_rows_then_their_files_and_keeps_what_is_kept_or_shared(store, engine, clock):
    old, kept, shared = put(store, 1), put(store, 2), put(store, 3, wav=b"shared")
    clock.later = timedelta(days=100)
    put(store, 4, wav=b"shared")
    young = put(store, 5)
    for audio in (old, kept, shared):
        assert store.find(f"{1:064x}") is not None
        os.utime(store._root / audio.path, (0, 0))

    pruned = store.prune(clock.now() - timedelta(days=90), keep=[kept.sha256])

    assert (pruned.rows, pruned.files, pruned.size_bytes) == (2, 1, old.size_bytes)
    assert rows(engine) == 3
    assert files(store) == {f"{audio.sha256}.wav" for audio in (kept, shared, young)}
    assert store.find(f"{1:064x}") is None


def test_orphans_and_unfinished_files_are_reaped_once_they_are_old(store, clock):
    known = put(store, 1)
    orphan = store._root / "ab" / f"{'ab' * 32}.wav"
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"orphan")
    unfinished = store._root / "incoming" / "1-2"
    unfinished.write_bytes(b"half")

    assert store.prune(datetime(2000, 1, 1, tzinfo=UTC)).files == 0
    assert orphan.exists()
    assert unfinished.exists()
    clock.later = GRACE + timedelta(minutes=1)
    assert store.prune(datetime(2000, 1, 1, tzinfo=UTC)).files == 1
    assert files(store) == {f"{known.sha256}.wav"}


def test_nothing_to_prune_is_no_error(store):
    assert store.prune(datetime(2100, 1, 1, tzinfo=UTC)).rows == 0


def test_a_full_disk_is_said_and_leaves_no_row_and_no_rubbish(store, engine, tmp_path):
    (tmp_path / "audio").write_bytes(b"a file where the folder should be")

    with pytest.raises(StoreError, match="cannot be kept"):
        put(store, 1)
    assert rows(engine) == 0


def test_many_writers_of_one_sentence_and_a_sweep_at_once_leave_it_readable(store, clock):
    def work(number):
        audio = put(store, number % 3, wav=b"same for all")
        os.utime(store._root / audio.path, (0, 0))  # as if it were old: only its row protects it
        store.prune(datetime(2000, 1, 1, tzinfo=UTC))
        return audio

    with ThreadPoolExecutor(6) as pool:
        audios = list(pool.map(work, range(18)))

    assert all(store.read(audio) == b"same for all" for audio in audios)


def test_a_speaker_over_the_real_store_renders_once_over_restarts(store):
    voice = FakeEngine()
    first = speaker(voice, store=store).say("The field is dry.", "en")

    assert speaker(voice, store=store).say("The field is dry.", "en") == first
    assert len(voice.asked) == 1


def test_a_tone_on_the_record_is_not_taken_for_the_sentence(store):
    assert speaker(FakeEngine(render=dead), store=store).say("The field is dry.", "en").engine == "tone"

    again = speaker(FakeEngine(render=murmur), store=store).say("The field is dry.", "en")

    assert again.engine == "fake"
    assert store.find(hashlib.sha256(b'["The field is dry.", "en", "1"]').hexdigest()) == again
