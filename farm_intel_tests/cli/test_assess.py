"""What is made of all providers' numbers, seen from the command line; a second provider answers on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import httpx
import pytest

from farm_intel.bootstrap import container_from_environment
from farm_intel.cli.emulators import parse_fault
from farm_intel.domain.errors import BadRequestError
from farm_intel.observing.model import ObserveRequest
from farm_intel.simulation.catalogue import WorldFiles
from farm_intel.simulation.emulators.faults import FaultKind
from farm_intel.simulation.emulators.fleet import SENTINEL_HUB, emulators

Cli = Callable[..., tuple[int, str, str]]
DAYS = tuple(date(2026, 1, 4) + timedelta(days=n) for n in range(21))


def observe(provider: str, slugs: tuple[str, ...], farms: int | None = None) -> None:
    container = container_from_environment()
    request = ObserveRequest(
        provider=provider,
        collection=container.providers[provider].profile.collection,
        indices=slugs,
        farm_ids=tuple(farm.farm_id for farm in container.farms.list())[:farms],
        days=DAYS,
    )
    for _ in container.observing.observe(request, run_id="test"):
        pass


def test_numbers_of_two_providers_become_fused_values_states_and_a_picture(
    installed: Cli, world: WorldFiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FARM_INTEL_PROVIDERS", "stac,sentinel_hub")
    monkeypatch.setenv("FARM_INTEL_HARMONISE", "false")
    observe("stac", ("ndvi", "ndmi", "ndwi", "savi"))
    with emulators(world.folder, (SENTINEL_HUB,)) as fleet:
        for name, value in fleet.settings().items():
            monkeypatch.setenv(f"FARM_INTEL_{name.upper()}", value)
        observe("sentinel_hub", ("ndvi",), farms=1)
        code, out, err = installed(
            "explain", "--provider", "sentinel_hub", "--indices", "ndvi", "--from", "2026-01-04", "--to", "2026-01-24"
        )
        assert code == 0, err
        assert "processing unit" in out, "what the rest would cost, against what the month leaves"

    code, out, _ = installed("assess")
    assert code == 0
    assert "farms assessed from 2026-01-04 to 2026-01-24" in out

    farm_id = container_from_environment().farms.list()[0].farm_id
    fused = container_from_environment().assessments.fused(farm_ids=[farm_id], indices=["ndvi"])
    both = [item for item in fused if {c.key.provider for c in item.candidates} == {"stac", "sentinel_hub"}]
    assert both, "days on which both saw the farm"
    assert all(abs(item.candidates[0].value - item.candidates[1].value) < 0.002 for item in both)

    code, out, _ = installed("states", "--format", "json")
    states = json.loads(out)
    assert code == 0
    assert {row["date"] for row in states} == {"2026-01-24"}
    assert all(row["action"] and row["interpretation"] and row["reasons"] for row in states)
    _, swahili, _ = installed("states", "--language", "sw", "--format", "json")
    assert json.loads(swahili)[0]["action"] != states[0]["action"]
    assert installed("states", "--language", "tlh")[0] == 2

    picture = tmp_path / "both.png"
    assert installed("plot", "--farm", farm_id, "--index", "ndvi", "--providers", "--to", str(picture))[0] == 0
    assert picture.read_bytes().startswith(b"\x89PNG")

    code, out, _ = installed("providers", "--format", "json")
    rows = {row["provider"]: row for row in json.loads(out)}
    assert code == 0
    assert list(rows) == ["stac", "sentinel_hub"]
    assert "of 10,000 processing units" in rows["sentinel_hub"]["budget left"]
    assert not rows["sentinel_hub"]["budget left"].startswith("10,000.0"), "what was spent is counted"


def test_a_provider_that_is_not_set_up_says_what_to_set(installed: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_INTEL_PROVIDERS", "stac,earth_engine")

    _, out, _ = installed("providers", "--format", "json")
    rows = {row["provider"]: row for row in json.loads(out)}
    code, _, err = installed("backfill", "--provider", "earth_engine", "--from", "2026-01-04", "--to", "2026-01-05")

    assert rows["stac"]["set up"] == "yes"
    assert "FARM_INTEL_EARTH_ENGINE_PROJECT" in rows["earth_engine"]["set up"]
    assert code == 1
    assert "FARM_INTEL_EARTH_ENGINE_CREDENTIALS" in err


def test_nothing_observed_is_nothing_to_assess(installed: Cli) -> None:
    code, _, err = installed("assess")

    assert code == 2
    assert "farm-intel backfill" in err


def test_faults_are_written_as_emulator_kind_and_times() -> None:
    assert parse_fault("stac=unavailable:2")[1].times == 2
    name, fault = parse_fault("earth_engine=reset")
    assert (name, fault.kind, fault.times) == ("earth_engine", FaultKind.RESET, 0)
    with pytest.raises(BadRequestError, match="no fault"):
        parse_fault("stac=broken")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "mars"), "no emulator mars"),
        (("--fault", "mars=reset"), "no emulator mars"),
        (("--only", "stac", "--world", "nowhere"), "holds no world"),
    ],
)
def test_a_mistake_is_told_before_anything_is_made(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = cli("emulators", "up", *arguments)

    assert code == 2
    assert words in err
    assert "export" not in out


def test_a_taken_port_is_named(cli: Cli, world: WorldFiles) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = cli("emulators", "up", "--only", "stac", "--world", str(world.folder), "--port", str(port))

    assert code == 1
    assert f"127.0.0.1:{port}" in err
    assert "--port" in err


def test_an_order_that_is_no_json_or_names_no_index_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_INTEL_PROVIDER_ORDER", "ndvi=stac")
    code, _, err = cli("providers")
    assert code == 1
    assert "JSON" in err

    monkeypatch.setenv("FARM_INTEL_PROVIDER_ORDER", '{"ndvy": ["stac"]}')
    _, out, _ = cli("doctor", "--format", "json")
    finding = next(row for row in json.loads(out) if row["check"] == "providers")
    assert finding["result"] == "wrong"
    assert "ndvy" in finding["detail"]


def test_emulators_serve_until_stopped_and_print_what_to_set(world: WorldFiles, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("farm-intel")),
        "emulators",
        "up",
        "--world",
        str(world.folder),
        "--port",
        "0",
    ]
    command += ["--only", "stac", "--fault", "stac=unavailable:1"]
    environment = os.environ | {"FARM_INTEL_HOME": str(tmp_path / "home"), "FARM_INTEL_CONFIG": str(tmp_path / "none")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        exported = next(line for line in process.stdout if line.startswith("export FARM_INTEL_STAC_URL="))
        url = exported.partition("=")[2].strip()
        assert [httpx.get(url).status_code for _ in range(2)] == [503, 200]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
