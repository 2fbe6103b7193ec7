"""Every setting with its unit and default; the only reader of the environment and of the settings file.

A setting is an environment variable `FARM_INTEL_<NAME>` or an entry `<name> = …` of the TOML file named by
`FARM_INTEL_CONFIG` (default `farm_intel.toml` in the working directory, if it is there). The environment wins.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
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
    raster_root: str = ""
    """Where published rasters go: a folder, or `s3://bucket/prefix`, `gs://…`, `az://…`; empty: `home`/rasters."""
    dagster_home: Path | None = None
    """Folder of a Dagster instance with its own `dagster.yaml`; empty means `home`/dagster with the project's."""
    providers: Annotated[Slugs, Field(min_length=1)] = ("stac",)
    """Providers in use, comma-separated, best first, which is the fallback order; see `docs/providers.md`."""
    provider_order: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Index slug to its own order of providers, where it differs from `providers`; JSON in the environment."""
    provider_deadline_s: float = Field(default=600.0, gt=0)
    """Time a run may spend on one provider before the next in order is asked, seconds."""
    provider_retries: int = Field(default=4, ge=0)
    """Attempts after the first for transient failures of Sentinel Hub and Earth Engine."""
    provider_budgets: Mapping[str, float] = Field(default_factory=dict)
    """Provider to units it may spend in a calendar month (UTC), over the table's default; JSON in the environment."""
    provider_rates: Mapping[str, float] = Field(default_factory=dict)
    """Provider to requests per minute, over the table's default; JSON in the environment."""
    breaker_failures: int = Field(default=5, ge=1)
    """Failures of one operation in a row after which a provider's host counts as down."""
    breaker_open_s: float = Field(default=30.0, gt=0)
    """How long a host that is down is left alone at first, seconds; doubles with every failed probe up to 16 times."""
    harmonise: bool = True
    """Bring other sensors to the Sentinel-2 scale with published bandpass coefficients before fusing."""
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
    landsat_url: str = ""
    """STAC source of Landsat Collection 2 Level 2; empty means the dialect's public catalogue."""
    landsat_dialect: Literal["planetary-computer", "earth-search", "usgs"] = "planetary-computer"
    """Which catalogue dialect the Landsat items speak."""
    modis_url: str = ""
    """STAC source of the MODIS collections; empty means Planetary Computer."""
    hls_url: str = ""
    """STAC source of the HLS collections; empty means Planetary Computer."""
    sentinel_hub_url: str = "https://services.sentinel-hub.com"
    """Sentinel Hub deployment; Copernicus Data Space: `https://sh.dataspace.copernicus.eu`."""
    sentinel_hub_token_url: str = "https://services.sentinel-hub.com/auth/realms/main/protocol/openid-connect/token"  # noqa: S105 - an address
    """Where Sentinel Hub hands out tokens; Copernicus Data Space:
    `https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token`."""
    sentinel_hub_client_id: str = ""
    """OAuth client of Sentinel Hub."""
    sentinel_hub_client_secret: SecretStr = SecretStr("")
    """Secret of the OAuth client."""
    sentinel_hub_capability: Literal["pixels", "statistics"] = "pixels"
    """`pixels` reads blocks and makes rasters; `statistics` asks for one table per farm and makes none."""
    sentinel_hub_timeout_s: float = Field(default=120.0, gt=0)
    """Longest wait for one answer of Sentinel Hub, seconds."""
    earth_engine_url: str = "https://earthengine-highvolume.googleapis.com"
    """Earth Engine endpoint."""
    earth_engine_project: str = ""
    """Google Cloud project that Earth Engine work is charged to."""
    earth_engine_credentials: SecretStr = SecretStr("")
    """Key of a service account: the JSON text, or the path of its file."""
    earth_engine_capability: Literal["pixels", "statistics"] = "pixels"
    """`pixels` reads blocks and makes rasters; `statistics` reduces regions on their side and makes none."""
    earth_engine_timeout_s: float = Field(default=180.0, gt=0)
    """Longest wait for one answer of Earth Engine, seconds."""
    read_timeout_s: float = Field(default=60.0, gt=0)
    """Longest wait for one range of an image file, seconds."""
    read_retries: int = Field(default=4, ge=0)
    """Attempts after the first for transient failures of a range read."""
    reader: Literal["auto", "fast", "rasterio"] = "auto"
    """How blocks are read: `fast` (ranges + libdeflate), `rasterio`, or `auto`: fast where the file allows."""
    read_whole_blocks: bool = False
    """Inflate every block to its end and check its checksum, instead of only to the last row a farm needs."""
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
    activity_type_files: Slugs = ()
    """TOML files with the user's own activity types, comma-separated paths."""
    activity_trigger_files: Slugs = ()
    """TOML files that say which alert proposes which work, comma-separated paths."""
    alert_rule_files: Slugs = ()
    """TOML files with the user's own alert rules, comma-separated paths; a rule of a known name replaces ours."""
    alert_news_days: int = Field(default=14, ge=1)
    """Alerts about days longer ago than this are recorded and told to nobody, days."""
    pump_batch: int = Field(default=400, ge=1)
    """Occurrences or messages that one pass of the pump takes at a time."""
    pump_interval_s: int = Field(default=30, ge=5)
    """How often the pump's sensor asks whether anything is due, seconds."""
    pump_deadline_s: float = Field(default=240.0, gt=0)
    """Longest time one pass of the pump works before it leaves the rest to the next, seconds."""
    lease_s: float = Field(default=300.0, gt=0)
    """How long a worker may keep an occurrence or message before another takes it, seconds."""
    keep_occurrences_days: int = Field(default=730, ge=1)
    """Settled occurrences are removed after this, days; the logbook stays."""
    keep_messages_days: int = Field(default=90, ge=1)
    """Sent messages, stream events and rendered speech are removed after this, days."""
    smtp_host: str = ""
    """Mail server; empty means that no mail is sent."""
    smtp_port: int = Field(default=587, ge=1, le=65535)
    """Port of the mail server."""
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    """How the connection to the mail server is secured."""
    smtp_user: str = ""
    """Login of the mail server; empty for none."""
    smtp_password: SecretStr = SecretStr("")
    """Password of the mail server."""
    smtp_from: str = ""
    """Sender of our mails, `Farm Intel <alerts@example.org>`."""
    private_hosts: Slugs = ()
    """Hosts and networks (`receiver.farm.lan`, `10.1.0.0/16`) of the own network that webhooks and apprise may reach;
    all others must be public."""
    speech_engines: Slugs = ("hibari", "flite", "espeak-ng")
    """Speech engines, best first: hibari, piper (extra), flite, espeak-ng. One that is not installed or lacks a
    language is passed over; a tone comes last."""
    audio_root: Path | None = None
    """Folder for rendered speech; empty means `home`/audio."""
    api_host: str = "127.0.0.1"
    """Address the API listens on."""
    api_port: int = Field(default=8000, ge=1, le=65535)
    """Port of the API."""
    api_tokens: Mapping[str, str] = Field(default_factory=dict)
    """SHA-256 (hex) of a user's token to the user's id; JSON in the environment. `farm-intel api token` makes one."""
    api_operators: Slugs = ()
    """Users who may read, replay and drop other people's messages, comma-separated."""
    api_origins: Slugs = ()
    """Origins of web pages that may open the live channel, comma-separated, e.g. `https://farm.example.org`."""
    ui_host: str = "127.0.0.1"
    """Address the Dagster UI listens on."""
    ui_port: int = Field(default=3000, ge=1, le=65535)
    """Port of the Dagster UI."""

    @field_validator(
        "asset_indices",
        "index_files",
        "providers",
        "activity_type_files",
        "activity_trigger_files",
        "alert_rule_files",
        "private_hosts",
        "speech_engines",
        "api_operators",
        "api_origins",
        mode="before",
    )
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
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
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
    def provider(self) -> str:
        """The first provider: the one meant where a command names none."""
        return self.providers[0]

    @property
    def resolved_database_url(self) -> str:
        """The store's URL, SQLite under `home` by default."""
        return self.database_url or f"sqlite:///{(self.home / 'farm_intel.db').absolute()}"

    @property
    def resolved_raster_root(self) -> str:
        """The raster folder, under `home` by default, or the URL of a bucket."""
        if "://" in self.raster_root:
            return self.raster_root
        return str(Path(self.raster_root or self.home / "rasters").absolute())

    @property
    def resolved_audio_root(self) -> Path:
        """The folder of rendered speech, under `home` by default."""
        return (self.audio_root or self.home / "audio").absolute()

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
            environment[f"FARM_INTEL_{name.upper()}"] = _as_variable(value)
        environment["FARM_INTEL_HOME"] = str(self.home.absolute())
        environment["DAGSTER_HOME"] = str(dagster_home.absolute())
        return environment

    def as_toml(self) -> str:
        """Return the settings that differ from their defaults as a TOML file."""
        lines = []
        for name in sorted(self.model_fields_set):
            value = getattr(self, name)
            # a secret belongs into the environment, not into a file that is copied about
            if value is None or isinstance(value, SecretStr) or value == _default(name):
                continue
            if isinstance(value, bool):
                text = str(value).lower()
            elif isinstance(value, (int, float)):
                text = repr(value)
            elif isinstance(value, tuple):
                text = json.dumps(value)
            elif isinstance(value, Mapping):
                text = (
                    "{ " + ", ".join(f"{json.dumps(key)} = {json.dumps(entry)}" for key, entry in value.items()) + " }"
                )
            else:
                text = '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
            lines.append(f"{name} = {text}")
        return "\n".join(lines) + "\n"


def _default(name: str) -> object:
    return Settings.model_fields[name].get_default(call_default_factory=True)


def _as_variable(value: object) -> str:
    """Return a setting as the environment holds it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, Mapping):
        return json.dumps(dict(value))
    return str(value)
