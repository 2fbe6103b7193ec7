"""Types of request fields that the store can keep, whatever is sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

NO_NUL = r"^[^\x00]*$"
"""PostgreSQL keeps no NUL in text; the driver's complaint is not one of the database."""


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the instant is outside the years 1 to 9999 in UTC") from error


Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:\-]{1,64}$")]
Text = Annotated[str, Field(max_length=2000, pattern=NO_NUL)]
Reason = Annotated[str, Field(min_length=1, max_length=2000, pattern=NO_NUL)]
Instant = Annotated[AwareDatetime, AfterValidator(_utc)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
PageSize = Annotated[int, Field(ge=1, le=200)]


class Body(BaseModel):
    """A request body: a field nobody knows is a mistake of the sender, and told."""

    model_config = ConfigDict(extra="forbid", frozen=True)
