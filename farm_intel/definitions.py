"""The Dagster code location: `defs` of the installation that the environment names."""

from farm_intel.bootstrap import container_from_environment
from farm_intel.defs.build import build_definitions

defs = build_definitions(container_from_environment())
