"""
The command line. Each module here holds some commands, which read options, call the house, and print.

A module is imported when one of its commands runs, so that ``--help`` is quick.
"""

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from receiver import __version__, logs
from receiver.errors import ConfigurationError, StoreError, Unavailable
from receiver.system import interrupting, streams
from receiver.system.collecting import importing

# Command -> its module here, the function in it, and a line for --help.
_COMMANDS = {
    "serve": ("running", "serve", "Take callbacks: web workers and relay. Without a configuration, init first."),
    "relay": ("relaying", "relay", "Only the relay, beside `serve --no-relay`."),
    "migrate": ("running", "migrate", "Bring the store to this version."),
    "init": ("running", "init", "Write a first configuration."),
    "check": ("checking", "check", "Look for what is wrong or doubtful in the configuration."),
    "doctor": ("examining", "doctor", "Look at everything, when something is wrong."),
    "consume": ("consuming", "consume", "Read events from the queue, one JSON line each."),
    "tail": ("tailing", "tail", "Receipts and events as they come."),
    "verify-consumer": ("verifying", "verify_consumer", "Try an HTTP consumer with all that may come."),
    "listen": ("listening", "listen", "Send the events to a consumer that you are writing, too."),
    "simulate": ("simulating", "simulate", "Send callbacks as the providers would."),
    "endpoints": ("endpoints", "endpoints", "The configured endpoints and their callback URLs."),
    "providers": ("providers", "providers", "What each provider sends, means, and needs to be told."),
    "fax": ("faxes", "fax", "What happened to a fax, by any id, number or reference."),
    "reference": ("faxes", "reference", "All faxes of one business reference."),
    "stats": ("stats", "stats", "Which provider fails, and how fast faxes and callbacks are."),
    "evidence": ("evidence", "evidence", "What happened to a fax as a signed document."),
    "events": ("events", "events", "The events in the outbox."),
    "dead-letters": ("dead_letters", "dead_letters", "The events that could not be sent."),
    "sinks": ("sinks", "sinks", "Where events go beside the queue."),
    "jobs": ("jobs", "jobs", "The faxes that were sent and are not heard of yet."),
    "receipts": ("receipts", "receipts", "The callbacks that were kept."),
    "erase": ("privacy", "erase", "Erase what is stored of a number, a fax or a reference."),
    "export": ("privacy", "export", "All that is stored of a number, for who has it."),
    "secrets": ("tokens", "secrets", "New tokens and hashed passwords."),
    "keys": ("evidence", "keys", "The public key that verifies evidence."),
    "reconcile": ("reconciling", "reconcile", "Fetch what was missed from the providers' reports."),
    "discrepancies": ("reconciling", "discrepancies", "What does not add up between the providers and us."),
    "store": ("storing", "store", "Backups of the store, moving it, and a damaged SQLite file."),
    "schema": ("schema", "schema", "The contracts with other programs, as documents."),
    "completion": ("completing", "completion", "Completion of commands and options for your shell."),
}

