"""Several emulators over one written world, and the settings with which an installation talks to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from farm_intel.domain.errors import BadRequestError, NotConfiguredError, UnknownNameError
from farm_intel.simulation.catalogue import world_files
from farm_intel.simulation.emulators.faults import Fault, FaultPlan
from farm_intel.simulation.emulators.hosting import AsgiApp, EmulatorServer

STAC, SENTINEL_HUB, EARTH_ENGINE = "stac", "sentinel_hub", "earth_engine"
EMULATORS = (STAC, SENTINEL_HUB, EARTH_ENGINE)
"""Named as the provider they stand for."""
PROJECT = "farm-intel-emulator"


class Fleet:
    """Emulators by name."""

    def __init__(self, servers: Mapping[str, EmulatorServer]) -> None:
        """Keep running servers."""
        self.servers = dict(servers)

    def settings(self) -> dict[str, str]:
        """Return the settings, by name, that make an installation talk to these emulators."""
        from farm_intel.simulation.emulators.earth_engine import throwaway_key
        from farm_intel.simulation.emulators.sentinel_hub import CLIENT_ID, CLIENT_SECRET, TOKEN_PATH

        found: dict[str, str] = {}
        if STAC in self.servers:
            found |= {"stac_url": self.servers[STAC].base_url, "stac_dialect": "earth-search"}
        if SENTINEL_HUB in self.servers:
            url = self.servers[SENTINEL_HUB].base_url
            found |= {
                "sentinel_hub_url": url,
                "sentinel_hub_token_url": url + TOKEN_PATH,
                "sentinel_hub_client_id": CLIENT_ID,
                "sentinel_hub_client_secret": CLIENT_SECRET,
            }
        if EARTH_ENGINE in self.servers:
            url = self.servers[EARTH_ENGINE].base_url
            found |= {
                "earth_engine_url": url,
                "earth_engine_project": PROJECT,
                "earth_engine_credentials": throwaway_key(url, project=PROJECT),
            }
        return found


def check_names(names: Sequence[str]) -> None:
    """Refuse names of emulators that do not exist.

    Raises:
        UnknownNameError: one does not; the message lists what there is.

    """
    unknown = [name for name in names if name not in EMULATORS]
    if unknown:
        raise UnknownNameError(f"no emulator {', '.join(unknown)}", hint=f"There are: {', '.join(EMULATORS)}.")


@contextmanager
def emulators(
    world: Path,
    names: Sequence[str] = EMULATORS,
    *,
    first_port: int = 0,
    faults: Mapping[str, Sequence[Fault]] | None = None,
) -> Iterator[Fleet]:
    """Serve emulators of these names over a written world while the context is entered.

    Args:
        world: folder that `simulation.catalogue.write_world` wrote.
        names: which; of `EMULATORS`.
        first_port: port of the first of all emulators; each has its own place behind it. 0: any free ports.
        faults: name -> what goes wrong there.

    Raises:
        UnknownNameError: no emulator of that name.
        NotConfiguredError: a port is taken.
        BadRequestError: the folder holds no world.

    """
    check_names((*names, *(faults or {})))
    if not world_files(world).truth.is_file():
        raise BadRequestError(f"{world} holds no world", hint="`farm-intel emulators up` without --world makes one.")
    with ExitStack() as stack:
        servers = {}
        for name in names:
            plan = FaultPlan()
            for fault in (faults or {}).get(name, ()):
                plan.add(fault)
            port = first_port + EMULATORS.index(name) if first_port else 0
            server = EmulatorServer(_app(name, world), faults=plan, port=port)
            try:
                servers[name] = stack.enter_context(server)
            except OSError as error:
                raise NotConfiguredError(
                    f"the {name} emulator cannot listen on 127.0.0.1:{port}: {error.strerror or error}",
                    hint="Stop what listens there, or choose another --port.",
                ) from error
        yield Fleet(servers)


def _app(name: str, world: Path) -> AsgiApp:
    if name == STAC:
        from farm_intel.simulation.emulators.stac_api import stac_api_app

        return stac_api_app(world, "earth-search")
    if name == SENTINEL_HUB:
        from farm_intel.simulation.emulators.sentinel_hub import sentinel_hub_app

        return sentinel_hub_app(world)
    from farm_intel.simulation.emulators.earth_engine import earth_engine_app

    return earth_engine_app(world)
