"""Runs of one column of the matrix: an installation of its own per run, everything observed, nothing judged."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from farm_intel.bootstrap import Container, build_container, load_settings
from farm_intel.domain.errors import FarmIntelError
from farm_intel.domain.observations import Flag, ObservationStatus
from farm_intel.observing.fallback import Switch, observe_in_order
from farm_intel.observing.model import CellOutcome, ObserveRequest
from farm_intel.resilience import deadlines
from farm_intel.simulation.emulators.data_faults import DataFaults
from farm_intel.simulation.emulators.hosting import EmulatorServer
from farm_intel.storage.fsck import check_store
from farm_intel_tests.faults.columns import Column, emulator_app, environment, settings_of

INDEX = "ndvi"
DEADLINE_S = 10.0
"""Of a run; a healthy one takes about one second."""
PATIENT_DEADLINE_S = 4.0
"""Of a run whose single calls would wait longer than this."""
CALL_TIMEOUT_S = 2.5
PATIENT_TIMEOUT_S = 30.0
RETRIES = 1
PAGE_ITEMS = 10

Cell = tuple[str, date]
Value = tuple[ObservationStatus, float | None]
Known = dict[tuple[str, str, date], Value]
"""(provider, farm, day) -> status and mean."""


@dataclass(slots=True)
class Run:
    """What one run did."""

    outcomes: dict[Cell, CellOutcome] = field(default_factory=dict)
    error: BaseException | None = None
    seconds: float = 0.0
    deadline_s: float = DEADLINE_S
    requests: int = 0
    """Requests to the struck place."""
    switches: int = 0
    stored: Known = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    problems: tuple[str, ...] = ()
    """Items the catalogue search could not use."""


@dataclass(slots=True)
class Bench:
    """One column with its emulators running."""

    column: Column
    world: Path
    server: EmulatorServer
    stand_in: EmulatorServer
    forget_tokens: Callable[[], None]
    known: Known = field(default_factory=dict)
    """What runs without faults store."""
    requests: dict[str, int] = field(default_factory=dict)
    """Place -> requests of a run without faults."""

    def learn(self) -> None:
        """Fill `known` and `requests` from runs without faults, one per provider.

        Raises:
            RuntimeError: such a run failed.

        """
        for provider in (self.column.provider, self.column.stand_in):
            self.server.log.clear()
            run = self.run((provider,), deadline_s=60.0, timeout_s=60.0)
            if run.error is not None or not run.outcomes:
                raise RuntimeError(f"{provider} gave {len(run.outcomes)} cells without any fault") from run.error
            self.known |= run.stored
            if provider == self.column.provider:
                self.requests = {place: self.count(path) for place, path in self.column.places.items()}

    def count(self, path: str) -> int:
        """Return how many requests to paths of a pattern came in since the log was cleared."""
        import re

        return sum(re.search(path, record.path) is not None for record in list(self.server.log))

    def run(
        self,
        order: Sequence[str],
        *,
        deadline_s: float = DEADLINE_S,
        timeout_s: float = CALL_TIMEOUT_S,
        days: Sequence[date] | None = None,
    ) -> Run:
        """Observe the column's farms and days in a new installation, alone or with a stand-in.

        Args:
            order: providers; one is asked as such and its error kept, more are asked in order.
            deadline_s: of the whole run.
            timeout_s: of single calls.
            days: instead of the column's.

        """
        home = Path(tempfile.mkdtemp(prefix="farm-intel-fault-"))
        try:
            container = self.installation(home, timeout_s=timeout_s)
            run = Run(deadline_s=deadline_s)
            # built beforehand: what is measured is the provider, not the installation
            service, order_of = container.observing, dict(container.provider_order(INDEX))
            asked = [(name, order_of[name]) for name in order]
            request = self.request(asked[0], days)

            def switched(_: Switch) -> None:
                run.switches += 1

            began = time.monotonic()
            try:
                if len(asked) == 1:
                    outcomes = _within(deadline_s, service.observe(request, run_id="faults"))
                else:
                    outcomes = observe_in_order(
                        service, request, asked, run_id="faults", deadline_s=deadline_s, on_switch=switched
                    )
                for outcome in outcomes:
                    run.outcomes[outcome.key.farm_id, outcome.key.solar_day] = outcome
            except Exception as error:  # noqa: BLE001 - an untyped error is what the matrix looks for
                run.error = error
            run.seconds = time.monotonic() - began
            run.problems = service.problems
            _look_into(container, run)
            container.database.dispose()
        finally:
            shutil.rmtree(home, ignore_errors=True)
        return run

    def installation(self, home: Path, *, timeout_s: float = CALL_TIMEOUT_S, **settings: Any) -> Container:
        """Return a new installation that knows the farms."""
        values: dict[str, Any] = {
            "providers": (self.column.provider, self.column.stand_in),
            "provider_retries": RETRIES,
            "stac_retries": RETRIES,
            "read_retries": RETRIES,
            "stac_page_size": PAGE_ITEMS,
            "stac_timeout_s": timeout_s,
            "read_timeout_s": timeout_s,
            "sentinel_hub_timeout_s": timeout_s,
            "earth_engine_timeout_s": timeout_s,
            # the wide farm has few whole pixels of 500 m
            "min_pure_pixels": 4,
            # every run is a month of its own, but the real rate would make runs wait for each other
            "provider_rates": {"sentinel_hub": 6000.0},
        }
        values |= settings_of(self.column, self.server, self.stand_in) | settings
        container = build_container(load_settings(home=home, **values))
        drafts = container.read_farm_file(self.world / "farms.geojson").farms
        container.import_farms([draft for draft in drafts if draft.farm_id in self.column.farms])
        self.forget_tokens()
        return container

    def request(self, source: tuple[str, str], days: Sequence[date] | None = None) -> ObserveRequest:
        """Return the request of the column's cells."""
        return ObserveRequest(
            provider=source[0],
            collection=source[1],
            indices=(INDEX,),
            farm_ids=self.column.farms,
            days=tuple(days or self.column.days),
        )


