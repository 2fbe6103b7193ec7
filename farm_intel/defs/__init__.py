"""The Dagster layer: factories from registry rows to assets, checks, sensors and schedules."""
