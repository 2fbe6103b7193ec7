"""Write a world as a static STAC catalogue of cloud-optimised GeoTIFFs, once and whole."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.transform import Affine

from farm_intel.domain.errors import BadRequestError
from farm_intel.domain.ports import Progress
from farm_intel.simulation import stac
from farm_intel.simulation.render import TileGround
from farm_intel.simulation.scenes import WorldScene, plan_scenes
from farm_intel.simulation.sensors import COLLECTIONS, SENTINEL_2, check_sensors, write_sensor
from farm_intel.simulation.world import FarmWorld, WorldOptions

WORLD_VERSION = "1"
"""Changes whenever equal options would write different bytes."""
BLOCK_PX = 256
"""Real tiles have 1024 px blocks on 10,980 px; 256 px on our 660 px keep about the same kind of layout: several whole
blocks a side and a padded last one."""
TRUNCATED_SHARE = 0.4
"""Where a truncated file ends: behind header and overviews (COG order), inside the full-resolution blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldFiles:
    """Where a written world lies."""

    folder: Path
    catalog: Path
    """`catalog.json`: what FARM_INTEL_STAC_URL should name."""
    farms: Path
    """`farms.geojson`."""
    truth: Path
    """`truth.json`: the options the world is rebuilt from, and each scene's dialect and defects."""


def write_world(
    world: FarmWorld,
    folder: Path,
    *,
    progress: Progress | None = None,
    sensors: tuple[str, ...] = (SENTINEL_2,),
) -> WorldFiles:
    """Write the world into `folder` and return its files; a world that is already there is left alone.

    The world is written beside the folder under a temporary name and renamed when complete, so a folder is a whole
    world or none.

    Args:
        world: what to write.
        folder: where; must not exist, or hold the same world.
        progress: told after each Sentinel-2 scene.
        sensors: `sentinel-2` and any of `landsat`, `modis`; those a world lacks are added to it.

    Raises:
        BadRequestError: the folder holds something else.
        UnknownNameError: a sensor is none of ours.

    """
    check_sensors(sensors)
    files = world_files(folder)
    if not _holds(files, world):
        _write_new(world, files, progress)
    _add_sensors(world, files, sensors)
    return files


def _write_new(world: FarmWorld, files: WorldFiles, progress: Progress | None) -> None:
    folder = files.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        _write(world, partial, progress)
        partial.chmod(0o755)
        partial.rename(folder)
    except OSError:
        # Somebody else may have finished the same world meanwhile; rename onto a non-empty folder then fails.
        if not _holds(files, world):
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _add_sensors(world: FarmWorld, files: WorldFiles, sensors: tuple[str, ...]) -> None:
    """Write the collections of sensors the world lacks, each whole or not at all, then link them."""
    for sensor in sensors:
        target = files.folder / COLLECTIONS[sensor]
        if target.exists():
            continue
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=files.folder))
        try:
            write_sensor(world, partial / target.name, sensor)
            (partial / target.name).rename(target)
        except OSError:
            if not target.exists():
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    present = tuple(c for c in COLLECTIONS.values() if (files.folder / c / "collection.json").exists())
    text = json.dumps(stac.catalog(present), indent=1) + "\n"
    if files.catalog.read_text() != text:
        replacement = files.folder / ".catalog.json.partial"
        replacement.write_text(text)
        replacement.replace(files.catalog)


def world_files(folder: Path) -> WorldFiles:
    """Return the paths of a world in `folder`, whether or not it is there."""
    return WorldFiles(
        folder=folder,
        catalog=folder / "catalog.json",
        farms=folder / "farms.geojson",
        truth=folder / "truth.json",
    )


def load_world(folder: Path) -> FarmWorld:
    """Return the world that was written into `folder`.

    Raises:
        BadRequestError: there is none, or another version wrote it.

    """
    return FarmWorld(WorldOptions.from_dict(_read_truth(world_files(folder))["options"]))


