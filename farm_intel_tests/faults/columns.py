"""The providers of the fault matrix: which emulator stands for each, where it can be struck, who stands in for it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from farm_intel.simulation.catalogue import WorldFiles, write_world
from farm_intel.simulation.emulators.data_faults import DataFaults
from farm_intel.simulation.emulators.fleet import EARTH_ENGINE, SENTINEL_HUB, STAC, Fleet
from farm_intel.simulation.emulators.hosting import AsgiApp, EmulatorServer
from farm_intel.simulation.world import FarmWorld, WorldOptions

WORLD = WorldOptions(seed=7, start=date(2026, 1, 4), days=17, farms=14, tile_px=360, cloudiness=0.0)
WIDE = "WIDE"
"""A farm of six by six MODIS pixels; the world's own are too small for any."""
_WIDE_EDGE = 0.027
"""Degrees: 3 km, which the world's tiles of 3.6 km just hold."""

SEARCH, TOKEN, PIXELS, STATISTICS = "search", "token", "pixels", "statistics"
"""What a request is for; the same fault means different things at each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One provider with one capability."""

    name: str
    provider: str
    emulator: str
    """`stac`, `planetary`, `sentinel_hub` or `earth_engine`."""
    places: Mapping[str, str]
    """What a request is for -> regular expression of its paths."""
    farms: tuple[str, ...]
    days: tuple[date, ...]
    stand_in: str
    """Provider asked when this one fails."""
    stand_in_emulator: str
    settings: Mapping[str, str] = field(default_factory=dict)


_S2_DAYS = (date(2026, 1, 4), date(2026, 1, 9))
_FIELDS = ("F004", "F005")
_HUB_TOKEN = {TOKEN: r"/token$", SEARCH: r"/catalog/"}
_ENGINE = {SEARCH: r":listAssets$|/assets/"}
_PLANETARY = {TOKEN: r"^/sas/", SEARCH: r"^/search", PIXELS: r"blob\.core"}

COLUMNS: tuple[Column, ...] = (
    Column(
        name="stac",
        provider="stac",
        emulator=STAC,
        places={SEARCH: r"^/search", PIXELS: r"^/data/"},
        farms=_FIELDS,
        days=_S2_DAYS,
        stand_in="earth_engine",
        stand_in_emulator=EARTH_ENGINE,
    ),
    Column(
        name="landsat",
        provider="landsat",
        emulator="planetary",
        places=_PLANETARY,
        farms=_FIELDS,
        days=(date(2026, 1, 7), date(2026, 1, 15)),
        stand_in="earth_engine_landsat",
        stand_in_emulator=EARTH_ENGINE,
    ),
    Column(
        name="modis",
        provider="modis",
        emulator="planetary",
        places=_PLANETARY,
        farms=(WIDE,),
        days=(date(2026, 1, 9), date(2026, 1, 17)),
        stand_in="earth_engine_modis",
        stand_in_emulator=EARTH_ENGINE,
    ),
    Column(
        name="sentinel_hub",
        provider="sentinel_hub",
        emulator=SENTINEL_HUB,
        places={**_HUB_TOKEN, PIXELS: r"/process$"},
        farms=_FIELDS[1:],  # the emulator runs the evalscript over a whole block, which takes its time
        days=_S2_DAYS,
        stand_in="stac",
        stand_in_emulator=STAC,
    ),
    Column(
        name="sentinel_hub tables",
        provider="sentinel_hub",
        emulator=SENTINEL_HUB,
        places={**_HUB_TOKEN, STATISTICS: r"/statistics$"},
        farms=_FIELDS,
        days=_S2_DAYS,
        stand_in="stac",
        stand_in_emulator=STAC,
        settings={"sentinel_hub_capability": "statistics"},
    ),
    Column(
        name="earth_engine",
        provider="earth_engine",
        emulator=EARTH_ENGINE,
        places={**_ENGINE, PIXELS: r":computePixels$"},
        farms=_FIELDS,
        days=_S2_DAYS,
        stand_in="stac",
        stand_in_emulator=STAC,
    ),
    Column(
        name="earth_engine tables",
        provider="earth_engine",
        emulator=EARTH_ENGINE,
        places={**_ENGINE, STATISTICS: r":computeFeatures$"},
        farms=_FIELDS,
        days=_S2_DAYS,
        stand_in="stac",
        stand_in_emulator=STAC,
        settings={"earth_engine_capability": "statistics"},
    ),
)


