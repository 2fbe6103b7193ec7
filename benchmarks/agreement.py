"""Do the contenders agree? A fast wrong number is worth nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.job import INDICES, Floats
from benchmarks.ours import OURS
from benchmarks.peers import PEERS
from benchmarks.records import Records

TOLERANCE = {"same": 1e-6, "whole": 5e-3, "centre": 0.1}
"""Largest difference of a mean that the pixel rules explain.

`same`: our own paths. `whole`: exactextract asked for pixels wholly inside, whose coverage is float32: it leaves out
pixels that are whole but for a rounding error (0.99999988), which we count. On 5,000 farms every difference above 1e-6
(289 farms at 10 m, 47 at 20 m, at most 0.0028) was at a farm with such a pixel.
`centre`: pixels whose centre is inside, edge pixels included.
Cells for which our purity ladder had to take edge pixels (clouds left fewer than ten whole ones) follow another rule
than any peer's and are counted, not compared.
"""


@dataclass(frozen=True)
class Agreement:
    """How far a contender's means lie from the engine's, over the farms both computed."""

    contender: str
    rule: str
    compared: int
    ladder: int
    """Means left out because the engine had to use edge pixels."""
    largest: float
    where: str
    median: float
    missing: int
    """Means that one of the two has and the other has not."""

    @property
    def good(self) -> bool:
        # the quality rule refuses farms that are nearly all cloud, whose few pixels the engine still averages; and a
        # handful of clear pixels may give a number by one pixel rule and none by another
        return self.compared > 0 and self.largest <= TOLERANCE[self.rule] and self.missing <= self.compared // 20


def agreements(records: Records, folder: Path) -> Iterator[Agreement]:
    """Yield one comparison per contender: its largest case against the engine on the same farms and dates."""
    for contender in (*OURS, *PEERS):
        rule = PEERS[contender].rule if contender in PEERS else "same"
        if contender in {"engine-one", "floor"}:
            continue
        measured = [point.case for point in records.points.values() if point.case.contender == contender]
        if contender == "engine":
            measured = [case for case in measured if case.via == "http"]
        for case in sorted(measured, key=lambda case: (case.farms, case.dates))[-1:]:
            reference = folder / f"engine-{case.farms}-{case.dates}-local.npz"
            subject = folder / f"{contender}-{case.farms}-{case.dates}-{case.via}.npz"
            if reference.exists() and subject.exists():
                yield _compare(contender, rule, reference, subject)


def _compare(contender: str, rule: str, reference: Path, subject: Path) -> Agreement:
    with np.load(reference) as ours, np.load(subject) as theirs:
        farms = theirs["farms"]
        expected: Floats = ours["means"][farms]
        actual: Floats = theirs["means"]
        ladder = ours["mixed"][farms] & (rule != "same")
    both = np.isfinite(expected) & np.isfinite(actual) & ~ladder
    difference = np.where(both, np.abs(expected - actual), 0.0)
    farm, date, index = np.unravel_index(int(difference.argmax()), difference.shape)
    return Agreement(
        contender=contender,
        rule=rule,
        compared=int(both.sum()),
        ladder=int(ladder.sum()),
        largest=float(difference.max()),
        where=f"{INDICES[index]} of farm {farms[farm]}, date {date + 1}",
        median=float(np.median(difference[both])) if both.any() else float("nan"),
        missing=int(((np.isfinite(expected) ^ np.isfinite(actual)) & ~ladder).sum()),
    )
