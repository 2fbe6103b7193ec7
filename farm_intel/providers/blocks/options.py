"""How blocks are read: values only, no library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from farm_intel.resilience.guard import CallGuard

ReaderKind = Literal["auto", "fast", "rasterio"]
SignHref = Callable[[str], str]
"""Given an unsigned href, returns it with a fresh signature; may block, may be called from several threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """How `s3://` hrefs are reached; empty values leave the choice to the AWS environment."""

    endpoint_url: str = ""
    """`https://host[:port]` of an S3 service that is not Amazon's; the bucket then stands in the path."""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    requester_pays: bool = False
    """Agree to pay for the transfer (USGS Landsat)."""
    anonymous: bool = False
    """Do not sign requests (public buckets)."""

    def __repr__(self) -> str:
        """Name everything but the secrets: options end up in logs."""
        return f"S3Options(endpoint_url={self.endpoint_url!r}, region={self.region!r}, anonymous={self.anonymous})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderOptions:
    """Options of one block reader."""

    kind: ReaderKind = "auto"
    concurrency: int = 32
    """Range requests in flight over all files of the reader."""
    timeout_s: float = 60.0
    """Longest wait for one range, seconds; connecting may take a quarter of it."""
    retries: int = 4
    """Attempts after the first for transient failures."""
    wait_initial_s: float = 0.25
    """Pause before the first retry, seconds; doubles with each, plus jitter."""
    wait_max_s: float = 20.0
    """Longest pause before a retry, seconds; a server that asks for more gets its ThrottledError at once."""
    s3: S3Options = S3Options()
    sign: SignHref | None = None
    """Signs hrefs as late as possible: before a file is opened, and once more when access is denied."""
    guard: CallGuard | None = None
    """Lets requests for remote files through (breaker, deadline) and retries them; None: retries alone, as above."""
    provider: str = ""
    """Whose files they are, for the guard."""
    proxy_url: str = ""
    """HTTP proxy for all requests; empty for none."""
    whole_blocks: bool = False
    """Inflate every block to its end and check its Adler-32; otherwise only as far as a farm reaches, unchecked."""
