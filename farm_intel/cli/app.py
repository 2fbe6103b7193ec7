"""The command group, and the one place where errors become messages and exit codes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Final

import click

from farm_intel.domain.errors import BadRequestError, FarmIntelError

SUCCESS: Final = 0
FAILURE: Final = 1
BAD_USAGE: Final = 2

COMMANDS: Final = {
    "demo": ("farm_intel.cli.world", "demo"),
    "farms": ("farm_intel.cli.farms", "farms"),
    "indices": ("farm_intel.cli.indices", "indices"),
    "backfill": ("farm_intel.cli.observe", "backfill"),
    "explain": ("farm_intel.cli.observe", "explain"),
    "observations": ("farm_intel.cli.read", "observations"),
    "calendar": ("farm_intel.cli.read", "calendar"),
    "assess": ("farm_intel.cli.assess", "assess"),
    "states": ("farm_intel.cli.assess", "states"),
    "providers": ("farm_intel.cli.assess", "providers"),
    "export": ("farm_intel.cli.products", "export"),
    "cube": ("farm_intel.cli.products", "cube"),
    "plot": ("farm_intel.cli.products", "plot"),
    "item": ("farm_intel.cli.products", "item"),
    "activities": ("farm_intel.cli.activities", "activities"),
    "alerts": ("farm_intel.cli.alerts", "alerts"),
    "pump": ("farm_intel.cli.pumping", "pump"),
    "outbox": ("farm_intel.cli.pumping", "outbox"),
    "say": ("farm_intel.cli.pumping", "say"),
    "api": ("farm_intel.cli.pumping", "api"),
    "accuracy": ("farm_intel.cli.world", "accuracy"),
    "emulators": ("farm_intel.cli.emulators", "emulators"),
    "doctor": ("farm_intel.cli.operate", "doctor"),
    "fsck": ("farm_intel.cli.operate", "fsck"),
    "up": ("farm_intel.cli.operate", "up"),
}
"""Command -> module and attribute: a command's libraries are imported only when it runs."""


class LazyGroup(click.Group):
    """A group whose commands are imported on use, so that `--help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands in the order of a first session."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="farm-intel", prog_name="farm-intel")
def app() -> None:
    """Right numbers per farm and day, from satellite scenes to stored, checked observations."""


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; errors are told on stderr in one message."""
    try:
        code = app.main(args=list(arguments), prog_name="farm-intel", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return BAD_USAGE if isinstance(error, click.UsageError) else FAILURE
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped. What was finished is stored; the same command goes on from there.", err=True)
        return FAILURE
    except FarmIntelError as error:
        click.echo(f"farm-intel: {error}", err=True)
        return BAD_USAGE if isinstance(error, BadRequestError) else FAILURE
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        click.echo(f"farm-intel: {what}. Check the path, its permissions and the free space.", err=True)
        return FAILURE
    return code if isinstance(code, int) else SUCCESS