# Command -> what somebody may type; shown by its --help.
EXAMPLES = {
    "serve": "faxhook serve --config /etc/faxhook/faxhook.toml",
    "relay": "faxhook relay",
    "migrate": "faxhook migrate",
    "init": "faxhook init --config faxhook.toml",
    "check": "faxhook check --config copy.toml",
    "doctor": "faxhook doctor --json",
    "consume": "faxhook consume --follow | python consumer.py",
    "tail": "faxhook tail",
    "verify-consumer": "faxhook verify-consumer http://localhost:3000/fax --report report.html",
    "listen": "faxhook listen http://localhost:3000/fax --from oldest",
    "simulate": "faxhook simulate --endpoint acme --case busy --count 10",
    "endpoints": "faxhook endpoints --reveal",
    "providers list": "faxhook providers list --wide",
    "providers show": "faxhook providers show NAME --endpoint acme",
    "fax find": "faxhook fax find +12085550139",
    "fax show": "faxhook fax show d0fbe9d4-3aab-5a4e-8862-dee22a10cd24",
    "fax list": "faxhook fax list --outcome failed --since 24h",
    "reference": "faxhook reference order-4711",
    "stats": "faxhook stats --since 24h --by provider,reason",
    "evidence": "faxhook evidence 779029 > fax.json",
    "events list": "faxhook events list --state pending --since 24h",
    "events show": "faxhook events show 5ff6bb1e-405b-554b-829c-04e250504ee3",
    "events republish": "faxhook events republish --since 2026-11-21T10:00:00Z",
    "dead-letters list": "faxhook dead-letters list",
    "dead-letters show": "faxhook dead-letters show 5ff6bb1e-405b-554b-829c-04e250504ee3 --reveal",
    "dead-letters replay": "faxhook dead-letters replay --all",
    "dead-letters drop": "faxhook dead-letters drop --all-damaged --yes",
    "sinks list": "faxhook sinks list",
    "sinks resume": "faxhook sinks resume partner",
    "sinks drop": "faxhook sinks drop partner --yes",
    "jobs add": "faxhook jobs add acme 115893796 --number +12025550123 --due 2h",
    "jobs import": "faxhook jobs import sent.jsonl",
    "jobs list": "faxhook jobs list --overdue",
    "receipts list": "faxhook receipts list --state rejected",
    "receipts show": "faxhook receipts show 019a8b5e-6c2d-7f10-8a3b-2c4d5e6f7a8b --reveal",
    "receipts replay": "faxhook receipts replay 019a8b5e-6c2d-7f10-8a3b-2c4d5e6f7a8b --as acme",
    "erase": "faxhook erase --number +12085550139 --yes",
    "export": "faxhook export --number +12085550139 > theirs.json",
    "secrets new": "faxhook secrets new --kind basic",
    "secrets hash": "faxhook secrets hash --scrypt",
    "keys show": "faxhook keys show > faxhook-evidence.pem",
    "reconcile": "faxhook reconcile --endpoint acme --since 24h --dry-run",
    "discrepancies list": "faxhook discrepancies list --all",
    "discrepancies show": "faxhook discrepancies show 12",
    "discrepancies close": "faxhook discrepancies close 12 13",
    "store backup": "faxhook store backup /var/backups/faxhook",
    "store compact": "faxhook store compact",
    "store copy": "faxhook store copy sqlite:///var/faxhook.db postgresql://faxhook@db.example.com/faxhook",
    "store restore": "faxhook store restore faxhook-20261129T121500Z.db",
    "store salvage": "faxhook store salvage healthy.db",
    "store verify": "faxhook store verify faxhook-20261129T121500Z.db",
    "schema event": "faxhook schema event",
    "schema asyncapi": "faxhook schema asyncapi > asyncapi.json",
    "schema openapi": "faxhook schema openapi > openapi.json",
    "completion": 'eval "$(faxhook completion bash)"',
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
        with interrupting.as_exception():
            return super().__call__(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        with importing():
            command = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        assert isinstance(command, click.Command)
        _give_example(command, cmd_name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:  # which knows only commands that are imported
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=_COMMANDS, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, _, help_line) in _COMMANDS.items()])

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _exit_codes():  # --help and --version are printed here
            _refuse_odd_bytes(args[1] if len(args) > 1 else kwargs["args"])
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _exit_codes():
            return super().invoke(ctx)


def _refuse_odd_bytes(arguments: Sequence[str]) -> None:
    """What cannot be written as UTF-8 names nothing that we keep, and no database takes it."""
    for argument in arguments:
        if not argument.isascii() and argument != argument.encode("utf-8", "replace").decode():
            raise _Unusable(f"an argument is not UTF-8: {argument.encode('utf-8', 'backslashreplace').decode()}")


@contextmanager
def _exit_codes() -> Iterator[None]:
    """What may go wrong as a message and an exit code."""
    try:
        yield
    except ConfigurationError as error:
        raise _Unusable(str(error)) from None
    except StoreError as error:
        raise Failure(str(error)) from None
    except Unavailable as error:
        raise Failure(error.trouble) from None
    except (KeyboardInterrupt, click.Abort) as error:
        if not isinstance(error, KeyboardInterrupt) and not isinstance(error.__context__, KeyboardInterrupt):
            raise  # the end of what was to be typed
        click.echo("\nfaxhook: interrupted", err=True)
        raise SystemExit(interrupting.EXIT_CODE) from None
    except BrokenPipeError:
        raise  # click ends quietly
    except OSError as error:
        # Whatever file it was, the system's own words say it; a traceback would not.
        where = f"{error.filename}: " if error.filename else ""
        raise Failure(f"{where}{error.strerror or type(error).__name__}") from None


def _give_example(command: click.Command, name: str) -> None:
    """To it, or to each of its own commands."""
    if isinstance(command, click.Group):
        for below, one in command.commands.items():
            _give_example(one, f"{name} {below}")
    elif example := EXAMPLES.get(name):
        command.epilog = f"Example: {example}"


@click.group(cls=_Faxhook, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="faxhook")
@click.option("--config", type=CONFIG, help="The configuration file.")
def main(config: Path | None) -> None:
    """The one callback URL for fax providers. Exit codes: 0 ok, 1 trouble, 2 bad usage or configuration, 130 Ctrl-C."""
