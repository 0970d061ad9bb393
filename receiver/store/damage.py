"""A SQLite file with bad pages: found, noted, and its healthy rows go out while the others are set aside."""

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.errors import StoreError, Unavailable
from receiver.logs import log
from receiver.store import DAMAGED, Store, now_ms, outbox
from receiver.store.file_causes import unavailable
from receiver.store.sqlite import SQLITE, has_wal_fix
from receiver.store.tables import PREFIX, Tables, insert_or_replace
from receiver.store.trouble import StoreUnavailable
from receiver.store.unnumbered import by_key
from receiver.system.stopping import Interrupted, Stop

_CHUNK = 200  # rows at once
_NEWEST = 20  # rows of each table, which are on its last pages
_UNREADABLE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")  # of statements that any schema of ours takes
_MOST_FOUND = 100  # lines of PRAGMA integrity_check
_MOST_NOTED = 10
_STEPS = 10_000  # of SQLite, some of them whole pages, between two looks at the clock

Result = TypeVar("Result")


def is_damage(error: Unavailable) -> bool:
    return isinstance(error, StoreUnavailable) and error.is_damage


# --- finding it -----------------------------------------------------------------------------------------------------


def check_newest(store: Store) -> None:
    """
    Read header, schema and the newest pages of each table of a SQLite file, which takes milliseconds.

    Raises StoreError where they are damaged: every callback would fail on them.
    """
    if store.file is None or not store.file.exists():
        return
    try:
        with store.reading() as connection:
            _read_newest(connection)
    except StoreUnavailable as error:
        if not error.error.startswith(_UNREADABLE):
            raise
        raise StoreError(
            f"store.url: {store.file.path} is damaged ({error.error}); `faxhook doctor --deep` says where;"
            " stop faxhook, and restore a backup or read what can be read with `faxhook store salvage NEW_FILE`"
        ) from None


def look_at_start(store: Store) -> None:
    """
    ``check_newest`` for who can go on with a damaged file: what is found is logged, and noted by ``Store``.

    Raises StoreError where header or schema are damaged, so that nothing at all can be read.
    """
    try:
        check_newest(store)
    except StoreError as error:
        try:
            with store.reading() as connection:
                noted(connection, store.tables)
        except StoreUnavailable:
            raise error from None
        log.error("store_damaged", cause=str(error))


def _read_newest(connection: Connection) -> None:
    """Of tables without row numbers, which are in the order of their keys, the end."""
    ours = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND substr(name, 1, ?) = ?"
    for name, statement in connection.exec_driver_sql(ours, (len(PREFIX), PREFIX)).all():
        order = "rowid"
        if "WITHOUT ROWID" in statement.upper():
            keys = connection.exec_driver_sql("SELECT name FROM pragma_table_info(?) WHERE pk ORDER BY pk", (name,))
            order = ", ".join(f'"{key}" DESC' for key in keys.scalars()).removesuffix(" DESC")
        newest = f'SELECT * FROM "{name}" ORDER BY {order} DESC LIMIT {_NEWEST}'  # noqa: S608 - names of ours
        connection.exec_driver_sql(newest).all()


