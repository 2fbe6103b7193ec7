"""Types of activities as data: their form fields, who has to acknowledge, and what they explain to the satellites.

`types.toml` holds the types of the package; a user's files of the same shape are merged with it. No code knows a type
by name.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from farm_intel.domain.activities import FormValue
from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.indices.tables import Table

_OWN = Path(__file__).with_name("types.toml")
_SLUG = re.compile(r"[a-z][a-z0-9_]{0,63}")
_COMPLETE = "en"
LANGUAGES = ("en", "fr", "sw")
_LONGEST_TEXT = 1000
_LARGEST = 1e15
_LONGEST_EXPLANATION_DAYS = 120
"""A season: evaluation of alerts reads the logbook no further back."""


class FieldKind(StrEnum):
    """What a form field takes."""

    NUMBER = "number"
    TEXT = "text"
    CHOICE = "choice"
    BOOLEAN = "boolean"


class FarmosLog(StrEnum):
    """Log types of farmOS 2 and later."""

    ACTIVITY = "activity"
    HARVEST = "harvest"
    INPUT = "input"
    MAINTENANCE = "maintenance"
    MEDICAL = "medical"
    OBSERVATION = "observation"
    SEEDING = "seeding"
    TRANSPLANTING = "transplanting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What people read, by language."""

    texts: Mapping[str, str]

    def text(self, language: str) -> str:
        """Return the text in a language, in English where it has none."""
        return self.texts.get(language.lower()[:2], self.texts[_COMPLETE])


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """One field of a type's form."""

    slug: str
    labels: Labels
    kind: FieldKind
    unit: str = ""
    """Of a number; empty for pure counts."""
    minimum: float = -math.inf
    maximum: float = math.inf
    choices: Mapping[str, Labels]
    """Of a choice: the stored word and what people read for it."""
    required: bool = False
    """An answer that the work was done has to give it; a plan need not."""

    def check(self, value: FormValue, where: str) -> FormValue:
        """Return a value as it is stored: numbers as floats, texts without surrounding blanks.

        Raises:
            BadRequestError: the field does not take it.

        """
        match self.kind:
            case FieldKind.NUMBER:
                return self._number(value, where)
            case FieldKind.TEXT if isinstance(value, str) and len(value.strip()) <= _LONGEST_TEXT and value.strip():
                return value.strip()
            case FieldKind.CHOICE if isinstance(value, str) and value in self.choices:
                return value
            case FieldKind.BOOLEAN if isinstance(value, bool):
                return value
        raise BadRequestError(f"{where}: {self.slug} = {str(value)[:60]!r} is not possible", hint=self._wanted())

    def _number(self, value: FormValue, where: str) -> float:
        refused = BadRequestError(f"{where}: {self.slug} = {str(value)[:60]!r} is not possible", hint=self._wanted())
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise refused
        if not max(self.minimum, -_LARGEST) <= value <= min(self.maximum, _LARGEST):
            raise refused
        return float(value)  # after the bounds: a huge whole number has no float

    def _wanted(self) -> str:
        if self.kind is FieldKind.CHOICE:
            return f"Give one of {', '.join(self.choices)}."
        if self.kind is FieldKind.NUMBER:
            return f"Give a number from {self.minimum:g} to {self.maximum:g}{self.unit and f' {self.unit}'}."
        return "Give true or false." if self.kind is FieldKind.BOOLEAN else f"Give 1 to {_LONGEST_TEXT} characters."


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedChange:
    """What satellites may see because of the work."""

    facts: frozenset[str]
    """Names that alert rules carry, e.g. `canopy_loss`."""
    days: int
    """For so many days after the work."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityType:
    """One row of the table of types."""

    slug: str
    labels: Labels
    fields: Mapping[str, FormField]
    acknowledge: bool
    """Whether an activity of this type asks for an acknowledgement unless its plan says otherwise."""
    acknowledge_within: timedelta
    explains: ExplainedChange | None
    farmos: FarmosLog
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityTypes:
    """All types there are."""

    rows: Mapping[str, ActivityType]

    def get(self, slug: str) -> ActivityType:
        """Return a type.

        Raises:
            UnknownNameError: there is none of that name.

        """
        if slug not in self.rows:
            raise UnknownNameError(
                f"there is no activity type {slug[:64]!r}",
                hint=f"There are {', '.join(self.rows)}; more can be added as rows of a file.",
            )
        return self.rows[slug]

    def list(self) -> tuple[ActivityType, ...]:
        """Return all types, those of the package first."""
        return tuple(self.rows.values())

    def check_form(
        self, type_slug: str, values: Mapping[str, FormValue], *, answered: bool = False
    ) -> dict[str, FormValue]:
        """Return checked values of a type's form; fields given as None are left out.

        Args:
            type_slug: the type.
            values: by field.
            answered: they are what was really used, so required fields must be there; otherwise they are a plan.

        Raises:
            UnknownNameError: an unknown type.
            BadRequestError: an unknown field, a value it does not take, or a required one that is missing.

        """
        kind = self.get(type_slug)
        if unknown := sorted(set(values) - set(kind.fields)):
            raise BadRequestError(
                f"{type_slug} has no field {', '.join(unknown)[:100]}",
                hint=f"Its fields are {', '.join(kind.fields) or 'none'}.",
            )
        given = {slug: value for slug, value in values.items() if value is not None}
        missing = [slug for slug, field in kind.fields.items() if field.required and slug not in given]
        if answered and missing:
            raise BadRequestError(
                f"the answer to {type_slug} lacks {', '.join(missing)}", hint="Say how much or what was used."
            )
        return {slug: kind.fields[slug].check(value, type_slug) for slug, value in given.items()}


def load_activity_types(files: tuple[Path, ...] = ()) -> ActivityTypes:
    """Return the types of the package and those of a user's files.

    Args:
        files: TOML files of the shape `types.toml` describes. A row of theirs with a slug there is already needs
            `replaces = true`.

    Raises:
        BadRequestError: a file that cannot be read, or a row that says something wrong; names file, row and key.

    """
    rows: dict[str, ActivityType] = {}
    for path in (_OWN, *files):
        for table in _tables(path):
            row = _type(table)
            if (row.slug in rows) != table.flag("replaces"):
                raise BadRequestError(
                    f"{table.where}: there is {'already a' if row.slug in rows else 'no'} type {row.slug!r}",
                    hint="Choose another slug, or say replaces = true to take a row's place.",
                )
            table.finish()
            rows[row.slug] = row
    return ActivityTypes(rows=rows)


def _tables(path: Path) -> list[Table]:
    try:
        document = Table(tomllib.loads(path.read_text(encoding="utf-8")), path.name)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadRequestError(
            f"activity type file {path.name} cannot be read: {error}", hint="It must be TOML with [[type]] tables."
        ) from error
    tables = document.tables("type")
    document.finish()
    return tables


def _type(table: Table) -> ActivityType:
    slug = _slug(table)
    table.where = f"{table.where} ({slug})"
    days = table.number("acknowledge_within_days", 7.0)
    if not 0 < days <= 365:
        raise BadRequestError(f"{table.where}: acknowledge_within_days = {days:g}", hint="Give 1 to 365 days.")
    return ActivityType(
        slug=slug,
        labels=_labels(table.table("label")),
        fields=_fields(table),
        acknowledge=table.flag("acknowledge") if table.has("acknowledge") else True,
        acknowledge_within=timedelta(days=days),
        explains=_explains(table.table("explains")) if table.has("explains") else None,
        farmos=_word(table, "farmos", FarmosLog),
        source=table.text("source", "user"),
    )


def _fields(table: Table) -> dict[str, FormField]:
    fields: dict[str, FormField] = {}
    for row in table.tables("field") if table.has("field") else []:
        field = _field(row)
        if field.slug in fields:
            raise BadRequestError(f"{row.where}: there are two fields {field.slug}", hint="Choose another slug.")
        fields[field.slug] = field
    return fields


def _field(table: Table) -> FormField:
    slug = _slug(table)
    table.where = f"{table.where} ({slug})"
    kind = _word(table, "kind", FieldKind)
    number = kind is FieldKind.NUMBER
    choices = table.table("choices") if kind is FieldKind.CHOICE else Table({}, table.where)
    field = FormField(
        slug=slug,
        labels=_labels(table.table("label")),
        kind=kind,
        unit=table.text("unit", "") if number else "",
        minimum=table.bound("minimum", -math.inf) if number else -math.inf,
        maximum=table.bound("maximum", math.inf) if number else math.inf,
        choices={word: _labels(choices.table(word)) for word in choices.keys_left()},
        required=table.flag("required"),
    )
    if field.minimum > field.maximum or (kind is FieldKind.CHOICE and not field.choices):
        raise BadRequestError(f"{table.where}: nothing could be entered", hint="Check minimum, maximum and choices.")
    table.finish()
    return field


def _slug(table: Table) -> str:
    slug = table.text("slug")
    if not _SLUG.fullmatch(slug):
        raise BadRequestError(
            f"{table.where}: slug = {slug[:70]!r} is no slug", hint="Use a-z, 0-9 and _, beginning with a letter."
        )
    return slug


def _labels(table: Table) -> Labels:
    labels = {_COMPLETE: table.text(_COMPLETE)}
    labels.update({language: table.text(language) for language in LANGUAGES if table.has(language)})
    table.finish()
    return Labels(texts=labels)


def _explains(table: Table) -> ExplainedChange:
    days = table.number("days")
    change = ExplainedChange(facts=frozenset(table.texts("facts")), days=int(days), source=table.text("source", "user"))
    if not 1 <= days <= _LONGEST_EXPLANATION_DAYS or days != change.days:
        raise BadRequestError(
            f"{table.where}: days = {days:g}", hint=f"Give whole days from 1 to {_LONGEST_EXPLANATION_DAYS}."
        )
    table.finish()
    return change


def _word[Word: StrEnum](table: Table, key: str, words: type[Word]) -> Word:
    text = table.text(key)
    try:
        return words(text)
    except ValueError as error:
        raise BadRequestError(
            f"{table.where}: {key} = {text!r} is not known", hint=f"Give one of {', '.join(words)}."
        ) from error
