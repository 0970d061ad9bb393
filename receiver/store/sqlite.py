"""SQLite: one file, written by one process at a time, flushed to the disk at each commit."""

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
from receiver.store.file import File
from receiver.store.file_causes import unavailable
from receiver.store.log_file import Identity, identity
from receiver.store.trouble import BUSY_SECONDS, LIMITS, Limits, StoreUnavailable

try:
    import pysqlite3.dbapi2 as driver  # a current SQLite, where it can be had
except ImportError:  # not Linux
    import sqlite3 as driver

SQLITE: Any = driver

# The tables of a file that another application has made, and in which there are none of ours.
FOREIGN_TABLES = (
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND NOT EXISTS"
    " (SELECT 1 FROM sqlite_master WHERE name LIKE 'faxhook%') ORDER BY name"
)

_GONE: Identity = (0, 0)  # no file's
_STEPS = 10_000  # of SQLite's machine, between two looks at the clock
_RESCUE_SECONDS = 1.0  # for readers that are in the way


def has_wal_fix(version: tuple[int, ...]) -> bool:
    """
    Whether this SQLite cannot corrupt a WAL database that several processes write.

    The WAL-reset fix is in 3.51.3 and later but not in the withdrawn 3.52.0, and was ported back to 3.50.7 and 3.44.6.
    """
    if version[:2] in ((3, 44), (3, 50)):
        return version >= {44: (3, 44, 6), 50: (3, 50, 7)}[version[1]]
    return version >= (3, 51, 3) and version[:2] != (3, 52)


def url_of(path: Path) -> str:
    """What ``Store`` takes for this file, whatever characters its name has."""
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


