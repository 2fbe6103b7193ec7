"""`farm-intel up` as a process of its own, and the GraphQL calls its web page makes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm_intel.bootstrap import Container

STARTS_WITHIN_S = 90.0
STOPS_WITHIN_S = 20.0
PAUSE_S = 0.25

_LOADED = "{workspaceOrError{__typename ... on Workspace{locationEntries{name loadStatus}}}}"
_BACKFILL = """query($id: String!){partitionBackfillOrError(backfillId: $id){__typename
  ... on PartitionBackfill{id status runs: unfinishedRuns(limit: 50){id} error{message}}}}"""
_RUNS = """query($tag: ExecutionTag!){runsOrError(filter: {tags: [$tag]}){
  ... on Runs{results{id status tags{key value}}}}}"""
_BACKFILLS = "{partitionBackfillsOrError(limit: 20){... on PartitionBackfills{results{id status}}}}"
_STATS = """query($key: AssetKeyInput!){assetNodeOrError(assetKey: $key){... on AssetNode{
  partitionStats{numMaterialized numFailed numPartitions numMaterializing}}}}"""
_DIMENSION = """query($key: AssetKeyInput!){assetNodeOrError(assetKey: $key){... on AssetNode{
  partitionKeysByDimension{name partitionKeys}}}}"""


@dataclass(frozen=True)
class DagsterUi:
    """A running user interface."""

    url: str
    log: Path

    def query(self, text: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the data of a GraphQL answer."""
        body = json.dumps({"query": text, "variables": dict(variables or {})}).encode()
        request = urllib.request.Request(  # noqa: S310 - our own local address
            f"{self.url}/graphql", data=body, headers={"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own local address
            payload: dict[str, Any] = json.load(answer)
        assert "errors" not in payload, payload["errors"]
        data: dict[str, Any] = payload["data"]
        return data

    def loaded(self) -> bool:
        """Return whether the code location is there."""
        try:
            workspace = self.query(_LOADED)["workspaceOrError"]
        except OSError:
            return False
        entries = workspace.get("locationEntries", [])
        return bool(entries) and all(entry["loadStatus"] == "LOADED" for entry in entries)

    def backfill_ids(self) -> list[str]:
        """Return the ids of backfills, newest first."""
        results = self.query(_BACKFILLS)["partitionBackfillsOrError"]["results"]
        return [entry["id"] for entry in results]

    def backfill_status(self, backfill_id: str) -> str:
        """Return a backfill's status."""
        return str(self.query(_BACKFILL, {"id": backfill_id})["partitionBackfillOrError"]["status"])

    def runs_of(self, backfill_id: str) -> list[dict[str, Any]]:
        """Return id, status and tags of a backfill's runs."""
        found = self.query(_RUNS, {"tag": {"key": "dagster/backfill", "value": backfill_id}})["runsOrError"]["results"]
        return [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in found]

    def stats(self, *key: str) -> dict[str, int]:
        """Return how many cells of an asset are materialised, failed and in all."""
        stats: dict[str, int] = self.query(_STATS, {"key": {"path": list(key)}})["assetNodeOrError"]["partitionStats"]
        return stats

    def farms(self, *key: str) -> list[str]:
        """Return the farm partitions of an asset."""
        dimensions = self.query(_DIMENSION, {"key": {"path": list(key)}})["assetNodeOrError"][
            "partitionKeysByDimension"
        ]
        return next(list(d["partitionKeys"]) for d in dimensions if d["name"] == "farm")


def wait_until(what: str, ready: Callable[[], bool], *, within_s: float) -> None:
    """Wait for a condition of another process."""
    end = time.monotonic() + within_s
    while not ready():
        assert time.monotonic() < end, f"{what}: not within {within_s:g} s"
        time.sleep(PAUSE_S)


@contextmanager
def running_ui(container: Container, log: Path) -> Iterator[DagsterUi]:
    """Start `farm-intel up` over an installation, wait until it answers, and stop it at the end."""
    port = _free_port()
    environment = container.settings.child_environment(container.settings.home / "dagster")
    environment |= {"FARM_INTEL_UI_PORT": str(port), "FARM_INTEL_CONFIG": "none.toml"}
    environment["FARM_INTEL_API_PORT"] = str(_free_port())
    environment.pop("DAGSTER_HOME")
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("farm-intel")), "up"],
            env=environment,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        ui = DagsterUi(f"http://127.0.0.1:{port}", log)
        try:
            wait_until(
                f"the user interface ({log})",
                lambda: process.poll() is not None or ui.loaded(),
                within_s=STARTS_WITHIN_S,
            )
            assert process.poll() is None, log.read_text()
            yield ui
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the process and its children as Ctrl-C does; the session is our own, so nobody else is in it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOPS_WITHIN_S)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait(STOPS_WITHIN_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
