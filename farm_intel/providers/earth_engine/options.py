"""What an operator may say about Earth Engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from farm_intel.domain.errors import NotConfiguredError

HIGH_VOLUME_URL = "https://earthengine-highvolume.googleapis.com"
LARGEST_ANSWER_BYTES = 50_331_648
"""Earth Engine refuses larger pixel requests; a pixel counts its bytes and one for the mask (google/Xee, ext.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarthEngineOptions:
    """Credentials, endpoint and limits of one Earth Engine project."""

    project: str
    """Cloud project the computing is charged to."""
    credentials: str = field(repr=False)
    """Service account key: its JSON text, or the path of the file that holds it."""
    url: str = HIGH_VOLUME_URL
    timeout_s: float = 180.0
    """Longest wait for one answer."""
    page_size: int = 500
    """Images or features asked for at a time, at most 1000."""
    block_px: int = 256
    """Edge of the virtual blocks images are read in, pixels."""
    max_concurrent: int = 40
    """Requests in flight, over all threads of the process; Earth Engine refuses more per project."""
    farms_per_request: int = 500
    request_bytes: int = 4_000_000
    """Geometry text of one statistics request; Earth Engine takes about 10 MB with every page again."""
    tag_prefix: str = "farm-intel"
    """Workload tags begin with it, so that computing can be told apart on the bill."""

    def __post_init__(self) -> None:
        """Refuse limits nothing could be read with."""
        if min(self.timeout_s, self.page_size, self.block_px, self.max_concurrent, self.farms_per_request) <= 0:
            raise NotConfiguredError(
                "Earth Engine's limits (timeout, page, block, concurrency, farms) must be above zero",
                hint="Correct the FARM_INTEL_EARTH_ENGINE_* settings.",
            )

    @property
    def host(self) -> str:
        """Host and port of the endpoint."""
        return urlsplit(self.url).netloc
