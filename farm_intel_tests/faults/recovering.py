"""A provider that goes away in the middle of a block and comes back, and a host that is dead under many callers."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from farm_intel.bootstrap import Container
from farm_intel.domain.errors import FarmIntelError
from farm_intel.domain.geo import BBox
from farm_intel.domain.scenes import SceneQuery
from farm_intel.observing.fallback import Switch, observe_in_order
from farm_intel.observing.model import CellOutcome
from farm_intel.resilience.state import BreakerState
from farm_intel.simulation.emulators.faults import Fault, FaultKind, FaultPlan
from farm_intel_tests.faults.columns import column
from farm_intel_tests.faults.running import DEADLINE_S, INDEX, Bench, bench, stands_in

DAYS = (date(2026, 1, 4), date(2026, 1, 9), date(2026, 1, 14), date(2026, 1, 19))
OPEN_S = 2.0
"""First open period of the breaker here."""
_TOLD = 160
"""Characters of a reason that are shown."""
_STOP_AFTER = 40
"""Range requests after which the emulator is stopped; the block takes about 65."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """How one block was answered."""

    what: str
    first: int
    """Cells by the first provider."""
    other: int
    """Cells by the one behind it, flagged."""
    reasons: tuple[str, ...]
    seconds: float
    requests: int
    """What the first provider's emulator was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """The blocks in order, and what was not right about them."""

    blocks: tuple[Block, ...]
    wrong: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the story as a table."""
        lines = [
            "| block | cells by `stac` | by `earth_engine`, flagged | requests to `stac` | s | told |",
            "|---|---|---|---|---|---|",
        ]
        for block in self.blocks:
            told = re.sub(r"127\.0\.0\.1:\d+", "host", "; ".join(block.reasons))[:_TOLD].replace("|", " ")
            lines.append(
                f"| {block.what} | {block.first} | {block.other} | {block.requests} | {block.seconds:.1f} | {told} |"
            )
        return lines + [f"- **{text}**" for text in self.wrong]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadHost:
    """What a dead host saw of many callers."""

    callers: int
    calls: int
    """By all callers together."""
    before: int
    """Requests until the breaker opened; they were under way already."""
    probes: int
    """Requests after that."""
    periods: int
    """Open periods that ended meanwhile."""

    @property
    def right(self) -> bool:
        """At most one request in an open period."""
        return self.probes <= self.periods and self.periods > 0

    def line(self) -> str:
        """Return it as a sentence."""
        return (
            f"{self.callers} concurrent callers made {self.calls} calls: {self.before} requests until the breaker "
            f"opened, then {self.probes} in {self.periods} open periods{'' if self.right else ' (**too many**)'}."
        )


class _StoppingPlan(FaultPlan):
    """Tells when so many requests for files have come in."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = after
        self.reached = threading.Event()

    def strike(self, path: str) -> Fault | None:
        if path.startswith("/data/"):
            self._left -= 1
            if self._left == 0:
                self.reached.set()
        return super().strike(path)


