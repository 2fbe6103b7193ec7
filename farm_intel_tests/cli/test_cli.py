"""The command line as an operator uses it: exit codes, formats, messages, and the whole job on a small world."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from farm_intel.cli.app import COMMANDS
from farm_intel.simulation.catalogue import WorldFiles

Cli = Callable[..., tuple[int, str, str]]
FIELDS = {
    "farm_id", "index", "provider", "collection", "date", "status", "mean", "median", "std", "min", "max", "p10", "p90",
    "pixel_count", "valid_pixel_count", "valid_pixel_fraction", "cloud_fraction", "n_effective", "flags", "scene_ids",
    "raster",
}  # fmt: skip


BLOCK = ("--from", "2026-01-04", "--to", "2026-01-24")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(cli: Cli, command: str) -> None:
    code, out, _ = cli(command, "--help")

    assert code == 0
    assert "Usage" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nope",), 2, "No such command"),
        (("backfill",), 2, "Missing option"),
        (("backfill", "--from", "2026-13-01", "--to", "2026-01-02"), 2, "is not a day"),
        (("backfill", "--from", "2026-01-01", "--to", "2026-01-02"), 2, "there are no farms yet"),
        (("observations", "--farm", "ghost"), 2, "ghost"),
        (("observations", "--index", "ndvy"), 2, "ndvi"),
        (("calendar", "--farm", "ghost"), 2, "ghost"),
        (("farms", "import", "missing.geojson"), 2, "does not exist"),
        (("farms", "remove", "ghost"), 2, "ghost"),
        (("export", "--to", "x.csv"), 2, "parquet"),
        (("plot", "--farm", "ghost", "--index", "ndvi", "--to", "x.png"), 2, "ghost"),
    ],
)
def test_mistakes_are_told_in_one_line_with_the_right_code(
    cli: Cli, arguments: tuple[str, ...], code: int, words: str
) -> None:
    got, _, err = cli(*arguments)

    assert got == code, err
    assert words in err


def test_a_setting_out_of_range_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_INTEL_UI_PORT", "99999")

    code, _, err = cli("farms", "list")

    assert code == 1
    assert "FARM_INTEL_UI_PORT" in err


def test_without_a_catalogue_the_message_says_what_to_set(cli: Cli, world: WorldFiles) -> None:
    cli("farms", "import", str(world.farms))

    code, _, err = cli("backfill", *BLOCK)

    assert code == 1
    assert "FARM_INTEL_STAC_URL" in err


def test_farms_can_be_listed_shown_and_removed(installed: Cli) -> None:
    rows = json.loads(installed("farms", "list", "--format", "json")[1])
    first = rows[0]["farm_id"]
    shown = json.loads(installed("farms", "show", first, "--format", "json")[1])[0]

    assert shown["boundary"]["type"] in {"Polygon", "MultiPolygon"}
    assert installed("farms", "remove", first)[0] == 0
    left = list(csv.DictReader(io.StringIO(installed("farms", "list", "--format", "csv")[1])))
    assert first not in {row["farm_id"] for row in left}
    assert len(left) == len(rows) - 1


def test_bad_features_are_named_and_the_good_ones_kept(cli: Cli, tmp_path: Path) -> None:
    good = {"type": "Polygon", "coordinates": [[[36, -1], [36.01, -1], [36.01, -0.99], [36, -0.99], [36, -1]]]}
    bow = {"type": "Polygon", "coordinates": [[[36, -1], [36.01, -0.99], [36.01, -1], [36, -0.99], [36, -1]]]}
    features = [
        {"type": "Feature", "id": name, "properties": {}, "geometry": geometry}
        for name, geometry in (("good", good), ("bow", bow), ("good", good))
    ]
    path = tmp_path / "mixed.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))

    code, out, err = cli("farms", "import", str(path))

    assert code == 1
    assert "1 farms added" in out
    assert "bow" in err
    assert "Self-intersection" in err


def test_indices_are_listed_with_what_an_operator_needs(cli: Cli) -> None:
    rows = json.loads(cli("indices", "list", "--format", "json")[1])
    by_slug = {row["slug"]: row for row in rows}

    assert len(rows) > 200
    assert by_slug["ndvi"]["is_asset"]
    assert by_slug["ndvi"]["has_interpretation"]
    assert not by_slug["bai"]["is_asset"]
    assert {"slug", "formula", "bands", "reference", "valid_min", "valid_max"} <= set(by_slug["evi"])


def test_the_whole_job(installed: Cli, tmp_path: Path) -> None:
    """Explain, backfill, read, draw, export; then the same backfill again changes nothing."""
    before = json.loads(installed("explain", "--indices", "ndvi,evi", *BLOCK, "--format", "json")[1])[0]
    code, out, err = installed("backfill", "--indices", "ndvi,evi", *BLOCK, "--format", "json")

    assert code == 0, err
    assert sum(row["cells"] for row in json.loads(out)) == before["cells_to_compute"] > 0
    after = json.loads(installed("explain", "--indices", "ndvi,evi", *BLOCK, "--format", "json")[1])[0]
    assert (after["cells_to_compute"], after["cells_up_to_date"]) == (0, before["cells"])

    rows = json.loads(installed("observations", "--index", "ndvi", "--format", "json")[1])
    observed = [row for row in rows if row["status"] == "observed"]
    assert set(rows[0]) >= FIELDS
    assert observed
    assert all((row["mean"] is None) == (row["status"] != "observed") for row in rows)
    assert all(row["reason"] for row in rows if row["status"] != "observed")

    assert installed("backfill", "--indices", "ndvi,evi", *BLOCK)[0] == 0
    assert json.loads(installed("observations", "--index", "ndvi", "--format", "json")[1]) == rows

    farm, day = observed[0]["farm_id"], observed[0]["date"]
    days = json.loads(installed("calendar", "--farm", farm, "--format", "json")[1])
    assert {row["status"] for row in days} >= {"observed", "no_acquisition"}
    item = json.loads(installed("item", farm, day)[1])
    assert item["type"] == "Feature"
    picture = tmp_path / "season.png"
    assert installed("plot", "--farm", farm, "--index", "ndvi", "--to", str(picture))[0] == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    table = tmp_path / "out.parquet"
    code, out, _ = installed("export", "--to", str(table))
    assert (code, f"{2 * len(rows)} observations" in out) == (0, True)
    cube = tmp_path / "farm.zarr"
    assert installed("cube", farm, "--indices", "ndvi", "--from", day, "--until", day, "--to", str(cube))[0] == 0
    assert installed("fsck")[0] == 0
    assert installed("doctor")[0] == 0


def test_an_index_of_the_users_own_is_one_toml_file(
    installed: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No code, no other change: it is listed, computed and read like any other."""
    rows = tmp_path / "mine.toml"
    rows.write_text(
        '[[index]]\nname = "Leafiness"\nslug = "leafiness"\nlong_name = "My leaf index"\n'
        'formula = "(N - R) / (N + R + o)"\nconstants = { o = 0.1 }\nreference = "https://example.org/trial"\n',
    )
    monkeypatch.setenv("FARM_INTEL_INDEX_FILES", str(rows))
    monkeypatch.setenv("FARM_INTEL_ASSET_INDICES", "ndvi,leafiness")

    listed = {row["slug"]: row for row in json.loads(installed("indices", "list", "--format", "json")[1])}
    code, _, err = installed("backfill", "--indices", "leafiness", *BLOCK)
    observed = json.loads(installed("observations", "--index", "leafiness", "--format", "json")[1])

    assert listed["leafiness"]["is_asset"]
    assert code == 0, err
    assert any(row["mean"] is not None for row in observed)
