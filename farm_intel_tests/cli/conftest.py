"""The command line in an installation of its own, and a small world to point it at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from farm_intel.cli.app import run
from farm_intel.simulation.catalogue import WorldFiles, write_world
from farm_intel.simulation.world import FarmWorld, WorldOptions

Cli = Callable[..., tuple[int, str, str]]
WORLD = WorldOptions(days=21, farms=8, tile_px=360, sizes_ha=(0.25, 1.0, 5.0), cloudiness=0.3)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> WorldFiles:
    return write_world(FarmWorld(WORLD), tmp_path_factory.mktemp("world") / "world")


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in an installation of its own and return exit code, stdout, stderr."""
    monkeypatch.setenv("FARM_INTEL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FARM_INTEL_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.delenv("FARM_INTEL_STAC_URL", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(arguments)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


@pytest.fixture
def installed(cli: Cli, world: WorldFiles, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The same, with the small world's catalogue and farms."""
    monkeypatch.setenv("FARM_INTEL_STAC_URL", str(world.catalog))
    monkeypatch.setenv("FARM_INTEL_HISTORY_START", "2026-01-04")
    monkeypatch.setenv("FARM_INTEL_HISTORY_END", "2026-01-24")
    code, _, err = cli("farms", "import", str(world.farms))
    assert code == 0, err
    return cli


@pytest.fixture
def farmed(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The same, with two farms in Nairobi and one in Lagos and nothing seen of them; the only voice is the tone."""
    monkeypatch.setenv("FARM_INTEL_SPEECH_ENGINES", ",")
    monkeypatch.setenv("FARM_INTEL_HISTORY_START", "2026-01-04")
    zones = {"F1": "Africa/Nairobi", "F2": "Africa/Nairobi", "F3": "Africa/Lagos"}
    features = [_square(farm_id, zone, 36.0 + place / 10) for place, (farm_id, zone) in enumerate(zones.items())]
    file = tmp_path / "farms.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    code, _, err = cli("farms", "import", str(file))
    assert code == 0, err
    return cli


def _square(farm_id: str, zone: str, east: float) -> dict[str, object]:
    ring = [[east, 0.0], [east + 0.002, 0.0], [east + 0.002, 0.002], [east, 0.002], [east, 0.0]]
    properties = {"farm_id": farm_id, "name": f"Farm {farm_id}", "crop": "maize", "time_zone": zone}
    return {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": [ring]}}
