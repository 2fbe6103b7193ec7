"""Blocks through the Process API against the scenes the world rendered."""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import numpy as np
import pytest
import tifffile

from farm_intel.domain.errors import TransientError
from farm_intel.domain.scenes import Scene
from farm_intel.engine.reflectance import resolve_radiometry
from farm_intel.providers.sentinel_hub.blocks import block_edge_px, decode_pixels, sentinel_hub_block_readers
from farm_intel.providers.sentinel_hub.tiles import parse_reference
from farm_intel.simulation.render import TileGround
from farm_intel.simulation.scenes import plan_scenes
from farm_intel_tests.providers.sentinel_hub.conftest import PROFILE, Hub, guard

Wanted = list[tuple[str, list[tuple[int, int]]]]


def read(hub: Hub, scene: Scene, wanted: Wanted, **options: object) -> tuple[list[list[np.ndarray]], int]:
    """Open all bands first, as the engine does, then read them one after the other; return blocks and requests."""

    async def run() -> list[list[np.ndarray]]:
        with ThreadPoolExecutor(1) as pool:
            async with sentinel_hub_block_readers(hub.options(**options), PROFILE, guard())(pool) as reader:
                bands = {name: await reader.open(scene.bands[name], scene_id=scene.scene_id) for name, _ in wanted}
                return [await bands[name].read(blocks) for name, blocks in wanted]

    before = hub.count("/process")
    blocks = asyncio.run(run())
    return blocks, hub.count("/process") - before


def truth(hub: Hub, scene: Scene) -> dict[str, np.ndarray]:
    """Return ESA's digital numbers of a scene by common name: rendered here, apart from the emulator."""
    planned = next(
        item
        for item in reversed(plan_scenes(hub.world))
        if item.tile.name == scene.tile and item.acquired_at.replace(microsecond=0) == scene.acquired_at
    )
    rendered = TileGround(hub.world, planned.tile).render(planned)
    shift = (1000 if planned.baseline >= "04.00" else 0) - (1000 if planned.dialect.offset_in_pixels else 0)
    numbers: dict[str, np.ndarray] = {"scl": rendered.classes.astype(np.int64)}
    for band, values in rendered.bands():
        numbers[band.common_name] = np.where(values == 0, 0, np.maximum(values.astype(np.int64) + shift, 1))
    return numbers


def test_one_request_brings_all_bands_and_the_mask(hub: Hub) -> None:
    """Every pixel is the satellite's, at 10 m and 20 m, on the scale of today's products."""
    for scene in (hub.scenes()[0], hub.scenes()[1]):
        names = ["red", "nir", "swir16", "nir08", "scl"]
        blocks, requests = read(hub, scene, [(name, [(0, 0)]) for name in names], block_px=300)
        expected = truth(hub, scene)

        # one at 10 m with the mask, one at 20 m
        assert requests == 2
        for name, (block,) in zip(names, blocks, strict=True):
            np.testing.assert_array_equal(block, expected[name], err_msg=name)


def test_blocks_tile_the_scene_without_seams(hub: Hub) -> None:
    """Blocks of 120 px put together are the whole band; the last ones are padded with nodata."""
    scene = hub.scenes()[0]
    places = [(row, col) for row in range(3) for col in range(3)]
    (red, scl), requests = read(hub, scene, [("red", places), ("scl", places)], block_px=120)
    expected = truth(hub, scene)
    whole = np.block([[red[row * 3 + col] for col in range(3)] for row in range(3)])
    classes = np.block([[scl[row * 3 + col] for col in range(3)] for row in range(3)])

    assert requests == 9
    assert red[0].shape == (120, 120)
    assert scl[0].shape == (60, 60)
    np.testing.assert_array_equal(whole[:300, :300], expected["red"])
    np.testing.assert_array_equal(classes[:150, :150], expected["scl"])
    assert not whole[300:].any()


def test_a_mask_alone_is_asked_for_at_its_own_resolution(hub: Hub) -> None:
    scene = hub.scenes()[0]
    ((scl,),), requests = read(hub, scene, [("scl", [(0, 0)])], block_px=300)

    assert requests == 1
    np.testing.assert_array_equal(scl, truth(hub, scene)["scl"])


def test_asking_twice_begins_a_new_round(hub: Hub) -> None:
    """A second read of a block is a second request, again for all bands at once."""
    scene = hub.scenes()[0]
    order: Wanted = [("red", [(0, 0)]), ("nir", [(0, 0)]), ("red", [(0, 0)]), ("nir", [(0, 0)])]
    blocks, requests = read(hub, scene, order, block_px=300)

    assert requests == 2
    np.testing.assert_array_equal(blocks[0][0], blocks[2][0])
    np.testing.assert_array_equal(blocks[1][0], blocks[3][0])


