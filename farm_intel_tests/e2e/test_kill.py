"""Kill -9 at any moment of a backfill, then go on: every cell once, every event there, no file too many."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from farm_intel.bootstrap import Container, build_container, settings_from_file
from farm_intel.cli.installing import CONFIG_NAME, prepare_dagster_home
from farm_intel.defs import compat
from farm_intel.defs.cell_quality import CHECK_NAME
from farm_intel.defs.partitions import partition_key
from farm_intel.domain.observations import ObservationKey
from farm_intel.simulation.catalogue import write_world
from farm_intel.simulation.world import FarmWorld, WorldOptions
from farm_intel.storage.fsck import check_store, repair
from farm_intel_tests.e2e import backfill_worker
from farm_intel_tests.support.installations import install

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e")]

KILLS_PER_HOME = 2
"""The second one hits the resumption."""
WORLD = WorldOptions(days=5, revisit_days=1, farms=0, tile_px=360, sizes_ha=(1.0,), cloudiness=0.3)
INDICES = ("ndvi", "ndwi")
CELLS = 50
"""Five special farms (the sixth lies outside every scene), five days, two indices."""
LOG = "workers.log"
MEMORY = Path("/dev/shm")  # noqa: S108 - only for speed
NO_GRACE = timedelta(seconds=-5)


@dataclass
class Workers:
    """The fork server; see backfill_worker."""

    process: subprocess.Popen[str]

    def run(self, home: Path, kill_after_s: float | None = None) -> tuple[int, float]:
        """Backfill a home, killed after a delay if one is given; return exit code and seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{home} {'' if kill_after_s is None else kill_after_s}\n")
        self.process.stdin.flush()
        code, seconds = self.process.stdout.readline().split()
        return int(code), float(seconds)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is one: a kill needs no disk, and waiting for it is most of the time."""
    if not MEMORY.is_dir():
        yield tmp_path_factory.mktemp("kill")
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="farm-intel-kill-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def template(root: Path) -> Path:
    """An installation with farms, an empty Dagster instance and nothing observed."""
    world = write_world(FarmWorld(WORLD), root / "world")
    container = install(
        root / "template",
        world.catalog,
        world.farms,
        asset_indices=INDICES,
        history_start=WORLD.start,
        history_end=WORLD.start + timedelta(days=WORLD.days - 1),
        run_max_cells=15,
    )
    container.database.dispose()
    with compat.open_instance(prepare_dagster_home(container)):
        pass
    (container.settings.home / CONFIG_NAME).write_text(container.settings.as_toml())
    return container.settings.home


def copy_of(template: Path, name: str) -> Path:
    """Return a home of its own over the same world."""
    home = template.with_name(name)
    shutil.copytree(template, home)
    config = home / CONFIG_NAME
    config.write_text(config.read_text().replace(f'"{template}"', f'"{home}"'))
    return home


@pytest.fixture(scope="module")
def workers(template: Path) -> Iterator[Workers]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FARM_INTEL_")}
    environment |= {
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "FARM_INTEL_CONFIG": "none.toml",
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
    }
    with (template.parent / LOG).open("w") as log:
        process = subprocess.Popen(
            [sys.executable, backfill_worker.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
    yield Workers(process)
    assert process.stdin is not None
    process.stdin.close()
    process.wait(30)


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.nightly)])
def test_killed_at_random_moments_and_resumed(
    template: Path, workers: Workers, capsys: pytest.CaptureFixture[str], kills: int
) -> None:
    log = template.parent / LOG
    workers.run(copy_of(template, "warm"))
    code, duration = workers.run(copy_of(template, "undisturbed"))
    assert code == 0, log.read_text()
    expected = numbers(opened(template.with_name("undisturbed")))
    assert len(expected) == CELLS
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    stored: list[int] = []
    for number in range(kills // KILLS_PER_HOME):
        home = copy_of(template, f"killed{number}")
        container = opened(home)
        when = f"seed {seed}, home {number}, {duration:.3f} s undisturbed, killed after"
        for _ in range(KILLS_PER_HOME):
            moment = chance.uniform(0, duration)
            when += f" {moment:.3f}"
            code, _ = workers.run(home, kill_after_s=moment)
            assert code in {-signal.SIGKILL, 0}, f"{when}: {log.read_text()}"
            stored.append(len(numbers(container)))
        code, _ = workers.run(home)
        assert code == 0, f"{when}: {log.read_text()}"
        assert_whole(container, expected, when)
        shutil.rmtree(home)
    with capsys.disabled():
        print(f"\nseed {seed}, {duration:.2f} s undisturbed; cells stored when killed: {stored}")  # noqa: T201


def numbers(container: Container) -> dict[ObservationKey, object]:
    """Return what must not depend on whether anybody was killed; a key twice would be a shorter dictionary."""
    rows = list(container.observations.observations())
    assert len({row.key for row in rows}) == len(rows)
    return {row.key: (row.status, row.statistics, row.fingerprint, row.raster_sha256) for row in rows}


def opened(home: Path) -> Container:
    return build_container(settings_from_file(home / CONFIG_NAME))


def assert_whole(container: Container, expected: dict[ObservationKey, object], when: str) -> None:
    assert numbers(container) == expected, when
    with compat.open_instance(prepare_dagster_home(container)) as instance:
        for slug in INDICES:
            cells = {partition_key(key.solar_day, key.farm_id) for key in expected if key.index == slug}
            assert events(instance, slug) == dict.fromkeys(cells, 1), when
            key = dg.AssetKey(["stac", slug])
            assert compat.checked_partitions(instance, key, CHECK_NAME, cells) == cells, when
    before = check_store(container.database, container.rasters, rehash=True)
    assert before.findings == (), when
    repair(container.database, container.rasters, grace=NO_GRACE)
    after = check_store(container.database, container.rasters, rehash=True, grace=NO_GRACE)
    assert (after.findings, after.in_flight, after.superseded) == ((), 0, 0), when
    container.database.dispose()


def events(instance: dg.DagsterInstance, slug: str) -> dict[str, int]:
    """Return cell -> number of materialisations."""
    records = instance.fetch_materializations(dg.AssetKey(["stac", slug]), limit=1000).records
    return dict(Counter(str(record.partition_key) for record in records))
