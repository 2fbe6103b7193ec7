"""The profile rows: complete, consistent with the domain's vocabulary, and versioned."""

from __future__ import annotations

import hashlib
from dataclasses import fields

import pytest

from farm_intel.domain.bands import SYMBOL_COMMON_NAMES
from farm_intel.domain.errors import NotConfiguredError
from farm_intel.domain.products import AccessKind, CollectionProfile, OffsetRule, PixelReason
from farm_intel.providers.collections import S3_ENDPOINTS, all_profiles, profile

VOCABULARY = {name for names in SYMBOL_COMMON_NAMES.values() for name in names}
EVERY_ROW = pytest.mark.parametrize("row", all_profiles(), ids=lambda row: f"{row.dialect}/{row.collection}")

PINNED = {
    ("earth-search", "sentinel-2-l2a", "1"): "182372cc7231",
    ("earth-search", "sentinel-2-c1-l2a", "1"): "ba2e5e5f4dd3",
    ("earth-search", "sentinel-2-pre-c1-l2a", "1"): "e7ae3f491745",
    ("planetary-computer", "sentinel-2-l2a", "1"): "a2c36cc2b870",
    ("cdse", "sentinel-2-l2a", "1"): "4d545f76710b",
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


@EVERY_ROW
def test_no_value_of_the_mask_is_valid_by_accident(row: CollectionProfile) -> None:
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
    own_service = {row.dialect for row in all_profiles() if row.access is AccessKind.S3}

    assert own_service == set(S3_ENDPOINTS)


def test_an_unknown_row_is_refused_with_a_list_of_the_known() -> None:
    with pytest.raises(NotConfiguredError, match="planetary-computer/sentinel-2-l2a"):
        profile("planetary-computer", "sentinel-9")
