"""Starting the Dagster UI and daemon on this machine."""

from __future__ import annotations

import socket
import subprocess  # nosec B404 - starts our own Dagster and API with fixed command lines
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from farm_intel.bootstrap import Container
from farm_intel.cli.installing import configured_or_demo, prepare_dagster_home
from farm_intel.domain.errors import NotConfiguredError

_END_WITHIN_S = 10.0


def _require_free_port(host: str, port: int, what: str, setting: str) -> None:
    """Refuse a port that is taken: `dagster dev` would go on without its web page.

    Raises:
        NotConfiguredError: something listens there, or the address is not this machine's.

    """
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise NotConfiguredError(
            f"the {what} cannot listen on {host}:{port}: {error.strerror or error}",
            hint=f"Stop what listens there, or set FARM_INTEL_{setting}_PORT (FARM_INTEL_{setting}_HOST) to another.",
        ) from error


def serve(container: Container) -> int:
    """Run `dagster dev` (code server, webserver, daemon) and the API until they are stopped; return the exit code."""
    container, is_demo = configured_or_demo(container)
    settings = container.settings
    if is_demo:
        click.echo("No catalogue is configured: serving the demo installation.")
    _require_free_port(settings.ui_host, settings.ui_port, "UI", "UI")
    _require_free_port(settings.api_host, settings.api_port, "API", "API")
    dagster_home = prepare_dagster_home(container)
    address = f"http://{settings.ui_host}:{settings.ui_port}"
    click.echo(f"Dagster UI   {address}   (answers after about ten seconds)")
    click.echo(f"  assets     {address}/assets")
    click.echo(f"API          http://{settings.api_host}:{settings.api_port}/v1/health   (docs/api.md)")
    click.echo(f"State in     {settings.home}")
    click.echo("Stop with Ctrl-C.")
    command = [
        str(Path(sys.executable).with_name("dagster")),
        "dev",
        "-m",
        "farm_intel.definitions",
        "-h",
        settings.ui_host,
        "-p",
        str(settings.ui_port),
    ]
    environment = settings.child_environment(dagster_home)
    with _api_beside(environment):
        return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603  # nosec B603 - as above


@contextmanager
def _api_beside(environment: Mapping[str, str]) -> Iterator[None]:
    """Run the API in a process of its own for as long as Dagster runs."""
    command = [str(Path(sys.executable).with_name("farm-intel")), "api", "serve", "--quiet"]
    api = subprocess.Popen(command, env=dict(environment))  # noqa: S603  # nosec B603 - a fixed command line
    try:
        yield
    finally:
        api.terminate()
        try:
            api.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            api.kill()
