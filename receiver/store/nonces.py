"""
Names that may be used once: a Digest nonce with its count.

They need not survive a power cut, since a repeated callback is a duplicate anyway; so SQLite keeps them in a file of
their own and never waits for the disk, and PostgreSQL commits them without waiting.
"""

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from receiver.store import Store
from receiver.store.file import File
from receiver.store.file_causes import unavailable
from receiver.store.sqlite import SQLITE, has_wal_fix
from receiver.store.tables import insert_or_keep
from receiver.store.trouble import BUSY_SECONDS, StoreUnavailable
from receiver.system.waiting import WouldWait, is_forbidden, may_wait

_FORGET_EVERY = 256  # claims
_FORGOTTEN_AT_MOST = 1024


class Nonces:
    """For all threads of one process; made after the fork."""

    def __init__(self, store: Store) -> None:
        self._names: _SqliteNames | _PostgresqlNames = (
            _SqliteNames(store.file.path) if store.file is not None else _PostgresqlNames(store)
        )
        self._mutex = threading.Lock()
        self._until_forgetting = 0

    def claim(self, name: str, expires: float) -> bool:
        """
        Whether nobody has claimed the name before; it may be forgotten from ``expires`` on (seconds since 1970).

        Raises StoreUnavailable.
        """
        is_first = self._names.claim(name, expires)
        with self._mutex:
            self._until_forgetting -= 1
            is_due = self._until_forgetting < 0
            if is_due:
                self._until_forgetting = _FORGET_EVERY
        if is_due:
            # The claim is made and cannot be made again, so this must not fail it; the next round forgets as well.
            with suppress(StoreUnavailable, WouldWait):
                self._names.forget(time.time())
        return is_first

    def close(self) -> None:
        self._names.close()


class _SqliteNames:
    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".nonces")
        self._file = File(self._path)
        self._mutex = threading.Lock()
        self._connection: Any = None
        self._waits = True  # this connection, for other writers
        self._opened = self._file.identities()  # which files those are

    def claim(self, name: str, expires: float) -> bool:
        return bool(self._run("INSERT OR IGNORE INTO nonces (name, expires) VALUES (?, ?)", (name, expires)))

    def forget(self, now: float) -> None:
        old = "SELECT name FROM nonces WHERE expires < ? LIMIT ?"
        self._run(f"DELETE FROM nonces WHERE name IN ({old})", (now, _FORGOTTEN_AT_MOST))  # noqa: S608 - ours

    def close(self) -> None:
        with self._mutex:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._waits = True

    def _run(self, statement: str, parameters: tuple[Any, ...]) -> int:
        """The number of rows it has changed."""
        if not self._mutex.acquire(blocking=not is_forbidden()):
            raise WouldWait
        try:
            return self._run_alone(statement, parameters)
        finally:
            self._mutex.release()

    def _run_alone(self, statement: str, parameters: tuple[Any, ...]) -> int:
        try:
            if self._connection is not None and self._file.identities() != self._opened:
                self._close()  # what is claimed in a deleted file, or its log, no other worker sees
            if self._connection is None:
                may_wait()
                self._opened = self._file.identities()
                self._connection = self._open()
                self._opened = self._file.identities()
            self._wait_for_others(not is_forbidden())
            return int(self._connection.execute(statement, parameters).rowcount)
        except SQLITE.Error as error:
            kind = getattr(error, "sqlite_errorname", None) or type(error).__name__
            if kind.startswith("SQLITE_BUSY"):
                may_wait()  # nothing is claimed
            self._begin_anew(kind)
            raise unavailable(kind, self._path, error) from None

    def _wait_for_others(self, waits: bool) -> None:
        if waits != self._waits:
            self._connection.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000) if waits else 0}")
            self._waits = waits

    def _begin_anew(self, kind: str) -> None:
        self._close()
        # Unless another worker has put a good one there already.
        if kind in ("SQLITE_CORRUPT", "SQLITE_NOTADB") and self._file.identity() in (self._opened[0], None):
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _open(self) -> Any:
        connection = SQLITE.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self._path.chmod(0o600)
        wal = has_wal_fix(SQLITE.sqlite_version_info)
        _set_journal(connection, "WAL" if wal else "DELETE")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS nonces (name TEXT PRIMARY KEY, expires REAL NOT NULL) WITHOUT ROWID"
        )
        return connection


def _set_journal(connection: Any, mode: str) -> None:
    """SQLite waits for no other worker here, and workers open the file in the same moment."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute(f"PRAGMA journal_mode={mode}")
        except SQLITE.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != SQLITE.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
        else:
            return


class _PostgresqlNames:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._table = store.tables.nonces

    def claim(self, name: str, expires: float) -> bool:
        insert = insert_or_keep(self._table, "postgresql").values(name=name, expires=expires)
        claimed = insert.returning(self._table.c.name)  # the row count of an insert is not always told
        with self._store.writing() as connection:
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            return connection.execute(claimed).first() is not None

    def forget(self, now: float) -> None:
        old = sa.select(self._table.c.name).where(self._table.c.expires < now).limit(_FORGOTTEN_AT_MOST)
        with self._store.writing() as connection:
            connection.execute(self._table.delete().where(self._table.c.name.in_(old.scalar_subquery())))

    def close(self) -> None:
        """The store's connections are the store's."""