def test_what_does_not_fit_the_cache_is_asked_for_again(hub: Hub) -> None:
    """With no room for waiting pixels the numbers are the same, only the requests are more."""
    scene = hub.scenes()[0]
    places = [(row, col) for row in range(3) for col in range(3)]
    (red, nir), requests = read(hub, scene, [("red", places), ("nir", places)], block_px=120, cache_mib=0)
    expected = truth(hub, scene)

    assert requests > 9
    np.testing.assert_array_equal(red[4], expected["red"][120:240, 120:240])
    np.testing.assert_array_equal(nir[4], expected["nir"][120:240, 120:240])


def test_sixty_metre_bands_have_blocks_of_their_own(hub: Hub) -> None:
    scene = hub.scenes()[0]
    blocks, requests = read(hub, scene, [("coastal", [(0, 0)]), ("red", [(0, 0)])], block_px=256)
    expected = truth(hub, scene)

    assert requests == 2
    np.testing.assert_array_equal(blocks[0][0][:50, :50], expected["coastal"])
    np.testing.assert_array_equal(blocks[1][0], expected["red"][:256, :256])
    assert [block_edge_px(256, pixel) for pixel in (10.0, 20.0, 60.0)] == [256, 128, 256]


def test_outside_the_swath_there_is_no_data(hub: Hub) -> None:
    """Where neither tile sees, digital numbers are 0, which is nodata; where the sky is clear, nothing is."""
    scene = next(scene for scene in hub.scenes() if scene.acquired_at.day == 24 and scene.tile == "37MAU")
    whole = next(scene for scene in hub.scenes() if scene.acquired_at.day == 4 and scene.tile == "37MAU")
    ((edge,),), _ = read(hub, scene, [("red", [(0, 0)])], block_px=300)
    ((full,),), _ = read(hub, whole, [("red", [(0, 0)])], block_px=300)

    assert (full > 0).all()
    assert (edge == 0).any()
    assert (edge > 0).any()


def test_what_a_neighbouring_tile_fills_in_keeps_its_own_offset(hub: Hub) -> None:
    """A scene of baseline 03.01 at a swath's edge; behind it the other tile's, of 05.11, in the same answer."""
    scene = next(scene for scene in hub.scenes() if scene.acquired_at.day == 24 and scene.tile == "37MAU")
    other = next(scene for scene in hub.scenes() if scene.acquired_at.day == 24 and scene.tile == "36MZD")
    assert (scene.processing_baseline, other.processing_baseline) == ("03.01", "05.11")
    rule = resolve_radiometry(PROFILE, scene, scene.bands["red"])
    ((numbers,),), _ = read(hub, scene, [("red", [(0, 0)])], block_px=300)
    grid, tile = parse_reference(scene.bands["red"].href, scene.scene_id).grid, hub.world.tiles[1].grid
    top, left = round((tile.north_m - grid.north_m) / 10.0), round((grid.west_m - tile.west_m) / 10.0)
    own = truth(hub, scene)["red"][top : top + grid.height_px, left : left + grid.width_px] > 0
    numbers = numbers[: grid.height_px, : grid.width_px]
    x, y = np.meshgrid(
        grid.west_m + 10.0 * (np.arange(grid.width_px) + 0.5), grid.north_m - 10.0 * (np.arange(grid.height_px) + 0.5)
    )
    seen = hub.world.reflectance(x, y, date(2026, 1, 24), int(grid.crs.removeprefix("EPSG:")))["red"]
    off = np.abs(numbers * rule.scale + rule.offset - seen)

    for part in (own, ~own & (numbers > 0)):
        assert part.sum() > 1000
        assert np.median(off[part]) < 0.003
        assert np.percentile(off[part], 90) < 0.02


def test_an_overview_is_the_band_thinned_out(hub: Hub) -> None:
    scene = hub.scenes()[0]

    async def run() -> np.ndarray:
        with ThreadPoolExecutor(1) as pool:
            async with sentinel_hub_block_readers(hub.options(), PROFILE, guard())(pool) as reader:
                band = await reader.open(scene.bands["blue"], scene_id=scene.scene_id)
                return await band.read_overview(100)

    overview = asyncio.run(run())

    assert overview.shape == (100, 100)
    np.testing.assert_array_equal(overview, truth(hub, scene)["blue"][1::3, 1::3])


def tiff(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="minisblack", planarconfig="contig", compression="zlib")
    return buffer.getvalue()


def test_damaged_images_are_asked_for_again_never_used() -> None:
    """Cut at every tenth of its length, of another size, of another type, empty, or no image at all."""
    good = np.random.default_rng(1).integers(1, 5000, (64, 48, 3)).astype(np.uint16)
    content = tiff(good)
    np.testing.assert_array_equal(decode_pixels(content, (3, 64, 48), "x"), np.moveaxis(good, -1, 0))
    bad = [content[: len(content) * part // 10] for part in range(10)]
    bad += [b"<html>", b'{"error": 1}', tiff(good[:32]), tiff(good.astype(np.float32)), tiff(good[..., :2])]
    for damaged in bad:
        with pytest.raises(TransientError, match="unusable"):
            decode_pixels(damaged, (3, 64, 48), "x")
