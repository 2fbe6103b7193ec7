"""What a product row says: bands, digital-number rule, mask rule. Values only; rows live in providers.collections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

import numpy as np
import numpy.typing as npt


class PixelReason(IntEnum):
    """Why a pixel does or does not count; the numbers index the reason-weight arrays of the engine."""

    VALID = 0
    NODATA = 1
    CLOUD = 2
    SHADOW = 3
    SNOW = 4
    WATER = 5
    SATURATED = 6
    DARK = 7
    UNCLASSIFIED = 8
    NEAR_CLOUD = 9
    REFLECTANCE_OUT_OF_RANGE = 10
    INDEX_OUT_OF_RANGE = 11


REASON_COUNT = len(PixelReason)


class OffsetRule(StrEnum):
    """Where a product's additive offset is to be looked for."""

    FIXED = "fixed"
    """The profile's offset always applies (Landsat, MODIS)."""
    DECLARED = "declared"
    """The item's own raster metadata is right (Earth Search Collection 1, CDSE)."""
    FLAG = "flag"
    """The item says with a flag whether it was removed already (Earth Search `boa_offset_applied`)."""
    BASELINE = "baseline"
    """The processing baseline decides, metadata declares nothing (Planetary Computer)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RadiometryRule:
    """How a digital number becomes surface reflectance: rho = DN * scale + offset."""

    scale: float
    offset: float
    """The offset that applies where `offset_rule` finds one, in reflectance."""
    offset_rule: OffsetRule
    nodata: int
    probe: bool = False
    """Let pixels contradict the metadata (see engine.reflectance)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRule:
    """How a mask band's values become reasons."""

    band: str
    """Common name of the mask band: `scl`, `qa_pixel`."""
    bits: int
    """8 or 16: size of the lookup table is 2**bits."""
    reasons: Mapping[int, PixelReason] = field(default_factory=dict)
    """Class rule: value -> reason; a value that is not listed is `otherwise`."""
    flags: tuple[tuple[int, PixelReason], ...] = ()
    """Bit rule: (bit mask, reason), first match wins; used where `reasons` is empty."""
    fields: tuple[tuple[int, int, PixelReason], ...] = ()
    """Bit-field rule: (bit mask, value of the masked bits, reason); tried after `flags`, first match wins."""
    otherwise: PixelReason = PixelReason.NODATA

    def lookup(self) -> npt.NDArray[np.uint8]:
        """Return a table of 2**bits reason codes, indexed by mask value."""
        table = np.full(1 << self.bits, self.otherwise, np.uint8)
        if self.reasons:
            for value, reason in self.reasons.items():
                table[value] = reason
            return table
        table[:] = PixelReason.VALID
        values = np.arange(1 << self.bits)
        for bit_mask, bits, reason in reversed(self.fields):
            table[(values & bit_mask) == bits] = reason
        for bit_mask, reason in reversed(self.flags):
            table[(values & bit_mask) != 0] = reason
        return table


class AccessKind(StrEnum):
    """How files of a catalogue are reached."""

    PUBLIC = "public"
    PLANETARY_COMPUTER = "planetary_computer"
    S3 = "s3"
    SENTINEL_HUB = "sentinel_hub"
    """Blocks of pixels come from the Process API; there are no files."""
    EARTH_ENGINE = "earth_engine"
    """Blocks of pixels come from `computePixels`; there are no files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionProfile:
    """One row: a product as one catalogue serves it."""

    dialect: str
    """Catalogue dialect: `earth-search`, `planetary-computer`, `cdse`."""
    collection: str
    version: str
    """Changes whenever the row's meaning changes; part of every fingerprint."""
    title: str
    assets: Mapping[str, str]
    """STAC common name (and mask band name) -> asset key in this catalogue."""
    radiometry: RadiometryRule
    mask: MaskRule
    gsd_m: float
    more_masks: tuple[MaskRule, ...] = ()
    """Further mask bands (QA_RADSAT beside QA_PIXEL): a pixel that the first calls valid must be valid in each."""
    valid_dn: tuple[int, int] | None = None
    """Digital numbers outside this range are no measurement (MODIS: -100 to 16000)."""
    composite_days: int = 1
    """Days of the window whose best pixels make up one item; 1 for a single acquisition."""
    day_band: str | None = None
    """Common name of the band that holds each pixel's day of year, for composites."""
    sensor: str = ""
    """Family for harmonisation and confidence: `msi`, `oli`, `etm`, `tm`, `modis`; empty: by the scene's platform."""
    access: AccessKind = AccessKind.PUBLIC
    href_path: tuple[str, ...] = ("href",)
    """Where in the asset the usable href stands (`alternate.s3.href` for some catalogues)."""
    newest_by: tuple[str, ...] = ()
    """Item properties that order reprocessings of one acquisition, most significant first."""
    tile_properties: tuple[str, ...] = ("grid:code", "s2:mgrs_tile")
    source: str = ""
    """Where the row's facts are documented."""

    @property
    def bands(self) -> frozenset[str]:
        """Common names of the reflectance bands (without masks and day of year)."""
        masks = {self.mask.band, *(rule.band for rule in self.more_masks)}
        return frozenset(self.assets) - masks - {self.day_band}