def _read_truth(files: WorldFiles) -> dict[str, Any]:
    try:
        truth = json.loads(files.truth.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadRequestError(
            f"{files.folder} holds no simulated world", hint="Run `farm-intel demo`, which builds it."
        ) from error
    if not isinstance(truth, dict) or truth.get("version") != WORLD_VERSION:
        raise BadRequestError(
            f"the world in {files.folder} was written by another version", hint="Delete the folder and build it again."
        )
    return truth


def _holds(files: WorldFiles, world: FarmWorld) -> bool:
    """Return True where the folder holds this world, False where nothing is there."""
    if not files.folder.exists() or not any(files.folder.iterdir()):
        return False
    if WorldOptions.from_dict(_read_truth(files)["options"]) != world.options:
        raise BadRequestError(
            f"{files.folder} holds a world with other options", hint="Choose another folder, or delete this one."
        )
    return True


def _write(world: FarmWorld, folder: Path, progress: Progress | None) -> None:
    scenes = plan_scenes(world)
    grounds = {tile.name: TileGround(world, tile) for tile in world.tiles}
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        jobs = pool.map(lambda scene: _write_scene(grounds[scene.tile.name], scene, folder), scenes)
        for done, scene in enumerate(jobs, 1):
            if progress is not None:
                progress.advance(done, len(scenes), scene.scene_id)
    _dump(folder / stac.COLLECTION_ID / "collection.json", stac.collection(world, scenes))
    _dump(folder / "catalog.json", stac.catalog())
    _dump(folder / "farms.geojson", stac.farms_geojson(world))
    _dump(folder / "truth.json", _truth(world, scenes))


def _truth(world: FarmWorld, scenes: tuple[WorldScene, ...]) -> Mapping[str, object]:
    return {
        "version": WORLD_VERSION,
        "options": world.options.as_dict(),
        "scenes": {
            scene.scene_id: {
                "day": scene.day.isoformat(),
                "tile": scene.tile.name,
                "dialect": scene.dialect.value,
                "baseline": scene.baseline,
                "swath_edge": scene.swath_edge,
                "truncated_band": scene.truncated_band,
                "artefact": scene.artefact,
            }
            for scene in scenes
        },
        "farms": {
            farm.farm_id: {"size_class_ha": farm.size_class_ha, "even": farm.even, "inside_world": farm.inside_world}
            for farm in world.farms
        },
    }


def _write_scene(ground: TileGround, scene: WorldScene, folder: Path) -> WorldScene:
    item_folder = folder / stac.COLLECTION_ID / scene.scene_id
    item_folder.mkdir(parents=True)
    rendered = ground.render(scene)
    _write_cog(item_folder / "SCL.tif", rendered.classes, scene, gsd_m=20, resampling="mode")
    for band, numbers in rendered.bands():
        path = item_folder / f"{band.number}.tif"
        _write_cog(path, numbers, scene, gsd_m=band.gsd_m, resampling="average")
        if band.common_name == scene.truncated_band:
            os.truncate(path, int(path.stat().st_size * TRUNCATED_SHARE))
    _dump(item_folder / f"{scene.scene_id}.json", stac.scene_item(ground.world, scene, rendered.classes))
    return scene


def _write_cog(path: Path, values: npt.NDArray[np.generic], scene: WorldScene, *, gsd_m: int, resampling: str) -> None:
    grid = scene.tile.grid
    with rasterio.open(
        path,
        "w",
        driver="COG",
        dtype=values.dtype,
        count=1,
        height=values.shape[0],
        width=values.shape[1],
        crs=grid.crs,
        transform=Affine(gsd_m, 0.0, grid.west_m, 0.0, -gsd_m, grid.north_m),
        nodata=0,
        compress="DEFLATE",
        predictor=2,
        blocksize=BLOCK_PX,
        overview_resampling=resampling,
    ) as target:
        target.write(values, 1)


def _dump(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")
