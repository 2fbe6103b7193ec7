"""Pixels of stored rasters, for whoever has to see that a number still follows from them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from farm_intel.domain.errors import StoreError
from farm_intel.storage.raster_store import RasterStore


class StoredPixels:
    """Reads bands of rasters by their address."""

    def __init__(self, rasters: RasterStore) -> None:
        """Keep the rasters."""
        self._rasters = rasters

    def values(self, sha256: str, band: int) -> npt.NDArray[np.float64] | None:
        """Return the values of a raster's valid pixels, index units, (n,); None where the raster is not there.

        Args:
            sha256: the raster's address.
            band: 1-based.

        Raises:
            StoreError: it is there and cannot be read.

        """
        if not self._rasters.exists(sha256):
            return None
        from rasterio.errors import RasterioError
        from rasterio.io import MemoryFile

        content = self._rasters.read(sha256)
        try:
            with MemoryFile(content) as file, file.open(driver="GTiff") as dataset:
                pixels = dataset.read(band, masked=True).compressed().astype(np.float64)
                return np.asarray(pixels * dataset.scales[band - 1] + dataset.offsets[band - 1])
        except (RasterioError, IndexError) as error:
            raise StoreError(
                f"raster {sha256}, band {band}, cannot be read: {error}", hint="`farm-intel fsck` says what is damaged."
            ) from error
