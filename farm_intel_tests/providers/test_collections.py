"""The profile rows: complete, consistent with the domain's vocabulary, and versioned."""

from __future__ import annotations

import hashlib
from dataclasses import fields

import pytest

from farm_intel.domain.bands import SYMBOL_COMMON_NAMES
from farm_intel.domain.errors import NotConfiguredError
from farm_intel.domain.products import AccessKind, CollectionProfile, OffsetRule, PixelReason
from farm_intel.providers.collections import REQUESTER_PAYS, S3_ENDPOINTS, all_profiles, profile

VOCABULARY = {name for names in SYMBOL_COMMON_NAMES.values() for name in names}
EVERY_ROW = pytest.mark.parametrize("row", all_profiles(), ids=lambda row: f"{row.dialect}/{row.collection}")

PINNED = {
    ("earth-search", "sentinel-2-l2a", "1"): "182372cc7231",
    ("earth-search", "sentinel-2-c1-l2a", "1"): "ba2e5e5f4dd3",
    ("earth-search", "sentinel-2-pre-c1-l2a", "1"): "e7ae3f491745",
    ("planetary-computer", "sentinel-2-l2a", "1"): "a2c36cc2b870",
    ("cdse", "sentinel-2-l2a", "1"): "4d545f76710b",
    ("planetary-computer", "landsat-c2-l2", "1"): "09e6a974f1ec",
    ("earth-search", "landsat-c2-l2", "1"): "6709e26261e3",
    ("usgs", "landsat-c2l2-sr", "1"): "e0ff53efd9fc",
    ("planetary-computer", "modis-09A1-061", "1"): "62333931d1a2",
    ("planetary-computer", "modis-13Q1-061", "1"): "2054b66c0df4",
    ("planetary-computer", "hls2-l30", "1"): "cfbcc120ce3f",
    ("planetary-computer", "hls2-s30", "1"): "03f9000bb2f4",
    ("earth-engine", "COPERNICUS/S2_SR_HARMONIZED", "1"): "787ab4bd41a0",
    ("earth-engine", "MODIS/061/MOD09GA", "1"): "7155b1c7ccd4",
    ("earth-engine", "landsat-c2-l2", "1"): "2a2205abe93f",
    ("sentinel-hub", "sentinel-2-l2a", "2"): "25bdbc8dbe08",
}
"""Digest of what each row means; a row that changes must get a new version, or stored numbers would pass as current."""


def digest(row: CollectionProfile) -> str:
    meaning = {f.name: getattr(row, f.name) for f in fields(row) if f.name not in ("version", "title", "source")}
    meaning["assets"] = sorted(row.assets.items())
    meaning["mask"] = (
        row.mask.band,
        row.mask.bits,
        sorted(row.mask.reasons.items()),
        row.mask.flags,
        row.mask.otherwise,
    )
    if row.mask.fields:
        meaning["mask"] += (row.mask.fields,)
    if not (row.more_masks or row.valid_dn or row.day_band or row.sensor):
        # The first rows were written before these fields existed; their digests must not depend on them.
        for name in ("more_masks", "valid_dn", "composite_days", "day_band", "sensor"):
            meaning.pop(name, None)
    else:
        meaning["more_masks"] = [(rule.band, rule.flags, rule.fields) for rule in row.more_masks]
    return hashlib.sha256(repr(sorted(meaning.items())).encode()).hexdigest()[:12]


def test_a_row_cannot_change_without_a_new_version() -> None:
    assert {(row.dialect, row.collection, row.version): digest(row) for row in all_profiles()} == PINNED


@EVERY_ROW
def test_rows_are_found_by_name_and_speak_the_domains_vocabulary(row: CollectionProfile) -> None:
    assert profile(row.dialect, row.collection) is row
    assert row.bands <= VOCABULARY
    assert row.mask.band in row.assets
    assert len(set(row.assets.values())) == len(row.assets)
    assert row.source


@pytest.mark.parametrize(
    "row", [row for row in all_profiles() if row.mask.band == "scl"], ids=lambda row: f"{row.dialect}/{row.collection}"
)
def test_no_value_of_the_scene_classification_is_valid_by_accident(row: CollectionProfile) -> None:
    table = row.mask.lookup()

    assert set((table == PixelReason.VALID).nonzero()[0]) == {4, 5, 6}
    assert [PixelReason(table[value]) for value in (0, 1, 2, 3, 7)] == [
        PixelReason.NODATA,
        PixelReason.SATURATED,
        PixelReason.DARK,
        PixelReason.SHADOW,
        PixelReason.UNCLASSIFIED,
    ]
    assert [PixelReason(table[value]) for value in (8, 9, 10, 11)] == [PixelReason.CLOUD] * 3 + [PixelReason.SNOW]
    assert all(table[12:] == PixelReason.NODATA)


