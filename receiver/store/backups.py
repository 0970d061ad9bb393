"""
Backups: of a store in either database one SQLite file with all its rows, and a manifest that says what must be in it.

``README.md`` in this folder has the format.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from receiver import __version__
from receiver.errors import StoreError
from receiver.store import Store, now_ms, rfc3339
from receiver.store.carrying import Source, Tally, batches, carried, write
from receiver.store.copying import copy, made_whole, snapshot
from receiver.store.damage import check_all
from receiver.store.file_causes import explain
from receiver.store.migrating import check_exact, migrate, newest_revision
from receiver.store.sqlite import SQLITE, url_of
from receiver.store.tables import PREFIX
from receiver.store.trouble import StoreUnavailable
from receiver.system.placing import placed

FORMAT = 1
_TABLE = f"{PREFIX}backup"
_BESIDE = ("-wal", "-shm", "-journal", ".lock")
_REVISION = f"{PREFIX}alembic_version"


@dataclass(frozen=True, slots=True)
class Counted:
    """Of one table of the file."""

    columns: tuple[str, ...]
    rows: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself. secret_keys: marks of the keys at that time, the one that made hashes first."""

    format: int
    made_at: str
    faxhook: str
    revision: str
    store: str
    secret_keys: tuple[str, ...]
    tables: dict[str, Counted]

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())


def make(store: Store, target: Path, secret_keys: Sequence[str], tell: Callable[[str], object]) -> Manifest:
    """
    Write a backup of the store as it is at one moment, while others go on.

    secret_keys: the marks of the server's. tell: takes how far it has come, in words.

    Raises FileExistsError where the target is there, StoreError where rows have not arrived as they are, Unavailable.
    """
    began = rfc3339(now_ms())  # what came later may be missing
    with placed(target, _BESIDE) as part, _trouble_with(target, part):
        if store.dialect == "sqlite":
            tell("writing all rows anew")
            _write_anew(store, part)
            counted = {}
        else:
            counted = _gather(store, part, tell)
        with closing(SQLITE.connect(part, isolation_level=None)) as connection:
            _without_log(connection, target)
            (revision,) = connection.execute(f"SELECT version_num FROM {_REVISION}").fetchone()  # noqa: S608
            tables = _tables(connection)
            for name, tally in counted.items():
                if (tables[name].rows, tables[name].checksum) != (tally.rows, tally.checksum):
                    raise StoreError(f"{target}: {name} is not as it was read; is the disk failing? Nothing was kept")
            manifest = Manifest(FORMAT, began, __version__, revision, store.dialect, tuple(secret_keys), tables)
            connection.execute(f"DROP TABLE IF EXISTS {_TABLE}")  # of a backup that was put in place by hand
            connection.execute(f"CREATE TABLE {_TABLE} (manifest TEXT NOT NULL)")
            connection.execute(f"INSERT INTO {_TABLE} VALUES (?)", (json.dumps(asdict(manifest)),))  # noqa: S608
    return manifest


def read(backup: Path) -> Manifest:
    """What the file says of itself. Raises StoreError where it is no backup, or one of a later format."""
    if not backup.is_file():
        raise StoreError(f"{backup}: no such file; expected a backup that `faxhook store backup` has made")
    try:
        with closing(_opened(backup)) as connection:
            (said,) = connection.execute(f"SELECT manifest FROM {_TABLE}").fetchone()  # noqa: S608
        found = json.loads(said)
        if found["format"] > FORMAT:
            raise StoreError(f"{backup}: made by a later faxhook ({found['faxhook']}); read it with that version")
        tables = {name: Counted(**counted) for name, counted in found.pop("tables").items()}
        return Manifest(**found, tables=tables)
    except (SQLITE.DatabaseError, ValueError, LookupError, TypeError):
        raise StoreError(
            f"{backup}: not a backup that `faxhook store backup` has made, or its first pages are damaged"
        ) from None


def troubles(backup: Path, manifest: Manifest) -> list[str]:
    """What is not as the manifest says, a sentence each; none where the file is whole. Reads all of it."""
    found = check_all(backup)
    if found:
        return [f"damaged: {line}" for line in found]
    with _trouble_with(backup), closing(_opened(backup)) as connection:
        tables = _tables(connection)
    wrong = []
    for name in sorted(tables.keys() | manifest.tables.keys()):
        there, expected = tables.get(name), manifest.tables.get(name)
        if there is None or expected is None:
            wrong.append(f"{name}: {'is missing' if there is None else 'is not of this backup'}")
        elif there.rows != expected.rows:
            wrong.append(f"{name}: {there.rows} rows, expected {expected.rows}")
        elif there.checksum != expected.checksum:
            wrong.append(f"{name}: its rows were changed")
    return wrong


