"""`farm-intel emulators`: the real providers' protocols on loopback, over one simulated farm world."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from farm_intel.bootstrap import container_from_environment
from farm_intel.cli.output import progress_bar, split_list
from farm_intel.domain.errors import BadRequestError
from farm_intel.simulation.catalogue import write_world
from farm_intel.simulation.emulators.faults import Fault, FaultKind
from farm_intel.simulation.emulators.fleet import EMULATORS, Fleet, check_names
from farm_intel.simulation.emulators.fleet import emulators as serve
from farm_intel.simulation.world import FarmWorld, WorldOptions

FIRST_PORT = 8711
"""Where the emulators listen unless told otherwise, one port each."""
SENSORS = ("sentinel-2", "landsat", "modis")


@click.group()
def emulators() -> None:
    """Servers that speak as the real providers do, for development, demos and trials of failure."""


@emulators.command()
@click.option("--world", type=click.Path(path_type=Path), help="Folder of a written world; default: in home, made.")
@click.option("--only", callback=split_list, help=f"Which, comma-separated; default: {','.join(EMULATORS)}.")
@click.option("--port", type=click.IntRange(0, 65_000), default=FIRST_PORT, show_default=True, help="Of the first.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    help="EMULATOR=KIND or EMULATOR=KIND:TIMES, repeatable; kinds: "
    + ", ".join(kind.value for kind in FaultKind)
    + ".",
)
def up(*, world: Path | None, only: tuple[str, ...], port: int, faults: tuple[str, ...]) -> None:
    """Serve emulators until stopped and print the settings that make farm-intel talk to them."""
    planned: dict[str, list[Fault]] = {}
    for text in faults:
        name, fault = parse_fault(text)
        planned.setdefault(name, []).append(fault)
    check_names((*only, *planned))
    home = container_from_environment().settings.home.absolute()
    folder = world or home / "emulators" / "world"
    if world is None:
        with progress_bar("world") as progress:
            folder.parent.mkdir(parents=True, exist_ok=True)
            write_world(
                FarmWorld(WorldOptions()), folder, progress=progress, sensors=("sentinel-2", "landsat", "modis")
            )
    with _signals_held() as stopping, serve(folder, only or EMULATORS, first_port=port, faults=planned) as fleet:
        _tell(fleet, home / "emulators")
        signal.sigwait(stopping)


@contextmanager
def _signals_held() -> Iterator[set[signal.Signals]]:
    """Keep what stops us from ending the process, to be waited for; the servers' threads inherit it."""
    stopping = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
    try:
        yield stopping
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def parse_fault(text: str) -> tuple[str, Fault]:
    """Return emulator and fault of `EMULATOR=KIND[:TIMES]`; without times it stays.

    Raises:
        BadRequestError: the text has another form, or names a kind that is none.

    """
    name, _, rest = text.partition("=")
    kind, _, times = rest.partition(":")
    try:
        return name, Fault(kind=FaultKind(kind), times=int(times or 0))
    except ValueError as error:
        raise BadRequestError(
            f"{text!r} is no fault", hint="Write EMULATOR=KIND or EMULATOR=KIND:TIMES; --help lists the kinds."
        ) from error


def _tell(fleet: Fleet, folder: Path) -> None:
    for name, server in fleet.servers.items():
        click.echo(f"# {name:14} {server.base_url}")
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in fleet.settings().items():
        shown = value
        if name == "earth_engine_credentials":
            key = folder / "earth_engine_key.json"
            key.write_text(value)
            shown = str(key)
        click.echo(f"export FARM_INTEL_{name.upper()}={shlex.quote(shown)}")
    click.echo("# Stop with Ctrl-C.")
