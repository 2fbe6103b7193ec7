"""Which cases a run measures: every point the targets need, and more with `--full`."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.job import Case
from benchmarks.peers import PEERS

FARMS = (100, 1_000, 5_000)
DATES = (1, 4, 16)
SAMPLE = 30
"""Farms computed by contenders whose cost per farm-date is constant."""
_JUDGED_ROUNDS = 3
_CLOSE_ROUNDS = 5
"""Of the cases that stand in the closest ratios; they cost a few seconds each."""
_BOXES = ("stackstac-box", "odc-box")
_SCENES = ("exactextract-scene", "rasterstats-scene")


def cases(*, full: bool) -> Iterator[tuple[Case, int]]:
    """Yield each case with the number of rounds; those that stand in a ratio are repeated."""
    yield from _close()
    yield from _ours()
    yield from _orchestration()
    seen = set()
    for case, rounds in _peers(full=full):
        if case.key not in seen:
            seen.add(case.key)
            yield case, rounds


def _close() -> Iterator[tuple[Case, int]]:
    """One after the other, so that a busy minute of the machine meets all of them."""
    yield Case(contender="floor", farms=5_000), _CLOSE_ROUNDS
    yield Case(contender="path", farms=5_000), _CLOSE_ROUNDS
    yield Case(contender="engine", farms=5_000), _CLOSE_ROUNDS
    yield Case(contender="engine-one", farms=5_000, options={"indices": ["all_bands"]}), _CLOSE_ROUNDS


def _ours() -> Iterator[tuple[Case, int]]:
    for via in ("local", "http"):
        for farms in FARMS:
            for dates in DATES:
                if (farms, dates, via) != (5_000, 1, "local"):
                    rounds = _JUDGED_ROUNDS if dates == 1 else 1
                    yield Case(contender="engine", farms=farms, dates=dates, via=via), rounds
    for farms in FARMS[:-1]:
        yield Case(contender="floor", farms=farms), _JUDGED_ROUNDS
        yield Case(contender="path", farms=farms), _JUDGED_ROUNDS
    yield Case(contender="path", farms=1_000, via="http"), 2
    yield Case(contender="path", farms=5_000, dates=4), 1


def _orchestration() -> Iterator[tuple[Case, int]]:
    yield Case(contender="dagster", farms=1_000), 1
    yield Case(contender="definitions", farms=0), 1


def _peers(*, full: bool) -> Iterator[tuple[Case, int]]:
    for name in _BOXES:
        yield Case(contender=name, farms=1_000, via="http"), _JUDGED_ROUNDS
        for farms in (100, 5_000):
            yield Case(contender=name, farms=farms, via="http"), 1
        yield Case(contender=name, farms=1_000), 1
        yield Case(contender=name, farms=100, dates=4, via="http"), 1
    for name in _SCENES:
        yield Case(contender=name, farms=5_000), _JUDGED_ROUNDS if name == "exactextract-scene" else 1
        for farms in (100, 1_000):
            yield Case(contender=name, farms=farms), 1
    for name, peer in PEERS.items():
        if peer.per_farm:
            for via in ("http", "local"):
                yield Case(contender=name, farms=1_000, via=via, sample=SAMPLE), 1
    if full:
        for name, peer in PEERS.items():
            for via in ("local", "http"):
                for farms in FARMS:
                    for dates in DATES if not peer.per_farm else (1,):
                        yield Case(contender=name, farms=farms, dates=dates, via=via), 1
