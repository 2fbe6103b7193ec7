"""What a materialisation event tells about its cell: small values, a thumbnail and the series so far."""

import base64
from dataclasses import dataclass

import dagster as dg

from farm_intel.defs.ports import Pictures
from farm_intel.observing.model import CellOutcome

MAX_PICTURE_BYTES = 3_000
"""PNG bytes of one picture in an event; base64 makes 4 KB of it, and an event should stay within about 6 KB."""
MAX_SCENES = 6
"""Scene ids named in an event; the store has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellDescriber:
    """Turns outcomes into event metadata."""

    pictures: Pictures | None
    """None in large runs: pictures of thousands of cells nobody looks at one by one."""

    def describe(self, outcome: CellOutcome) -> dict[str, dg.MetadataValue | str | int | float]:
        """Return the metadata of a cell's materialisation, in the order a reader wants it: answer, pictures, details.

        Numbers are plotted over the partitions by Dagster.
        """
        metadata: dict[str, dg.MetadataValue | str | int | float] = {"status": outcome.status.value}
        if outcome.reason:
            metadata["reason"] = outcome.reason
        if outcome.statistics is not None:
            metadata["mean"] = _rounded(outcome.statistics.mean)
        metadata |= self._pictures(outcome)
        if outcome.statistics is not None:
            metadata["median"] = _rounded(outcome.statistics.median)
            metadata["std"] = _rounded(outcome.statistics.std)
        if outcome.standard_error is not None:
            metadata["standard_error"] = _rounded(outcome.standard_error)
        metadata |= {
            "valid_fraction": _rounded(outcome.valid_pixel_fraction),
            "cloud_fraction": _rounded(outcome.cloud_fraction),
            "covered_fraction": _rounded(outcome.covered_fraction),
            "used_pixels": outcome.used_pixel_count,
            "n_effective": _rounded(outcome.n_effective),
            "flags": ", ".join(flag.value for flag in outcome.flags) or "none",
            "scenes": _scene_text(outcome.scene_ids),
            "radiometry": outcome.radiometry or "none",
        }
        if outcome.raster_path is not None:
            metadata["raster"] = f"{outcome.raster_path} (band {outcome.raster_band})"
        return metadata

    def _pictures(self, outcome: CellOutcome) -> dict[str, dg.MetadataValue]:
        if self.pictures is None or outcome.raster_path is None:
            return {}
        drawn = {"thumbnail": self.pictures.thumbnail(outcome), "series": self.pictures.sparkline(outcome.key)}
        return {
            name: dg.MetadataValue.md(picture_markdown(name, png))
            for name, png in drawn.items()
            if png is not None and len(png) <= MAX_PICTURE_BYTES
        }


def picture_markdown(name: str, png: bytes) -> str:
    """Return a PNG as a Markdown image with its bytes in it."""
    return f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})"


def _rounded(value: float) -> float:
    return round(float(value), 5)


def _scene_text(scene_ids: tuple[str, ...]) -> str:
    more = len(scene_ids) - MAX_SCENES
    return ", ".join(scene_ids[:MAX_SCENES]) + (f" and {more} more" if more > 0 else "") or "none"