class Sqlite:
    """The transactions of a store in a SQLite file, each under the file's lock if it writes."""

    def __init__(self, url: URL, limits: Limits = LIMITS) -> None:
        if not url.database or url.database == ":memory:":
            raise StoreError("a SQLite store needs a file: sqlite:///path/to/faxhook.db")
        self.file = File(Path(url.database))
        self.where = f"SQLite at {self.file.path}"
        self.engine = _engine(url, self.file, limits)
        self._kept: PoolProxiedConnection | None = None

    @contextmanager
    def writing(self, deadline: float) -> Iterator[Connection]:
        with self._anew_if_replaced(), self.file.locked(deadline), self._connection() as connection:
            connection.info["deadline"] = deadline
            with self._watched(connection.connection), connection.begin():
                yield connection

    @contextmanager
    def recording(self, deadline: float) -> Iterator[DBAPICursor]:
        with self._anew_if_replaced(), self.file.locked(deadline), self._kept_connection() as connection:
            cursor = connection.cursor()
            with self._watched(connection):
                _begin(cursor, "BEGIN IMMEDIATE", deadline, connection.info)
                yield cursor
                cursor.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        kept = self._kept
        with self._anew_if_replaced():
            if kept is not None and self._is_replaced(kept):
                with self.file.locked(time.monotonic() + BUSY_SECONDS):
                    self._refuse_kept()
            with self.engine.connect() as connection:
                if self._is_replaced(connection.connection):
                    with self.file.locked(time.monotonic() + BUSY_SECONDS):
                        self._refuse(connection.connection)
                yield connection.execution_options(faxhook_reading=True)

    def wake(self) -> None:
        """Waiters watch the file."""

    def empty_log(self) -> bool:
        """Write the log back into the file and cut it off; whether it could: not while somebody reads."""
        with self._alone() as connection:
            # waiting for readers would hold all writers
            return _empty_log(connection, wait_seconds=0)

    def compact(self) -> bool:
        """Write the whole file anew, and empty the log; whether that could be emptied. Others wait meanwhile."""
        with self._alone() as connection:
            cursor = connection.cursor()
            cursor.execute("VACUUM")
            cursor.close()
            return _empty_log(connection, wait_seconds=BUSY_SECONDS)

    @contextmanager
    def _alone(self) -> Iterator[PoolProxiedConnection]:
        """A connection outside any transaction, which SQLAlchemy would begin, while nobody else writes."""
        with (
            self._anew_if_replaced(),
            self.file.locked(time.monotonic() + BUSY_SECONDS),
            self._connection() as connection,
            self._watched(connection.connection),
        ):
            yield connection.connection

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

    def verify(self, connection: Connection) -> None:
        """Any file will do."""

    def trouble(self, cause: BaseException) -> StoreUnavailable:
        """What the driver or the system has raised, with a sentence for operators."""
        error = getattr(cause, "sqlite_errorname", None) or type(cause).__name__
        if str(cause).startswith("Could not decode to UTF-8"):
            error = "SQLITE_CORRUPT"  # only UTF-8 was written; the driver has no name for it
        return unavailable(error, self.file.path, cause)

    def close(self) -> None:
        self._keep_from_copying_a_hole()
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()
        self.engine.dispose()
        self.file.forget()
        self.file.log.forget()

    def _keep_from_copying_a_hole(self) -> None:
        """The last connection to be closed copies the log into the database, whatever the log holds."""
        if not self.file.was_locked:  # else a command that only reads would make the lock file, for its own user
            return
        with suppress(StoreUnavailable, OSError), self.file.locked(time.monotonic() + BUSY_SECONDS):
            _, log, index = self.file.look()
            if log is not None and index is not None and not self.file.log.is_whole(log, index):
                self.file.log.distrust_index()

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

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """One of the pool's. The file lock must be held."""
        if self._kept is not None and self._is_replaced(self._kept):
            self._refuse_kept()
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def _watched(self, connection: PoolProxiedConnection) -> Iterator[None]:
        """
        Nothing is promised for what was committed into files that are not there any more: SQLite does not notice.

        Looked at before as well, since a connection that writes on with an index whose log is another process' new one
        would damage both. The file lock must be held.
        """
        self._refuse_lost(connection)
        yield
        self._refuse_lost(connection)

    def _refuse_lost(self, connection: PoolProxiedConnection) -> None:
        file, log, index = self.file.look()
        found = identity(file), identity(log), identity(index)
        if connection.info["files"] != found:
            self._refuse(connection)
        if file is None or not file.st_size:
            raise _Replaced  # cut off: what is written now goes into a log that SQLite deletes at the next start
        if log is not None and index is not None and not self.file.log.is_whole(log, index):
            self.file.log.distrust_index()
            raise unavailable("LogDamaged", self.file.path)

    def _is_replaced(self, connection: PoolProxiedConnection) -> bool:
        return bool(connection.info["files"] != self.file.identities())

    def _refuse_kept(self) -> NoReturn:
        """In one process all connections share an index: no new one could be opened beside an old one."""
        if self._kept is not None:
            self._refuse(self._kept)
        raise _Replaced

    def _refuse(self, connection: PoolProxiedConnection) -> NoReturn:
        """
        Where only log and index were deleted, and nobody has begun new ones, we still hold both open, with everything
        that has been committed: it is written into the file. The file lock must be held.
        """
        file, log, index = self.file.identities()
        known_file, known_log, known_index = connection.info["files"]
        is_only_log = file == known_file and log != known_log and index in (None, known_index)
        if is_only_log and (log is None or self.file.log_is_empty()):
            with suppress(SQLITE.Error):
                _empty_log(connection, wait_seconds=_RESCUE_SECONDS)
        self.file.keep_from_being_last()
        raise _Replaced

    @contextmanager
    def _anew_if_replaced(self) -> Iterator[None]:
        pool = self.engine.pool
        try:
            yield
        except _Replaced:
            if self.engine.pool is pool:  # else another thread has
                self._begin_anew()
            raise unavailable("FileReplaced", self.file.path) from None

    def _begin_anew(self) -> None:
        """Close what is open, so that the next one opens the files that are there now."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()
        self.engine.dispose()
        self.file.forget()


class _Replaced(Exception):  # noqa: N818 - the files, not an error of ours
    """The file, its log or its index is not the one that a connection has open."""


def _empty_log(connection: PoolProxiedConnection, *, wait_seconds: float) -> bool:
    connection.info.pop("wait_ms", None)
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={int(wait_seconds * 1000)}")
    is_busy, _, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    cursor.close()
    return not is_busy


def _engine(url: URL, file: "File", limits: Limits) -> Engine:
    existing = url.set(database="file:" + quote(file.path.as_posix())).update_query_dict({"mode": "rw", "uri": "true"})
    # Nobody keeps a connection to a file that was replaced who has none in between.
    pool = {} if limits.connections is None else {"poolclass": sa.NullPool}
    engine = sa.create_engine(existing, module=SQLITE, connect_args={"timeout": BUSY_SECONDS}, **pool)
    wal = has_wal_fix(SQLITE.sqlite_version_info)

    @event.listens_for(engine, "do_connect")
    def note(_dialect: Any, record: Any, _args: Any, _options: Any) -> None:
        record.info["files"] = (file.identity(), None, None)  # before it is opened: in doubt, a false alarm

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions at its own times
        cursor = connection.cursor()
        if cursor.execute("PRAGMA page_count").fetchone()[0] == 0:
            cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")  # later it has no effect, but writes all the same
        cursor.execute("PRAGMA secure_delete=ON")
        journal = f"={'WAL' if wal else 'DELETE'}"
        if cursor.execute(FOREIGN_TABLES).fetchall():
            journal = ""  # another application's file stays as it is
        # Never NORMAL: measured, it loses acknowledged rows at a power cut.
        (mode,) = cursor.execute(f"PRAGMA journal_mode{journal}").fetchone()
        cursor.execute(f"PRAGMA synchronous={'FULL' if wal else 'EXTRA'}")
        cursor.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()  # opens log and index
        cursor.close()
        opened, (_, log, index) = record.info["files"][0], file.identities()
        if mode == "wal":
            # As long as this connection is open, SQLite itself leaves both in their places.
            log, index = log or _GONE, index or _GONE
        # Beside a rollback journal there may be an index that a copy or a crash has left: nobody uses it.
        record.info["files"] = (opened, log, index)

    @event.listens_for(engine, "checkin")
    def give_back(_connection: Any, record: Any) -> None:
        # In one process all connections to a file share its index: one to a deleted index would hand it to new ones.
        if record.info.get("files") != file.identities():
            record.invalidate()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        deadline = connection.info.pop("deadline", None)
        # A transaction that reads first and then writes fails at once, whatever the busy timeout, unless it says so.
        reading = connection.get_execution_options().get("faxhook_reading")
        begin = "BEGIN" if reading else "BEGIN IMMEDIATE"
        if reading and limits.connections is not None:
            ends = time.monotonic() + limits.seconds
            driver_connection = connection.connection.driver_connection
            assert driver_connection is not None
            driver_connection.set_progress_handler(lambda: time.monotonic() > ends, _STEPS)
        _begin(connection.connection.cursor(), begin, deadline, connection.info)

    return engine


def _begin(cursor: DBAPICursor, statement: str, deadline: float | None, info: dict[Any, Any]) -> None:
    """
    Begin, waiting for others until the deadline.

    info: of the connection. It has the last wait, in quarters of a second, so that it is seldom set anew.
    """
    seconds = BUSY_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
    wait_ms = int(seconds * 4) * 250
    if info.get("wait_ms") != wait_ms:
        cursor.execute(f"PRAGMA busy_timeout={wait_ms}")
        info["wait_ms"] = wait_ms
    cursor.execute(statement)