@contextmanager
def bench(
    column: Column, world: Path, *, faults: DataFaults | None = None, sas_ttl_s: float | None = None
) -> Iterator[Bench]:
    """Serve a column's emulators while the context is entered."""
    app = emulator_app(column.emulator, world, faults=faults, sas_ttl_s=sas_ttl_s)
    with ExitStack() as stack:
        server = stack.enter_context(EmulatorServer(app))
        stand_in = stack.enter_context(EmulatorServer(emulator_app(column.stand_in_emulator, world)))
        forget = stack.enter_context(environment(column, server))
        yield Bench(column, world, server, stand_in, forget)


def _within(deadline_s: float, outcomes: Iterator[CellOutcome]) -> Iterator[CellOutcome]:
    """Yield under one deadline, step by step as `deadlines.deadline` asks for."""
    until = time.monotonic() + deadline_s
    while True:
        with deadlines.deadline(max(0.001, until - time.monotonic())):
            outcome = next(outcomes, None)
        if outcome is None:
            return
        yield outcome


def _look_into(container: Container, run: Run) -> None:
    """Note what the installation holds after a run, and what is wrong with its store."""
    for row in container.observations.observations():
        mean = None if row.statistics is None else row.statistics.mean
        run.stored[row.key.provider, row.key.farm_id, row.key.solar_day] = (row.status, mean)
    try:
        report = check_store(container.database, container.rasters, rehash=True, grace=timedelta(0))
    except FarmIntelError as error:
        run.damage = [str(error)]
        return
    run.damage = [f"{found.problem}: {', '.join(found.examples)}" for found in report.findings]


def stands_in(outcome: CellOutcome) -> bool:
    """Return whether a cell says that another provider answered it."""
    return Flag.FALLBACK_PROVIDER in outcome.flags
