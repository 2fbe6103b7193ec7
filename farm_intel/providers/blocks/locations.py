"""Where a band file is: hrefs parsed once, before any library sees them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from farm_intel.domain.errors import SceneProblemError, SceneProblemKind

_AZURE_HOST = re.compile(r"(?P<account>[a-z0-9]{3,24})\.blob\.core\.windows\.net(:\d+)?")


class Scheme(StrEnum):
    """Protocols we read."""

    FILE = "file"
    HTTP = "http"
    AZURE = "azure"
    S3 = "s3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """One file, split into the store that holds it and the path within."""

    scheme: Scheme
    base: str
    """Origin of the store: `https://host`, the bucket, or empty for files."""
    path: str
    """Decoded path within the store; the absolute path of a local file."""
    query: str = ""
    """As in the href, signature included; never shown."""
    url: str = ""
    """The whole href of a remote file, signature included; never shown."""
    display: str = ""
    """What may be shown: no query, no user and password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandRef:
    """Names a band file in messages."""

    scene_id: str
    band: str
    display: str

    def problem(self, kind: SceneProblemKind, what: str, *, hint: str = "") -> SceneProblemError:
        """Return the error that takes this band's scene out of the run."""
        return SceneProblemError(kind, self.scene_id, f"band {self.band}: {what} ({self.display})", hint=hint)

    def __str__(self) -> str:
        """Return scene, band and address for messages about passing failures."""
        return f"scene {self.scene_id}, band {self.band} ({self.display})"


def display_href(href: str) -> str:
    """Return an href without query, fragment, user and password, so that no signature reaches a log."""
    parts = urlsplit(href)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def strip_signature(href: str) -> str:
    """Return a remote href without its query: signing libraries return a signed URL unchanged, even an expired one."""
    parts = urlsplit(href)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")) if parts.scheme.startswith("http") else href


def parse_location(href: str, ref: BandRef) -> Location:
    """Return where `href` leads.

    GDAL's own prefixes (`/vsicurl/`, `/vsizip/` ...) and inline documents are refused: a catalogue is not trusted
    to choose the protocol (an href of `/vsicurl/http://10.0.0.1` would be fetched from inside the network).

    Raises:
        SceneProblemError: the protocol is not one of file, http, https, s3.

    """
    parts = urlsplit(href)
    scheme = parts.scheme.lower()
    if scheme in {"http", "https"} and parts.hostname:
        return _web_location(href, ref)
    if scheme == "s3" and parts.netloc and parts.path.strip("/"):
        return Location(
            scheme=Scheme.S3, base=parts.netloc, path=parts.path.lstrip("/"), url=href, display=display_href(href)
        )
    path = unquote(parts.path) if scheme == "file" else href
    if scheme in {"", "file"} and path.startswith("/") and not path.startswith("/vsi"):
        return Location(scheme=Scheme.FILE, base="", path=str(Path(path).resolve()), display=path)
    raise ref.problem(
        SceneProblemKind.UNREADABLE_FILE,
        f"hrefs of this kind ({scheme or 'no protocol'}) are not read",
        hint="Give the catalogue https, s3 or file hrefs, or absolute paths.",
    )


def _web_location(href: str, ref: BandRef) -> Location:
    parts = urlsplit(href)
    origin = urlunsplit((parts.scheme.lower(), parts.netloc, "", "", ""))
    signed_blob = _AZURE_HOST.fullmatch(parts.netloc.lower()) and "sig=" in parts.query
    return Location(
        scheme=Scheme.AZURE if signed_blob else Scheme.HTTP,
        base=origin,
        path=unquote(parts.path).lstrip("/"),
        query=parts.query,
        url=href,
        display=ref.display,
    )
