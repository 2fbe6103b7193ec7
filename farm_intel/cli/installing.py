"""Where an installation keeps its Dagster instance, and which installation a command means."""

from __future__ import annotations

import shutil
from pathlib import Path

from farm_intel.bootstrap import Container, build_container, settings_from_file
from farm_intel.domain.errors import NotConfiguredError

PROJECT = Path(__file__).resolve().parents[2]
CONFIG_NAME = "farm_intel.toml"


def prepare_dagster_home(container: Container) -> Path:
    """Return the folder of the installation's Dagster instance, with dagster.yaml in it.

    It lies under the installation's home, not in the repository: Dagster writes its history beside its configuration.
    An operator's own instance (`FARM_INTEL_DAGSTER_HOME`, deploy/README.md) is used as it is.

    Raises:
        NotConfiguredError: there is no dagster.yaml.

    """
    own = container.settings.dagster_home
    if own is not None:
        if not (own / "dagster.yaml").is_file():
            raise NotConfiguredError(
                f"FARM_INTEL_DAGSTER_HOME={own} holds no dagster.yaml", hint="Copy deploy/dagster.prod.yaml there."
            )
        return own.absolute()
    source = PROJECT / "dagster.yaml"
    if not source.exists():
        raise NotConfiguredError("dagster.yaml is missing", hint="Run from a checkout of the project.")
    folder = container.settings.home.absolute() / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "dagster.yaml"
    if not target.exists() or target.read_bytes() != source.read_bytes():
        shutil.copyfile(source, target)
    return folder


def demo_home(container: Container) -> Path:
    """Return the demo's own home: its farms and numbers never mix with the operator's."""
    return container.settings.home.absolute() / "demo"


def configured_or_demo(container: Container) -> tuple[Container, bool]:
    """Return the configured installation, or the demo's where nothing is configured and the demo has been run."""
    config = demo_home(container) / CONFIG_NAME
    if not container.sources[0].missing_settings or not config.exists():
        return container, False
    return build_container(settings_from_file(config)), True
