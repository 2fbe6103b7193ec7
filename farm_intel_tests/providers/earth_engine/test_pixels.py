"""Blocks from computePixels: right numbers, few requests, nothing made up where there is no data."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import numpy as np
import pytest

from farm_intel.domain.errors import SceneProblemError
from farm_intel.domain.observations import ObservationStatus
from farm_intel.domain.scenes import BandFile, Scene
from farm_intel.providers.collections import profile
from farm_intel.providers.earth_engine.pixels import earth_engine_block_readers
from farm_intel.simulation.landsat import LandsatGround, landsat_scenes
from farm_intel.simulation.modis import ModisGround, ModisScene
from farm_intel.simulation.scenes import SWATH_EDGE_AT
from farm_intel_tests.providers.earth_engine.support import LANDSAT, MODIS, REGISTRY, S2, Rig

pytestmark = pytest.mark.xdist_group("earth-engine")
SLUGS = ("ndvi", "evi", "savi", "ndmi")


def read_blocks(rig: Rig, scene: Scene, names: Sequence[str], blocks: list[tuple[int, int]]) -> dict[str, list[Any]]:
    """Read the same blocks of several bands, all at once as the engine does."""
    readers = earth_engine_block_readers(
        rig.session, profile("earth-engine", scene.collection), rig.guard, provider="earth_engine"
    )

    async def main() -> dict[str, list[Any]]:
        with ThreadPoolExecutor(1) as executor:
            async with readers(executor) as reader:
                bands = [await reader.open(scene.bands[name], scene_id=scene.scene_id) for name in names]
                found = await asyncio.gather(*(band.read(blocks) for band in bands))
        return dict(zip(names, found, strict=True))

    return asyncio.run(main())


def test_pure_fields_are_within_five_thousandths_of_the_truth(rig: Rig) -> None:
    days = rig.days(rig.world.acquisition_days[0], rig.world.acquisition_days[1])
    found = rig.run(rig.engine(), days, SLUGS)
    checked = 0

    for day, farm_id in sorted(found.observed()):
        if found.of((day, farm_id), "mixed").any():
            continue
        checked += 1
        for i, index in enumerate(REGISTRY.select(SLUGS)):
            truth = rig.world.true_index(farm_id, day, index)
            assert found.of((day, farm_id), "statistics")[i, 0] == pytest.approx(truth, abs=0.005), (
                farm_id,
                index.slug,
            )
    assert checked >= 12


def test_bands_on_one_grid_come_with_one_request(rig: Rig) -> None:
    day = rig.world.acquisition_days[0]
    scene = rig.search(day, day).scenes[0]
    rig.server.log.clear()

    found = read_blocks(rig, scene, ("red", "nir", "blue"), [(0, 0), (0, 1), (1, 0)])

    # blocks (0, 0) and (0, 1) are neighbours, (1, 0) stands alone
    assert len(rig.bodies(":computePixels")) == 2
    assert {name: len(blocks) for name, blocks in found.items()} == {"red": 3, "nir": 3, "blue": 3}


def test_blocks_hold_what_is_stored_and_are_padded_at_the_edge(rig: Rig) -> None:
    scene_plan = landsat_scenes(rig.world)[0]
    stored = LandsatGround(rig.world).render(scene_plan)
    (scene,) = rig.search(scene_plan.day, scene_plan.day, LANDSAT).scenes
    small = rig.with_options(block_px=100)
    height, width = stored.qa_pixel.shape
    blocks = [(r, c) for r in range(-(-height // 100)) for c in range(-(-width // 100))]

    found = read_blocks(small, scene, ("red", "swir22", "qa_pixel", "qa_radsat"), blocks)

    expected = {**stored.bands, "qa_pixel": stored.qa_pixel, "qa_radsat": stored.qa_radsat}
    for name, pieces in found.items():
        for (row, col), block in zip(blocks, pieces, strict=True):
            part = expected[name][row * 100 : row * 100 + 100, col * 100 : col * 100 + 100]
            assert block.shape == (100, 100)
            assert block.dtype == np.uint16
            np.testing.assert_array_equal(block[: part.shape[0], : part.shape[1]], part)


def test_modis_comes_on_its_own_grids_and_is_fill_where_nothing_is(rig: Rig) -> None:
    day = rig.world.options.start
    ground = ModisGround(rig.world)
    stored = ground.render(
        ModisScene(scene_id=f"MOD09GA.{day:%Y_%m_%d}", first=day, last=day, horizontal=0, vertical=0)
    )
    (scene,) = rig.search(day, day, MODIS).scenes
    fine = profile("earth-engine", MODIS)
    assert fine.mask.lookup()[0xFFFF] == 1, "what masked state pixels are written as must mean nodata"
    address = scene.bands["red"].href
    west = float(address.split("&x=")[1].split("&")[0])
    north = float(address.split("&y=")[1].split("&")[0])
    col = round((ground.grid.west_m - west) / ground.grid.pixel_m)
    row = round((north - ground.grid.north_m) / ground.grid.pixel_m)

    found = read_blocks(rig, scene, ("red", "nir08"), [(row // 256, col // 256), (0, 0)])

    top, left = row % 256, col % 256
    height, width = min(ground.grid.height_px, 256 - top), min(ground.grid.width_px, 256 - left)
    for name in ("red", "nir08"):
        near, far = found[name]
        np.testing.assert_array_equal(
            near[top : top + height, left : left + width], stored.bands[name][:height, :width]
        )
        assert (far == -28672).all()
        assert near.dtype == np.int16


def test_farms_beyond_the_swath_have_no_data_instead_of_zeros(rig: Rig) -> None:
    day = rig.world.acquisition_days[SWATH_EDGE_AT]
    east = f"{rig.world.tiles[1].name:0>5}"
    days = [
        type(d)(solar_day=d.solar_day, scenes=tuple(s for s in d.scenes if s.tile == east)) for d in rig.days(day, day)
    ]

    found = rig.run(rig.engine(), days, ("ndvi",))

    verdicts = [found.of(cell, "verdicts") for cell in found.places]
    unseen = [v for v in verdicts if v is not None and "no data" in v.reason]
    assert unseen
    assert {v.status for v in unseen} == {ObservationStatus.OUTSIDE_FOOTPRINT}


def test_what_is_too_much_at_once_is_asked_for_in_parts(rig: Rig) -> None:
    day = rig.world.acquisition_days[0]
    scene = rig.search(day, day).scenes[0]
    names, blocks = ("red", "nir"), [(0, 0), (0, 1)]
    whole = read_blocks(rig, scene, names, blocks)
    rig.emulator.memory_pixels = 256 * 256
    rig.server.log.clear()

    parts = read_blocks(rig, scene, names, blocks)

    for name in names:
        np.testing.assert_array_equal(parts[name], whole[name])
    # one run of two blocks fails, then each block with both bands, and each band of a block works
    assert [record.status for record in rig.server.log].count(400) == 2


def test_what_is_too_much_even_alone_is_the_scenes_problem(rig: Rig) -> None:
    day = rig.world.acquisition_days[0]
    scene = rig.search(day, day).scenes[0]
    rig.emulator.memory_pixels = 10

    with pytest.raises(SceneProblemError, match="memory limit"):
        read_blocks(rig, scene, ("red",), [(0, 0)])


def test_an_image_that_is_gone_is_the_scenes_problem(rig: Rig) -> None:
    day = rig.world.acquisition_days[0]
    scene = rig.search(day, day).scenes[0]
    band = scene.bands["red"]
    gone = BandFile(common_name="red", asset_key="B4", href=band.href.replace("T36MZD", "T36MZE"))

    readers = earth_engine_block_readers(rig.session, profile("earth-engine", S2), rig.guard, provider="earth_engine")

    async def main() -> None:
        with ThreadPoolExecutor(1) as executor:
            async with readers(executor) as reader:
                await (await reader.open(gone, scene_id="gone")).read([(0, 0)])

    with pytest.raises(SceneProblemError, match="not_found"):
        asyncio.run(main())


def test_requests_carry_a_workload_tag_and_the_images_own_grid(rig: Rig) -> None:
    day = rig.world.acquisition_days[0]
    scene = next(s for s in rig.search(day, day).scenes if s.tile == "37MAU")
    rig.server.log.clear()

    read_blocks(rig, scene, ("red",), [(1, 1)])

    (body,) = rig.bodies(":computePixels")
    grid = rig.world.tiles[1].grid
    assert body["workloadTag"] == "farm-intel-pixels-earth_engine-copernicus-s2_sr_harmonized"
    assert body["grid"]["crsCode"] == "EPSG:32737"
    assert body["grid"]["dimensions"] == {"width": 104, "height": 104}
    assert body["grid"]["affineTransform"]["translateX"] == grid.west_m + 2560.0
    assert body["grid"]["affineTransform"]["translateY"] == grid.north_m - 2560.0


def test_every_request_masks_by_a_fill_value(rig: Rig) -> None:
    days = rig.days(date(2026, 1, 4), date(2026, 1, 4))
    rig.server.log.clear()

    rig.run(rig.engine(), days, ("ndvi",))

    bodies = rig.bodies(":computePixels")
    assert bodies
    for body in bodies:
        text = json.dumps(body["expression"])
        assert text.count('"Image.unmask"') == text.count('"Image.select"')
