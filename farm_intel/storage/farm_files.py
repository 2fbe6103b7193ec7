"""Farm files of any supported format and CRS, read into drafts and rejections.

Supported: GeoJSON (`.geojson`, `.json`), GeoParquet (`.parquet`, `.geoparquet`; fiboa too), GeoPackage (`.gpkg`),
shapefile (`.shp`, zipped `.zip`) and FlatGeobuf (`.fgb`). Any CRS is reprojected, x before y whatever the CRS says.

Columns are found by name, case ignored, the first of each list that the file has:

    id             ID_COLUMNS, or the column named by the caller; GeoJSON's feature `id` member counts as `id`
    name           NAME_COLUMNS
    crop           CROP_COLUMNS
    planting date  PLANTING_COLUMNS; a date, or text that starts with YYYY-MM-DD
    time zone      ZONE_COLUMNS; IANA names; without one the zone of the position

Identity is never made up silently. A file of one feature without an id is named after the file (a bare geometry has
no place for an id). More features without ids need `id_column` or `number_features`; other characters than
`[A-Za-z0-9_-]` are rejected unless `slugify_ids` is asked for. Whole numbers become text (`310.0` is `310`).
Of several features with one id the first counts and the others are rejected.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import numpy as np
import tzfpy

from farm_intel.domain.errors import BadRequestError, FarmRejectedError
from farm_intel.domain.farms import FARM_ID_PATTERN
from farm_intel.storage.farm_boundaries import BoundaryChecker
from farm_intel.storage.farm_drafts import FarmDraft, FarmFile, FarmFileOptions, FarmLimits, FarmRejection
from farm_intel.storage.farm_sources import Feature, FeatureSource, read_features

ID_COLUMNS = ("farm_id", "id", "field_id", "parcel_id", "fid")
NAME_COLUMNS = ("name", "farm_name", "field_name", "title", "label")
CROP_COLUMNS = ("crop", "crop:name", "crop_name", "crop_type", "ec_trans_n")
PLANTING_COLUMNS = ("planting_date", "planted", "plant_date", "sowing_date", "sown")
ZONE_COLUMNS = ("time_zone", "timezone", "tz")

MAX_TEXT_LENGTH = 200
"""Of names and crops; longer text is a description in the wrong column."""

_NO_OPTIONS = FarmFileOptions()


def read_farm_file(path: Path, limits: FarmLimits, options: FarmFileOptions = _NO_OPTIONS) -> FarmFile:
    """Return the farms of a file, and for every other feature the reason why it is none.

    Raises:
        BadRequestError: the file as a whole cannot be used: missing, damaged, of an unknown format, empty, without a
            CRS, or without ids.

    """
    source = read_features(path, options, limits)
    columns = _find_columns(source, options, path)
    reader = _FeatureReader(path.stem, len(source.features), columns, options, BoundaryChecker(source.crs, limits))
    farms: list[FarmDraft] = []
    rejections: list[FarmRejection] = []
    first_use: dict[str, int] = {}
    for number, feature in enumerate(source.features, start=1):
        farm_id: str | None = None
        try:
            farm_id, notes = reader.identity(feature, number)
            used_by = first_use.setdefault(farm_id, number)
            if used_by != number:
                raise FarmRejectedError(f"the id is already used by feature {used_by} of this file")
            farms.append(reader.draft(feature, farm_id, notes))
        except BadRequestError as error:
            known = farm_id if farm_id is not None else reader.raw_id(feature)
            rejections.append(FarmRejection(number=number, farm_id=known, reason=str(error)))
    return FarmFile(farms=tuple(farms), rejections=tuple(rejections), columns=columns, notes=source.notes)


def zone_at(longitude_deg: float, latitude_deg: float) -> str:
    """Return the IANA zone of a position; `Etc/GMT±n` at sea."""
    return str(tzfpy.get_tz(longitude_deg, latitude_deg))


def _find_columns(source: FeatureSource, options: FarmFileOptions, path: Path) -> dict[str, str]:
    """Return our field -> the file's column.

    Raises:
        BadRequestError: the id column asked for is not there, or many features have no ids at all.

    """
    aliases = {
        "farm_id": (options.id_column,) if options.id_column else ID_COLUMNS,
        "name": NAME_COLUMNS,
        "crop": CROP_COLUMNS,
        "planting_date": PLANTING_COLUMNS,
        "time_zone": ZONE_COLUMNS,
    }
    by_lower = {name.lower(): name for name in reversed(source.columns)}
    found = {
        ours: by_lower[alias]
        for ours, names in aliases.items()
        if (alias := next((name.lower() for name in names if name.lower() in by_lower), None)) is not None
    }
    if "farm_id" in found:
        return found
    if options.id_column:
        if options.id_column in source.features[0].properties:
            return {"farm_id": options.id_column, **found}
        raise BadRequestError(
            f"{path.name}: there is no column {options.id_column!r}", hint=f"It has: {_listed(source.columns)}."
        )
    if len(source.features) > 1 and not options.number_features:
        raise BadRequestError(
            f"{path.name}: {len(source.features)} features, but none of the columns {', '.join(ID_COLUMNS)}",
            hint=f"Name the column with the ids by --id-column (it has: {_listed(source.columns)}), "
            "or number the features by --number-features.",
        )
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no columns"


class _FeatureReader:
    """Reads features of one file whose columns are known."""

    def __init__(
        self, stem: str, count: int, columns: Mapping[str, str], options: FarmFileOptions, checker: BoundaryChecker
    ) -> None:
        self._stem = stem
        self._count = count
        self._columns = columns
        self._options = options
        self._checker = checker

    def raw_id(self, feature: Feature) -> str | None:
        """Return the id as the file has it, for messages."""
        value = self._value(feature, "farm_id")
        return None if value is None else str(value)[:MAX_TEXT_LENGTH]

    def identity(self, feature: Feature, number: int) -> tuple[str, list[str]]:
        """Return the farm's id, and a note where it is not the file's own text."""
        if "farm_id" in self._columns:
            text = _id_text(self._value(feature, "farm_id"), self._columns["farm_id"])
        else:
            text = self._stem if self._count == 1 else f"{self._stem}-{number}"
        if FARM_ID_PATTERN.fullmatch(text):
            return text, []
        slug = slugify(text)
        if self._options.slugify_ids and slug:
            return slug, [f"id {text!r} became {slug!r}"]
        raise FarmRejectedError(
            f"id {text[:MAX_TEXT_LENGTH]!r} has characters or a length that farm ids cannot have",
            hint="Ids have 1 to 64 of A-Z a-z 0-9 _ -; --slugify-ids replaces the others by '-'.",
        )

    def draft(self, feature: Feature, farm_id: str, notes: Iterable[str]) -> FarmDraft:
        """Return the farm of a feature."""
        boundary = self._checker.check(feature.geometry())
        zone = self._text(feature, "time_zone")
        if zone is not None and zone not in _zones():
            raise FarmRejectedError(f"time zone {zone!r} is not an IANA name such as Africa/Nairobi")
        return FarmDraft(
            farm_id=farm_id,
            boundary=boundary,
            time_zone=zone or zone_at(boundary.longitude_deg, boundary.latitude_deg),
            time_zone_given=zone is not None,
            name=self._text(feature, "name"),
            crop=self._text(feature, "crop"),
            planting_date=_planting_date(self._value(feature, "planting_date")),
            notes=(*notes, *boundary.notes),
        )

    def _value(self, feature: Feature, ours: str) -> Any:
        """Return a value, None where the column, the entry or the number is missing."""
        value = feature.properties.get(self._columns.get(ours, ""))
        if isinstance(value, np.generic):
            value = value.item() if not isinstance(value, np.datetime64) else value.astype("datetime64[us]").item()
        missing = value is None or (isinstance(value, float) and value != value)  # noqa: PLR0124 - NaN is not itself
        return None if missing or (isinstance(value, str) and not value.strip()) else value

    def _text(self, feature: Feature, ours: str) -> str | None:
        value = self._value(feature, ours)
        if value is None:
            return None
        text = str(value).strip()
        if len(text) > MAX_TEXT_LENGTH or not text.isprintable():
            raise FarmRejectedError(
                f"{self._columns[ours]} is longer than {MAX_TEXT_LENGTH} characters or has control characters"
            )
        return text


def slugify(text: str) -> str:
    """Return `text` with accents taken off and every run of other characters turned into one '-', at most 64 long."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-")[:64]


def _id_text(value: Any, column: str) -> str:
    if value is None:
        raise FarmRejectedError(f"it has no id in column {column}")
    if isinstance(value, bool | list | dict):
        raise FarmRejectedError(f"its id in column {column} is no text or number: {value!r}")
    if isinstance(value, float):
        if not value.is_integer():
            raise FarmRejectedError(f"its id in column {column} is not a whole number: {value!r}")
        return str(int(value))
    return str(value).strip()


def _planting_date(value: Any) -> date | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    text = str(value).strip()
    try:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}([T ].*)?", text):
            raise ValueError(text)  # noqa: TRY301 - told with the others just below
        return date.fromisoformat(text[:10])
    except ValueError as error:
        raise FarmRejectedError(f"planting date {text!r} is not YYYY-MM-DD") from error


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
