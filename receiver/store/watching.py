"""Noticing that somebody else has written, without asking for a transaction each time."""

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sa

from receiver.stopping import Stop
from receiver.store import Store
from receiver.store.postgresql import NOTIFIED
from receiver.store.trouble import StoreUnavailable

_SQLITE_SECONDS = 0.01  # a PRAGMA on an open connection, some microseconds
_POSTGRESQL_SECONDS = 1.0  # behind NOTIFY, which a connection pooler in between swallows
_SIGNAL_SECONDS = 0.1  # select() does not end at a signal


class Changes:
    """
    The commits of others. ``note()``, look for work, ``wait()``: what was committed after the note ends the wait.

    On SQLite any commit is seen within 10 ms. On PostgreSQL those that NOTIFY are, at once, and others are not: there a
    wait ends after a second. Raises Unavailable as ``Store`` does; ``close()`` then, and it opens again by itself.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection: Any = None  # in autocommit, so that it never holds back a checkpoint
        self._seen: int | None = None

    def note(self) -> None:
        with self._trouble():
            if self._store.file is not None:
                self._seen = self._version()
            else:
                for _ in self._listening().notifies(timeout=0):
                    pass

    def wait(self, stop: Stop, seconds: float) -> None:
        """Return at a change, when somebody asks to stop, or after the seconds."""
        until = time.monotonic() + seconds
        with self._trouble():
            if self._store.file is not None:
                while time.monotonic() < until and not stop.wait(_SQLITE_SECONDS) and self._version() == self._seen:
                    pass
                return
            until = min(until, time.monotonic() + _POSTGRESQL_SECONDS)
            socket = self._listening().fileno()
            while time.monotonic() < until and not stop.asked:
                if select.select([socket], [], [], min(_SIGNAL_SECONDS, max(0.0, until - time.monotonic())))[0]:
                    return

    def close(self) -> None:
        if self._connection is not None:
            with suppress(self._store.engine.dialect.loaded_dbapi.Error):
                self._connection.close()
        self._connection = self._seen = None

    def _version(self) -> int:
        if self._connection is None:
            self._connection = self._store.engine.raw_connection()
        return int(self._connection.cursor().execute("PRAGMA data_version").fetchone()[0])

    def _listening(self) -> Any:
        """psycopg's own connection."""
        if self._connection is None:
            self._connection = self._store.engine.raw_connection()
            self._connection.detach()  # it stays ours, and does not count for the pool
            self._connection.dbapi_connection.autocommit = True
            self._connection.dbapi_connection.execute(f"LISTEN {NOTIFIED}")
        return self._connection.dbapi_connection

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except (self._store.engine.dialect.loaded_dbapi.Error, sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            raise StoreUnavailable(type(error).__name__) from None
