"""Noticing that somebody else has written, without asking for a transaction each time."""

import select
import time
from contextlib import suppress
from typing import Any

from receiver.store import Store
from receiver.store.postgresql import NOTIFIED, POOLED
from receiver.system.stopping import Stop

_SQLITE_SECONDS = 0.01  # a PRAGMA on an open connection, some microseconds
_POSTGRESQL_SECONDS = 1.0  # behind NOTIFY, for commits that do not say so
_POOLED_SECONDS = 0.25  # where a pooler swallows NOTIFY
_SIGNAL_SECONDS = 0.1  # select() does not end at a signal


class Changes:
    """
    The commits of others. ``note()``, look for work, ``wait()``: what was committed after the note ends the wait.

    On SQLite any commit is seen within 10 ms. On PostgreSQL those that NOTIFY are, at once, and others are not: there a
    wait ends after a second, and behind a pooler always after a quarter of one. Raises Unavailable as ``Store`` does;
    ``close()`` then, and it opens again by itself.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection: Any = None  # in autocommit, so that it never holds back a checkpoint
        self._seen: int | None = None
        self._is_pooled = False

    def note(self) -> None:
        with self._store.our_trouble():
            if self._store.file is not None:
                self._seen = self._version()
            elif (listening := self._listening()) is not None:
                for _ in listening.notifies(timeout=0):
                    pass

    def wait(self, stop: Stop, seconds: float) -> None:
        """Return at a change, when somebody asks to stop, or after the seconds."""
        until = time.monotonic() + seconds
        with self._store.our_trouble():
            if self._store.file is not None:
                while time.monotonic() < until and not stop.wait(_SQLITE_SECONDS) and self._version() == self._seen:
                    pass
                return
            listening = self._listening()
            if listening is None:
                stop.wait(min(seconds, _POOLED_SECONDS))
                return
            until = min(until, time.monotonic() + _POSTGRESQL_SECONDS)
            while time.monotonic() < until and not stop.asked:
                if select.select([listening], [], [], min(_SIGNAL_SECONDS, max(0.0, until - time.monotonic())))[0]:
                    return

    def close(self) -> None:
        if self._connection is not None:
            with suppress(self._store.engine.dialect.loaded_dbapi.Error):
                self._connection.close()
        self._connection = self._seen = None
        self._is_pooled = False

    def _version(self) -> int:
        if self._connection is None:
            self._connection = self._store.engine.raw_connection()
        return int(self._connection.cursor().execute("PRAGMA data_version").fetchone()[0])

    def _listening(self) -> Any:
        """psycopg's own connection; None behind a pooler, which would have somebody else's connection listen."""
        if self._connection is None and not self._is_pooled:
            connection = self._store.engine.raw_connection()
            self._is_pooled = connection.info[POOLED]
            if self._is_pooled:
                connection.close()
                return None
            self._connection = connection
            self._connection.detach()  # it stays ours, and does not count for the pool
            self._connection.dbapi_connection.execute(f"LISTEN {NOTIFIED}")
        return None if self._is_pooled else self._connection.dbapi_connection
