"""The documentation is in step with the code, or the build fails."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import farm_intel
from farm_intel.cli.app import COMMANDS
from farm_intel.domain.observations import Flag, ObservationStatus
from farm_intel.indices.registry import load_registry

ROOT = Path(farm_intel.__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "tools" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["docs/settings.md", "docs/indices.md", "docs/cli.md", "docs/providers.md"])
def test_generated_pages_are_in_step(generator: ModuleType, name: str) -> None:
    assert (ROOT / name).read_text() == generator.PAGES[name](), "run `make docs`"


def test_a_users_index_gets_its_row(generator: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[[index]]\nname = "Leafiness"\nslug = "leafiness"\nlong_name = "My leaf index"\n'
        'formula = "(N - R) / (N + R)"\nreference = "https://example.org/trial"\n',
    )

    page = generator.indices_page(load_registry((path,)))

    assert "| `leafiness` | My leaf index (Leafiness) |" in page


def test_every_package_is_in_the_architecture() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    packages = [path.name for path in (ROOT / "farm_intel").iterdir() if (path / "__init__.py").exists()]

    assert [name for name in packages if f"`{name}`" not in text] == []


def test_every_dependency_is_justified() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [*project["project"]["optional-dependencies"].values(), *project["dependency-groups"].values()]
    declared = [*project["project"]["dependencies"], *(entry for group in groups for entry in group)]
    names = {re.split(r"[><=~\[ ]", entry)[0] for entry in declared}
    names = {name for name in names if not name.startswith("types-") and not name.endswith("-stubs")}

    assert sorted(name for name in names if f" {name}" not in text and f"| {name}" not in text) == []


def test_every_status_and_flag_is_explained() -> None:
    text = (ROOT / "docs" / "numbers.md").read_text()

    assert [word.value for word in (*ObservationStatus, *Flag) if f"`{word.value}`" not in text] == []


def test_every_command_is_in_the_changelog_and_the_pages_exist() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    readme = (ROOT / "README.md").read_text()

    assert [command for command in COMMANDS if command not in changelog] == []
    links = re.findall(r"\]\(([^)#]+)\)", readme)
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


def test_nothing_names_a_machines_path() -> None:
    """A page that names somebody's folders helps nobody else."""
    suspicious = re.compile(r"(?:^|[\s\"'(=])/(?:tmp|root|work|home)/[A-Za-z]")
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "farm_intel").rglob("*.py")]

    assert [str(page.relative_to(ROOT)) for page in pages if suspicious.search(page.read_text())] == []
