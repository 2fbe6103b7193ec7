"""Where rasters are kept: which store stands behind a folder or a URL."""

from __future__ import annotations

from pathlib import Path

from farm_intel.storage.raster_store import RasterStore


def open_raster_store(root: str) -> RasterStore:
    """Return the store at a folder or at a URL of an object store (`s3://`, `gs://`, `az://`).

    Raises:
        BadRequestError: there is no store for such a URL.

    """
    if "://" in root:
        from farm_intel.storage.object_rasters import ObjectRasters

        return ObjectRasters(root)
    from farm_intel.storage.rasters import FolderRasters

    return FolderRasters(Path(root))
