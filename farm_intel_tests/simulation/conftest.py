"""One small world for all tests of this area: nine acquisitions, so that every special scene occurs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from farm_intel.simulation.catalogue import WorldFiles, write_world
from farm_intel.simulation.world import FarmWorld, WorldOptions

SMALL = WorldOptions(seed=7, start=date(2026, 1, 4), days=41, farms=14, tile_px=360)


class Contrast:
    """A made-up, strongly non-linear index, so that the mean of it differs from it of the mean."""

    slug = "contrast"

    def evaluate(self, bands: Mapping[str, npt.NDArray[np.floating]], /) -> npt.NDArray[np.floating]:
        return (bands["nir"] - bands["red"]) / (bands["nir"] + bands["red"]) + 3.0 * bands["swir16"] ** 2


class Lookup:
    def get(self, slug: str, /) -> Contrast:
        return Contrast()


@pytest.fixture(scope="session")
def world() -> FarmWorld:
    return FarmWorld(SMALL)


@pytest.fixture(scope="session")
def files(world: FarmWorld, tmp_path_factory: pytest.TempPathFactory) -> WorldFiles:
    return write_world(world, tmp_path_factory.mktemp("worlds") / "small")


def scene_folder(files: WorldFiles, scene_id: str) -> Path:
    return files.folder / "sentinel-2-l2a" / scene_id
