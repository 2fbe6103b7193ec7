"""The collector leaves what was there before a run alone, and is as it was when the last run has ended."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

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
