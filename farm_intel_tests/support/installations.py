"""Installations in a temporary home, as an operator would have them."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from farm_intel.bootstrap import Container, build_container, load_settings
from farm_intel.cli.requests import days_between
from farm_intel.observing.model import CellOutcome, ObserveRequest

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
"""Real imagery lies beside the repository; tests that need it are skipped where it is not."""


def install(home: Path, stac_url: Path | str, farm_file: Path, **settings: Any) -> Container:
    """Return an installation over a catalogue with the farms of a file."""
    container = build_container(load_settings(home=home, stac_url=str(stac_url), **settings))
    contents = container.read_farm_file(farm_file)
    assert contents.farms, contents.rejections
    container.import_farms(contents.farms)
    return container


def observe(container: Container, indices: tuple[str, ...], start: date, end: date) -> list[CellOutcome]:
    """Observe every farm and return the outcomes."""
    request = ObserveRequest(
        provider="stac",
        collection=container.settings.stac_collection,
        indices=indices,
        farm_ids=tuple(farm.farm_id for farm in container.farms.list()),
        days=days_between(start, end),
    )
    return list(container.observing.observe(request, run_id="test"))
