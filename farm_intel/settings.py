"""Every setting with its unit and default; the only reader of the environment and of the settings file.

A setting is an environment variable `FARM_INTEL_<NAME>` or an entry `<name> = …` of the TOML file named by
`FARM_INTEL_CONFIG` (default `farm_intel.toml` in the working directory, if it is there). The environment wins.
"""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

Slugs = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """All settings; the docstring under each field is its documentation."""

    model_config = SettingsConfigDict(
        env_prefix="FARM_INTEL_", frozen=True, extra="forbid", use_attribute_docstrings=True, env_ignore_empty=True
    )

    home: Path = Path(".farm_intel")
    """Folder for state: database, rasters, caches, the Dagster instance and the demo world."""
    database_url: str = ""
    """SQLAlchemy URL of the store; empty means SQLite in `home`. PostgreSQL: `postgresql+psycopg2://…`."""
    raster_root: Path | None = None
    """Folder for published rasters; empty means `home`/rasters."""
    dagster_home: Path | None = None
    """Folder of a Dagster instance with its own `dagster.yaml`; empty means `home`/dagster with the project's."""
    provider: str = Field(default="stac", pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Default provider name, used where a command does not name one."""
    stac_url: str = ""
    """STAC API root, static catalog.json, collection.json or folder of item files; a URL or a path."""
    stac_dialect: Literal["earth-search", "planetary-computer", "cdse"] = "earth-search"
    """Which catalogue dialect the items speak: chooses the profile rows."""
    stac_collection: str = "sentinel-2-l2a"
    """Collection to read; must have a profile row in the dialect."""
    stac_timeout_s: float = Field(default=60.0, gt=0)
    """Longest wait for one answer of the catalogue, seconds."""
    stac_retries: int = Field(default=5, ge=0)
    """Attempts after the first for transient catalogue answers (408, 429, 5xx, connection errors)."""
    stac_page_size: int = Field(default=100, ge=1, le=10000)
    """Items per page asked of a STAC API; halved by itself when the catalogue fails on large pages."""
    read_timeout_s: float = Field(default=60.0, gt=0)
    """Longest wait for one range of an image file, seconds."""
    read_retries: int = Field(default=4, ge=0)
    """Attempts after the first for transient failures of a range read."""
    reader: Literal["auto", "fast", "rasterio"] = "auto"
    """How blocks are read: `fast` (ranges + libdeflate), `rasterio`, or `auto`: fast where the file allows."""
    read_concurrency: int = Field(default=32, ge=1)
    """Range requests in flight; 32 suits 30 ms of latency, 64 to 128 suit 80 ms."""
    engine_threads: int = Field(default=0, ge=0)
    """Threads that decode and compute; 0 means one per core."""
    engine_budget_mib: int = Field(default=128, ge=16)
    """Decoded pixels held at once, MiB."""
    mask_first: bool = False
    """Read the mask band first and skip blocks whose farms are all obscured."""
    mask_dilation_px: int = Field(default=0, ge=0, le=32)
    """Grow cloud and shadow by this many pixels of the mask band."""
    min_pure_pixels: int = Field(default=10, ge=1)
    """Pixels wholly inside the farm from which on only they count (purity ladder)."""
    min_valid_fraction: float = Field(default=0.10, ge=0, le=1)
    """Share of the farm's area that must be valid for a number, 0 to 1."""
    asset_indices: Slugs = ("ndvi", "ndwi", "ndmi", "evi", "savi")
    """Indices (slugs, comma-separated) that become Dagster assets."""
    index_files: Slugs = ()
    """TOML files with the user's own indices, comma-separated paths."""
    history_start: date | None = None
    """First day of the assets' date partitions; empty means `window_days` before today."""
    history_end: date | None = None
    """Last day of the assets' date partitions, inclusive; empty means today, growing day by day."""
    window_days: int = Field(default=731, ge=1)
    """Length of the rolling date window when `history_start` is empty, days."""
    cohort_size: int = Field(default=500, ge=1)
    """Farms per cohort; more farms than this split into several cohorts."""
    max_farm_area_ha: float = Field(default=50_000.0, gt=0)
    """Larger farms are rejected at import, hectares."""
    max_boundary_vertices: int = Field(default=10_000, ge=4)
    """Boundaries with more vertices are rejected at import."""
    backfill_max_cells: int = Field(default=10_000, ge=1)
    """Cells one Dagster backfill may hold; larger requests are split."""
    run_max_cells: int = Field(default=400, ge=1)
    """Cells one run should hold at most when we launch it ourselves."""
    sensor_interval_s: int = Field(default=900, ge=30)
    """How often the new-scene sensor looks, seconds."""
    sensor_lookback_days: int = Field(default=14, ge=1)
    """How far back the sensor and the daily schedule look for new or reprocessed scenes, days."""
    daily_cron: str = "30 3 * * *"
    """When the daily schedule asks the store what is missing, five-field cron, UTC."""
    ui_host: str = "127.0.0.1"
    """Address the Dagster UI listens on."""
    ui_port: int = Field(default=3000, ge=1, le=65535)
    """Port of the Dagster UI."""

    @field_validator("asset_indices", "index_files", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @classmethod
    def settings_customise_sources(  # noqa: D102 - pydantic-settings hook
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - signature is the library's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        path = Path(os.environ.get("FARM_INTEL_CONFIG", "farm_intel.toml"))
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=path))

    @classmethod
    def ignored_inputs(cls) -> list[str]:
        """Return what was meant as a setting and is none: misspelt variables, a settings file that is not there."""
        known = {f"FARM_INTEL_{name.upper()}" for name in cls.model_fields} | {"FARM_INTEL_CONFIG"}
        ignored = sorted(name for name in os.environ if name.startswith("FARM_INTEL_") and name not in known)
        config = os.environ.get("FARM_INTEL_CONFIG", "")
        return (
            [*ignored, f"FARM_INTEL_CONFIG={config} (no such file)"]
            if config and not Path(config).is_file()
            else ignored
        )

    @property
    def resolved_database_url(self) -> str:
        """The store's URL, SQLite under `home` by default."""
        return self.database_url or f"sqlite:///{(self.home / 'farm_intel.db').absolute()}"

    @property
    def resolved_raster_root(self) -> Path:
        """The raster folder, under `home` by default."""
        return (self.raster_root or self.home / "rasters").absolute()

    def child_environment(self, dagster_home: Path) -> dict[str, str]:
        """Return the environment for a process of ours that must see exactly these settings.

        Args:
            dagster_home: folder of the Dagster instance.

        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FARM_INTEL_")}
        for name in self.model_fields_set:
            value = getattr(self, name)
            if value is None:
                continue
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            environment[f"FARM_INTEL_{name.upper()}"] = text
        environment["FARM_INTEL_HOME"] = str(self.home.absolute())
        environment["DAGSTER_HOME"] = str(dagster_home.absolute())
        return environment

    def as_toml(self) -> str:
        """Return the settings that differ from their defaults as a TOML file."""
        lines = []
        for name in sorted(self.model_fields_set):
            value = getattr(self, name)
            if value is None or value == type(self).model_fields[name].default:
                continue
            if isinstance(value, bool):
                text = str(value).lower()
            elif isinstance(value, (int, float)):
                text = repr(value)
            elif isinstance(value, tuple):
                text = "[" + ", ".join(f'"{part}"' for part in value) + "]"
            else:
                text = '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
            lines.append(f"{name} = {text}")
        return "\n".join(lines) + "\n"
