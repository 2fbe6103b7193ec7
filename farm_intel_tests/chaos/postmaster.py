"""The database server killed under the workers: what it acknowledged is there, whole and once."""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from farm_intel.domain.errors import StoreError
from farm_intel.storage.database import open_database, reading
from farm_intel_tests.chaos.kills import KillTrial, Verdict, judge, plant, settle
from farm_intel_tests.chaos.parts import open_migrated
from farm_intel_tests.chaos.zygote import Program, Zygote
from farm_intel_tests.support.postgres import POSTGRES_BIN, Cluster

_LONGEST_S = 60.0


@dataclass
class ServerVerdict:
    """What came of it."""

    verdict: Verdict
    server_kills: int
    recovery_s: list[float]
    """From each kill until the server answered again."""

    @property
    def median_recovery_s(self) -> float:
        return statistics.median(self.recovery_s)


class DurableServer:
    """A private cluster started anew with its durability on, as the tests' own has it off; killed and started again."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._data = cluster.folder / "data"
        self._call("-m", "fast", "stop")
        self._start()

    def kill(self) -> None:
        """SIGKILL the postmaster; its children notice and end by themselves."""
        pid = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    def revive(self) -> float:
        """Start it until it answers; return how many seconds that took."""
        began = time.monotonic()
        engine = open_database(self._cluster.url())
        while True:
            with suppress(subprocess.CalledProcessError, StoreError):  # its old children may still be ending
                self._start()
                with reading(engine):
                    break
            if time.monotonic() - began > _LONGEST_S:
                raise AssertionError((self._cluster.folder / "log").read_text()[-2000:])
            time.sleep(0.05)
        engine.dispose()
        return time.monotonic() - began

    def _start(self) -> None:
        options = f"-k {self._cluster.folder} -c listen_addresses=127.0.0.1 -c port={self._cluster.port}"
        self._call("-o", options, "-l", f"{self._cluster.folder}/log", "-w", "start")

    def _call(self, *arguments: str) -> None:
        command = [f"{POSTGRES_BIN}/pg_ctl", "-D", str(self._data), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        quiet = subprocess.DEVNULL
        subprocess.run(command, check=True, stdout=quiet, stderr=quiet, cwd=self._cluster.folder)


def run_server_kills(cluster: Cluster, trial: KillTrial) -> ServerVerdict:
    """Kill the server `trial.kills` times while three processes work; then let it come to rest, and judge."""
    began = time.monotonic()
    server = DurableServer(cluster)
    engine = open_migrated(trial.url, trial.mutant)
    recovery: list[float] = []
    dice = random.Random(trial.seed)
    with Zygote(Path(trial.folder) / "log") as zygote:
        expected = plant(trial)
        children = [
            zygote.start(Program(world=trial.world, phase="pump", seed=number)) for number in range(trial.processes)
        ]
        time.sleep(2)
        for _ in range(trial.kills):
            time.sleep(dice.uniform(0.5, 1.5))
            server.kill()
            recovery.append(server.revive())
        engine.dispose()  # its connections are of a server that is no more
        settle(trial, engine)
        fallen = sum(zygote.kill(child) != -signal.SIGKILL for child in children)
    verdict = judge(engine, trial.world, expected)
    verdict.fallen = fallen
    verdict.seconds = time.monotonic() - began
    engine.dispose()
    return ServerVerdict(verdict, trial.kills, recovery)
