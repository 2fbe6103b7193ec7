"""The rules of the house hold: layers, structure, thin modules, inert imports."""

from __future__ import annotations

import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import farm_intel

ROOT = Path(farm_intel.__file__).resolve().parent.parent


def test_no_file_passes_the_line_limit() -> None:
    """A module that needs more than 500 lines has more than one reason to change."""
    long_files = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / "farm_intel").rglob("*.py")
        if (lines := path.read_text().count("\n")) > 500
    }

    assert long_files == {}


def test_nothing_but_the_registry_knows_an_index_by_name() -> None:
    spec = importlib.util.spec_from_file_location("structure_guard", ROOT / "tools" / "structure_guard.py")
    assert spec is not None
    assert spec.loader is not None
    guard = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(guard)

    assert guard.violations(ROOT / "farm_intel") == []


def test_the_structure_guard_sees_what_it_is_for(tmp_path: Path) -> None:
    """A guard that cannot fail guards nothing."""
    spec = importlib.util.spec_from_file_location("structure_guard", ROOT / "tools" / "structure_guard.py")
    assert spec is not None
    assert spec.loader is not None
    guard = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(guard)
    (tmp_path / "bad.py").write_text(
        'def compute_ndvi(x): return x\ndef f(index="ndvi"): return index == "NDVI"\nclass NdviThing: pass\n',
    )

    kinds = {line.split()[0] for line in guard.violations(tmp_path)}

    assert {"S1", "S2", "S3"} <= kinds


@pytest.mark.parametrize(
    "heavy",
    ["rasterio", "geopandas", "shapely", "pyproj", "numba", "xarray", "pandas", "stackstac", "matplotlib"],
)
def test_definitions_load_without_geo_libraries(heavy: str) -> None:
    """Every Dagster run imports the definitions: a geo library there doubles the cost of each."""
    modules = _modules_after_import("farm_intel.definitions")

    assert heavy not in modules


def test_the_quick_commands_do_not_import_dagster() -> None:
    assert "dagster" not in _modules_after_import("farm_intel.cli")


def test_every_module_imports_without_environment_or_work() -> None:
    """Importing reads no environment, opens no socket, writes no file."""
    names = [
        name
        for _, name, _ in pkgutil.walk_packages(farm_intel.__path__, "farm_intel.")
        if ".migrations" not in name and name != "farm_intel.definitions"
    ]
    code = (
        "import socket, importlib, sys\n"
        "def refuse(*a, **k): raise RuntimeError('network at import')\n"
        "socket.socket.connect = refuse\n"
        f"[importlib.import_module(n) for n in {names!r}]\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PATH": ""}, cwd=ROOT, check=False
    )

    assert result.returncode == 0, result.stderr


_cache: dict[str, set[str]] = {}


def _modules_after_import(name: str) -> set[str]:
    if name not in _cache:
        result = subprocess.run(
            [sys.executable, "-c", f"import sys, {name}; print('\\n'.join(sys.modules))"],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        _cache[name] = set(result.stdout.split())
    return _cache[name]