def column(name: str) -> Column:
    """Return a column by its name."""
    return next(found for found in COLUMNS if found.name == name)


def write_small_world(folder: Path) -> WorldFiles:
    """Write the world of the matrix, with one wide farm beside its own; some seconds, once per folder."""
    files = write_world(FarmWorld(WORLD), folder, sensors=("sentinel-2", "landsat", "modis"))
    document = json.loads(files.farms.read_text())
    if any(feature["properties"].get("id") == WIDE for feature in document["features"]):
        return files
    document["features"].append(_wide_farm(document["features"]))
    whole = files.farms.with_suffix(".partial")
    whole.write_text(json.dumps(document))
    whole.replace(files.farms)
    return files


def _wide_farm(features: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a square about the middle of the ordinary farms."""
    points = [
        feature["geometry"]["coordinates"][0][0]
        for feature in features
        if feature["geometry"]["type"] == "Polygon" and str(feature["properties"].get("id", "")).startswith("F")
    ]
    x, y = (sum(point[axis] for point in points) / len(points) for axis in (0, 1))
    half = _WIDE_EDGE / 2
    ring = [[x - half, y - half], [x + half, y - half], [x + half, y + half], [x - half, y + half]]
    pattern = next(f for f in features if str(f["properties"].get("id", "")).startswith("F"))
    return {
        "type": "Feature",
        "properties": {**pattern["properties"], "id": WIDE, "name": WIDE},
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
    }


def emulator_app(
    emulator: str, world: Path, *, faults: DataFaults | None = None, sas_ttl_s: float | None = None
) -> AsgiApp:
    """Return the app of an emulator, catalogues with what is wrong with their data."""
    if emulator in {STAC, "planetary"}:
        from farm_intel.simulation.emulators.stac_api import SAS_TTL_S, stac_api_app

        dialect = "earth-search" if emulator == STAC else "planetary-computer"
        return stac_api_app(world, dialect, faults=faults, sas_ttl_s=SAS_TTL_S if sas_ttl_s is None else sas_ttl_s)
    if emulator == SENTINEL_HUB:
        from farm_intel.simulation.emulators.sentinel_hub import sentinel_hub_app

        return sentinel_hub_app(world)
    from farm_intel.simulation.emulators.earth_engine import earth_engine_app

    return earth_engine_app(world)


def settings_of(one: Column, server: EmulatorServer, stand_in: EmulatorServer) -> dict[str, str]:
    """Return the settings with which an installation asks these two servers."""
    found = dict(one.settings) | Fleet({one.stand_in_emulator: stand_in}).settings()
    if one.emulator == "planetary":
        return found | {f"{one.provider}_url": server.base_url}
    return found | Fleet({one.emulator: server}).settings()


@contextmanager
def environment(one: Column, server: EmulatorServer) -> Iterator[Callable[[], None]]:
    """Send what a column reads from the internet to its emulator, by the variables an operator's network would have.

    Planetary Computer files lie on hosts of their own behind tokens of a service that its SDK knows by itself.
    Yields a function that forgets the tokens of earlier runs.
    """
    if one.emulator != "planetary":
        yield lambda: None
        return
    from planetary_computer import sas
    from planetary_computer.settings import Settings

    # NO_PROXY: catalogue, token service and the stand-in are on this machine and asked directly
    wanted = {
        "http_proxy": server.base_url,
        "HTTP_PROXY": server.base_url,
        "no_proxy": "127.0.0.1",
        "NO_PROXY": "127.0.0.1",
        "PC_SDK_SAS_URL": f"{server.base_url}/sas",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    Settings.get.cache_clear()
    sas.TOKEN_CACHE.clear()
    try:
        yield sas.TOKEN_CACHE.clear
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        Settings.get.cache_clear()
        sas.TOKEN_CACHE.clear()
