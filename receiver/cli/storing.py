"""store salvage, store compact."""

from contextlib import closing
from pathlib import Path

import click

from receiver.cli import Failure, opening
from receiver.errors import ConfigurationError
from receiver.store import Store
from receiver.store.salvaging import salvage as read_what_can_be_read
from receiver.stores import open_store
from receiver.system.stopping import exiting_on_sigterm


@click.group()
def store() -> None:
    """The SQLite file itself."""


@store.command()
@click.argument("target", metavar="NEW_FILE", type=click.Path(dir_okay=False, path_type=Path))
@opening.config_option
@click.pass_context
def salvage(ctx: click.Context, target: Path, config: Path | None) -> None:
    """
    Read what can be read of a damaged SQLite store into NEW_FILE, and say what was lost. Stop faxhook before.

    The damaged file is never changed. Exit code 1 when something was lost. An event of which nobody can tell whether it
    was delivered is delivered again, with the same id.
    """
    with closing(open_store(opening.load(config))) as damaged:
        if damaged.file is None:
            raise ConfigurationError("store.url: only a SQLite store can be salvaged; PostgreSQL has tools of its own")
        if not damaged.file.exists():
            raise ConfigurationError(f"store.url: {damaged.file.path}: no such file")
        source = damaged.file.path
    if target.exists():
        raise ConfigurationError(f"{target}: exists; expected the name of a new file")
    is_whole = False
    try:
        is_whole = _fill(source, target)
    finally:
        if not target.exists():
            click.echo(f"faxhook: {target} was not finished; nothing of it is left", err=True)
    click.echo(f"Look at {target}, then put it in place of {source}, and delete {source}-wal and {source}-shm.")
    ctx.exit(0 if is_whole else 1)


@store.command()
@opening.config_option
def compact(config: Path | None) -> None:
    """
    Write the SQLite file anew, so that no copy is left in it of what was deleted: after `faxhook erase`.

    It takes as much room again on the disk while it runs, and callbacks are answered 503 where they would wait longer
    than four seconds. Exit code 1 when the log could not be emptied, since somebody reads: run it again.
    """
    with opening.open_store(config) as whole:
        if whole.file is None:
            page = "`Privacy requests` in deploy/README.md has the statement for PostgreSQL"
            raise ConfigurationError(f"store.url: only a SQLite store can be compacted; {page}")
        if not whole.compact():
            raise Failure("the file is written anew, and its log is not emptied, as somebody reads; run it again")
    click.echo("The file is written anew, and its log is empty.")


def _fill(source: Path, target: Path) -> bool:
    """Whether nothing was lost."""
    is_whole = True
    with closing(Store(f"sqlite:///{target.absolute()}")) as fresh, exiting_on_sigterm():
        for done in read_what_can_be_read(source, fresh):
            lost = "an unknown number" if done.lost is None else f"at most {done.lost}" if done.lost else "none"
            click.echo(f"{done.table}: {done.read} read, {lost} lost")
            is_whole = is_whole and done.lost == 0
    return is_whole