def stop_and_start(world: Path) -> Recovery:
    """Stop the first provider's emulator half way through a block, ask on, start it again, ask once more."""
    one = replace(column("stac"), days=DAYS)
    home = Path(tempfile.mkdtemp(prefix="farm-intel-fault-"))
    try:
        with bench(one, world) as running:
            running.learn()
            container = running.installation(home, breaker_failures=2, breaker_open_s=OPEN_S)
            plan = _StoppingPlan(_STOP_AFTER)
            running.server.faults = plan
            stopper = threading.Thread(target=lambda: plan.reached.wait(60.0) and running.server.stop())
            stopper.start()
            wrong: list[str] = []
            blocks = [_block(running, container, "stopped half way", wrong)]
            stopper.join()
            blocks.append(_block(running, container, "while it is away", wrong))
            blocks.append(_block(running, container, "once more, breaker open", wrong))
            running.server.start()
            _wait_until_probes_are_let_through(container)
            blocks.append(_block(running, container, "started again", wrong))
            wrong += _story(blocks, container)
            return Recovery(blocks=tuple(blocks), wrong=tuple(wrong))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _block(running: Bench, container: Container, what: str, wrong: list[str]) -> Block:
    """Observe the block anew and note who answered."""
    order = container.provider_order(INDEX)
    switches: list[Switch] = []
    outcomes: list[CellOutcome] = []
    running.server.log.clear()
    began = time.monotonic()
    request = replace(running.request(order[0]), force=True)
    try:
        outcomes += observe_in_order(
            container.observing,
            request,
            order,
            run_id="faults",
            deadline_s=2 * DEADLINE_S,
            on_switch=switches.append,
        )
    except FarmIntelError as error:
        wrong.append(f"{what}: {error}")
    for outcome in outcomes:
        key = (outcome.key.provider, outcome.key.farm_id, outcome.key.solar_day)
        mean = None if outcome.statistics is None else outcome.statistics.mean
        right = running.known[key][1]
        if (mean is None) != (right is None) or abs((mean or 0.0) - (right or 0.0)) > 1e-6:
            wrong.append(f"{what}: {key} is {mean}, right is {right}")
    other = sum(stands_in(outcome) for outcome in outcomes)
    return Block(
        what=what,
        first=len(outcomes) - other,
        other=other,
        reasons=tuple(dict.fromkeys(switch.reason for switch in switches)),
        seconds=time.monotonic() - began,
        requests=len(running.server.log),
    )


def _wait_until_probes_are_let_through(container: Container) -> None:
    """Sleep as long as any breaker is open."""
    while any(record.state(container.clock.now()) is BreakerState.OPEN for _, record in container.breakers()):
        time.sleep(0.1)  # the wait is what is tested


def _story(blocks: list[Block], container: Container) -> list[str]:
    """Return what did not go as it should."""
    wrong = []
    cells = len(DAYS) * len(column("stac").farms)
    half, away, again, back = blocks
    wrong += [f"{b.what}: {b.first + b.other} of {cells} cells" for b in blocks if b.first + b.other != cells]
    if not half.other or not half.reasons:
        wrong.append("nobody took over when the provider went away")
    if away.other != cells or again.other != cells:
        wrong.append("cells are said to come from a provider that is away")
    if again.seconds > DEADLINE_S / 2:
        wrong.append("an open breaker did not save time")
    if back.first != cells or back.reasons:
        wrong.append("the provider is back and was not asked for all cells")
    now = container.clock.now()
    wrong += [
        f"the breaker of {operation.name} is {record.state(now).value}"
        for operation, record in container.breakers()
        if record.state(now) is not BreakerState.CLOSED
    ]
    return wrong


def dead_host(world: Path, *, callers: int = 50, seconds: float = 6.0) -> DeadHost:
    """Let many callers search a catalogue whose every answer is 503."""
    home = Path(tempfile.mkdtemp(prefix="farm-intel-fault-"))
    calls = [0] * callers
    try:
        with bench(column("stac"), world) as running:
            container = running.installation(home, stac_retries=0, breaker_open_s=0.5)
            catalog = container.providers["stac"].catalog
            query = SceneQuery(
                collection=container.settings.stac_collection,
                bbox=BBox(west=36.0, south=-1.1, east=36.1, north=-1.0),
                start=DAYS[0],
                end=DAYS[0],
                bands=frozenset({"red"}),
            )
            catalog.search(query)
            running.server.reset()
            running.server.faults.add(Fault(kind=FaultKind.UNAVAILABLE, times=0))
            until = time.monotonic() + seconds

            def call(place: int) -> None:
                while time.monotonic() < until:
                    calls[place] += 1
                    try:
                        catalog.search(query)
                    except FarmIntelError:
                        time.sleep(0.02)  # a caller that has something else to do, fifty times over on few cores

            threads = [threading.Thread(target=call, args=(place,)) for place in range(callers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            openings = max((record.openings for _, record in container.breakers()), default=0)
            arrivals = sorted(record.at_s for record in running.server.log)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    # every period but the last ended in a probe that opened the next one
    periods = max(0, openings - 1)
    burst = sum(at < arrivals[0] + 0.35 for at in arrivals)
    return DeadHost(callers=callers, calls=sum(calls), before=burst, probes=len(arrivals) - burst, periods=periods)
