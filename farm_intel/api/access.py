"""Who is asking: bearer tokens until accounts exist, and farms nobody else gets to see."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from farm_intel.api.ports import ApiServices
from farm_intel.domain.alerts import Alert
from farm_intel.domain.errors import UnknownNameError

_bearer = HTTPBearer(auto_error=False, scheme_name="bearer", description="A token of a user.")


def services_of(connection: HTTPConnection) -> ApiServices:
    """Return what the app was created from."""
    services: ApiServices = connection.app.state.services
    return services


Services = Annotated[ApiServices, Depends(services_of)]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def user_of(services: ApiServices, token: str) -> str | None:
    """Return whose token it is; the look-up is by hash, so its timing tells nothing of a token."""
    return services.access.tokens.get(hashlib.sha256(token.encode()).hexdigest())


def current_user(services: Services, credentials: Credentials) -> str:
    """Return the id of the user who asks; 401 for everybody else."""
    user = None if credentials is None else user_of(services, credentials.credentials)
    if user is None:
        raise HTTPException(401, "The bearer token is missing or not known.", {"WWW-Authenticate": "Bearer"})
    return user


User = Annotated[str, Depends(current_user)]


def current_operator(services: Services, user: User) -> str:
    """Return the id of the operator who asks; 403 for other users."""
    if user not in services.access.operators:
        raise HTTPException(403, "Only operators may use the outbox.")
    return user


Operator = Annotated[str, Depends(current_operator)]


def visible_farms(services: ApiServices, user_id: str, farm_id: str | None = None) -> tuple[str, ...] | None:
    """Return the farms to look at for a user, of all or of one asked for; None for all there are."""
    if farm_id is not None:
        return (farm_id,) if services.access.may_see(user_id, farm_id) else ()
    farms = services.access.farms_of(user_id)
    return None if farms is None else tuple(sorted(farms))


def visible_alert(services: ApiServices, user_id: str, alert_id: str) -> Alert:
    """Return an alert of a farm the user may see.

    Raises:
        UnknownNameError: there is none, or it is somebody else's: which of the two is not told.

    """
    missing = f"there is no alert {alert_id!r}"
    hint = "List alerts to see their ids."
    try:
        alert = services.alerts.get(alert_id)
    except UnknownNameError as error:
        raise UnknownNameError(missing, hint=hint) from error
    if not services.access.may_see(user_id, alert.farm_id):
        raise UnknownNameError(missing, hint=hint)
    return alert
