"""From text as it is written to text as it is said: units, signs, decimals, dates, times and index names as words.

What is said how is data, one file per language in `words/`; a language without a file is only cleaned. Saying what is
already as it is said changes nothing, so texts may pass here twice.
"""

from __future__ import annotations

import functools
import html
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

_WORDS = Path(__file__).parent / "words"

_URL = re.compile(r"\b(?:[a-z][a-z0-9+.-]*://|www\.)\S+", re.IGNORECASE)
_MARKUP = re.compile(r"<(?:!--.*?--|[/?!]?[A-Za-z][^<>]*)>", re.DOTALL)
_IDS = re.compile(
    r"\b(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[a-z]+[_:][0-9a-f]{12,}|(?=[0-9a-f]*\d)[0-9a-f]{16,})\b",
    re.IGNORECASE,
)
_DATE = re.compile(r"\b(\d{4})-(\d{2})-(\d{2})(?:(?=[T ]\d{2}:)[T]|(?![\w-]))")
_TIME = re.compile(r"(?<![\d:.])([01]?\d|2[0-3]):([0-5]\d)(?::[0-5]\d(?:\.\d+)?)?(?:Z|\b)(?!:)")
_RANGE = re.compile(r"(?<![\w.,-])(\d+(?:[.,]\d+)?)\s?[-\u2013]\s?(?=\d+(?:[.,]\d+)?(?![\w-]))")
_SIGNED = re.compile(r"(?<![\w.,)-])([-+\u2212])(?=\d)")
_NUMBER = r"(?<![\w.,)-])((?:[-+\u2212])?\d+(?:[.,]\d+)?)"
_MARK = re.compile(r"[^\w\s.,;:!?()'\"\u2019-]|_")
_STUTTER = re.compile(r"([.,;:!?()'\"\u2019-])(?:\s*\1)+")
_SPACE = re.compile(r"\s+")
_NOTHING = re.compile(r"(?!)")
_ROUNDS = 8
_LONGEST_SPELLED = 6
"""Characters; more letters in a row nobody keeps in mind."""


@dataclass(frozen=True, slots=True)
class Words:
    """How one language says what is written in signs; parsed from `words/<language>.toml`."""

    table: Mapping[str, Any]
    units: re.Pattern[str]
    signs: re.Pattern[str]
    abbreviations: re.Pattern[str]
    decimal: re.Pattern[str]
    thousands: re.Pattern[str]
    never_twice: re.Pattern[str]
    """Words that a form begins with and that a text may have before the sign: `saa 14:05`, `le 2026-05-01`."""


def normalise(text: str, language: str, names: Mapping[str, str]) -> str:
    """Return a text as it is said, on one line.

    Args:
        text: as it is written.
        language: `en`, `fr`, `sw`; in another one nothing is said in words of a language that is not its own.
        names: how names are said, e.g. of indices (`spelled`); matched as whole words, in this case.

    """
    said = _once(text, language, names)
    for _ in range(_ROUNDS):  # taking a sign away may bring two others together
        again = _once(said, language, names)
        if again == said:
            break
        said = again
    return said


def spelled(name: str) -> str:
    """Return a short name as its letters, one by one: a voice makes a word of it otherwise."""
    return " ".join(character.upper() for character in name if character.isalnum())


