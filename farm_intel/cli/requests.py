"""Options shared by the commands that name a block of cells, and the block they mean."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any, TypeVar

import click

from farm_intel.bootstrap import Container
from farm_intel.cli.output import DAY, check_range, split_list
from farm_intel.domain.errors import BadRequestError, UnknownNameError
from farm_intel.observing.model import ObserveRequest

Command = TypeVar("Command", bound=Callable[..., Any])


def block_options[Command: Callable[..., Any]](command: Command) -> Command:
    """Add --indices, --from, --to, --farms and --provider."""
    for option in reversed(
        (
            click.option("--indices", callback=split_list, help="Slugs, comma-separated; default: the asset indices."),
            click.option("--from", "start", type=DAY, required=True, help="First solar day."),
            click.option("--to", "end", type=DAY, required=True, help="Last solar day, inclusive."),
            click.option("--farms", "farm_ids", callback=split_list, help="Farm ids, comma-separated; default: all."),
            click.option("--provider", help="Provider name; default: the first of FARM_INTEL_PROVIDERS."),
        ),
    ):
        command = option(command)
    return command


def days_between(start: date, end: date) -> tuple[date, ...]:
    """Return the days from start to end, both included.

    Raises:
        BadRequestError: the range is upside down.

    """
    check_range(start, end)
    return tuple(start + timedelta(days=n) for n in range((end - start).days + 1))


def block_request(
    container: Container,
    *,
    indices: tuple[str, ...],
    start: date,
    end: date,
    farm_ids: tuple[str, ...],
    provider: str | None,
    force: bool = False,
) -> ObserveRequest:
    """Return the block of cells the options mean.

    Raises:
        BadRequestError: there are no farms, or a name is unknown.

    """
    farms = container.farms.list()
    if not farms:
        raise BadRequestError("there are no farms yet", hint="`farm-intel farms import FILE` brings some.")
    known = {farm.farm_id for farm in farms}
    unknown = [farm_id for farm_id in farm_ids if farm_id not in known]
    if unknown:
        raise UnknownNameError(f"no farm {', '.join(unknown)}", hint="`farm-intel farms list` shows what there is.")
    name = provider or container.settings.provider
    if name not in container.providers:
        raise UnknownNameError(
            f"no provider {name!r} is configured", hint=f"Configured: {', '.join(container.providers)}."
        )
    slugs = tuple(index.slug for index in container.registry.select(indices or container.settings.asset_indices))
    wanted = set(farm_ids)
    return ObserveRequest(
        provider=name,
        collection=container.providers[name].profile.collection,
        indices=slugs,
        farm_ids=tuple(farm.farm_id for farm in farms if not wanted or farm.farm_id in wanted),
        days=days_between(start, end),
        force=force,
    )
