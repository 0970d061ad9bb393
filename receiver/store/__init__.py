"""
The store: receipts, facts and the outbox in one database, SQLite or PostgreSQL.

``Store`` opens it and owns transactions; the modules beside this one are the statements, each a plain function of a
connection. Open a store after a fork, never before.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import PoolProxiedConnection

from receiver.errors import StoreError, Unavailable
from receiver.store.tables import define

try:
    import pysqlite3.dbapi2 as sqlite  # a current SQLite, where it can be had
except ImportError:  # not Linux
    import sqlite3 as sqlite

SQLITE: Any = sqlite
NOTIFIED = "faxhook"  # the channel on which PostgreSQL says that there are events to send
BUSY_SECONDS = 4.0  # a request waits no longer for the database


class Store:
    """
    One database. Give it a SQLAlchemy URL; nothing is opened before the first use.

    ``writing()``, ``recording()`` and ``reading()`` are the only ways in. All raise Unavailable when the database
    cannot be reached, is locked, full or damaged: our trouble, which callers answer with 503.
    """

    def __init__(self, url: str) -> None:
        self.url: URL = make_url(url)
        self.dialect = self.url.get_backend_name()
        self.tables = define(self.dialect)
        self._kept: PoolProxiedConnection | None = None
        self.file: _File | None = None
        if self.dialect == "sqlite":
            if not self.url.database or self.url.database == ":memory:":
                raise StoreError("a SQLite store needs a file: sqlite:///path/to/faxhook.db")
            self.file = _File(Path(self.url.database))
            self.engine = _sqlite_engine(self.url, self.file)
        else:
            self.engine = _postgresql_engine(self.url)

    @contextmanager
    def writing(self, deadline: float | None = None) -> Iterator[Connection]:
        """
        A transaction that writes; committed when the block ends, rolled back when it raises.

        deadline: on the monotonic clock, until which it may wait for other writers; by default 4 s from now.
        """
        deadline = deadline or time.monotonic() + BUSY_SECONDS
        with self._our_trouble():
            if self.file is None:
                with self.engine.begin() as connection:
                    _limit_waiting(connection.connection.cursor(), deadline)
                    yield connection
                return
            with self.file.locked(deadline), self.engine.connect() as connection:
                connection.info["deadline"] = deadline
                with connection.begin():
                    yield connection
                is_replaced = connection.info["file"] != self.file.identity()
        if is_replaced:
            self._refuse_replaced()

    @contextmanager
    def recording(self, deadline: float) -> Iterator[DBAPICursor]:
        """
        ``writing()`` for what every callback needs, on the driver's own cursor.

        SQLAlchemy's connection, transaction and events cost as much as all that is recorded of a fax.
        """
        with self._our_trouble():
            if self.file is None:
                with self._driver_connection() as connection:
                    cursor = connection.cursor()
                    _limit_waiting(cursor, deadline)
                    yield cursor
                    connection.commit()
                return
            with self.file.locked(deadline), self._kept_connection() as connection:
                cursor = connection.cursor()
                _begin(cursor, "BEGIN IMMEDIATE", deadline)
                yield cursor
                cursor.execute("COMMIT")
                is_replaced = connection.info["file"] != self.file.identity()
        if is_replaced:
            self._refuse_replaced()

    def _refuse_replaced(self) -> NoReturn:
        """Commits into a deleted file succeed."""
        self.close()
        raise StoreUnavailable("FileReplaced")

    @contextmanager
    def _driver_connection(self) -> Iterator[PoolProxiedConnection]:
        """One of the pool's; given back, it is rolled back. One that was cut off is thrown away."""
        connection = self.engine.raw_connection()
        try:
            yield connection
        except self.engine.dialect.loaded_dbapi.Error as error:
            if self.engine.dialect.is_disconnect(error, connection, None):
                connection.invalidate()
            raise
        finally:
            connection.close()

    @contextmanager
    def _kept_connection(self) -> Iterator[PoolProxiedConnection]:
        """For whoever has locked the file: always the same, until something goes wrong."""
        connection = self._kept or self.engine.raw_connection()
        self._kept = None
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._kept = connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view."""
        with self._our_trouble(), self.engine.connect() as connection:
            yield connection.execution_options(faxhook_reading=True)

    @contextmanager
    def _our_trouble(self) -> Iterator[None]:
        """What went wrong as what it is for callers, whether SQLAlchemy or the driver says it."""
        driver = self.engine.dialect.loaded_dbapi
        try:
            yield
        except (sa.exc.IntegrityError, driver.IntegrityError):
            raise ConflictError from None
        except (sa.exc.DataError, driver.DataError):
            raise  # a value of ours is wrong: not the database's trouble
        except (DBAPIError, driver.Error, sa.exc.TimeoutError, OSError) as error:
            # from None: the error holds the statement's parameters
            cause = getattr(error, "orig", None) or error
            kind = getattr(cause, "sqlite_errorname", None) or type(cause).__name__
            raise StoreUnavailable(kind, retryable=_is_retryable(cause)) from None

    def create_file(self) -> None:
        """Make the SQLite file if there is none. Nothing else does: a file that vanished is not begun anew."""
        with self._our_trouble():
            if self.file is not None:
                self.file.create()

    def empty_log(self) -> bool:
        """
        Write SQLite's log back into its file and cut it off, so that what was deleted is in neither; whether it could.

        It cannot while somebody reads: try again later.
        """
        if self.file is None:
            return True
        deadline = time.monotonic() + BUSY_SECONDS
        with self._our_trouble(), self.file.locked(deadline), self.engine.connect() as connection:
            cursor = connection.connection.cursor()  # not through SQLAlchemy, which would begin a transaction
            cursor.execute("PRAGMA busy_timeout=0")  # waiting for readers, it would hold all writers
            is_busy, _, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            cursor.close()
        return not is_busy

    def close(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()
        self.engine.dispose()
        if self.file is not None:
            self.file.forget()

    def durability(self) -> dict[str, str]:
        """How this store keeps a commit: database, version, journal mode, synchronous."""
        with self.reading() as connection:
            if self.dialect != "sqlite":
                version = connection.dialect.server_version_info or ()
                commit = connection.exec_driver_sql("SHOW synchronous_commit").scalar_one()
                return {"store": "postgresql", "version": ".".join(map(str, version)), "synchronous": str(commit)}
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
            level = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
        levels = {0: "off", 1: "normal", 2: "full", 3: "extra"}
        return {
            "store": "sqlite",
            "version": sqlite.sqlite_version,
            "journal_mode": str(mode),
            "synchronous": levels[int(level)],
        }


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
    return f"{text[:8]}-{text[8:]}"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class StoreUnavailable(Unavailable):
    """The database did not take or give what was asked. error: the driver's name of it, for logs."""

    def __init__(self, error: str, *, retryable: bool = False) -> None:
        super().__init__("the store is unavailable")
        self.error = error
        self.retryable = retryable


