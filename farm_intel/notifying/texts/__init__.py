"""What people read and hear, in their language: title, one text message, long text and speech from one template set.

The templates are the TOML files beside this module; rules, types and indices that have no row there are named by the
vocabulary or by their slug, made readable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Protocol

from farm_intel.domain.errors import UnknownNameError
from farm_intel.domain.messages import Notice, RenderedText
from farm_intel.notifying.texts.sms import fitted
from farm_intel.notifying.texts.words import COMPLETE, Unit, Words, fill, languages, words

_SHRINKABLE = ("error", "form", "reason", "title", "rule", "type", "farm_name")
"""Free texts of a short message, the least important first; a farm's name is cut only where all the rest is."""
_LONGEST_SPOKEN = 600
"""Characters a voice takes; some 45 seconds, after which nobody listens."""
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f\u2028\u2029]+")
_MARKS = re.compile(r"[<>{}\[\]|*_#`~^\\]+")
"""What a voice would stumble over or take for markup."""
_PLAIN_UNIT = Unit(name="", written="", said="", factor=1.0, decimals=2)


class Vocabulary(Protocol):
    """Names that the templates do not have; None where there is none."""

    def farm_name(self, farm_id: str) -> str | None:
        """Return what people call a farm."""
        ...

    def index(self, slug: str) -> tuple[str, str] | None:
        """Return name and long name of an index."""
        ...

    def activity_type(self, slug: str, language: str) -> str | None:
        """Return what people call a type of activity."""
        ...

    def form_field(self, activity_type: str, field: str, language: str) -> tuple[str, str] | None:
        """Return label and unit of a form field."""
        ...


class NoVocabulary:
    """Knows no names; implements `Vocabulary`."""

    def farm_name(self, farm_id: str) -> str | None:  # noqa: ARG002 - the interface's
        """Return None."""
        return None

    def index(self, slug: str) -> tuple[str, str] | None:  # noqa: ARG002 - the interface's
        """Return None."""
        return None

    def activity_type(self, slug: str, language: str) -> str | None:  # noqa: ARG002 - the interface's
        """Return None."""
        return None

    def form_field(self, activity_type: str, field: str, language: str) -> tuple[str, str] | None:  # noqa: ARG002 - the interface's
        """Return None."""
        return None


class TemplateRenderer:
    """Implements `domain.messages.Renderer`."""

    def __init__(self, vocabulary: Vocabulary | None = None) -> None:
        """Render with a vocabulary for the names that are not in the templates."""
        self._vocabulary = vocabulary or NoVocabulary()

    def render(self, notice: Notice, language: str) -> RenderedText:
        """Return the texts; a language that is not there falls back to English and says so in `language`.

        `fr-CA` is French.

        Raises:
            UnknownNameError: no template of that key.

        """
        code = language.lower().replace("_", "-").partition("-")[0]
        spoken_in = words(code if code in languages() else COMPLETE)
        templates = spoken_in.tables.get(notice.text_key, {})
        if not {"title", "short", "long", "spoken"} <= templates.keys():
            raise UnknownNameError(
                f"there is no text {notice.text_key!r} to tell {notice.subject} with",
                hint="Add it to notifying/texts/en.toml.",
            )
        one = _Rendering(notice, spoken_in, self._vocabulary)
        read, heard = one.values(heard=False), one.values(heard=True)
        return RenderedText(
            language=spoken_in.code,
            title=_sentence(_one_line(fill(templates["title"], read))),
            short=fitted(lambda values: _sentence(fill(templates["short"], values)), read, _SHRINKABLE),
            long=_sentence(fill(templates["long"], read)),
            spoken=fitted(
                lambda values: _one_line(fill(templates["spoken"], values)),
                {name: _MARKS.sub(" ", value) for name, value in heard.items()},
                _SHRINKABLE,
                longest=_LONGEST_SPOKEN,
                letters=str,
            ),
        )


