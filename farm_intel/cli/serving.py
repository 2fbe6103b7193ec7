"""Starting the Dagster UI and daemon on this machine."""

from __future__ import annotations

import socket
import subprocess  # nosec B404 - starts our own Dagster with a fixed command line
import sys
from pathlib import Path

import click

from farm_intel.bootstrap import Container
from farm_intel.cli.installing import configured_or_demo, prepare_dagster_home
from farm_intel.domain.errors import NotConfiguredError


def _require_free_port(host: str, port: int) -> None:
    """Refuse a port that is taken: `dagster dev` would go on without its web page.

    Raises:
        NotConfiguredError: something listens there, or the address is not this machine's.

    """
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise NotConfiguredError(
            f"the UI cannot listen on {host}:{port}: {error.strerror or error}",
            hint="Stop what listens there, or set FARM_INTEL_UI_PORT (FARM_INTEL_UI_HOST) to another.",
        ) from error


def serve(container: Container) -> int:
    """Run `dagster dev` (one code server, the webserver and the daemon) until it is stopped; return its exit code."""
    container, is_demo = configured_or_demo(container)
    settings = container.settings
    if is_demo:
        click.echo("No catalogue is configured: serving the demo installation.")
    _require_free_port(settings.ui_host, settings.ui_port)
    dagster_home = prepare_dagster_home(container)
    address = f"http://{settings.ui_host}:{settings.ui_port}"
    click.echo(f"Dagster UI   {address}   (answers after about ten seconds)")
    click.echo(f"  assets     {address}/assets")
    click.echo(f"  state in   {settings.home}")
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
    return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603  # nosec B603 - as above
