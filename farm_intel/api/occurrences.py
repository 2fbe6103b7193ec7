"""Answers to occurrences of farm activities."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field, model_validator

from farm_intel.api.access import Services, User, visible_farms
from farm_intel.api.fields import Body, Identifier, Instant, Number, Text
from farm_intel.api.problems import documented
from farm_intel.domain.activities import Answer, Occurrence, OccurrenceState
from farm_intel.domain.errors import UnknownNameError

router = APIRouter(prefix="/v1/occurrences", tags=["activities"], responses=documented(400, 401, 422, 503))

MAX_QUANTITIES = 50
MOST_DEAD_LETTERS = 1000

Quantities = Annotated[dict[Identifier, bool | Number | Text | None], Field(max_length=MAX_QUANTITIES)]


class AnswerIn(Body):
    """What somebody says about an occurrence."""

    done: bool
    reason: Text = ""
    quantities: Quantities = {}
    note: Text = ""
    photo: Text = ""
    """Reference to a photo; never opened by the server."""

    @model_validator(mode="after")
    def _reason_why_not(self) -> AnswerIn:
        if not self.done and not self.reason.strip():
            raise ValueError("an occurrence that was not done needs a reason")
        return self


class DropIn(Body):
    """Why a dead letter is given up."""

    note: Text


class OccurrenceOut(BaseModel):
    """An occurrence as the API tells it."""

    activity_id: str
    due_at: datetime
    farm_id: str
    type: str
    title: str
    local_date: str
    local_time: str
    time_zone: str
    state: OccurrenceState
    reason: str
    assignee: str
    acknowledge_by: datetime | None

    @classmethod
    def of(cls, occurrence: Occurrence) -> OccurrenceOut:
        """Return what is told of an occurrence."""
        return cls(
            activity_id=occurrence.activity_id,
            due_at=occurrence.due_at,
            farm_id=occurrence.farm_id,
            type=occurrence.type,
            title=occurrence.title,
            local_date=occurrence.local_date.isoformat(),
            local_time=occurrence.local_time,
            time_zone=occurrence.time_zone,
            state=occurrence.state,
            reason=occurrence.reason,
            assignee=occurrence.assignee,
            acknowledge_by=occurrence.acknowledge_by,
        )


@router.get("/dead-letters", operation_id="listDeadOccurrences")
def list_dead_letters(services: Services, user: User) -> list[OccurrenceOut]:
    """List what was given up after its last attempt on farms the user may see."""
    found = services.activities.dead_letters(visible_farms(services, user), limit=MOST_DEAD_LETTERS)
    return [OccurrenceOut.of(row) for row in found]


@router.post("/{activity_id}/{due_at}/replay", operation_id="replayOccurrence", responses=documented(404, 409))
def replay_occurrence(services: Services, user: User, activity_id: Identifier, due_at: Instant) -> OccurrenceOut:
    """Let what was given up be tried again, with all its attempts."""
    _check_visible(services, user, activity_id, due_at)
    return OccurrenceOut.of(services.activities.replay(activity_id, due_at, by=user))


@router.post("/{activity_id}/{due_at}/drop", operation_id="dropOccurrence", responses=documented(404, 409))
def drop_occurrence(
    services: Services, user: User, activity_id: Identifier, due_at: Instant, body: DropIn
) -> OccurrenceOut:
    """Give it up for good, and say why."""
    _check_visible(services, user, activity_id, due_at)
    return OccurrenceOut.of(services.activities.drop(activity_id, due_at, note=body.note, by=user))


@router.post("/{activity_id}/{due_at}/answer", operation_id="answerOccurrence", responses=documented(404, 409))
def answer_occurrence(
    services: Services, user: User, activity_id: Identifier, due_at: Instant, body: AnswerIn
) -> OccurrenceOut:
    """Record that an occurrence was done, or why it was not."""
    _check_visible(services, user, activity_id, due_at)
    answer = Answer(
        done=body.done,
        by=user,
        at=services.clock.now(),
        reason=body.reason,
        quantities=body.quantities,
        note=body.note,
        photo=body.photo,
    )
    return OccurrenceOut.of(services.activities.answer(activity_id, due_at, answer))


def _check_visible(services: Services, user_id: str, activity_id: str, due_at: datetime) -> None:
    missing = f"activity {activity_id!r} has no occurrence due at {due_at.isoformat()}"
    hint = "Take activity and due time from the message."
    try:
        occurrence = services.activities.occurrence(activity_id, due_at)
    except UnknownNameError as error:
        raise UnknownNameError(missing, hint=hint) from error
    if not services.access.may_see(user_id, occurrence.farm_id):
        raise UnknownNameError(missing, hint=hint)
