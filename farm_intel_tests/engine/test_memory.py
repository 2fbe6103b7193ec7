"""The heap asks for huge pages; the collector leaves what was there before a run alone, and is restored after it."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from farm_intel.engine.memory import collecting_new_objects


class Ring:
    def __init__(self) -> None:
        self.itself = self


NESTED = """
import gc
from farm_intel.engine.memory import collecting_new_objects
before, frozen = gc.get_threshold(), gc.get_freeze_count()
with collecting_new_objects():
    with collecting_new_objects():
        assert gc.get_threshold()[0] > before[0]
    assert gc.get_freeze_count() > frozen
    assert gc.get_threshold()[0] > before[0]
assert gc.get_threshold() == before
assert gc.get_freeze_count() == 0
"""


HUGE = """
from farm_intel.engine.memory import share_one_heap
assert share_one_heap()
heap, marked = False, 0
for line in open("/proc/self/smaps"):
    name, _, rest = line.partition(":")
    if "-" in name.split()[0]:
        heap, size_kb = line.rstrip().endswith("[heap]"), 0
    elif heap and name == "Size":
        size_kb = int(rest.split()[0])
    elif heap and name == "VmFlags" and "hg" in rest.split():
        marked += size_kb
print(marked // 1024)
"""


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="a system without huge pages")
def test_the_heap_that_blocks_are_cut_from_asks_for_huge_pages():
    # in a process of its own: the heap of this one may have grown around the mark already
    done = subprocess.run([sys.executable, "-c", HUGE], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 250


def test_runs_share_one_setting_and_the_last_restores_it():
    # in a process of its own: a test that abandoned a run half way leaves the setting on in this one
    done = subprocess.run([sys.executable, "-c", NESTED], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_cycles_made_during_a_run_are_still_freed():
    with collecting_new_objects():
        gone = weakref.ref(Ring())
        gc.collect()
        assert gone() is None


def test_what_was_there_before_is_searched_again_afterwards():
    gone = weakref.ref(Ring())

    with pytest.raises(ValueError, match="stop"), collecting_new_objects():
        raise ValueError("stop")

    gc.collect()
    assert gone() is None
