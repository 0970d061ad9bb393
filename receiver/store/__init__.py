"""
The store: receipts, facts and the outbox in one database, SQLite or PostgreSQL.

``Store`` opens it and owns transactions; ``sqlite`` and ``postgresql`` know how each database makes them, ``trouble``
what they say when they cannot. The other modules are the statements, each a plain function of a connection. Open a
store after a fork, never before.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError

from receiver.store.file import File
from receiver.store.postgresql import Postgresql
from receiver.store.sqlite import Sqlite
from receiver.store.tables import define, insert_or_keep
from receiver.store.trouble import BUSY_SECONDS, LIMITS, ConflictError, Limits, StoreUnavailable
from receiver.system.waiting import WouldWait, may_wait

HOUR_MS = 3600_000
DAMAGED = "damaged"  # the row in ``meta`` that keeps /readyz red until the store was restored or salvaged


class Store:
    """
    One database. Give it a SQLAlchemy URL; nothing is opened before the first use.

    ``writing()``, ``recording()`` and ``reading()`` are the only ways in. All raise Unavailable when the database
    cannot be reached, is locked, full or damaged: our trouble, which callers answer with 503. The first and the last
    may wait, and say so (``receiver.system.waiting``).
    """

    def __init__(self, url: str, limits: Limits = LIMITS) -> None:
        self.url: URL = make_url(url)
        self.dialect = self.url.get_backend_name()
        self.tables = define(self.dialect)
        self._database = Sqlite(self.url, limits) if self.dialect == "sqlite" else Postgresql(self.url, limits)
        self.engine: Engine = self._database.engine
        self.file: File | None = self._database.file
        self.where = self._database.where  # in words, for operators; without secrets
        self._has_noted_damage = False

    @contextmanager
    def writing(self, deadline: float | None = None) -> Iterator[Connection]:
        """
        A transaction that writes; committed when the block ends, rolled back when it raises.

        deadline: on the monotonic clock, until which it may wait for other writers; by default 4 s from now.
        """
        may_wait()
        with self.our_trouble(), self._database.writing(deadline or time.monotonic() + BUSY_SECONDS) as connection:
            yield connection

    @contextmanager
    def recording(self, deadline: float) -> Iterator[DBAPICursor]:
        """
        ``writing()`` for what every callback needs, on the driver's own cursor.

        SQLAlchemy's connection, transaction and events cost as much as all that is recorded of a fax.
        """
        with self.our_trouble(), self._database.recording(deadline) as cursor:
            yield cursor

    @contextmanager
    def rehearsing(self, deadline: float) -> Iterator[DBAPICursor]:
        """``recording()`` of which nothing stays."""
        with suppress(_RehearsedError), self.recording(deadline) as cursor:
            yield cursor
            raise _RehearsedError

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view."""
        may_wait()
        with self.our_trouble(), self._database.reading() as connection:
            yield connection

    @contextmanager
    def our_trouble(self) -> Iterator[None]:
        """What went wrong as what it is for callers, whether SQLAlchemy or the driver says it."""
        driver = self.engine.dialect.loaded_dbapi
        try:
            yield
        except (sa.exc.IntegrityError, driver.IntegrityError):
            raise ConflictError from None
        except (sa.exc.DataError, driver.DataError):
            raise  # a value of ours is wrong: not the database's trouble
        except (DBAPIError, driver.Error, sa.exc.TimeoutError, OSError) as error:
            trouble = self._database.trouble(getattr(error, "orig", None) or error)
            self._note_damage(trouble)
            raise trouble from None  # the error holds the statement's parameters

    def _note_damage(self, trouble: StoreUnavailable) -> None:
        """
        Note, once a process, that some statement met a bad page: /readyz turns red, and the relay has the
        whole file checked.
        """
        if not trouble.is_damage or self._has_noted_damage or self.file is None:
            return
        if self.file.owner() != os.geteuid():
            return  # a lock file made by this user would keep the service out
        values = {"name": DAMAGED, "value": json.dumps({"since_ms": now_ms()})}
        self._has_noted_damage = True
        try:
            with self.writing() as connection:
                connection.execute(insert_or_keep(self.tables.meta, self.dialect).values(values))
        except StoreUnavailable:
            self._has_noted_damage = False  # /readyz, which writes as well, is red without the note
        except WouldWait:
            self._has_noted_damage = False
            raise

    def wake(self) -> None:
        """After a commit: let those who wait for events look. SQLite needs no word, as they watch its file."""
        self._database.wake()

    def verify(self) -> None:
        """Raise StoreError where the database itself is not fit to be a store; its tables are not looked at."""
        with self.reading() as connection:
            self._database.verify(connection)

    def create_file(self) -> None:
        """Make the SQLite file if there is none. Nothing else does: a file that vanished is not begun anew."""
        with self.our_trouble():
            if self.file is not None:
                self.file.create()

    def empty_log(self) -> bool:
        """
        Write SQLite's log back into its file and cut it off, so that what was deleted is in neither; whether it could.

        It cannot while somebody reads: try again later.
        """
        with self.our_trouble():
            return self._database.empty_log()

    def compact(self) -> bool:
        """
        Write a SQLite file anew, so that no copy is left in it of what was deleted; whether its log could be emptied.

        Pages that SQLite has split keep copies of rows in their unused parts, whatever becomes of the rows.
        """
        with self.our_trouble():
            assert isinstance(self._database, Sqlite)
            return self._database.compact()

    def durability(self) -> dict[str, str]:
        """How this store keeps a commit: database, version, and the settings that decide what a power cut leaves."""
        with self.reading() as connection:
            return self._database.durability(connection)

    def close(self) -> None:
        self._database.close()


class _RehearsedError(Exception):
    """The end of a transaction that was only tried."""


def new_id(now_ms: int) -> str:
    """A receipt's id: UUID version 7, so that ids sort by time of arrival."""
    value = (now_ms << 80) | int.from_bytes(os.urandom(10))
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def first_id(at_ms: int) -> str:
    """What every id made at that time or later is not below."""
    text = f"{max(at_ms, 0):012x}"
    return f"{text[:8]}-{text[8:]}-0000-0000-000000000000"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def rfc3339(at_ms: int) -> str:
    """In UTC, with milliseconds."""
    seconds = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{seconds.isoformat()[:19]}.{at_ms % 1000:03d}Z"
