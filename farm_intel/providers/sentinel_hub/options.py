"""How a Sentinel Hub deployment is reached: values only, no library."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from farm_intel.domain.errors import BadRequestError, NotConfiguredError

MAIN_URL = "https://services.sentinel-hub.com"
MAIN_TOKEN_URL = f"{MAIN_URL}/auth/realms/main/protocol/openid-connect/token"
CDSE_URL = "https://sh.dataspace.copernicus.eu"
CDSE_TOKEN_URL = "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token"  # noqa: S105 # nosec B105 - an address
"""Source of the addresses: sentinelhub-py 3.12 docs/source/configure.rst."""

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelHubOptions:
    """One account on one deployment; the secret never shows in `repr`."""

    client_id: str
    client_secret: str = field(repr=False)
    base_url: str = MAIN_URL
    token_url: str = MAIN_TOKEN_URL
    timeout_s: float = 120.0
    """Longest wait for one whole answer, seconds; less where the caller's deadline is nearer."""
    max_attempts: int = 1
    """Attempts the library makes by itself; 1, because the guard retries, and counts, waits and gives up as told."""
    concurrency: int = 4
    """Requests in flight."""
    page_size: int = 100
    """Items per page of the Catalog API, at most 100."""
    block_px: int = 256
    """Edge of one request for pixels, in pixels of 10 m; at most 2500 (Process API)."""
    cache_mib: int = 64
    """Pixels of further bands kept until they are asked for, MiB."""
    statistics_days: int = 180
    """Days one statistics request spans at most, so that it answers within the time-out."""

    def __post_init__(self) -> None:
        """Refuse addresses and sizes that cannot work.

        Raises:
            NotConfiguredError: credentials are missing, or a secret would travel in clear text.
            BadRequestError: a size is outside the service's limits.

        """
        if not self.client_id or not self.client_secret:
            raise NotConfiguredError(
                "Sentinel Hub needs an OAuth client",
                hint="Set FARM_INTEL_SENTINEL_HUB_CLIENT_ID and FARM_INTEL_SENTINEL_HUB_CLIENT_SECRET.",
            )
        for url in (self.base_url, self.token_url):
            parts = urlsplit(url)
            if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
                raise NotConfiguredError(
                    f"{url!r} is no address for a secret: only https, or http on this machine, is used",
                    hint="Correct the Sentinel Hub addresses in the settings.",
                )
        if not 16 <= self.block_px <= 2500:
            raise BadRequestError(f"block_px={self.block_px} is outside 16 to 2500 (Process API)")
        if not 1 <= self.page_size <= 100:
            raise BadRequestError(f"page_size={self.page_size} is outside 1 to 100 (Catalog API)")
        if min(self.concurrency, self.statistics_days, self.max_attempts) < 1:
            raise BadRequestError("concurrency, statistics_days and max_attempts must be at least 1")

    @property
    def host(self) -> str:
        """Host and port of the service, the key of breaker, rate and budget."""
        return urlsplit(self.base_url).netloc
