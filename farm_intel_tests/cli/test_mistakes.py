"""What goes wrong at an operator's hands: said in one message that names the thing, never as a traceback."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from farm_intel.domain.errors import FarmIntelError

Cli = Callable[..., tuple[int, str, str]]
BLOCK = ("--from", "2026-01-04", "--to", "2026-01-24")


def test_a_hint_is_a_sentence_of_its_own_and_a_librarys_lines_become_one() -> None:
    assert str(FarmIntelError("no farm x", hint="See y.")) == "no farm x. See y."
    assert str(FarmIntelError("no farm x.", hint="See y.")) == "no farm x. See y."
    assert str(FarmIntelError("refused:\n\tthe server  is away\n")) == "refused: the server is away"


@pytest.mark.parametrize("command", [("farms", "list"), ("demo",), ("accuracy",), ("up",), ("fsck",)])
def test_a_home_that_cannot_be_made_is_named(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    file = tmp_path / "a-file"
    file.touch()
    monkeypatch.setenv("FARM_INTEL_HOME", str(file))

    code, _, err = cli(*command)

    assert code == 1
    assert str(file) in err
    assert "permissions" in err


def test_doctor_reports_an_unusable_home_and_goes_on(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a-file"
    file.touch()
    monkeypatch.setenv("FARM_INTEL_HOME", str(file))

    code, out, _ = cli("doctor", "--format", "json")

    found = {row["check"]: row for row in json.loads(out)}
    assert code == 1
    assert found["disk"]["result"] == found["store"]["result"] == "wrong"
    assert found["indices"]["result"] == "fine"


def test_a_provider_that_does_not_exist_is_not_taken_for_one_without_data(installed: Cli) -> None:
    farm_id = json.loads(installed("farms", "list", "--format", "json")[1])[0]["farm_id"]

    for command in (("calendar", "--farm", farm_id), ("item", farm_id, "2026-01-04")):
        code, _, err = installed(*command, "--provider", "mars")
        assert code == 2
        assert "no provider 'mars'" in err
        assert "sentinel_hub" in err


def test_doctor_names_variables_that_are_no_settings(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_INTEL_STAC_URI", "misspelt")

    code, out, _ = cli("doctor", "--format", "json")

    settings = next(row for row in json.loads(out) if row["check"] == "settings")
    assert code == 0
    assert settings["result"] == "note"
    assert "FARM_INTEL_STAC_URI" in settings["detail"]
    assert "none.toml (no such file)" in settings["detail"]


def test_doctor_names_a_provider_that_is_none(installed: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_INTEL_PROVIDERS", "mars")

    code, out, _ = installed("doctor", "--format", "json")

    catalogue = next(row for row in json.loads(out) if row["check"] == "catalogue")
    assert code == 1
    assert "mars" in catalogue["detail"]
    assert "stac" in catalogue["what to do"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"ui_port = \n", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"ui_prot = 3000\n", "there is no such setting"),
        (b"ui_port = 'x'\n", "FARM_INTEL_UI_PORT"),
    ],
)
def test_a_settings_file_with_a_mistake_is_refused(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    monkeypatch.setenv("FARM_INTEL_CONFIG", str(path))

    code, _, err = cli("farms", "list")

    assert code == 1
    assert words in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("observations", "--from", "2026-02-01", "--to", "2026-01-01"), "before it starts"),
        (("calendar", "--farm", "F001", "--from", "2026-02-01", "--to", "2026-01-01"), "before it starts"),
        (("backfill", "--from", "2026-02-01", "--to", "2026-01-01"), "before it starts"),
        (("export", "--to", "x.parquet", "--from", "2026-02-01", "--until", "2026-01-01"), "before it starts"),
        (("export", "--to", "x.parquet", "--farms", "ghost"), "ghost"),
        (("export", "--to", "x.parquet", "--indices", "ndvy"), "ndvi"),
        (("backfill", "--provider", "mars", *BLOCK), "mars"),
        (("backfill", "--farms", "ghost", *BLOCK), "ghost"),
    ],
)
def test_an_empty_answer_is_never_given_to_a_wrong_question(
    installed: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)

    code, out, err = installed(*arguments)

    assert code == 2
    assert out == ""
    assert words in err
    assert not (tmp_path / "x.parquet").exists()


def test_every_command_that_prints_data_prints_what_a_program_can_read(installed: Cli) -> None:
    assert installed("backfill", "--indices", "ndvi", *BLOCK)[0] == 0
    commands = [
        ("farms", "list"), ("farms", "show", "F001"), ("indices", "list"), ("indices", "show", "ndvi"),
        ("backfill", "--indices", "ndvi", *BLOCK), ("explain", "--indices", "ndvi", *BLOCK),
        ("observations", "--farm", "F001"), ("calendar", "--farm", "F001"), ("doctor",), ("fsck",),
    ]  # fmt: skip

    for command in commands:
        rows = json.loads(installed(*command, "--format", "json")[1])
        lines = list(csv.DictReader(io.StringIO(installed(*command, "--format", "csv")[1]), strict=True))
        assert len(lines) == len(rows), command
        assert all(None not in line and None not in line.values() for line in lines), command


def test_a_taken_port_is_named_before_anything_starts(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("FARM_INTEL_UI_PORT", str(port))

        code, _, err = cli("up")

    assert code == 1
    assert f"127.0.0.1:{port}" in err
    assert "FARM_INTEL_UI_PORT" in err


@pytest.mark.parametrize("command", ["demo", "accuracy"])
def test_an_unknown_index_is_refused_before_a_world_is_built(cli: Cli, tmp_path: Path, command: str) -> None:
    code, _, err = cli(command, "--indices", "ndvy")

    assert code == 2
    assert "ndvi" in err
    assert not (tmp_path / "home").exists()


def test_a_damaged_and_a_lost_raster_are_found_and_mended_by_force(installed: Cli, tmp_path: Path) -> None:
    command = ("backfill", "--indices", "ndvi", "--from", "2026-01-04", "--to", "2026-01-09")
    assert installed(*command)[0] == 0
    rows = installed("observations", "--format", "json")[1]
    damaged, lost, *_ = sorted((tmp_path / "home" / "rasters").glob("??/*.tif"))
    damaged.write_bytes(damaged.read_bytes() + b"x")
    lost.unlink()

    code, out, err = installed("fsck", "--format", "json")
    mended = installed(*command, "--force")[0]

    assert code == 1
    assert {damaged.stem, lost.stem} == {entry["examples"] for entry in json.loads(out)}
    assert "backfill --force" in err
    assert (mended, installed("fsck")[0]) == (0, 0)
    assert installed("observations", "--format", "json")[1] == rows


def test_csv_keeps_the_digits_of_a_number(installed: Cli) -> None:
    assert installed("backfill", "--indices", "ndvi", *BLOCK)[0] == 0
    rows = json.loads(installed("observations", "--format", "json")[1])
    lines = list(csv.DictReader(io.StringIO(installed("observations", "--format", "csv")[1])))

    pairs = [(row["mean"], line["mean"]) for row, line in zip(rows, lines, strict=True)]
    assert any(mean is not None for mean, _ in pairs)
    assert all(text == "" if mean is None else float(text) == pytest.approx(mean, rel=1e-8) for mean, text in pairs)


def test_every_option_an_import_message_names_exists(cli: Cli, tmp_path: Path) -> None:
    square = {"type": "Polygon", "coordinates": [[[36, -1], [36.01, -1], [36.01, -0.99], [36, -0.99], [36, -1]]]}
    features = [{"type": "Feature", "properties": {"who": f"a/{n}"}, "geometry": square} for n in range(2)]
    path = tmp_path / "fields.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))

    refused = cli("farms", "import", str(path))
    numbered = cli("farms", "import", str(path), "--number-features")
    slugged = cli("farms", "import", str(path), "--id-column", "who", "--slugify-ids")

    assert refused[0] == 2
    assert {word for word in ("--id-column", "--number-features") if word in refused[2]} == {
        "--id-column",
        "--number-features",
    }
    assert (numbered[0], slugged[0]) == (0, 0)
    ids = {row["farm_id"] for row in json.loads(cli("farms", "list", "--format", "json")[1])}
    assert ids == {"fields-1", "fields-2", "a-0", "a-1"}


def test_a_defect_of_ours_is_one_message_and_a_file() -> None:
    """In a process of its own: the hook is the process's."""
    program = (
        "import sys, farm_intel.cli as cli\n"
        "def defective(arguments): raise ZeroDivisionError('by nought')\n"
        "cli.run = defective\n"
        "cli.main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, env=dict(os.environ)
    )
    words = ended.stderr.split()
    kept = Path(next(word for word in words if word.endswith(".txt;")).rstrip(";"))

    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "by nought" in ended.stderr
    assert "ZeroDivisionError" in kept.read_text()
    kept.unlink()