CONFLICT = "Conflict"  # what a StoreUnavailable says when a transaction met another one each time it was tried


class ConflictError(Exception):
    """Two writers met on a unique key: the same transaction, run again, finds what the other one wrote."""


def _is_retryable(error: BaseException) -> bool:
    """A deadlock or serialisation failure: the same transaction may work when run again."""
    return getattr(error, "sqlstate", None) in ("40001", "40P01")


# --- SQLite --------------------------------------------------------------------------------------------------------


def has_wal_fix(version: tuple[int, ...]) -> bool:
    """
    Whether this SQLite cannot corrupt a WAL database that several processes write.

    The WAL-reset fix is in 3.51.3 and later but not in the withdrawn 3.52.0, and was ported back to 3.50.7 and 3.44.6.
    """
    if version[:2] in ((3, 44), (3, 50)):
        return version >= {44: (3, 44, 6), 50: (3, 50, 7)}[version[1]]
    return version >= (3, 51, 3) and version[:2] != (3, 52)


def _sqlite_engine(url: URL, file: "_File") -> Engine:
    existing = url.set(database="file:" + quote(file.path.as_posix())).update_query_dict({"mode": "rw", "uri": "true"})
    engine = sa.create_engine(existing, module=sqlite, connect_args={"timeout": BUSY_SECONDS})
    wal = has_wal_fix(sqlite.sqlite_version_info)

    @event.listens_for(engine, "do_connect")
    def note(_dialect: Any, record: Any, _args: Any, _options: Any) -> None:
        record.info["file"] = file.identity()  # before it is opened: in doubt, a false alarm

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions at its own times
        cursor = connection.cursor()
        if cursor.execute("PRAGMA page_count").fetchone()[0] == 0:
            cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")  # later it has no effect, but writes all the same
        cursor.execute("PRAGMA secure_delete=ON")
        # Never NORMAL: measured, it loses acknowledged rows at a power cut.
        cursor.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
        cursor.execute(f"PRAGMA synchronous={'FULL' if wal else 'EXTRA'}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        deadline = connection.info.pop("deadline", None)
        # A transaction that reads first and then writes fails at once, whatever the busy timeout, unless it says so.
        reading = connection.get_execution_options().get("faxhook_reading")
        _begin(connection.connection.cursor(), "BEGIN" if reading else "BEGIN IMMEDIATE", deadline)

    return engine


def _begin(cursor: DBAPICursor, statement: str, deadline: float | None) -> None:
    """Begin, waiting for others until the deadline; in quarters of a second, so that few statements are compiled."""
    seconds = BUSY_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
    cursor.execute(f"PRAGMA busy_timeout={int(seconds * 4) * 250}")
    cursor.execute(statement)


class _File:
    """
    The SQLite file: made for its owner only, watched for replacement, and locked around each writing transaction.

    The lock is fairer than SQLite's own busy handler: measured with several processes, a third of its p99.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._mutex = threading.Lock()

    @contextmanager
    def locked(self, deadline: float) -> Iterator[None]:
        # flock does not tell the threads of a process apart
        if not self._mutex.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise StoreUnavailable("Locked")
        try:
            lock = self._open()
            while not _try_lock(lock):
                if time.monotonic() >= deadline:
                    raise StoreUnavailable("Locked")
                time.sleep(0.0005)
            try:
                yield
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)
        finally:
            self._mutex.release()

    def create(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Never opened where it exists: closing it again would end the locks SQLite holds on it in this process.
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))

    def identity(self) -> tuple[int, int] | None:
        """Which file is there now; None if none."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def forget(self) -> None:
        with self._mutex:
            if self._lock is not None:
                os.close(self._lock)
            self._lock = None

    def _open(self) -> int:
        if self._lock is None:
            lock = self.path.with_name(self.path.name + ".lock")
            self._lock = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        return self._lock


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# --- PostgreSQL ----------------------------------------------------------------------------------------------------


def _limit_waiting(cursor: DBAPICursor, deadline: float) -> None:
    """Leave a request that has waited for its turn already only the rest of its time."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise StoreUnavailable("Timeout")
    if left < BUSY_SECONDS - 0.5:  # the session's own limits hold for the others, at no cost
        limit = max(int(left * 1000), 1)
        cursor.execute(f"SET LOCAL lock_timeout = {limit}; SET LOCAL statement_timeout = {limit}")


def _postgresql_engine(url: URL) -> Engine:
    seconds = int(BUSY_SECONDS)
    limits = f"-c statement_timeout={seconds}s -c lock_timeout={seconds}s -c idle_in_transaction_session_timeout=60s"
    return sa.create_engine(
        url,
        pool_pre_ping=True,
        pool_timeout=BUSY_SECONDS,
        connect_args={
            "connect_timeout": seconds,
            "options": limits,
            "application_name": "faxhook",
            # a server that vanished without a word must not hold the writer for the kernel's two hours
            "keepalives_idle": seconds,
            "keepalives_interval": 1,
            "keepalives_count": 3,
            "tcp_user_timeout": seconds * 1000,
        },
    )
