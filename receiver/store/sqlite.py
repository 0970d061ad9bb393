"""SQLite: one file, written by one process at a time, flushed to the disk at each commit."""

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
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.pool import PoolProxiedConnection

from receiver.errors import StoreError
from receiver.store.trouble import BUSY_SECONDS, StoreUnavailable

try:
    import pysqlite3.dbapi2 as driver  # a current SQLite, where it can be had
except ImportError:  # not Linux
    import sqlite3 as driver

SQLITE: Any = driver


def has_wal_fix(version: tuple[int, ...]) -> bool:
    """
    Whether this SQLite cannot corrupt a WAL database that several processes write.

    The WAL-reset fix is in 3.51.3 and later but not in the withdrawn 3.52.0, and was ported back to 3.50.7 and 3.44.6.
    """
    if version[:2] in ((3, 44), (3, 50)):
        return version >= {44: (3, 44, 6), 50: (3, 50, 7)}[version[1]]
    return version >= (3, 51, 3) and version[:2] != (3, 52)


class Sqlite:
    """The transactions of a store in a SQLite file, each under the file's lock if it writes."""

    def __init__(self, url: URL) -> None:
        if not url.database or url.database == ":memory:":
            raise StoreError("a SQLite store needs a file: sqlite:///path/to/faxhook.db")
        self.file = File(Path(url.database))
        self.engine = _engine(url, self.file)
        self._kept: PoolProxiedConnection | None = None

    @contextmanager
    def writing(self, deadline: float) -> Iterator[Connection]:
        with self.file.locked(deadline), self.engine.connect() as connection:
            connection.info["deadline"] = deadline
            with connection.begin():
                yield connection
            is_replaced = connection.info["file"] != self.file.identity()
        if is_replaced:
            self._refuse_replaced()

    @contextmanager
    def recording(self, deadline: float) -> Iterator[DBAPICursor]:
        with self.file.locked(deadline), self._kept_connection() as connection:
            cursor = connection.cursor()
            _begin(cursor, "BEGIN IMMEDIATE", deadline)
            yield cursor
            cursor.execute("COMMIT")
            is_replaced = connection.info["file"] != self.file.identity()
        if is_replaced:
            self._refuse_replaced()

    def empty_log(self) -> bool:
        """Write the log back into the file and cut it off; whether it could: not while somebody reads."""
        with self.file.locked(time.monotonic() + BUSY_SECONDS), self.engine.connect() as connection:
            cursor = connection.connection.cursor()  # not through SQLAlchemy, which would begin a transaction
            cursor.execute("PRAGMA busy_timeout=0")  # waiting for readers, it would hold all writers
            is_busy, _, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            cursor.close()
        return not is_busy

    def durability(self, connection: Connection) -> dict[str, str]:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        level = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
        levels = {0: "off", 1: "normal", 2: "full", 3: "extra"}
        return {
            "store": "sqlite",
            "version": SQLITE.sqlite_version,
            "journal_mode": str(mode),
            "synchronous": levels[int(level)],
        }

    def close(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()
        self.engine.dispose()
        self.file.forget()

    @contextmanager
    def _kept_connection(self) -> Iterator[PoolProxiedConnection]:
        """The connection kept for the holder of the file lock; replaced after any error."""
        connection = self._kept or self.engine.raw_connection()
        self._kept = None
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._kept = connection

    def _refuse_replaced(self) -> NoReturn:
        """Commits into a deleted file succeed."""
        self.close()
        raise StoreUnavailable("FileReplaced")


def _engine(url: URL, file: "File") -> Engine:
    existing = url.set(database="file:" + quote(file.path.as_posix())).update_query_dict({"mode": "rw", "uri": "true"})
    engine = sa.create_engine(existing, module=SQLITE, connect_args={"timeout": BUSY_SECONDS})
    wal = has_wal_fix(SQLITE.sqlite_version_info)

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


class File:
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
