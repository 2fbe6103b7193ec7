"""A simulated season as it comes: each day sees only what was known on that day."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from farm_intel.bootstrap import Container
from farm_intel.cli.world import install_world
from farm_intel.observing.model import ObserveRequest
from farm_intel.resilience.clock import SystemClock
from farm_intel.simulation.catalogue import write_world
from farm_intel.simulation.world import FarmWorld, WorldOptions

DROUGHT = WorldOptions(
    seed=4,
    farms=6,
    sizes_ha=(5.0,),
    tile_px=360,
    days=110,
    cloudiness=0.5,
    dry_farm="F003",
    dry_from_day=45,
    dry_days=30,
)
"""Two fields of maize side by side, F003 and F004; the first gets no rain for thirty days."""
MOISTURE, CANOPY = "ndmi", "ndvi"
INDICES = ("ndvi", "ndwi", "ndmi", "evi", "savi")


class TrialClock(SystemClock):
    """A clock whose wall time the trial moves; durations and sleeping are real."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def move_to(self, at: datetime) -> None:
        """Move on; time never goes back."""
        if at < self._now:
            raise ValueError(f"the clock stands at {self._now} and cannot go back to {at}")
        self._now = at


class Silent:
    """Progress nobody looks at."""

    def advance(self, done: int, total: int, note: str) -> None:
        """Say nothing."""


class Season:
    """An installation over a simulated world, and its days one after the other."""

    def __init__(self, home: Path, options: WorldOptions, clock: TrialClock, **settings: Any) -> None:
        files = write_world(FarmWorld(options), home / "world")
        installation = install_world(home, files, INDICES, **settings)
        self.home = home
        self.world = installation.world
        self.days = installation.days
        self.container: Container = installation.container
        self.container.clock = clock
        # the special farms of a world (tiny, outside every scene, …) have nothing to do with droughts
        self.farm_ids = tuple(farm.farm_id for farm in self.container.farms.list() if not farm.farm_id.startswith("S-"))
        self._acquired = frozenset(self.world.acquisition_days)

    @property
    def onset(self) -> date:
        """The last day it rained on the farm that dries out."""
        return self.world.options.start + timedelta(days=self.world.options.dry_from_day)

    @property
    def rain(self) -> date:
        """The day it rains again."""
        return self.onset + timedelta(days=self.world.options.dry_days)

    def live(self, day: date) -> None:
        """Look at a day's scene if there is one, tell the farms' states and evaluate the rules, all for this day."""
        if day in self._acquired:
            self._look(day)
        _exhaust(self.container.states.build_states(self.farm_ids, start=day, end=day))
        self.evaluate([day])

    def evaluate(self, days: Sequence[date]) -> None:
        """Evaluate the rules of every farm; alerts open and resolve by it."""
        _exhaust(self.container.alerts.evaluate(self.farm_ids, start=days[0], end=days[-1]))

    def _look(self, day: date) -> None:
        container = self.container
        request = ObserveRequest(
            provider="stac",
            collection=container.settings.stac_collection,
            indices=INDICES,
            farm_ids=self.farm_ids,
            days=(day,),
        )
        _exhaust(container.observing.observe(request, run_id=f"trial-{day}", progress=Silent()))
        _exhaust(container.assessing.fuse(self.farm_ids, INDICES, start=day, end=day))
        _exhaust(container.assessing.build_series(self.farm_ids, INDICES))
        _exhaust(container.seasons.build_seasons(self.farm_ids, INDICES))


def _exhaust(step: Iterable[object]) -> None:
    for _ in step:
        pass
