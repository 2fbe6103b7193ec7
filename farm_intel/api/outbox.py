"""The outbox for operators: what could not be delivered, sent again or given up."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from farm_intel.api.access import Operator, Services
from farm_intel.api.fields import Body, Identifier, PageSize, Reason
from farm_intel.api.problems import documented
from farm_intel.domain.messages import Message, MessageState

router = APIRouter(prefix="/v1/outbox", tags=["outbox"], responses=documented(401, 403, 422, 503))


class MessageOut(BaseModel):
    """A message without its address and secret: both may let others in."""

    message_id: str
    subject: str
    farm_id: str
    user_id: str
    channel: str
    title: str
    state: MessageState
    attempt: int
    created_at: datetime
    next_at: datetime
    sent_at: datetime | None
    error: str

    @classmethod
    def of(cls, message: Message) -> MessageOut:
        """Return what is told of a message."""
        return cls(
            message_id=message.message_id,
            subject=message.new.subject,
            farm_id=message.new.farm_id,
            user_id=message.new.user_id,
            channel=message.new.channel,
            title=message.new.text.title,
            state=message.state,
            attempt=message.attempt,
            created_at=message.created_at,
            next_at=message.next_at,
            sent_at=message.sent_at,
            error=message.error,
        )


class MessageList(BaseModel):
    """Messages, newest first."""

    messages: list[MessageOut]


class DropIn(Body):
    """Why a message is given up."""

    note: Reason


@router.get("", operation_id="listOutbox")
def list_outbox(
    services: Services,
    _operator: Operator,
    state: Annotated[MessageState | None, Query()] = None,
    limit: Annotated[PageSize, Query()] = 50,
) -> MessageList:
    """Return messages of the outbox, those in one state or all."""
    messages = services.outbox.list(state=state, limit=limit)
    return MessageList(messages=[MessageOut.of(message) for message in messages])


@router.post("/{message_id}/replay", operation_id="replayMessage", responses=documented(404, 409))
def replay_message(services: Services, _operator: Operator, message_id: Identifier) -> MessageOut:
    """Send a dead letter again."""
    return MessageOut.of(services.outbox.replay(message_id, now=services.clock.now()))


@router.post("/{message_id}/drop", operation_id="dropMessage", responses=documented(404, 409))
def drop_message(services: Services, operator: Operator, message_id: Identifier, body: DropIn) -> MessageOut:
    """Give a dead letter up."""
    return MessageOut.of(services.outbox.drop(message_id, by=operator, note=body.note))
