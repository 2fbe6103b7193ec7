"""The composition root: settings in, a container of adapters and use cases out.

Everything is built when it is first asked for, and heavy libraries are imported here and nowhere above, so that the
Dagster definitions and the quick commands do not pay for what they do not use.
"""

from farm_intel.bootstrap.container import Container, FarmFileReading
from farm_intel.bootstrap.loading import (
    build_container,
    container_from_environment,
    ignored_inputs,
    load_settings,
    settings_from_file,
)

__all__ = [
    "Container",
    "FarmFileReading",
    "build_container",
    "container_from_environment",
    "ignored_inputs",
    "load_settings",
    "settings_from_file",
]
