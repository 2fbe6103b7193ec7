"""The whole job on PostgreSQL: the store by its URL, and Dagster's production instance beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine, text

from farm_intel.cli.app import run
from farm_intel.defs.compat import open_instance
from farm_intel.simulation.catalogue import WorldFiles, write_world
from farm_intel.simulation.world import FarmWorld, WorldOptions
from farm_intel_tests.support.postgres import Cluster, private_cluster

Cli = Callable[..., str]
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
WORLD = WorldOptions(days=11, farms=4, tile_px=360, sizes_ha=(0.25, 1.0, 5.0), cloudiness=0.3)
BLOCK = ("--indices", "ndvi,evi", "--from", "2026-01-04", "--to", "2026-01-14")

pytestmark = [pytest.mark.nightly, pytest.mark.slow, pytest.mark.xdist_group("postgresql")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with private_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> WorldFiles:
    return write_world(FarmWorld(WORLD), tmp_path_factory.mktemp("world") / "world")


@pytest.fixture
def cli(tmp_path: Path, world: WorldFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command that must succeed and return what it printed."""
    settings = {
        "CONFIG": tmp_path / "none.toml", "STAC_URL": world.catalog, "ASSET_INDICES": "ndvi,evi",
        "HISTORY_START": "2026-01-04", "HISTORY_END": "2026-01-14",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(f"FARM_INTEL_{name}", str(value))

    def call(*arguments: str) -> str:
        capsys.readouterr()
        code = run(arguments)
        captured = capsys.readouterr()
        assert code == 0, (arguments, captured)
        return captured.out

    return call


def whole_job(cli: Cli, world: WorldFiles, table: Path) -> dict[str, object]:
    """Do everything an operator does and return what was answered, without what depends on the folder."""
    cli("farms", "import", str(world.farms))
    counts = json.loads(cli("backfill", *BLOCK, "--format", "json"))
    again = json.loads(cli("explain", *BLOCK, "--format", "json"))[0]
    cli("export", "--to", str(table))
    exported = pq.read_table(table)
    findings = {row["check"]: row["result"] for row in json.loads(cli("doctor", "--format", "json"))}
    assert findings["store"] == findings["catalogue"] == "fine"
    return {
        "counts": counts,
        "still to compute": again["cells_to_compute"],
        "farms": json.loads(cli("farms", "list", "--format", "json")),
        "observations": json.loads(cli("observations", "--format", "json")),
        "calendar": json.loads(cli("calendar", "--farm", "F001", "--format", "json")),
        "exported": (exported.num_rows, exported.column_names, exported.column("mean").to_pylist()),
        "damage": json.loads(cli("fsck", "--format", "json")),
    }


def test_every_number_is_the_same_as_on_sqlite(
    cli: Cli, world: WorldFiles, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.create("numbers")
    monkeypatch.setenv("FARM_INTEL_HOME", str(tmp_path / "sqlite"))
    expected = whole_job(cli, world, tmp_path / "sqlite.parquet")

    monkeypatch.setenv("FARM_INTEL_HOME", str(tmp_path / "postgresql"))
    monkeypatch.setenv("FARM_INTEL_DATABASE_URL", cluster.url("numbers"))
    got = whole_job(cli, world, tmp_path / "postgresql.parquet")

    assert not (tmp_path / "postgresql" / "farm_intel.db").exists()
    assert any(row["mean"] is not None for row in got["observations"])  # type: ignore[attr-defined]  # a list of rows
    assert got["still to compute"] == 0
    assert got["damage"] == []
    assert got == expected


def test_the_production_instance_keeps_its_ledger_in_postgresql(
    cli: Cli, world: WorldFiles, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """deploy/dagster.prod.yaml as it is, and a command-line backfill whose runs and cells the UI on it would show."""
    cluster.create("ledger")
    folder = tmp_path / "instance"
    folder.mkdir()
    shutil.copyfile(DEPLOY / "dagster.prod.yaml", folder / "dagster.yaml")
    address = {"HOST": "127.0.0.1", "PORT": cluster.port, "DB": "ledger", "USERNAME": "postgres", "PASSWORD": "any"}
    for name, value in address.items():
        monkeypatch.setenv(f"DAGSTER_PG_{name}", str(value))
    monkeypatch.setenv("FARM_INTEL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FARM_INTEL_DAGSTER_HOME", str(folder))

    cli("farms", "import", str(world.farms))
    cli("backfill", *BLOCK)
    cells = {row["farm_id"] + row["date"] for row in json.loads(cli("observations", "--format", "json"))}

    with open_instance(folder) as instance:
        kinds = [type(s).__name__ for s in (instance.run_storage, instance.event_log_storage, instance.run_coordinator)]
        materialized = instance.get_materialized_partitions(dg.AssetKey(["stac", "ndvi"]))
    database = create_engine(cluster.url("ledger").replace("postgresql://", "postgresql+psycopg2://"))
    with database.connect() as connection:
        runs = connection.scalar(text("SELECT count(*) FROM runs WHERE status = 'SUCCESS'"))
    database.dispose()
    assert kinds == ["PostgresRunStorage", "PostgresEventLogStorage", "QueuedRunCoordinator"]
    assert len(materialized) == len(cells) > 0
    assert runs >= 1
    assert not (tmp_path / "home" / "dagster").exists()
    assert not list(folder.rglob("*.db"))
