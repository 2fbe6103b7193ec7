"""Band vocabulary: STAC common names, and the formula symbols of Awesome Spectral Indices that stand for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

SYMBOL_COMMON_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "A": ("coastal",),
        "B": ("blue",),
        "G": ("green",),
        "G1": ("green05",),
        "Y": ("yellow",),
        "R": ("red",),
        "RE1": ("rededge071",),
        "RE2": ("rededge075",),
        "RE3": ("rededge078",),
        "N": ("nir", "nir08"),
        "N2": ("nir08", "nir"),
        "WV": ("nir09",),
        "S1": ("swir16",),
        "S2": ("swir22",),
        "T": ("lwir",),
        "T1": ("lwir11",),
        "T2": ("lwir12",),
    },
)
"""Symbol -> STAC EO common names in order of preference.

`N` falls back to `nir08` because Landsat 8/9 has no broad near infrared band.
Source: Awesome Spectral Indices `bands.json`; STAC EO extension v2 common names.
"""


def resolve_symbol(
    symbol: str,
    available: Collection[str],
    preferences: Mapping[str, tuple[str, ...]] = SYMBOL_COMMON_NAMES,
) -> str | None:
    """Return the first common name that stands for `symbol` among `available`, or None.

    Args:
        symbol: a formula symbol such as `N`.
        available: the common names a collection or scene offers.
        preferences: symbol -> common names in order; an index row may override single symbols.

    """
    for name in preferences.get(symbol, SYMBOL_COMMON_NAMES.get(symbol, ())):
        if name in available:
            return name
    return None
