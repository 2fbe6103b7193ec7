"""The trial of alerts, from the field to the ear: a drought opens an alert, people hear of it, act, and it ends.

usage: python -m tools.trial [--keep FOLDER] [--picture FILE]

Everything is real but the field and the date: the engine looks at a simulated season day by day, and what the alert
sets off goes over sockets on this machine to an SMTP server, a webhook receiver and a WebSocket client that loses its
connection. Nobody answers at first, so the alert escalates; then it is acknowledged over HTTP, the proposed irrigation
is logged, and after the rain the alert resolves itself. Prints the story and what was checked; exits with 1 where
anything does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from farm_intel.simulation.world import WorldOptions
from tools.trial_afterwards import check_afterwards
from tools.trial_record import Record, TrialError
from tools.trial_season import DROUGHT
from tools.trial_setting import Setting, at_noon, setting
from tools.trial_story import ACKNOWLEDGE, Story

__all__ = ["ACKNOWLEDGE", "Trial", "main", "run_trial"]

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "img" / "drought-alert.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried."""

    options: WorldOptions = DROUGHT
    left_out: frozenset[str] = frozenset()
    """Steps people do not take, to see the trial fail without them."""


def run_trial(home: Path, trial: Trial | None = None, *, picture: Path | None = None) -> Record:
    """Run a trial in an empty folder and return its record; the picture is drawn only where everything held."""
    trial = trial or Trial()
    with setting(home, trial.options) as stage:
        try:
            _walk(stage, Story(stage, trial.left_out))
            check_afterwards(stage)
        except TrialError:
            return stage.record  # what was checked says where it ended
        if picture is not None and stage.record.held:
            from tools.trial_picture import draw

            picture.write_bytes(draw(stage))
    return stage.record


def _walk(stage: Setting, story: Story) -> None:
    """Live through the season, a pass of the pump each day at noon, and let the story go on when something happens."""
    for day in stage.season.days:
        stage.clock.move_to(at_noon(day))
        stage.season.live(day)
        story.noon(day)
    story.end()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trial, print its story and return the exit code."""
    parser = argparse.ArgumentParser(description="A simulated drought, and everything that is told of it.")
    parser.add_argument("--keep", type=Path, help="keep the installation in this folder, which must not exist yet")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where the picture goes")
    asked = parser.parse_args(arguments)
    if asked.keep is not None and asked.keep.exists():
        parser.error(f"{asked.keep} exists already")
    began_s = time.monotonic()
    # what the parts log of expected trouble (a cut connection) would bury the story
    logging.disable(logging.WARNING)
    print(f"a season of {DROUGHT.days} days, one after the other: about a minute …", file=sys.stderr, flush=True)
    with _home(asked.keep) as home:
        record = run_trial(home, picture=asked.picture)
    print(record.story(), record.verdicts(), sep="\n\n")
    verdict = "everything held" if record.held else "NOT everything held"
    print(f"\n{verdict}: {sum(c.held for c in record.checks)} of {len(record.checks)} checks", end=", ")
    print(f"{time.monotonic() - began_s:.0f} s")
    return 0 if record.held else 1


@contextlib.contextmanager
def _home(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="farm-intel-trial-") as folder:
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
