"""Processing units: what a request is expected to cost.

Source: docs.sentinel-hub.com, "Processing Unit definition" (and eu-cdse/documentation ProcessingUnit.qmd): one unit is
512 x 512 pixels, three input bands, one sample per pixel, at most 16 bits; the area factor is at least 0.01; 32-bit
TIFF doubles the price; a request costs at least 0.005 (Process API) or 0.01 (Statistical API). A statistics request is
charged per interval with data (recorded: two intervals at twice the price of one image).
"""

from __future__ import annotations

_UNIT_PX = 512 * 512
_UNIT_BANDS = 3
_LEAST_AREA = 0.01
_LEAST_PROCESS = 0.005
_LEAST_STATISTICS = 0.01

UNITS_HEADER = "x-processingunits-spent"


def process_units(width_px: int, height_px: int, bands: int, *, float_output: bool = False) -> float:
    """Return the expected price of one image, in processing units.

    Args:
        width_px: of the output.
        height_px: of the output.
        bands: input bands, without `dataMask`, which is free.
        float_output: True for 32-bit samples.

    """
    return max(_price(width_px, height_px, bands) * (2.0 if float_output else 1.0), _LEAST_PROCESS)


def statistics_units(width_px: int, height_px: int, bands: int, days_with_data: int) -> float:
    """Return the expected price of one statistics request, in processing units; arguments as in `process_units`."""
    return max(_price(width_px, height_px, bands) * days_with_data, _LEAST_STATISTICS)


def _price(width_px: int, height_px: int, bands: int) -> float:
    return max(width_px * height_px / _UNIT_PX, _LEAST_AREA) * max(bands, 1) / _UNIT_BANDS
