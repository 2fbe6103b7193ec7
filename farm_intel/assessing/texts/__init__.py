"""What people read of a farm state, in their language; the texts are the TOML files beside this module."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from farm_intel.domain.assessment import FarmState, StateReason
from farm_intel.domain.errors import UnknownNameError

_FOLDER = Path(__file__).parent
_COMPLETE = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateTexts:
    """The texts of one language, with those it lacks in English."""

    language: str
    """ISO 639-1 code."""
    texts: Mapping[str, str]
    """`section.key` -> text, e.g. `interpretation.growth`."""

    def interpretation(self, state: FarmState) -> str:
        """Return what the state means."""
        return self.texts[state.interpretation]

    def action(self, state: FarmState) -> str:
        """Return what to do about the state, and about the event if there is one."""
        action = self.texts[state.action]
        return f"{action} {self.texts[f'event_action.{state.event}']}" if state.event else action

    def event(self, state: FarmState) -> str | None:
        """Return the name of the event told with the state."""
        return None if state.event is None else self.texts[f"event.{state.event}"]

    def reason(self, reason: StateReason) -> str:
        """Return one reason as a sentence."""
        threshold = float("nan") if reason.threshold is None else reason.threshold
        return self.texts[f"reason.{reason.fact}"].format(
            index=reason.index.upper(), value=reason.value, threshold=threshold
        )


def languages() -> tuple[str, ...]:
    """Return the codes there are texts for, the complete language first."""
    codes = {path.stem for path in _FOLDER.glob("*.toml")}
    return (_COMPLETE, *sorted(codes - {_COMPLETE}))


@cache
def state_texts(language: str) -> StateTexts:
    """Return the texts of a language.

    Raises:
        UnknownNameError: there are none in that language.

    """
    code = language.lower()
    if code not in languages():
        raise UnknownNameError(f"there are no texts in {language!r}.", hint=f"There are {', '.join(languages())}.")
    return StateTexts(language=code, texts={**_read(_COMPLETE), **_read(code)})


def _read(language: str) -> dict[str, str]:
    document = tomllib.loads((_FOLDER / f"{language}.toml").read_text(encoding="utf-8"))
    return {
        f"{section}.{key}": text
        for section, table in document.items()
        if isinstance(table, dict)
        for key, text in table.items()
    }
