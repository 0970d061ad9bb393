"""
The command line. Each module here holds some commands, which read options, call the house, and print.

A module is imported when one of its commands runs, so that ``--help`` is quick.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from receiver import __version__, logs, streams
from receiver.errors import ConfigurationError, StoreError, Unavailable

# Command -> its module here, the function in it, and a line for --help.
_COMMANDS = {
    "serve": ("running", "serve", "Take callbacks: web workers and relay. Without a configuration, init first."),
    "relay": ("running", "relay", "Only the relay, beside `serve --no-relay`."),
    "migrate": ("running", "migrate", "Bring the store to this version."),
    "init": ("running", "init", "Write a first configuration."),
    "check": ("running", "check", "Look for what is wrong or doubtful in the configuration."),
    "doctor": ("examining", "doctor", "Look at everything, when something is wrong."),
    "consume": ("consuming", "consume", "Read events from the queue, one JSON line each."),
    "simulate": ("simulating", "simulate", "Send callbacks as the providers would."),
    "endpoints": ("endpoints", "endpoints", "The configured endpoints and their callback URLs."),
    "providers": ("providers", "providers", "What each provider sends, means, and needs to be told."),
    "events": ("events", "events", "The events in the outbox."),
    "dead-letters": ("dead_letters", "dead_letters", "The events that could not be sent."),
    "jobs": ("jobs", "jobs", "The faxes that were sent and are not heard of yet."),
    "receipts": ("receipts", "receipts", "The callbacks that were kept."),
    "secrets": ("tokens", "secrets", "New tokens and hashed passwords."),
    "reconcile": ("reconciling", "reconcile", "Fetch what was missed from the providers' reports."),
    "discrepancies": ("reconciling", "discrepancies", "What does not add up between the providers and us."),
    "store": ("storing", "store", "What can be read of a damaged store."),
    "schema": ("schema", "schema", "The schema of what is published."),
}

# Option of all commands that need the configuration; also taken before the command's name.
CONFIG = click.Path(dir_okay=False, path_type=Path)


class Failure(click.ClickException):
    """Ends a command with a message on stderr: it found trouble."""

    def show(self, file: Any = None) -> None:
        click.echo(f"faxhook: {self.message}", file=file or sys.stderr)


class _Unusable(Failure):
    exit_code = 2


class _Faxhook(click.Group):
    """Finds commands by the table above, and turns errors into exit codes."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        streams.secure()
        os.umask(0o077)  # what faxhook writes holds secrets or personal data
        logs.install()
        return super().__call__(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, _, help_line) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            raise _Unusable(str(error)) from None
        except StoreError as error:
            raise Failure(str(error)) from None
        except Unavailable as error:
            raise Failure(error.trouble) from None
        except BrokenPipeError:
            raise  # click ends quietly
        except OSError as error:
            # Whatever file it was, the system's own words say it; a traceback would not.
            where = f"{error.filename}: " if error.filename else ""
            raise Failure(f"{where}{error.strerror or type(error).__name__}") from None


@click.group(cls=_Faxhook, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="faxhook")
@click.option("--config", type=CONFIG, help="The configuration file.")
def main(config: Path | None) -> None:
    """The one callback URL for fax providers. Exit codes: 0 ok, 1 found trouble, 2 bad usage or configuration."""
