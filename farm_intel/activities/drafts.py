"""What somebody asks for when an activity is created or edited, and the checks it must pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from farm_intel.activities.recurrence import check_schedule
from farm_intel.activities.types import ActivityType, ActivityTypes
from farm_intel.domain.activities import FormValue, Misfire, Overlap, Schedule
from farm_intel.domain.errors import BadRequestError

_LONGEST_TITLE = 200
_LONGEST_NAME = 128
_SHORTEST_WINDOW = timedelta(seconds=10)
"""As Temporal's shortest catch-up window."""
_LONGEST_WINDOW = timedelta(days=3660)
_MOST_ATTEMPTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityDraft:
    """An activity before it is one: no id, no version, nothing that the store decides."""

    farm_id: str
    type: str
    """Slug of an activity type."""
    title: str
    schedule: Schedule
    form: Mapping[str, FormValue] = field(default_factory=dict)
    """Planned values of the type's form fields."""
    assignee: str = ""
    catchup_window: timedelta = timedelta(days=365)
    misfire: Misfire = Misfire.ALL
    overlap: Overlap = Overlap.SKIP
    max_attempts: int = 4
    acknowledge: bool = True
    acknowledge_within: timedelta = timedelta(days=7)


def draft_of(kind: ActivityType, *, farm_id: str, title: str, schedule: Schedule) -> ActivityDraft:
    """Return a draft with the type's own policy of acknowledgement; the type's English name where there is no title."""
    return ActivityDraft(
        farm_id=farm_id,
        type=kind.slug,
        title=title.strip() or kind.labels.text("en"),
        schedule=schedule,
        acknowledge=kind.acknowledge,
        acknowledge_within=kind.acknowledge_within,
    )


def check_draft(draft: ActivityDraft, types: ActivityTypes) -> ActivityDraft:
    """Return a draft that may become an activity: form values as they are stored, texts without surrounding blanks.

    Raises:
        UnknownNameError: there is no such type.
        BadRequestError: anything else that is wrong with it.

    """
    title, assignee = draft.title.strip(), draft.assignee.strip()
    for name, text, longest in (("title", title, _LONGEST_TITLE), ("assignee", assignee, _LONGEST_NAME)):
        if len(text) > longest or any(not letter.isprintable() for letter in text):
            raise BadRequestError(
                f"{name} = {text[:60]!r} is not one line of at most {longest} characters", hint="Shorten it."
            )
    if not title or not draft.farm_id:
        raise BadRequestError("an activity needs a farm and a title", hint="Say where and what is to be done.")
    _check_policy(draft)
    form = types.check_form(draft.type, draft.form)
    check_schedule(draft.schedule)
    return replace(draft, title=title, assignee=assignee, form=form)


def _check_policy(draft: ActivityDraft) -> None:
    if not 1 <= draft.max_attempts <= _MOST_ATTEMPTS:
        raise BadRequestError(f"max_attempts = {draft.max_attempts}", hint=f"Give 1 to {_MOST_ATTEMPTS}.")
    for name in ("catchup_window", "acknowledge_within"):
        window: timedelta = getattr(draft, name)
        if not _SHORTEST_WINDOW <= window <= _LONGEST_WINDOW:
            raise BadRequestError(f"{name} = {window}", hint="Give ten seconds to ten years.")
