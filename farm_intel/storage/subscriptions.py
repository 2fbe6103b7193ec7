"""Who wants to be told of what: rows that hold addresses and secrets, so nothing here is ever logged."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.dialects import postgresql, sqlite

from farm_intel.domain.alerts import Subscription
from farm_intel.domain.errors import UnknownNameError
from farm_intel.storage.alert_rows import subscription_of, subscription_values
from farm_intel.storage.alert_tables import subscriptions as table
from farm_intel.storage.database import reading, transaction

ANY_FARM = "*"


class SqlSubscriptionStore:
    """Implements `alerts.ports.SubscriptionStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def save(self, subscription: Subscription) -> None:
        """Store a subscription, or replace the one of the same id; when it was made stays."""
        values = subscription_values(subscription)
        kept = {"subscription_id", "created_at"}
        with transaction(self._engine) as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            connection.execute(
                dialect.insert(table)
                .values(values)
                .on_conflict_do_update(
                    index_elements=["subscription_id"],
                    set_={name: value for name, value in values.items() if name not in kept},
                )
            )

    def get(self, subscription_id: str) -> Subscription:
        """Return one subscription, active or not.

        Raises:
            UnknownNameError: there is none of that id.

        """
        with reading(self._engine) as connection:
            row = connection.execute(select(table).where(table.c.subscription_id == subscription_id)).one_or_none()
        if row is None:
            raise _unknown(subscription_id)
        return subscription_of(row)

    def deactivate(self, subscription_id: str) -> None:
        """Stop a subscription; its row stays, so that what was sent can be traced. Again is nothing.

        Raises:
            UnknownNameError: there is none of that id.

        """
        change = update(table).where(table.c.subscription_id == subscription_id).values(active=False)
        with transaction(self._engine) as connection:
            if not connection.execute(change).rowcount:
                raise _unknown(subscription_id)

    def list(self, *, user_id: str | None = None, include_inactive: bool = False) -> Sequence[Subscription]:
        """Return subscriptions in the order they were made, of one user or of all."""
        query = select(table).order_by(table.c.created_at, table.c.subscription_id)
        if user_id is not None:
            query = query.where(table.c.user_id == user_id)
        if not include_inactive:
            query = query.where(table.c.active)
        with reading(self._engine) as connection:
            return [subscription_of(row) for row in connection.execute(query)]

    def for_farm(self, farm_id: str) -> Sequence[Subscription]:
        """Return the active subscriptions that a farm's notices may reach."""
        with reading(self._engine) as connection:
            return subscriptions_of(connection, farm_id)


def subscriptions_of(connection: Connection, farm_id: str) -> list[Subscription]:
    """Return the active subscriptions of a farm, those for every farm included, within the caller's transaction."""
    query = (
        select(table)
        .where(table.c.farm_id.in_({farm_id, ANY_FARM}), table.c.active)
        .order_by(table.c.user_id, table.c.subscription_id)
    )
    return [subscription_of(row) for row in connection.execute(query)]


def _unknown(subscription_id: str) -> UnknownNameError:
    return UnknownNameError(
        f"there is no subscription {subscription_id}", hint="List them with `farm-intel alerts subscriptions`."
    )