def check_all(path: Path, go_on: Callable[[], bool] = lambda: True) -> list[str]:
    """
    What SQLite finds wrong with the whole file, a line each; none where all is well.

    It reads on a connection of its own and holds up nobody. go_on is asked again and again meanwhile; raises
    Interrupted once it says no, and StoreUnavailable where the file cannot be read for another reason than damage.
    """
    try:
        with closing(SQLITE.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            connection.set_progress_handler(lambda: not go_on(), _STEPS)
            found = [row[0] for row in connection.execute(f"PRAGMA integrity_check({_MOST_FOUND})")]
    except SQLITE.DatabaseError as error:
        name = str(getattr(error, "sqlite_errorname", type(error).__name__))
        if name == "SQLITE_INTERRUPT":
            raise Interrupted from None
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return [name]
        raise unavailable(name, path, error) from None
    return [] if found == ["ok"] else [line for text in found for line in text.splitlines()]


# --- noting it ------------------------------------------------------------------------------------------------------


def note(store: Store, **known: Any) -> None:
    """
    Write down that the store is damaged, since when, and what is known of it. /readyz is red from now on.

    ``Store`` itself does so when it meets a bad page.
    """
    meta = store.tables.meta
    with store.writing() as connection:
        document = {"since_ms": now_ms(), **(noted(connection, store.tables) or {}), **known}
        values = {"name": DAMAGED, "value": json.dumps(document)}
        connection.execute(insert_or_replace(meta, store.dialect).values(values))


def noted(connection: Connection, tables: Tables) -> dict[str, Any] | None:
    """What was written down: ``since_ms``, and once the whole was checked, ``count`` and ``found``; None: no damage."""
    value = connection.scalar(sa.select(tables.meta.c.value).where(tables.meta.c.name == DAMAGED))
    return None if value is None else json.loads(value)


class WholeCheck:
    """The check of the whole file once damage was noted: in a thread, and once, since each finds the same."""

    def __init__(self, store: Store, stop: Stop) -> None:
        self._store = store
        self._stop = stop
        self._thread: threading.Thread | None = None

    def begin_if_noted(self) -> None:
        # Without a write-ahead log, a reader keeps writers from committing.
        if self._store.file is None or self._thread is not None or not has_wal_fix(SQLITE.sqlite_version_info):
            return
        with self._store.reading() as connection:
            known = noted(connection, self._store.tables)
        if known is not None and "found" not in known:
            self._thread = threading.Thread(target=self._run, args=(self._store.file.path,), daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Soon after the Stop was asked."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, path: Path) -> None:
        try:
            found = check_all(path, lambda: not self._stop.asked)
            note(self._store, found=found[:_MOST_NOTED], count=len(found))
        except Interrupted:
            return  # the next relay begins again
        except Unavailable as error:
            log.warning("store_check_not_noted", error=error.error)
            return
        for line in found[:_MOST_NOTED]:
            log.error("store_page_damaged", cause=line)
        log.error("store_checked", count=len(found))


# --- going around it ------------------------------------------------------------------------------------------------


def around(store: Store, work: Callable[[], Result]) -> Result:
    """Do it; where damage is in the way, set that aside and do it once more."""
    try:
        return work()
    except StoreUnavailable as error:
        if not is_damage(error) or not set_aside(store):
            raise
    return work()


def set_aside(store: Store) -> int:
    """
    Let the healthy rows of the outbox go out; how many things were in their way: tables and events.

    Waiting events that SQLite cannot read become dead letters. The statements that read many rows at once fail for all
    of them when one page is bad; afterwards they work again.
    """
    tables = store.tables
    begun = sum(_begin_anew(store, table) for table in (tables.waiting, tables.taken, tables.dead_letters))
    with store.reading() as connection:
        rows = [row for row in outbox.all_waiting(connection, tables) if row.holder is None]
    bad = [
        row
        for start in range(0, len(rows), _CHUNK)
        if not _can_be_read(store, rows[start : start + _CHUNK])
        for row in rows[start : start + _CHUNK]
        if not _can_be_read(store, [row])
    ]
    with store.writing() as connection:
        outbox.park(connection, tables, bad, "damaged", now_ms())
    log.error("store_damaged", dead=len(bad))
    return begun + len(bad)


def _can_be_read(store: Store, rows: Sequence[outbox.Waiting]) -> bool:
    events = store.tables.events
    try:
        with store.reading() as connection:
            connection.execute(sa.select(events).where(events.c.seq.in_([row.seq for row in rows]))).all()
    except StoreUnavailable as error:
        if not is_damage(error):
            raise
        return False
    return True


def _begin_anew(store: Store, table: sa.Table) -> bool:
    """
    Where a table has bad pages, put a new one in its place, with the rows that can be read; whether it was so.

    Going around bad pages would not be enough: SQLite also reads the neighbours of a page from which it deletes, and
    could neither take out what has arrived nor add what is new. The old table stays in the file, as evidence.
    """
    with store.reading() as connection:
        if _is_whole(connection, table):
            return False
    names = [column.name for column in table.c]
    with store.writing() as connection:
        with store.reading() as reading:  # a transaction that has met a bad page can write nothing any more
            if _is_whole(reading, table):
                return False  # another process was faster
            rows = [row for some in by_key(reading.connection.driver_connection, table, names) for row in some]
        for index in table.indexes:
            connection.exec_driver_sql(f"DROP INDEX {index.name}")
        connection.exec_driver_sql(f"ALTER TABLE {table.name} RENAME TO {begun_anew(now_ms(), table)}")
        table.create(connection)
        marks = ", ".join("?" for _ in names)
        insert = f"INSERT OR REPLACE INTO {table.name} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608 - ours
        connection.connection.cursor().executemany(insert, rows)
    log.error("store_table_begun_anew", cause=f"{table.name}: rows are lost; `faxhook store salvage` makes up for them")
    return True


def begun_anew(at: object, table: sa.Table) -> str:
    """What a table is called once another one has taken its place."""
    return f"damaged_{at}_{table.name}"


def _is_whole(connection: Connection, table: sa.Table) -> bool:
    """Whether each of its rows can be read and is in its place, and its indexes as well."""
    source = connection.connection.cursor()
    try:
        for _ in source.execute(f"SELECT * FROM {table.name}"):  # noqa: S608 - a name of ours
            pass  # only reading them tells which texts are none
        return bool(source.execute(f"PRAGMA integrity_check({table.name})").fetchall() == [("ok",)])
    except (SQLITE.DatabaseError, UnicodeDecodeError):
        return False
