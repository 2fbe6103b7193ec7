"""From the environment and files to settings, and from settings to a container."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import SettingsError

from farm_intel.bootstrap.container import Container
from farm_intel.domain.errors import NotConfiguredError
from farm_intel.settings import Settings


def build_container(settings: Settings) -> Container:
    """Return the container of these settings; opens nothing."""
    return Container(settings)


def container_from_environment() -> Container:
    """Return the container of the environment's settings.

    Raises:
        NotConfiguredError: a setting is unknown or out of its range; the message names each.

    """
    return Container(load_settings())


def ignored_inputs() -> list[str]:
    """Return what was meant as a setting and is none: misspelt variables, a settings file that is not there."""
    return Settings.ignored_inputs()


def load_settings(**overrides: object) -> Settings:
    """Return the settings from environment and file, with overrides on top.

    Raises:
        NotConfiguredError: a setting is unknown or out of its range; the message names each.

    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # checked by pydantic itself
    except ValidationError as error:
        problems = "; ".join(
            f"FARM_INTEL_{'_'.join(str(part) for part in e['loc']).upper()}: "
            f"{'there is no such setting' if e['type'] == 'extra_forbidden' else e['msg']} (got {e['input']!r})"
            for e in error.errors()
        )
        raise NotConfiguredError(f"settings: {problems}", hint="`docs/settings.md` lists them all.") from error
    except SettingsError as error:
        raise NotConfiguredError(
            f"settings: {error}", hint='A mapping is JSON in the environment: \'{"ndvi": ["stac", "landsat"]}\'.'
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise NotConfiguredError(
            f"the settings file cannot be read: {error}",
            hint="FARM_INTEL_CONFIG, or farm_intel.toml here, should hold `name = value` lines.",
        ) from error


def settings_from_file(path: Path) -> Settings:
    """Return the settings a TOML file holds, over the environment's.

    Raises:
        NotConfiguredError: the file is not TOML, or a setting is unknown or out of its range.

    """
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise NotConfiguredError(f"{path}: {error}", hint="It should hold `name = value` lines.") from error
    return load_settings(**values)
