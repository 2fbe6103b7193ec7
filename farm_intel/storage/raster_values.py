"""The pixel values of published rasters, as numbers; implements `alerts.reading.PixelReader`."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt

from farm_intel.domain.errors import StoreError
from farm_intel.storage.rasters import RasterStore


class RasterValues:
    """Reads rasters by their address."""

    def __init__(self, rasters: RasterStore) -> None:
        """Keep the store."""
        self._rasters = rasters

    def values(self, sha256: str, band: int) -> npt.NDArray[np.float64] | None:
        """Return the values of a raster's valid pixels, index units, (n,); None where the raster is not there.

        Args:
            sha256: the raster's address.
            band: 1-based.

        Raises:
            StoreError: the raster is there and cannot be read.

        """
        import rasterio
        from rasterio.errors import RasterioError

        if not self._rasters.exists(sha256):
            return None
        content = self._rasters.read(sha256)
        try:
            with rasterio.open(io.BytesIO(content)) as dataset:
                data = dataset.read(band, masked=True).compressed().astype(np.float64)
                return np.asarray(data * dataset.scales[band - 1] + dataset.offsets[band - 1])
        except (RasterioError, IndexError) as error:
            raise StoreError(
                f"raster {sha256}, band {band}, cannot be read: {error}", hint="Run farm-intel fsck."
            ) from error