class _Rendering:
    """The values of one notice in one language."""

    def __init__(self, notice: Notice, language: Words, vocabulary: Vocabulary) -> None:
        self._notice = notice
        self._words = language
        self._vocabulary = vocabulary
        self._params = notice.params

    def values(self, *, heard: bool) -> dict[str, str]:
        """Return every value a template may name; those that are missing are empty."""
        texts = {name: self._plain(value, heard=heard) for name, value in self._params.items()}
        return {
            **texts,
            "farm_name": self._farm_name(),
            "rule": self._named("rule", self._text("rule")),
            "type": self._type(),
            "index": self._index(heard=heard),
            "measure": self._measure(heard=heard),
            "form": self._form(heard=heard),
            # a clock time is said by speech: Swahili counts its hours from sunrise
            "time": self._text("time") or self._text("local_time"),
            "severity": self._named("severity", self._notice.severity.name.lower()),
            "call": self._named("call", self._notice.severity.name.lower()),
            "advice": self._words.text("advice", self._notice.rule_class) or "",
            "days_open": self._days_open(),
            **self._days(),
        }

    def _farm_name(self) -> str:
        named = self._text("farm_name") or self._vocabulary.farm_name(self._notice.farm_id)
        return _one_line(named or self._notice.farm_id)

    def _type(self) -> str:
        slug = self._text("activity_type") or self._text("type")
        if not slug:
            return ""
        return self._words.text("type", slug) or self._vocabulary.activity_type(slug, self._words.code) or _named(slug)

    def _index(self, *, heard: bool) -> str:
        slug = self._text("index")
        if not slug:
            return ""
        name, long_name = self._vocabulary.index(slug) or (slug.upper(), _named(slug))
        return (self._words.text("index", slug.lower()) or long_name) if heard else name

    def _measure(self, *, heard: bool) -> str:
        """Return value and threshold of an alert with what is measured, where they are known."""
        value, threshold = self._params.get("value"), self._params.get("threshold")
        if not isinstance(value, int | float):
            return ""
        unit_text = self._text("unit") or ("index units" if self._text("index") else "")
        unit = self._words.units.get(unit_text, _PLAIN_UNIT)
        unknown = unit is _PLAIN_UNIT
        values = {
            "what": (self._index(heard=heard) if unit_text == "index units" else "") or unit.name or _named(unit_text),
            "value": self._quantity(value, unit, heard=heard),
        }
        kind = "plain"
        if isinstance(threshold, int | float) and not unknown:
            values["threshold"], kind = self._quantity(threshold, unit, heard=heard), "limit"
        said = fill(self._words.tables["measure"][f"{kind}_spoken" if heard else kind], values)
        said = said.strip()
        return said[:1].upper() + said[1:] if heard else said

    def _quantity(self, value: float, unit: Unit, *, heard: bool) -> str:
        number = value * unit.factor
        if heard:
            return self._words.said(number, unit.decimals) + unit.said
        return self._words.number(number, unit.decimals) + unit.written

    def _form(self, *, heard: bool) -> str:
        """Return what is planned, field by field."""
        form = self._notice.data.get("form")
        if not isinstance(form, Mapping):
            return ""
        table = self._words.tables["form"]
        slug = self._text("activity_type") or self._text("type")
        parts = []
        for name, value in form.items():
            label, unit = self._vocabulary.form_field(slug, str(name), self._words.code) or (_named(str(name)), "")
            said = self._plain(value, heard=heard)
            if said:
                parts.append(fill(table["one"], {"label": label, "value": f"{said} {unit}".strip()}))
        return table["between"].join(parts)

    def _days_open(self) -> str:
        count = self._params.get("days_open")
        return self._words.days(int(count)) if isinstance(count, int | float) and count >= 1 else ""

    def _days(self) -> dict[str, str]:
        days: dict[str, str] = {}
        for name, value in self._params.items():
            if name == "day" or name.endswith("_day"):
                day = _day(value)
                days[name] = "" if day is None else self._words.day(day)
                days[f"{name}_short"] = "" if day is None else self._words.day(day, short=True)
        return days

    def _plain(self, value: object, *, heard: bool) -> str:
        if value is None:
            return ""
        if isinstance(value, bool):
            return self._words.tables["form"]["yes" if value else "no"]
        if isinstance(value, int | float):
            decimals = next((places for places in (0, 1) if round(value, places) == value), 2)
            return self._words.said(value, decimals) if heard else self._words.number(value, decimals)
        return _one_line(str(value))

    def _text(self, name: str) -> str:
        value = self._params.get(name)
        return _one_line(value) if isinstance(value, str) else ""

    def _named(self, table: str, slug: str) -> str:
        return self._words.text(table, slug) or _named(slug)


def _named(slug: str) -> str:
    """Return something readable made from a slug: `late_blight` is `Late blight`."""
    text = _one_line(slug.replace("_", " ").replace("-", " "))
    return text[:1].upper() + text[1:]


def _day(value: object) -> date | None:
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError:
        return None


def _one_line(text: str) -> str:
    return _BLANKS.sub(" ", text).strip()


def _sentence(text: str) -> str:
    """Return a text without the doubled full stop of a value that brought its own."""
    return re.sub(r"(?<=[.!?])\.(?!\.)(?=\s|$)", "", text.strip())
