"""What a run would read, counted from headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyproj

from farm_intel.domain.batches import SceneDay
from farm_intel.domain.errors import SceneProblemError, TransientError
from farm_intel.domain.geo import PixelGrid
from farm_intel.domain.scenes import Scene
from farm_intel.engine.blocks import BandHeader, Block, Rows
from farm_intel.engine.candidates import DayCandidates, open_day
from farm_intel.engine.context import RunContext
from farm_intel.engine.opening import BandSlot, OpenScene
from farm_intel.engine.planning import Group
from farm_intel.engine.reading import SceneRead
from farm_intel.engine.reflectance import SceneRadiometry

_COMPRESSION = 1.6
"""Deflate with predictor on Sentinel-2 reflectance (reference measurements: 1.33 to 1.7)."""
_HEADER_BYTES = 32 * 1024
_ASSUMED_BLOCK_PX = 1024
_ASSUMED_TILE_M = 109_800.0


@dataclass(slots=True, kw_only=True)
class PlanSummary:
    """What reading would touch; bytes rest on an assumed compression."""

    days: int = 0
    scenes: int = 0
    """Home scenes that would be read."""
    farm_days: int = 0
    blocks: int = 0
    requests: int = 0
    """Headers, and one request per run of neighbouring blocks that is asked for together."""
    bytes_to_fetch: int = 0
    bytes_decoded: int = 0
    assumed_scenes: int = 0
    """Of these, scenes whose headers could not be read."""


@dataclass(frozen=True, slots=True)
class _AssumedBand:
    """A band whose header could not be read; has a header by assumption and no pixels."""

    header: BandHeader

    async def read(self, blocks: Sequence[tuple[int, int]], rows: Sequence[Rows] | None = None) -> list[Block]:
        """Refuse: an estimate has no pixels."""
        del rows
        raise LookupError(f"an assumed band has no pixels ({len(blocks)} blocks asked)")

    async def read_overview(self, max_edge_px: int) -> Block:
        """Refuse: an estimate has no pixels."""
        raise LookupError(f"an assumed band has no overview of {max_edge_px} px")


async def summarise_days(context: RunContext, days: Sequence[SceneDay]) -> PlanSummary:
    """Return the blocks, requests and bytes of the home scenes of all days; each tile's headers are read once."""
    total = PlanSummary()
    known: dict[str, OpenScene] = {}
    assumed: set[str] = set()

    async def open_once(scene: Scene) -> OpenScene:
        name = scene.tile or str(scene.bbox)
        if name not in known:
            try:
                known[name] = await context.open_scene(scene)
                total.requests += len(known[name].inputs) + 1
                total.bytes_to_fetch += _HEADER_BYTES * (len(known[name].inputs) + 1)
            except (SceneProblemError, TransientError):
                known[name] = _assume(context, scene)
                assumed.add(name)
        return known[name]

    for day in days:
        candidates = await open_day(day, context.inputs.geometries, open_once, context.cells_of)
        _add_day(total, context, candidates, assumed)
    return total


def _add_day(total: PlanSummary, context: RunContext, candidates: DayCandidates, assumed: set[str]) -> None:
    total.days += 1
    for number, tile in enumerate(candidates.tiles):
        farms = candidates.farms_at_home(number)
        if tile.home is None or tile.cells is None or not len(farms):
            continue
        total.scenes += 1
        total.assumed_scenes += tile.name in assumed
        total.farm_days += len(farms)
        read = context.read_job(tile.home, tile.cells)
        for group in context.groups(read, tile.cells.position[farms]):
            _add_group(total, read, group)


def _add_group(total: PlanSummary, read: SceneRead, group: Group) -> None:
    needs = read.needs(group)
    total.blocks += len(needs)
    size = sum(need.size for need in needs)
    total.bytes_decoded += size
    total.bytes_to_fetch += int(size / _COMPRESSION)
    keys = {need.key for need in needs}
    # a run of neighbours in a block row is one request
    total.requests += sum((job, band, row, col - 1) not in keys for job, band, row, col in keys)


def _assume(context: RunContext, scene: Scene) -> OpenScene:
    """Return a scene of the profile's resolution over the catalogue's box."""
    inputs = context.inputs
    pixel = inputs.profile.gsd_m
    edge = round(_ASSUMED_TILE_M / pixel)
    box = scene.bbox
    width_deg = (box.east - box.west) % 360
    longitude, latitude = box.west + width_deg / 2, (box.south + box.north) / 2
    zone = int((longitude + 180) // 6) % 60 + 1
    epsg = scene.epsg or (32600 if latitude >= 0 else 32700) + zone
    x, y = pyproj.Transformer.from_crs("EPSG:4326", f"EPSG:{epsg}", always_xy=True).transform(longitude, latitude)
    grid = PixelGrid(
        crs=f"EPSG:{epsg}",
        width_px=edge,
        height_px=edge,
        pixel_m=pixel,
        west_m=x - edge * pixel / 2,
        north_m=y + edge * pixel / 2,
    )
    header = BandHeader(
        grid=grid,
        block_height_px=_ASSUMED_BLOCK_PX,
        block_width_px=_ASSUMED_BLOCK_PX,
        dtype=np.dtype(np.uint16),
        nodata=None,
    )
    slot = BandSlot(band=_AssumedBand(header), header=header, ratio=1)
    return OpenScene(
        scene=scene,
        grid=grid,
        inputs=(slot,) * len(inputs.program.inputs),
        mask=slot,
        scalings=(),
        radiometry=SceneRadiometry(bands={}, flags=frozenset()),
        problems=(),
    )
