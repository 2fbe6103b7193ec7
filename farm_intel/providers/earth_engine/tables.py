"""From the rows Earth Engine answers to batches of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from farm_intel.domain.batches import FarmDayBatch, Verdict
from farm_intel.domain.observations import STATISTICS, Flag, ObservationStatus
from farm_intel.domain.products import REASON_COUNT, PixelReason
from farm_intel.domain.scenes import Scene, SceneProblem
from farm_intel.engine.grid import FarmCells
from farm_intel.engine.opening import OpenScene
from farm_intel.engine.zonal import ZonalResult, empty_result

Row = Mapping[str, Any]
"""Properties of one feature; what has no value is absent."""

_NAMES = {"std": "stdDev"}
"""Our statistic -> Earth Engine's output, where they differ."""
_NOTHING = 1e-6
_PARTS = 255.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Farms of one day that are asked for together."""

    day: date
    farms: tuple[int, ...]
    """Positions in the run's list of farms."""
    farm_ids: tuple[str, ...]
    indices: tuple[str, ...]
    gsd_m: tuple[float, ...]
    min_pure_pixels: int
    home: OpenScene | None = None
    cells: FarmCells | None = None
    scenes: tuple[Scene, ...] = ()
    """Home first."""
    ratios: tuple[int, ...] = ()
    """Per index, edge of its coarsest input in base pixels."""

    def at_home(self, home: OpenScene, cells: FarmCells, scenes: tuple[Scene, ...], ratios: tuple[int, ...]) -> Chunk:
        """Return the chunk over a home scene."""
        return replace(self, home=home, cells=cells, scenes=scenes, ratios=ratios)

    def part(self, places: Sequence[int]) -> Chunk:
        """Return some of the farms."""
        return replace(
            self,
            farms=tuple(self.farms[place] for place in places),
            farm_ids=tuple(self.farm_ids[place] for place in places),
        )


def batch_of_rows(chunk: Chunk, rows: Mapping[tuple[int, int], Row]) -> FarmDayBatch:
    """Return the results of a chunk.

    Args:
        chunk: over a home scene.
        rows: by (farm of the chunk, ratio); ratio 0 is the whole boundary.

    """
    result = empty_result(len(chunk.farms), len(chunk.indices))
    verdicts: list[Verdict | None] = []
    names = ", ".join(scene.scene_id for scene in chunk.scenes)
    for place in range(len(chunk.farms)):
        _Farm(chunk, place, rows).fill(result)
        verdicts.append(_verdict(result.fractions[place], rows.get((place, 0), {}), names))
    for place, verdict in enumerate(verdicts):
        if verdict is not None:
            result.fractions[place] = 0.0
            result.counts[place] = 0
    filled = [_filled_share(rows.get((place, 0), {})) for place in range(len(chunk.farms))]
    return _batch(chunk, result, verdicts, filled)


def _verdict(fractions: npt.NDArray[np.float64], row: Row, names: str) -> Verdict | None:
    """Return why a farm has nothing to judge, None where it has."""
    if row and not any(name.startswith("m") and name[1:].isdigit() for name in row):
        reason = f"the farm covers no pixel of {names} by more than 1/256: nothing was counted"
        return Verdict(status=ObservationStatus.TOO_FEW_PIXELS, reason=reason)
    if fractions[:, PixelReason.NODATA].min() >= 1.0 - _NOTHING:
        return Verdict(status=ObservationStatus.OUTSIDE_FOOTPRINT, reason=f"no data over the farm in {names}")
    return None


def seen_elsewhere(row: Row) -> bool:
    """Return whether the home tile shows nothing of a farm, and another one does."""
    return "home" in row and float(row["home"] or 0.0) <= _NOTHING < _filled_share(row)


def failed_batch(chunk: Chunk, problem: SceneProblem, *, transient: bool) -> FarmDayBatch:
    """Return a chunk that could not be computed."""
    verdict = Verdict(status=ObservationStatus.PROVIDER_FAILED, reason=str(problem), transient=transient)
    return _empty(chunk, verdict, (problem,))


def outside_batch(chunk: Chunk, reason: str) -> FarmDayBatch:
    """Return farms that no image shows."""
    return _empty(chunk, Verdict(status=ObservationStatus.OUTSIDE_FOOTPRINT, reason=reason), ())


def _empty(chunk: Chunk, verdict: Verdict, problems: tuple[SceneProblem, ...]) -> FarmDayBatch:
    count = len(chunk.farms)
    result = empty_result(count, len(chunk.indices))
    return replace(_batch(chunk, result, [verdict] * count, [0.0] * count), problems=problems)


def _batch(
    chunk: Chunk, result: ZonalResult, verdicts: Sequence[Verdict | None], filled: Sequence[float]
) -> FarmDayBatch:
    count = len(chunk.farms)
    home = chunk.home
    merged = [share > _NOTHING for share in filled]
    return FarmDayBatch(
        solar_day=chunk.day,
        farm_ids=chunk.farm_ids,
        indices=chunk.indices,
        gsd_m=np.array(chunk.gsd_m, np.float32),
        statistics=result.statistics,
        pixel_count=np.ascontiguousarray(result.counts[:, :, 0]),
        valid_pixel_count=np.ascontiguousarray(result.counts[:, :, 1]),
        used_pixel_count=np.ascontiguousarray(result.counts[:, :, 2]),
        n_effective=result.n_effective,
        used_area_px=result.used_area_px,
        mixed=result.mixed,
        reason_fractions=result.fractions,
        clips=(None,) * count,
        scene_ids=tuple(_scene_ids(chunk, flag) for flag in merged),
        acquired_at=(home.scene.acquired_at if home is not None else None,) * count,
        flags=tuple(_flags(chunk, flag) for flag in merged),
        radiometry=(home.radiometry.rule if home is not None else "",) * count,
        verdicts=tuple(verdicts),
    )