def test_each_catalogue_has_its_own_way_to_tell_the_offset() -> None:
    rules = {(row.dialect, row.collection): row.radiometry.offset_rule for row in all_profiles()}

    assert rules["earth-search", "sentinel-2-l2a"] is OffsetRule.FLAG
    assert rules["earth-search", "sentinel-2-c1-l2a"] is OffsetRule.DECLARED
    assert rules["planetary-computer", "sentinel-2-l2a"] is OffsetRule.BASELINE
    assert rules["cdse", "sentinel-2-l2a"] is OffsetRule.DECLARED


def test_catalogues_on_other_s3_services_say_which() -> None:
    by_s3 = {row.dialect for row in all_profiles() if row.access is AccessKind.S3}

    # The others use Amazon's own service, at the reader's cost.
    assert by_s3 - REQUESTER_PAYS == set(S3_ENDPOINTS)
    assert by_s3 >= REQUESTER_PAYS


def test_an_unknown_row_is_refused_with_a_list_of_the_known() -> None:
    with pytest.raises(NotConfiguredError, match="planetary-computer/sentinel-2-l2a"):
        profile("planetary-computer", "sentinel-9")


LANDSAT, STATE = profile("usgs", "landsat-c2l2-sr"), profile("planetary-computer", "modis-09A1-061")
FMASK = profile("planetary-computer", "hls2-l30")


@pytest.mark.parametrize(
    ("row", "value", "reason"),
    [
        # Values of real QA_PIXEL files, with the confidence bits they come with.
        (LANDSAT, 21824, PixelReason.VALID),
        (LANDSAT, 21952, PixelReason.VALID),
        (LANDSAT, 22280, PixelReason.CLOUD),
        (LANDSAT, 23888, PixelReason.SHADOW),
        (LANDSAT, 1, PixelReason.NODATA),
        (LANDSAT, 21824 | 1 << 1, PixelReason.NEAR_CLOUD),
        (LANDSAT, 21824 | 1 << 2, PixelReason.CLOUD),
        (LANDSAT, 30048, PixelReason.SNOW),
        (STATE, 0b00_001_0_00, PixelReason.VALID),
        (STATE, 0b11, PixelReason.VALID),
        (STATE, 1 << 8 | 0b001_000, PixelReason.VALID),
        (STATE, 1, PixelReason.CLOUD),
        (STATE, 2 | 1 << 2, PixelReason.CLOUD),
        (STATE, 2 << 8, PixelReason.CLOUD),
        (STATE, 3 << 8, PixelReason.CLOUD),
        (STATE, 1 << 10, PixelReason.CLOUD),
        (STATE, 1 << 2, PixelReason.SHADOW),
        (STATE, 1 << 13, PixelReason.NEAR_CLOUD),
        (STATE, 1 << 12, PixelReason.SNOW),
        (STATE, 1 << 15, PixelReason.SNOW),
        (STATE, 0xFFFF, PixelReason.NODATA),
        (FMASK, 0b0100_0000, PixelReason.VALID),
        (FMASK, 0b0010_0000, PixelReason.VALID),
        (FMASK, 0b0000_0110, PixelReason.CLOUD),
        (FMASK, 0b0000_1100, PixelReason.SHADOW),
        (FMASK, 0b0000_0100, PixelReason.NEAR_CLOUD),
        (FMASK, 0b0001_0000, PixelReason.SNOW),
        (FMASK, 255, PixelReason.NODATA),
    ],
)
def test_quality_bits_mean_what_the_producers_guides_say(
    row: CollectionProfile, value: int, reason: PixelReason
) -> None:
    assert PixelReason(row.mask.lookup()[value]) is reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (0, PixelReason.VALID),
        (1 << 3, PixelReason.SATURATED),
        (1 << 6, PixelReason.SATURATED),
        (1 << 8, PixelReason.VALID),
        (1 << 9 | 1, PixelReason.NODATA),
        (1 << 11, PixelReason.SHADOW),
    ],
)
def test_saturation_and_occlusion_are_reasons_of_their_own(value: int, reason: PixelReason) -> None:
    (rule,) = LANDSAT.more_masks

    assert PixelReason(rule.lookup()[value]) is reason


def test_the_same_key_is_another_band_in_the_two_parts_of_hls() -> None:
    landsat, sentinel = FMASK.assets, profile("planetary-computer", "hls2-s30").assets

    assert landsat["nir08"] == "B05"
    assert sentinel["nir08"] == "B8A"
    assert sentinel["rededge071"] == "B05"


def test_composites_know_their_window_and_day_band() -> None:
    windows = {row.collection: row.composite_days for row in all_profiles() if row.day_band}

    assert windows == {"modis-09A1-061": 8, "modis-13Q1-061": 16}
    assert all(row.day_band not in row.bands for row in all_profiles())
