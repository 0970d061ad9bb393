"""Noticing that somebody else has written, without asking for a transaction each time."""

import time
from typing import Any

from receiver.stopping import Stop
from receiver.store import Store, StoreUnavailable

_SQLITE_SECONDS = 0.01  # a PRAGMA on an open connection, some microseconds
_POSTGRESQL_SECONDS = 0.25


class Changes:
    """
    The commits of others. ``note()``, look for work, ``wait()``: what was committed after the note ends the wait.

    On SQLite they are seen within 10 ms. On PostgreSQL nothing is watched: a wait simply ends after 250 ms. Raises
    Unavailable as ``Store`` does; ``close()`` then, and it opens again by itself.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection: Any = None  # in autocommit, so that it never holds back a checkpoint
        self._seen: int | None = None

    def note(self) -> None:
        if self._store.file is not None:
            self._seen = self._version()

    def wait(self, stop: Stop, seconds: float) -> None:
        """Return at a change, when somebody asks to stop, or after the seconds."""
        if self._store.file is None:
            stop.wait(min(seconds, _POSTGRESQL_SECONDS))
            return
        until = time.monotonic() + seconds
        while time.monotonic() < until and not stop.wait(_SQLITE_SECONDS) and self._version() == self._seen:
            pass

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._seen = None

    def _version(self) -> int:
        engine = self._store.engine
        try:
            if self._connection is None:
                self._connection = engine.raw_connection()
            return int(self._connection.cursor().execute("PRAGMA data_version").fetchone()[0])
        except engine.dialect.loaded_dbapi.Error as error:
            raise StoreUnavailable(type(error).__name__) from None