def _scene_ids(chunk: Chunk, merged: bool) -> tuple[str, ...]:  # noqa: FBT001 - per farm, in a comprehension
    if not chunk.scenes:
        return ()
    return tuple(scene.scene_id for scene in chunk.scenes) if merged else (chunk.scenes[0].scene_id,)


def _flags(chunk: Chunk, merged: bool) -> frozenset[Flag]:  # noqa: FBT001 - per farm, in a comprehension
    flags = {Flag.PROVIDER_STATISTICS}
    if merged:
        flags.add(Flag.MERGED_TILES)
        if len({scene.epsg for scene in chunk.scenes}) > 1:
            flags.add(Flag.REPROJECTED)
    return frozenset(flags)


def _filled_share(row: Row) -> float:
    """Return the share of the farm that other scenes than the home scene show."""
    if "home" not in row:
        return 0.0
    unseen = float(row.get(f"m{int(PixelReason.NODATA)}", 0.0))
    return max(0.0, 1.0 - unseen - float(row["home"]))


class _Farm:
    """One farm's rows."""

    def __init__(self, chunk: Chunk, place: int, rows: Mapping[tuple[int, int], Row]) -> None:
        self._chunk = chunk
        self._place = place
        self._rows = rows
        self._whole = rows.get((place, 0), {})
        values = {name.split("_")[0] for name in self._whole if name.startswith("v") and "_" in name}
        # a single band is not named in its properties
        self._one_value = not values

    def fill(self, result: ZonalResult) -> None:
        """Write everything about the farm."""
        cells = self._chunk.cells
        if cells is None:
            return
        area = int(cells.position[self._chunk.farms[self._place]])
        weights = cells.coverage[int(cells.ptr[area]) : int(cells.ptr[area + 1])].astype(np.float64) / _PARTS
        for i, ratio in enumerate(self._chunk.ratios):
            self._fill_index(i, ratio, weights, result)

    def _fill_index(self, i: int, ratio: int, weights: npt.NDArray[np.float64], result: ZonalResult) -> None:
        place, ratio2 = self._place, ratio * ratio
        shares = self._shares(i)
        valid = float(shares[PixelReason.VALID])
        result.fractions[place, i] = shares
        touched = int(np.ceil(len(weights) / ratio2))
        result.counts[place, i, 0] = touched
        pure_row = self._rows.get((place, ratio), {})
        alone = self._chunk_alone(ratio)
        pure = float(self._value(pure_row, i, "count", alone=alone) or 0.0)
        if pure >= max(1.0, self._chunk.min_pure_pixels * ratio2):
            self._write(result, i, (pure_row, alone))
            used = int(np.ceil(pure / ratio2))
            result.counts[place, i, 1:] = max(used, min(touched, round(valid * touched))), used
            result.n_effective[place, i] = result.used_area_px[place, i] = pure / ratio2
        elif self._write(result, i, (self._whole, self._one_value)):
            count = max(1, min(touched, round(valid * touched)))
            result.counts[place, i, 1:] = count
            result.mixed[place, i] = True
            result.n_effective[place, i] = valid * weights.sum() ** 2 / (weights**2).sum() / ratio2
            result.used_area_px[place, i] = valid * weights.sum() / ratio2

    def _chunk_alone(self, ratio: int) -> bool:
        """Return whether the row of a ratio holds one index only, which Earth Engine then does not name."""
        row = self._rows.get((self._place, ratio), {})
        return "mean" in row or not any(name.startswith("v") for name in row)

    @staticmethod
    def _value(row: Row, i: int, output: str, *, alone: bool) -> float | None:
        found = row.get(output if alone else f"v{i}_{output}")
        return None if found is None else float(found)

    def _write(self, result: ZonalResult, i: int, source: tuple[Row, bool]) -> bool:
        """Write the nine statistics; False where there are none.

        Of a farm that holds no pixel's centre Earth Engine knows the weighted mean and spread, and nothing to rank:
        its mean then stands for extremes and percentiles too. Such farms always carry the mixed-pixels flag.
        """
        row, alone = source
        values = {name: self._value(row, i, _NAMES.get(name, name), alone=alone) for name in STATISTICS}
        mean, spread = values["mean"], values["std"]
        if mean is None or spread is None:
            return False
        result.statistics[self._place, i] = [mean if value is None else value for value in values.values()]
        return True

    def _shares(self, i: int) -> npt.NDArray[np.float64]:
        """Return (R,) shares of the farm's area by reason; they sum to 1."""
        shares = np.zeros(REASON_COUNT)
        if f"n{i}" not in self._whole:
            shares[PixelReason.NODATA] = 1.0
            return shares
        for reason in PixelReason:
            shares[reason] = float(self._whole.get(f"m{int(reason)}") or 0.0)
        shares[PixelReason.NODATA] += float(self._whole.get(f"n{i}") or 0.0)
        shares[PixelReason.REFLECTANCE_OUT_OF_RANGE] += float(self._whole.get(f"x{i}") or 0.0)
        shares[PixelReason.INDEX_OUT_OF_RANGE] += float(self._whole.get(f"y{i}") or 0.0)
        shares[PixelReason.VALID] = 0.0
        shares[PixelReason.VALID] = max(0.0, 1.0 - shares.sum())
        return shares