def restore(
    backup: Path, manifest: Manifest, store: Store, tell: Callable[[str], object], *, project_anew: bool = False
) -> None:
    """
    Fill a store that is not there yet, or on PostgreSQL an empty one, from a backup that has no troubles.

    tell: takes how far it has come, in words. project_anew: let everything be found with the present secret key.
    Raises StoreError where there is a store, or the backup cannot be restored by this version.
    """
    if store.file is not None:
        _restore_file(backup, store.file.path, project_anew=project_anew)
        return
    if manifest.revision != newest_revision():
        raise StoreError(
            f"{backup}: has the tables of faxhook {manifest.faxhook}; restore it with that version, or into a SQLite"
            " store, which is brought up to date, and from there with `faxhook store copy`"
        )
    with _trouble_with(backup), closing(_opened(backup)) as connection:
        connection.execute("BEGIN")
        rows, named = Source("sqlite", connection), f"backup of {manifest.made_at}"
        for _ in copy(rows, named, store, tell=tell, project_anew=project_anew):
            pass  # each table, when it is the same


def _restore_file(backup: Path, target: Path, *, project_anew: bool) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        if (there := target.with_name(target.name + suffix)).exists():
            raise StoreError(f"{there}: exists; a backup is restored only where there is no store: move it away first")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with placed(target, _BESIDE) as part, _trouble_with(target, part):
        shutil.copyfile(backup, part)
        with closing(SQLITE.connect(part, isolation_level=None)) as connection:
            connection.execute(f"DROP TABLE {_TABLE}")
        with closing(Store(url_of(part))) as store:
            migrate(store)
            with store.writing() as connection:
                made_whole(connection, store.tables, project_anew=project_anew)
        with closing(SQLITE.connect(part, isolation_level=None)) as connection:
            _without_log(connection, target)


def _without_log(connection: Any, target: Path) -> None:
    """
    Have all that was written in the file itself, whose log does not go with it: SQLite leaves rows there, and tells
    nobody, where it cannot bring them over when the file is closed.

    target: what the file is going to be.
    """
    (mode,) = connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    if mode != "delete":
        raise StoreError(
            f"{target}: its log could not be emptied into it; does another program read it? Nothing was kept"
        )


def _write_anew(store: Store, part: Path) -> None:
    """
    By ``VACUUM INTO``, which reads every row of one moment, holds up no writer of a log, and leaves out the unused
    parts of pages, in which there may be copies of what was deleted.
    """
    with store.our_trouble():
        connection = store.engine.raw_connection()
    try:
        connection.cursor().execute("VACUUM INTO ?", (str(part),))
    except SQLITE.DatabaseError as error:
        if not _named(error).startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise  # of the new file
        with store.our_trouble():
            raise
    finally:
        connection.close()


def _gather(store: Store, part: Path, tell: Callable[[str], object]) -> dict[str, Tally]:
    """From PostgreSQL, in one snapshot; what was read of each table."""
    check_exact(store)
    counted: dict[str, Tally] = {}
    with closing(Store(url_of(part))) as fresh, snapshot(store) as source:
        migrate(fresh)
        with fresh.writing() as connection:
            connection.execute(fresh.tables.meta.delete())
        for name, table in carried(fresh.tables).items():
            counted[table.name] = Tally()
            for batch in batches(source.read(name)):
                with fresh.writing() as connection:
                    write(connection, table, batch)
                counted[table.name] = counted[table.name].and_of(batch)
                tell(f"{name}: {counted[table.name].rows} rows read")
    return counted


def _tables(connection: Any) -> dict[str, Counted]:
    """All of the file's but the manifest, as they are there: of another version they have other columns."""
    ours = "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, ?) = ? AND name <> ?"
    found = {}
    for (name,) in connection.execute(ours, (len(PREFIX), PREFIX, _TABLE)).fetchall():
        columns = tuple(row[1] for row in connection.execute(f'PRAGMA table_info("{name}")'))
        shown = ", ".join(f'"{column}"' for column in columns)
        tally = Tally().and_of(connection.execute(f'SELECT {shown} FROM "{name}"'))  # noqa: S608 - its own names
        found[name] = Counted(columns, tally.rows, tally.checksum)
    return found


def _opened(backup: Path) -> Any:
    """For reading: nothing is written beside it."""
    return SQLITE.connect(f"{backup.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


@contextmanager
def _trouble_with(path: Path, part: Path | None = None) -> Iterator[None]:
    """What goes wrong with this file, in words. part: what it is called until it is complete."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; nothing was written") from None
    except SQLITE.Error as error:
        name = _named(error)
        raise StoreUnavailable(name, f"{path}: {explain(name, part or path, error)} ({name})") from None


def _named(error: BaseException) -> str:
    return getattr(error, "sqlite_errorname", None) or type(error).__name__
