"""store backup, restore, verify, copy, salvage and compact."""

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click

from receiver.cli import Failure, opening
from receiver.cli.progress import progress
from receiver.errors import BadValue, ConfigurationError
from receiver.settings import Settings, forms, secret_keys
from receiver.store import Store, backups
from receiver.store.backups import Manifest
from receiver.store.copying import copy as carry_over
from receiver.store.copying import left_alone
from receiver.store.migrating import check_version
from receiver.store.projection import Keys, maker
from receiver.store.remembered import place
from receiver.store.salvaging import salvage as read_what_can_be_read
from receiver.store.sqlite import url_of
from receiver.stores import open_store
from receiver.system.stopping import exiting_on_sigterm

_BACKUP = click.Path(dir_okay=False, path_type=Path)


@click.group()
def store() -> None:
    """The store itself: backups, moving it, and a damaged SQLite file."""


@store.command()
@click.argument("target", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@opening.config_option
def backup(target: Path, config: Path | None) -> None:
    """
    Write the store as it is at this moment into FILE, or into FOLDER under the time's name, while faxhook runs.

    Of either database it is one SQLite file, with a count and checksum of each table and a mark of the secret key. It
    has its name when it is complete and on the disk, and replaces no other.
    """
    its_settings = opening.load(config)
    if target.is_dir():
        target /= f"faxhook-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.db"
    with opening.open_store(config) as running, exiting_on_sigterm(), progress() as tell:
        try:
            manifest = backups.make(running, target, _marks_for(running, its_settings), tell)
        except FileExistsError:
            raise ConfigurationError(f"{target}: exists; expected the name of a new file, or a folder") from None
    click.echo(f"{target}: {_described(manifest)}")


@store.command()
@click.argument("source", metavar="FILE", type=_BACKUP)
@opening.config_option
def verify(source: Path, config: Path | None) -> None:
    """
    Read all of a backup: is the file sound, is each table as it was written, are its secret keys configured?

    Exit code 1 when something was changed or is damaged, 2 with another key.
    """
    its_settings = opening.load(config)
    manifest = _whole(source)
    _refuse_another_key(manifest, its_settings)
    click.echo(f"{source}: whole; {_described(manifest)}, as configured")


@store.command()
@click.argument("source", metavar="FILE", type=_BACKUP)
@click.option("--key-is-lost", is_flag=True, help="Restore without the secret key of the backup, with the present one.")
@opening.config_option
def restore(source: Path, key_is_lost: bool, config: Path | None) -> None:
    """
    Fill the configured store from a backup, whichever database that was of. Expects that there is no store yet.

    A PostgreSQL store may have its tables already, all of them empty. A restore that was cut short leaves no SQLite
    file; on PostgreSQL run it again, and it goes on.
    """
    its_settings = opening.load(config)
    manifest = _whole(source)
    if not key_is_lost:
        _refuse_another_key(manifest, its_settings)
    with closing(open_store(its_settings)) as empty, exiting_on_sigterm(), progress() as tell:
        try:
            backups.restore(source, manifest, empty, tell, project_anew=key_is_lost)
        except FileExistsError:
            raise Failure(f"{empty.where}: somebody else has just made it; nothing was restored") from None
        where = empty.where
    click.echo(f"{where}: {manifest.rows} rows restored, as they were at {manifest.made_at}.")
    if key_is_lost:
        click.echo("Numbers and references are found again when the relay has gone through all events.")
    click.echo(
        f"Start faxhook, and fetch what came since: faxhook reconcile --since {manifest.made_at}. What was delivered"
        " since is delivered again, with the same ids."
    )


@store.command()
@click.argument("old", metavar="FROM")
@click.argument("new", metavar="TO")
def copy(old: str, new: str) -> None:
    """
    Copy everything from the store at the URL FROM into an empty one at the URL TO, from either database to either.

    Stop faxhook before: it is refused while anything works with FROM. What is undelivered is undelivered there as
    well. Both are compared table by table at the end. A copy that was cut short goes on where it was.
    """
    with closing(_at(old, "FROM")) as source, closing(_at(new, "TO")) as target:
        if place(source.url) == place(target.url):
            raise ConfigurationError("TO: is the same store as FROM")
        check_version(source)
        with exiting_on_sigterm(), left_alone(source) as (rows, check), progress() as tell:
            done = list(carry_over(rows, place(source.url), target, check=check, tell=tell))
        for name, tally in done:
            click.echo(f"{name}: {tally.rows} rows, sha256 {tally.checksum[:16]}")
        where = source.where
    click.echo(f"Both are the same. Set store.url to TO, start faxhook, and put away what is at {where}.")


def _at(url: str, name: str) -> Store:
    try:
        return Store(forms.store_url(Path.cwd())(url))
    except BadValue as error:
        raise ConfigurationError(f"{name}: {error}") from None
    except ValueError:
        expected = "sqlite:///path/to/faxhook.db or postgresql://user@host/database"
        raise ConfigurationError(f"{name}: expected {expected}") from None


def _described(manifest: Manifest) -> str:
    """With the marks of its keys."""
    tables = f"{manifest.rows} rows in {len(manifest.tables)} tables, as at {manifest.made_at}"
    return f"{tables}, with {_named(manifest.secret_keys)}"


def _named(marks: Sequence[str]) -> str:
    return f"the secret key{'s' if len(marks) > 1 else ''} {' and '.join(marks)}"


def _whole(source: Path) -> Manifest:
    """What a backup says of itself, when all of it is so. Raises Failure."""
    manifest = backups.read(source)
    if troubles := backups.troubles(source, manifest):
        for trouble in troubles:
            click.echo(trouble, err=True)
        raise Failure(f"{source}: not as it was written; take another backup")
    return manifest


def _marks_for(running: Store, settings: Settings) -> list[str]:
    """
    The marks of the configured secret keys, the one that made the store's hashes first.

    Raises ConfigurationError where that is none of them: nobody could tell by the backup which key it needs.
    """
    with running.reading() as connection:
        made_by = maker(connection, running.tables)
    if made_by is None:  # no relay has begun: as it will
        return Keys(secret_keys(settings)).marks
    configured = _configured_marks(settings)
    if made_by not in configured:
        raise ConfigurationError(
            f"server.secret_key: the relay of this store works with {_named([made_by])}, {_has(configured, settings)}."
            " Take the backup with the configuration and state_dir of the relay; if its key is lost, start the relay"
            " with the present one before"
        )
    return [made_by, *(mark for mark in configured if mark != made_by)]


def _refuse_another_key(manifest: Manifest, settings: Settings) -> None:
    """What the store has by hashes, such as numbers, is found with all of these keys only."""
    configured = _configured_marks(settings)
    missing = [mark for mark in manifest.secret_keys if mark not in configured]
    if missing:
        raise ConfigurationError(
            f"server.secret_key: the backup was made with {_named(manifest.secret_keys)}, {_has(configured, settings)};"
            f" {' and '.join(missing)} is missing. Put back what belongs to the backup, or list it after the present"
            " one; if it is lost: faxhook store restore --key-is-lost"
        )


def _configured_marks(settings: Settings) -> list[str]:
    """None where there is no key: none is made for the question."""
    is_there = bool(settings.server.secret_keys) or _kept_key(settings).exists()
    return Keys(secret_keys(settings)).marks if is_there else []


def _has(configured: Sequence[str], settings: Settings) -> str:
    if not configured:
        return f"none is configured, and {_kept_key(settings)} is not there"
    return f"configured is {' and '.join(configured)}"


def _kept_key(settings: Settings) -> Path:
    return settings.server.state_dir / "secret_key"


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
    with closing(Store(url_of(target.absolute()))) as fresh, exiting_on_sigterm():
        for done in read_what_can_be_read(source, fresh):
            lost = "an unknown number" if done.lost is None else f"at most {done.lost}" if done.lost else "none"
            click.echo(f"{done.table}: {done.read} read, {lost} lost")
            is_whole = is_whole and done.lost == 0
    return is_whole
