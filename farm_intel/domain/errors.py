"""The one error tree, divided by what the caller should do about it.

FarmIntelError
 ├── PermanentError            do not retry: the same call fails again
 │    ├── BadRequestError       the caller's input is wrong (CLI exit 2, HTTP 4xx)
 │    │    ├── FarmRejectedError     one feature of a farm file, with its reason
 │    │    ├── FormulaRejectedError  a formula outside the allow-list
 │    │    └── UnknownNameError      an index, farm, provider or profile that is not there
 │    ├── NotConfiguredError    a setting, credential or optional package is missing
 │    ├── BudgetExceededError   the month's budget of a provider is spent; nothing was asked
 │    └── SceneProblemError     one scene cannot be used (asset, projection, nodata, radiometry, file)
 ├── TransientError             retry with back-off: network, 5xx, timeouts
 │    ├── ThrottledError        retry after `retry_after_s`
 │    ├── ProviderDownError     the circuit breaker is open: nothing was asked; another provider may answer
 │    └── DeadlineExceededError the caller's time is up; nothing more is tried
 ├── StoreError                 the store refused or holds something it should not
 └── CellsFailedError           some cells of a batch failed, the others are recorded
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class FarmIntelError(Exception):
    """Base of every error this package raises on purpose; `hint` says what to do next."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def message(self) -> str:
        """What happened, on one line and without the hint; libraries end their lines where they like."""
        return " ".join(super().__str__().split())

    def __str__(self) -> str:
        """Return the message, followed by what to do next."""
        message = self.message
        if not self.hint:
            return message
        return f"{message}{'' if message.endswith(('.', '!', '?')) else '.'} {self.hint}".strip()


class PermanentError(FarmIntelError):
    """Retrying cannot help."""


class BadRequestError(PermanentError):
    """The caller's input is wrong."""


class FarmRejectedError(BadRequestError):
    """One feature of a farm file cannot be a farm."""


class FormulaRejectedError(BadRequestError):
    """A formula uses syntax, names or numbers outside the allow-list."""


class UnknownNameError(BadRequestError):
    """A farm, index, provider or collection that does not exist here."""


class NotConfiguredError(PermanentError):
    """A setting, credential or optional package is missing."""


class BudgetExceededError(PermanentError):
    """The budget a provider may spend in a month is used up; it fails closed, nothing was asked."""


class SceneProblemKind(StrEnum):
    """Why one scene cannot be used; part of a cell's record, so the words are stable."""

    MISSING_ASSET = "missing_asset"
    MISSING_PROJECTION = "missing_projection"
    MISSING_NODATA = "missing_nodata"
    MISSING_DATETIME = "missing_datetime"
    UNKNOWN_GRID = "unknown_grid"
    RADIOMETRY_UNDECIDED = "radiometry_undecided"
    UNREADABLE_FILE = "unreadable_file"
    NOT_FOUND = "not_found"
    ACCESS_DENIED = "access_denied"


class SceneProblemError(PermanentError):
    """One scene cannot be used; the run goes on without it."""

    def __init__(self, kind: SceneProblemKind, scene_id: str, detail: str, *, hint: str = "") -> None:
        super().__init__(f"scene {scene_id}: {kind.value}: {detail}", hint=hint)
        self.kind = kind
        self.scene_id = scene_id
        self.detail = detail


class TransientError(FarmIntelError):
    """The same call may succeed later."""


class ThrottledError(TransientError):
    """The provider asks us to slow down."""

    def __init__(self, message: str, *, retry_after_s: float | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class ProviderDownError(TransientError):
    """A provider's circuit breaker is open: nothing was asked, and asking again before `retry_after_s` is no use."""

    def __init__(self, message: str, *, retry_after_s: float | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class DeadlineExceededError(TransientError):
    """The time the caller gave is up; nothing more is tried within it."""


class StoreError(FarmIntelError):
    """The store refused a write or is inconsistent."""


class CellsFailedError(FarmIntelError):
    """Some cells of a batch failed; the others are recorded."""

    def __init__(self, message: str, *, failures: Mapping[str, str], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.failures = dict(failures)
