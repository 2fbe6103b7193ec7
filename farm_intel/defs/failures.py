"""The one table from our errors to Dagster failures."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from farm_intel.defs.resources import RunWatch
from farm_intel.domain.errors import (
    BadRequestError,
    CellsFailedError,
    FarmIntelError,
    NotConfiguredError,
    PermanentError,
    StoreError,
    ThrottledError,
    TransientError,
)

FAILURE_KINDS: tuple[tuple[type[FarmIntelError], str, bool], ...] = (
    (CellsFailedError, "cells failed", False),
    (ThrottledError, "throttled", True),
    (TransientError, "transient", True),
    (NotConfiguredError, "not configured", False),
    (BadRequestError, "bad request", False),
    (PermanentError, "permanent", False),
    (StoreError, "store", True),
    (FarmIntelError, "unexpected", False),
)
"""(error, kind shown in the UI, whether a retry may help); the first that fits counts."""

NAMED_CELLS = 50
"""Failed cells named in the run's failure; all of them are in the store's calendar."""


def as_failure(error: FarmIntelError) -> dg.Failure:
    """Return the Dagster failure an error becomes."""
    kind, retry = next((kind, retry) for base, kind, retry in FAILURE_KINDS if isinstance(error, base))
    return dg.Failure(description=str(error), metadata={"kind": kind, "hint": error.hint}, allow_retries=retry)


def cells_failure(failures: Mapping[str, str], asked: int) -> dg.Failure:
    """Return the failure of a run some of whose cells could not be computed.

    Retrying the step would only repeat the search: the cells stay missing, so "re-execute from failure", the sensor
    and the daily schedule ask for exactly them.
    """
    cell, reason = next(iter(failures.items()))
    named = "\n".join(f"- `{cell}`: {reason}" for cell, reason in list(failures.items())[:NAMED_CELLS])
    more = len(failures) - NAMED_CELLS
    return dg.Failure(
        description=(
            f"{len(failures)} of {asked} cells could not be computed; the others are recorded. First: {cell}: {reason}"
        ),
        metadata={
            "kind": "cells failed",
            "failed_cells": dg.MetadataValue.md(named + (f"\n- and {more} more" if more > 0 else "")),
        },
        allow_retries=False,
    )


@contextmanager
def told_failures(watch: RunWatch) -> Iterator[None]:
    """Turn an error of ours that ends the body into a Dagster failure, and let the watch know.

    Raises:
        dg.Failure: the body failed with an error of ours.

    """
    try:
        yield
    except FarmIntelError as error:
        watch.stopped(error)
        raise as_failure(error) from error