def spoken_names(rows: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return how names are said, from pairs of short and long name, e.g. the registry's `(name, long_name)`.

    A short name of capitals and digits is said as its letters, any other by its long name.
    """
    return {short: spelled(short) if _is_spelled(short) else long for short, long in rows}


def _is_spelled(name: str) -> bool:
    return len(name) <= _LONGEST_SPELLED and name == name.upper()


def _once(text: str, language: str, names: Mapping[str, str]) -> str:
    text = _cleaned(text)
    pattern, sayings = _named(frozenset(names.items()))
    text = pattern.sub(lambda found: sayings[found[0]], text)
    words = load_words(language)
    if words is not None:
        text = _in_words(text, words)
    text = _MARK.sub(" ", text)
    text = _STUTTER.sub(r"\1", text)
    return _SPACE.sub(" ", text).strip()


def _cleaned(text: str) -> str:
    """Take away what nobody says: markup, addresses, ids, control and formatting characters."""
    text = unicodedata.normalize("NFC", html.unescape(text))
    text = _MARKUP.sub(" ", text)
    text = _URL.sub(" ", text)
    text = _IDS.sub(" ", text)
    return "".join(" " if character in "\r\n\t" else character for character in text if not _is_control(character))


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cf", "Co", "Cs", "Cn"} and character not in "\r\n\t"


@functools.lru_cache(maxsize=8)
def _named(names: frozenset[tuple[str, str]]) -> tuple[re.Pattern[str], Mapping[str, str]]:
    """Return what finds names and how they are said; a name that another's words contain would be said for ever."""
    known = {name: spoken for name, spoken in names if len(name) > 1}
    if not known:
        return _NOTHING, {}
    pattern = re.compile(rf"(?<!\w)(?:{_any(known)})(?!\w)")
    return pattern, {name: name if pattern.search(spoken) else spoken for name, spoken in known.items()}


def _in_words(text: str, words: Words) -> str:
    table = words.table
    text = _DATE.sub(lambda found: _date(found, table["date"]), text)
    text = _TIME.sub(lambda found: _time(found, table["time"]), text)
    text = words.thousands.sub("", text)
    text = words.abbreviations.sub(lambda found: str(table["abbreviations"][found[0]]), text)
    text = _RANGE.sub(rf"\1 {table['range']} ", text)
    text = words.units.sub(lambda found: _unit(found, table), text)
    text = _SIGNED.sub(lambda found: f"{table['plus' if found[0] == '+' else 'minus']} ", text)
    text = words.decimal.sub(lambda found: f"{found[1]} {table['point']} {' '.join(found[2])}", text)
    text = words.signs.sub(lambda found: f" {table['signs'][found[0]]} ", text)
    return words.never_twice.sub(r"\1", text)


def _date(found: re.Match[str], table: Mapping[str, Any]) -> str:
    try:
        day = date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return found[0].replace("-", " ")
    spoken = table["form"].format(day=table["days"][day.day - 1], month=table["months"][day.month - 1], year=day.year)
    return f"{spoken} " if found[0].endswith("T") else spoken


def _time(found: re.Match[str], table: Mapping[str, Any]) -> str:
    hour, minute = int(found[1]), int(found[2])
    modulo_h = table["modulo_h"]
    said = (hour - table["earlier_h"]) % modulo_h
    if said == 0 and modulo_h == 12:
        said = 12
    periods = table.get("periods", [])
    period = next((word for begin, word in reversed(periods) if hour >= begin), periods[-1][1] if periods else "")
    return str(table["form" if minute else "full"].format(hour=said, minute=minute, period=period))


def _unit(found: re.Match[str], table: Mapping[str, Any]) -> str:
    number, unit = found[1], found[2]
    size = abs(float(number.replace(",", ".").replace("\u2212", "-")))
    one, many = table["units"][unit]
    return str((one if size == 1.0 or size < table["singular_below"] else many).format(n=number))


@functools.cache
def load_words(language: str) -> Words | None:
    """Return a language's table, None where there is none."""
    path = _WORDS / f"{language}.toml"
    if not (language.isalpha() and path.is_file()):
        return None
    table = tomllib.loads(path.read_text())
    marks, thousands = re.escape(table["decimal_marks"]), re.escape(table["thousands_marks"])
    return Words(
        table=table,
        units=re.compile(rf"{_NUMBER}\s?({_any(table['units'])})(?![\w/'\u2019²³])"),
        signs=re.compile(_any(table["signs"])),
        abbreviations=re.compile(rf"(?<!\w)(?:{_any(table['abbreviations'])})(?!\w)"),
        decimal=re.compile(rf"(?<![\w.,])(\d+)[{marks}](\d+)(?![\w]|[.,]\d)"),
        thousands=re.compile(rf"(?<=\d)[{thousands}](?=\d{{3}}(?!\d))"),
        never_twice=re.compile(rf"\b({'|'.join(table['never_twice'])})(?:\s+\1)+\b", re.IGNORECASE),
    )


def _any(keys: Mapping[str, Any]) -> str:
    return "|".join(re.escape(key) for key in sorted(keys, key=lambda key: -len(key)))
