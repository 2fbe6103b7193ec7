"""Whenever a publisher dies, the store is whole: no row without its raster, no half raster, no lost answer."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path

import pytest

from farm_intel.storage.fsck import check_store, repair
from farm_intel_tests.storage import publish_forever

KILLS = 20
REPOSITORY = Path(publish_forever.__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY)}
NO_GRACE = timedelta(seconds=-5)


def command(url, rasters, *more):
    return [sys.executable, publish_forever.__file__, url, str(rasters.root), *map(str, more)]


def start(*arguments):
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT)


def assert_whole_after_reaping(engine, rasters):
    """Young orphans are what a crash may leave; everything else must be right before the reaper and after."""
    before = check_store(engine, rasters, rehash=True)
    assert before.findings == ()
    repair(engine, rasters, grace=NO_GRACE)
    after = check_store(engine, rasters, rehash=True, grace=NO_GRACE)
    assert after.findings == ()
    assert (after.in_flight, after.superseded) == (0, 0)


def told_until_killed(parent, seed, delay_s):
    """Let a publisher run for a while after its first answer, kill it, and return its answers: day -> seed."""
    parent.stdin.write(f"{seed}\n")
    parent.stdin.flush()
    lines = iter(parent.stdout.readline, "")
    answers, publisher = {}, None
    for line in lines:
        word, value = line.split()
        if word == "ended":
            assert int(value) == signal.SIGKILL
            return answers
        if word == "publisher":
            publisher = int(value)
        else:
            answers[date.fromisoformat(word)] = int(value)
        if publisher and answers and delay_s is not None:
            time.sleep(delay_s)
            delay_s = None
            os.kill(publisher, signal.SIGKILL)
    raise AssertionError(parent.stderr.read())


@pytest.mark.timeout(240)
def test_sigkill_at_random_moments_leaves_a_whole_store(sqlite_store):
    rng = random.Random(20240601)
    rasters = sqlite_store.rasters
    acknowledged: dict[date, int] = {}
    orphans = 0
    with start(*command(str(sqlite_store.engine.url), rasters)) as parent:
        for kill in range(KILLS):
            acknowledged |= told_until_killed(parent, kill * 10_000, rng.uniform(0.0, 0.12))

            report = check_store(sqlite_store.engine, rasters, rehash=True)
            assert report.findings == ()
            orphans += report.in_flight
            stored = {
                row.key.solar_day: int(row.fingerprint.split("-")[1])
                for row in sqlite_store.observations(farm_ids=["farm-00000"], indices=["first"])
            }
            # The last answer, or a later batch that was stored and not told any more.
            assert all(stored[day] >= seed for day, seed in acknowledged.items())
        parent.stdin.close()
    assert_whole_after_reaping(sqlite_store.engine, rasters)
    assert orphans > 0, "no kill fell between the rasters and their rows: this test has lost its aim"


def test_two_processes_publish_into_one_database(engine, rasters):
    url = engine.url.render_as_string(hide_password=False)
    children = [start(*command(url, rasters, seed, 12)) for seed in (0, 0)]
    for child in children:
        output, errors = child.communicate(timeout=120)
        assert child.returncode == 0, errors
        assert len(output.splitlines()) == 12

    assert_whole_after_reaping(engine, rasters)


strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def traced(tmp_path, url, rasters, *options, batches=2):
    log = tmp_path / "trace"
    arguments = ["strace", "-f", "-y", "-qq", "-o", str(log), *options, *command(url, rasters, 7, batches)]
    done = subprocess.run(arguments, capture_output=True, text=True, env=ENVIRONMENT, check=False, timeout=120)
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.splitlines()[0]}")
    return done, log.read_text(errors="replace").splitlines()


def in_order_of_effect(lines):
    """Yield each call once: what makes safe when it is over, what relies on safety when it begins."""
    begun = {}
    for line in lines:
        thread = line.split()[0]
        if "<unfinished ...>" in line:
            begun[thread] = line
            if "rename(" in line or "pwrite64(" in line:
                yield line
        elif "resumed>" in line:
            whole = begun.pop(thread)
            if "rename(" not in whole and "pwrite64(" not in whole:
                yield whole
        else:
            yield line


@strace
@pytest.mark.timeout(180)
def test_nothing_is_told_before_it_is_on_the_disk(sqlite_store, tmp_path):
    """The order that survives a power cut: write, flush, rename, flush of the folder, and only then the rows."""
    url, rasters = str(sqlite_store.engine.url), sqlite_store.rasters

    done, lines = traced(tmp_path, url, rasters, "-e", "trace=write,pwrite64,fsync,syncfs,rename")

    assert done.returncode == 0, done.stderr
    states: dict[str, str] = {}
    folders: dict[str, set[str]] = defaultdict(set)
    committed = 0
    for line in in_order_of_effect(lines):
        if found := re.search(r"write\(\d+<[^>]*incoming/([^>]+)>", line):
            states[found[1]] = "written"
        elif found := re.search(r"fsync\(\d+<[^>]*incoming/([^>]+)>", line):
            assert states[found[1]] == "written"
            states[found[1]] = "flushed"
        elif re.search(r"syncfs\(\d+<[^>]*/rasters/incoming>", line):
            states |= {name: "flushed" for name, state in states.items() if state == "written"}
        elif found := re.search(r'rename\("[^"]*incoming/([^"]+)", "[^"]*/rasters/(\w\w)/', line):
            assert states[found[1]] in {"flushed", "renamed"}  # the first of a new folder is tried twice
            states[found[1]] = "renamed"
            folders[found[2]].add(found[1])
        elif found := re.search(r"fsync\(\d+<[^>]*/rasters/(\w\w)>", line):
            states |= dict.fromkeys(folders[found[1]], "permanent")
        elif re.search(r"syncfs\(\d+<[^>]*/rasters>", line):
            states |= {name: "permanent" for name, state in states.items() if state == "renamed"}
        elif re.search(r"pwrite64\(\d+<[^>]*store\.db-wal>", line) and states:
            assert set(states.values()) == {"permanent"}
            committed += 1
    assert len(states) == 44
    assert committed > 2


@strace
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("call", "when"),
    [
        ("rename", 1),
        ("syncfs", 1),
        ("pwrite64", 9),
        pytest.param("rename", 3, marks=pytest.mark.nightly),
        pytest.param("fsync", 1, marks=pytest.mark.nightly),
        pytest.param("fsync", 2, marks=pytest.mark.nightly),
    ],
)
def test_killed_inside_a_system_call(sqlite_store, tmp_path, call, when):
    url, rasters = str(sqlite_store.engine.url), sqlite_store.rasters

    done, _ = traced(
        tmp_path, url, rasters, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}", batches=4
    )

    assert done.returncode in {-signal.SIGKILL, 128 + signal.SIGKILL}, done.stderr
    assert_whole_after_reaping(sqlite_store.engine, rasters)


@strace
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ("write", "error=ENOSPC:when=10"),
        pytest.param("write", "retval=0x7fff:when=10", marks=pytest.mark.nightly),
        # counted per thread, and none is sure to flush two files
        pytest.param("fsync", "error=EIO:when=1", marks=pytest.mark.nightly),
        ("syncfs", "error=EIO:when=1"),
        pytest.param("rename", "error=ENOSPC:when=2", marks=pytest.mark.nightly),
        ("pwrite64", "error=ENOSPC:when=12+"),
    ],
)
def test_a_disk_that_fails_is_a_typed_error_and_writes_no_row(sqlite_store, tmp_path, call, fault):
    """Faults at the system calls themselves: a full disk, a failing one, and a write that lies about its length."""
    url, rasters = str(sqlite_store.engine.url), sqlite_store.rasters

    done, _ = traced(tmp_path, url, rasters, "-e", f"trace={call}", "-e", f"inject={call}:{fault}", batches=4)

    assert done.returncode == 1
    assert "farm_intel.domain.errors.StoreError: " in done.stderr
    assert_whole_after_reaping(sqlite_store.engine, rasters)
