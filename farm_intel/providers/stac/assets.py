"""From an item's assets to band files: which asset is which band, where its file is, what it declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from farm_intel.domain.products import AccessKind, CollectionProfile
from farm_intel.domain.scenes import BandFile

Asset = Mapping[str, Any]


def is_remote(href: str) -> bool:
    """True for URLs; False for local paths and `file:` URLs."""
    scheme = urlsplit(href).scheme
    return len(scheme) > 1 and scheme != "file"


def local_path(href: str) -> Path:
    """Return the path of a local href, which may be a `file:` URL."""
    return Path(unquote(urlsplit(href).path)) if href.startswith("file:") else Path(href)


def resolve_href(href: str, base_href: str) -> str | None:
    """Return an absolute URL or path for an href found in the document at `base_href`.

    Returns None where a remote document points into the local file system: nobody else decides what we open here.
    """
    if is_remote(href):
        return href
    if is_remote(base_href):
        return None if href.startswith("file:") else urljoin(base_href, href)
    path = local_path(href)
    if path.is_absolute():
        return str(path)
    return str((local_path(base_href).parent / path).resolve())


def unsigned(href: str) -> str:
    """Return the href without a shared access signature somebody left in it: it expires, the scene does not."""
    bare, _, query = href.partition("?")
    return bare if "sig=" in query else href


def band_files(assets: Mapping[str, Asset], profile: CollectionProfile, base_href: str) -> dict[str, BandFile]:
    """Return the bands an item really offers, by common name."""
    files: dict[str, BandFile] = {}
    for common_name, asset_key in profile.assets.items():
        key = asset_key if asset_key in assets else _other_key(assets, common_name)
        if key is None:
            continue
        # A catalogue's other way to the file is not in items that were saved beside their files.
        raw_href = _at(assets[key], profile.href_path) or assets[key].get("href")
        href = resolve_href(raw_href, base_href) if isinstance(raw_href, str) and raw_href else None
        if href is None:
            continue
        files[common_name] = BandFile(
            common_name=common_name,
            asset_key=key,
            href=unsigned(href) if profile.access is AccessKind.PLANETARY_COMPUTER else href,
            nodata=_number(_declared(assets[key], "nodata")),
            declared_scale=_number(_declared(assets[key], "scale")),
            declared_offset=_number(_declared(assets[key], "offset")),
        )
    return files


def _other_key(assets: Mapping[str, Asset], common_name: str) -> str | None:
    """Return the asset that carries a common name under a key the profile does not know, best resolution first.

    Catalogues rename their assets now and then (`B04` became `red`). Composites of several bands are no candidates,
    and a mask, which has no common name, is found by its key in other letters.
    """
    candidates = [key for key, asset in assets.items() if _common_names(asset) == [common_name]]
    if not candidates:
        return next((key for key in assets if key.lower().removesuffix(".tif") == common_name), None)
    return min(candidates, key=lambda key: ("jp2" in str(assets[key].get("type", "")), _gsd(assets[key])))


def _common_names(asset: Asset) -> list[str]:
    return [str(band.get("eo:common_name") or band.get("common_name") or "") for band in _bands(asset)]


def _bands(asset: Asset) -> Iterator[Mapping[str, Any]]:
    for field in ("bands", "eo:bands"):
        bands = asset.get(field)
        if isinstance(bands, Sequence) and bands:
            yield from (band for band in bands if isinstance(band, Mapping))
            return


def _gsd(asset: Asset) -> float:
    return _number(asset.get("gsd")) or float("inf")


def _declared(asset: Asset, name: str) -> object:
    """Return nodata, scale or offset from where raster 1.x, STAC 1.1 bands or the asset itself declare it."""
    places: list[object] = [asset]
    for field in ("raster:bands", "bands"):
        bands = asset.get(field)
        if isinstance(bands, Sequence) and bands:
            places.append(bands[0])
    for place in places:
        if isinstance(place, Mapping):
            for key in (f"raster:{name}", name):
                if place.get(key) is not None:
                    return place[key]
    return None


def _number(value: object) -> float | None:
    """Return a number; the raster extension also allows the texts nan, inf and -inf."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _at(asset: Asset, path: Sequence[str]) -> object:
    value: object = asset
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
