"""Collects results of one solar day into batches of many farms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
import numpy.typing as npt

from farm_intel.domain.batches import FarmDayBatch, FarmShape, Verdict
from farm_intel.domain.observations import Flag
from farm_intel.domain.scenes import SceneProblem
from farm_intel.engine.zonal import ZonalResult, empty_result


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a farm's numbers come from; shared by all farms of a scene that went the plain way."""

    scene_ids: tuple[str, ...] = ()
    acquired_at: datetime | None = None
    flags: frozenset[Flag] = frozenset()
    radiometry: str = ""
    retry: str = ""
    """Why reading again may give a better number: a scene that could not be read for now."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DayPart:
    """Results of some farms of a day."""

    farms: npt.NDArray[np.int64]
    """Positions in the run's list of farms."""
    result: ZonalResult
    provenance: Sequence[Provenance]
    verdicts: Sequence[Verdict | None]
    gsd_m: tuple[float, ...]
    """Per index, metres."""


def verdict_part(
    farms: Sequence[int], verdicts: Sequence[Verdict], provenance: Sequence[Provenance], gsd_m: tuple[float, ...]
) -> DayPart:
    """Return results of farms that have none."""
    return DayPart(
        farms=np.array(farms, np.int64),
        result=empty_result(len(farms), len(gsd_m)),
        provenance=provenance,
        verdicts=verdicts,
        gsd_m=gsd_m,
    )


@dataclass(slots=True, kw_only=True, eq=False)
class DayEmitter:
    """Hands on every farm of a day exactly once, in batches of `batch_farms` or a little more."""

    day: date
    farms: Sequence[FarmShape]
    slugs: tuple[str, ...]
    batch_farms: int
    send: Callable[[FarmDayBatch], Awaitable[None]]
    problems: list[SceneProblem] = field(default_factory=list)
    """Of the day; each is told once, in the next batch."""
    _parts: list[DayPart] = field(default_factory=list)
    _waiting: int = 0
    _sent: int = 0

    async def add(self, part: DayPart) -> None:
        """Take results; sends a batch when there are enough."""
        if self._parts and self._parts[0].gsd_m != part.gsd_m:
            await self.flush()
        self._parts.append(part)
        self._waiting += len(part.farms)
        # the last farms wait for `flush`, so that problems found late still have a batch to travel in
        if self._waiting >= self.batch_farms and self._sent + self._waiting < len(self.farms):
            await self.flush()

    async def flush(self) -> None:
        """Send what is there."""
        parts, self._parts = self._parts, []
        problems, self.problems = tuple(dict.fromkeys(self.problems)), []
        if not parts:
            return
        self._sent += self._waiting
        self._waiting = 0
        await self.send(_batch(self.day, self.farms, self.slugs, parts, problems))


def _batch(
    day: date,
    farms: Sequence[FarmShape],
    slugs: tuple[str, ...],
    parts: Sequence[DayPart],
    problems: tuple[SceneProblem, ...],
) -> FarmDayBatch:
    places = np.concatenate([part.farms for part in parts]).tolist()
    sources = [source for part in parts for source in part.provenance]
    results = [part.result for part in parts]
    counts = np.concatenate([result.counts for result in results])
    return FarmDayBatch(
        solar_day=day,
        farm_ids=tuple(farms[place].farm_id for place in places),
        indices=slugs,
        gsd_m=np.array(parts[0].gsd_m, np.float32),
        statistics=np.concatenate([result.statistics for result in results]),
        pixel_count=np.ascontiguousarray(counts[:, :, 0]),
        valid_pixel_count=np.ascontiguousarray(counts[:, :, 1]),
        used_pixel_count=np.ascontiguousarray(counts[:, :, 2]),
        n_effective=np.concatenate([result.n_effective for result in results]),
        used_area_px=np.concatenate([result.used_area_px for result in results]),
        mixed=np.concatenate([result.mixed for result in results]),
        reason_fractions=np.concatenate([result.fractions for result in results]),
        clips=tuple(clip for result in results for clip in result.clips),
        scene_ids=tuple(source.scene_ids for source in sources),
        acquired_at=tuple(source.acquired_at for source in sources),
        flags=tuple(source.flags for source in sources),
        radiometry=tuple(source.radiometry for source in sources),
        verdicts=tuple(verdict for part in parts for verdict in part.verdicts),
        problems=problems,
        retry_reasons=tuple(source.retry for source in sources) if any(source.retry for source in sources) else (),
    )
