"""The 160 characters of one text message: which characters there are, how long a text is, and where it is cut."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence

LONGEST = 160
_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""3GPP TS 23.038, 6.2.1: the default alphabet."""
_EXTENDED = frozenset("^{}\\[~]|€")
"""3GPP TS 23.038, 6.2.1.1: two septets each."""
_LOOKS_LIKE = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032`\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb\u2033", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
        **dict.fromkeys("\u00a0\u202f\u2009\u200a\t", " "),
        "…": "...",
        "°": "",
        "œ": "oe",
        "Œ": "OE",
        "·": ".",
        "•": "-",
    }
)
_CUT = "..."


def gsm(text: str) -> str:
    """Return a text in the characters of text messages as far as they go: accents that are not there are left out.

    Letters of other scripts stay: the message then is sent in another encoding, and is no longer one of 160.
    """
    return "".join(_nearest(character) for character in text.translate(_LOOKS_LIKE))


def length(text: str) -> int:
    """Return how much of a message a text takes, in septets."""
    return sum(2 if character in _EXTENDED else 1 for character in text)


def cut(text: str, longest: int) -> str:
    """Return a text of at most `longest` septets, ending at a word and in `...` where it was longer."""
    if length(text) <= longest:
        return text
    kept = ""
    for character in text:
        if length(kept) + length(character) + len(_CUT) > longest:
            break
        kept += character
    words = kept.rpartition(" ")[0] if not text[len(kept)].isspace() else kept
    return (words or kept).rstrip(" ,;:.-") + _CUT if longest >= len(_CUT) else ""


def fitted(
    fill: Callable[[Mapping[str, str]], str],
    values: Mapping[str, str],
    shrinkable: Sequence[str],
    *,
    longest: int = LONGEST,
    letters: Callable[[str], str] = gsm,
) -> str:
    """Return a message that fits, shortening what may be shortened in its order.

    Args:
        fill: makes the message of values.
        values: all of them.
        shrinkable: names of free texts, the least important first. Each is cut at a word, or left out.
        longest: septets there are.
        letters: turns a text into letters that may be sent.

    """
    left = {name: letters(value) for name, value in values.items()}
    text = letters(fill(left))
    for name in shrinkable:
        over = length(text) - longest
        if over <= 0:
            return text
        if left.get(name):
            left[name] = cut(left[name], max(0, length(left[name]) - over))
            text = letters(fill(left))
    return cut(text, longest)


def _nearest(character: str) -> str:
    if character in _BASIC or character in _EXTENDED:
        return character
    base = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
    return base if base and all(part in _BASIC for part in base) else character
