"""A better cloud mask where its bands are there: Sentinel Hub's s2cloudless, as one more mask band.

The probability is a band of whole percent, and what it means is a mask rule like any other, so a profile takes it among
its `more_masks` and the engine knows nothing new. The same rule reads Earth Engine's `COPERNICUS/S2_CLOUD_PROBABILITY`
and Sentinel Hub's `CLP` (scaled to percent), which are this model's output too.

The model was trained on top-of-atmosphere reflectance (Level 1C) and needs the cirrus band, which Level 2A leaves out:
on Level 2A it cannot be run, and we do not pretend. Source: https://github.com/sentinel-hub/sentinel2-cloud-detector;
compared in Skakun et al. 2022, https://doi.org/10.1016/j.rse.2022.112990.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from farm_intel.domain.errors import BadRequestError, NotConfiguredError, UnknownNameError
from farm_intel.domain.products import MaskRule, PixelReason

if TYPE_CHECKING:
    from s2cloudless.cloud_detector import S2PixelCloudDetector

BAND = "cloud_probability"
NODATA = 255
BANDS = ("coastal", "blue", "red", "rededge071", "nir", "nir08", "nir09", "cirrus", "swir16", "swir22")
"""The ten bands of the model, in its order (B01 B02 B04 B05 B08 B8A B09 B10 B11 B12)."""
DEFAULT_THRESHOLD_PERCENT = 40
"""The model's own default."""


def probability_rule(threshold_percent: int) -> MaskRule:
    """Return the mask rule that calls a pixel cloud from this probability on.

    Raises:
        BadRequestError: the threshold is not within 1 to 100.

    """
    if not 1 <= threshold_percent <= 100:
        raise BadRequestError(f"{threshold_percent} % is no threshold of a cloud mask", hint="Give 1 to 100.")
    reasons = {
        percent: PixelReason.CLOUD if percent >= threshold_percent else PixelReason.VALID for percent in range(101)
    }
    return MaskRule(band=BAND, bits=8, reasons=MappingProxyType(reasons), otherwise=PixelReason.NODATA)


class CloudProbability:
    """The model, loaded when it is first used; safe to share between threads."""

    def __init__(self) -> None:
        """Load nothing yet."""
        self._lock = Lock()

    def percent(self, reflectance: Mapping[str, npt.NDArray[np.floating]]) -> npt.NDArray[np.uint8]:
        """Return (H, W) cloud probability in whole percent; NODATA where a band has none.

        Args:
            reflectance: top-of-atmosphere reflectance 0..1 by common name, all (H, W) on one grid; NaN is no data.

        Raises:
            UnknownNameError: a band of the model is missing; names it.
            NotConfiguredError: s2cloudless is not installed.

        """
        missing = [name for name in BANDS if name not in reflectance]
        if missing:
            raise UnknownNameError(
                f"the cloud model needs {', '.join(missing)}, which these data do not offer",
                hint="Use Level 1C data, or the mask that comes with the product.",
            )
        stack = np.stack([np.asarray(reflectance[name], np.float64) for name in BANDS], axis=-1)
        known = np.isfinite(stack).all(axis=-1)
        with self._lock:  # one model, loaded once; prediction uses all cores by itself
            shares = self._model.get_cloud_probability_maps(np.nan_to_num(stack, nan=0.0)[np.newaxis])[0]
        percent = np.clip(np.rint(100.0 * shares), 0, 100).astype(np.uint8)
        return np.where(known, percent, np.uint8(NODATA))

    @cached_property
    def _model(self) -> S2PixelCloudDetector:
        try:
            from s2cloudless.cloud_detector import S2PixelCloudDetector
        except ImportError as error:
            raise NotConfiguredError(
                "the cloud model is not installed", hint="Install farm-intel with the extra `cloud-masks`."
            ) from error
        # Averaging and dilation are the engine's business: it dilates every mask the same way.
        return S2PixelCloudDetector(all_bands=False, average_over=None, dilation_size=None)
