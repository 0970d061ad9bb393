"""
PostgreSQL: transactions of several machines, with limits on how long each may wait.

Nothing here needs a session of the server's own, so that a pooler in transaction mode may stand in between: all
settings are the transaction's, except the client's encoding, which poolers keep for each client.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.pool import PoolProxiedConnection

from receiver.errors import StoreError
from receiver.store import causes
from receiver.store.trouble import BUSY_SECONDS, LIMITS, Limits, StoreUnavailable

NOTIFIED = "faxhook"  # the channel on which PostgreSQL says that there are events to send
WAKE = f"NOTIFY {NOTIFIED}"  # SQLite needs none: waiters watch the file
POOLED = "faxhook_pooled"  # in a connection's info: whether a pooler stands between it and the server
_IDLE_SECONDS = 60  # a transaction without a statement: its client hangs, and holds locks
_BETWEEN_WORDS_SECONDS = 0.005
_AWAY_SECONDS = 1.0  # after a word that could not be said: waiters look by themselves as often
_LAST_WORD_SECONDS = 1.0
_PREPARED_AFTER = 5  # runs of a statement
_RETRYABLE = ("40001", "40P01")  # a serialisation failure or deadlock: the same transaction may work when run again


class Postgresql:
    """The transactions of a store in a PostgreSQL database."""

    file = None

    def __init__(self, url: URL, limits: Limits = LIMITS) -> None:
        self.where = where(url)
        self.engine = _engine(url, limits)
        self._waker = _Waker(self.engine)

    @contextmanager
    def writing(self, deadline: float) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            connection.info["deadline"] = deadline
            with connection.begin():
                yield connection

    @contextmanager
    def recording(self, deadline: float) -> Iterator[DBAPICursor]:
        with self._driver_connection() as connection:
            cursor = connection.cursor()
            _begin(cursor, deadline)
            yield cursor
            connection.commit()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            yield connection

    def wake(self) -> None:
        self._waker.wake()

    def empty_log(self) -> bool:
        return True

    def durability(self, connection: Connection) -> dict[str, str]:
        version = connection.dialect.server_version_info or ()
        keys = {"synchronous": "synchronous_commit", "fsync": "fsync", "full_page_writes": "full_page_writes"}
        shown = {key: connection.exec_driver_sql(f"SHOW {name}").scalar_one() for key, name in keys.items()}
        return {"store": "postgresql", "version": ".".join(map(str, version)), **shown}

    def verify(self, connection: Connection) -> None:
        """Raise StoreError where the database cannot keep every text."""
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding not in ("UTF8", "SQL_ASCII"):  # the latter keeps the bytes it is given: our UTF-8
            raise StoreError(
                f"{self.where}: the database's encoding is {encoding}, which cannot hold every name that a"
                " provider sends; store.url must name one in UTF-8, made with: CREATE DATABASE … ENCODING 'UTF8'"
                " TEMPLATE template0"
            )

    def trouble(self, cause: BaseException) -> StoreUnavailable:
        """What driver or pool have raised, as operators need it."""
        name, words = causes.busy() if isinstance(cause, sa.exc.TimeoutError) else causes.explain(cause)
        retryable = getattr(cause, "sqlstate", None) in _RETRYABLE
        return StoreUnavailable(name, f"{self.where}: {words} ({name})", retryable=retryable)

    def close(self) -> None:
        self._waker.close()
        self.engine.dispose()

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


class _Waker:
    """
    Says on the channel that something was committed: in a transaction of its own, since NOTIFY lets all commits of a
    cluster wait for each other, and not each time. A word that is lost is made up for by who waits, in a second.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_due = threading.Event()
        self._is_over = False
        self._thread: threading.Thread | None = None
        self._mutex = threading.Lock()

    def wake(self) -> None:
        """Never waits, and never raises."""
        self._is_due.set()
        if self._thread is None:
            with self._mutex:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="faxhook-wake", daemon=True)
                    self._thread.start()

    def close(self) -> None:
        self._is_over = True
        self._is_due.set()
        if self._thread is not None:
            self._thread.join(_LAST_WORD_SECONDS)

    def _run(self) -> None:
        connection: Any = None
        while not self._is_over:
            self._is_due.wait()
            self._is_due.clear()
            try:
                if connection is None:
                    connection = self._engine.raw_connection()
                    connection.detach()  # it does not count for the pool
                connection.dbapi_connection.execute(WAKE)
            except (self._engine.dialect.loaded_dbapi.Error, sa.exc.SQLAlchemyError):
                connection = None
                time.sleep(_AWAY_SECONDS)
            time.sleep(_BETWEEN_WORDS_SECONDS)
        if connection is not None:
            connection.close()


def wake(connection: Connection) -> None:
    """Let those who wait for events look when this transaction has been committed. SQLite's watch the file."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(WAKE)


def where(url: URL) -> str:
    """The database in words, for operators: ``PostgreSQL at db.example.com:5432, database faxhook, user faxhook``."""
    database = f", database {url.database}" if url.database else ""
    user = f", user {url.username}" if url.username else ""
    return f"PostgreSQL at {hosts(url)}{database}{user}"


def hosts(url: URL) -> str:
    """All hosts of the URL with their ports, or the folder of the local socket."""
    names, ports = (_listed(url, key) for key in ("host", "port"))
    names = [url.host] if url.host else names
    ports = [str(url.port)] if url.port else ports
    if not names:
        return "the local socket"
    ports = [port or "5432" for port in ports or ["5432"]]
    return ",".join(
        name if name.startswith("/") else f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
        for name, port in zip(names, ports * len(names) if len(ports) == 1 else ports, strict=False)
    )


def _listed(url: URL, key: str) -> list[str]:
    value = url.query.get(key, ())
    return value.split(",") if isinstance(value, str) else list(value)


def _begin(cursor: DBAPICursor, deadline: float | None = None) -> None:
    """
    Begin a transaction with its isolation and limits, whatever server, database or role have as defaults.

    In one message: it costs no more time than beginning alone.
    """
    seconds = BUSY_SECONDS if deadline is None else min(deadline - time.monotonic(), BUSY_SECONDS)
    if seconds <= 0:
        raise StoreUnavailable("Timeout")
    limit = max(int(seconds * 1000), 1)
    cursor.execute(
        "BEGIN ISOLATION LEVEL READ COMMITTED;"
        f" SET LOCAL statement_timeout = {limit}; SET LOCAL lock_timeout = {limit};"
        f" SET LOCAL idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'"
    )


def _check_transactions(connection: Any) -> None:
    """Raise the driver's error where a pooler gives each statement to another server connection."""
    try:
        _begin(connection.cursor())
        connection.execute("ROLLBACK")
    except BaseException:
        connection.close()
        raise


def _engine(url: URL, limits: Limits) -> Engine:
    seconds = int(BUSY_SECONDS)
    defaults = {
        "connect_timeout": seconds,
        "application_name": "faxhook",
        # a server that vanished without a word must not hold the writer for the kernel's two hours
        "keepalives_idle": seconds,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "tcp_user_timeout": seconds * 1000,
    }
    ours = {
        "client_encoding": "utf8",  # a database may have another default, and SQL_ASCII would give bytes for text
        "autocommit": True,  # the driver would begin transactions itself: without limits, and as the database likes
    }
    given = {name: value for name, value in defaults.items() if name not in url.query}
    engine = sa.create_engine(
        url,
        pool_pre_ping=True,
        pool_timeout=limits.seconds,
        **({} if limits.connections is None else {"pool_size": limits.connections, "max_overflow": 0}),
        connect_args={**given, **ours},
        use_native_hstore=False,  # looked for in a transaction without our limits
    )

    @event.listens_for(engine, "connect")
    def look_in_between(connection: Any, record: Any) -> None:
        # A pooler has told a number of its own for the process that serves us. It may give each transaction to another
        # server connection, which has not prepared what the one before had.
        told = connection.pgconn.backend_pid
        is_pooled = connection.execute("SELECT pg_backend_pid()").fetchone() != (told,)
        record.info[POOLED] = is_pooled
        connection.prepare_threshold = None if is_pooled else _PREPARED_AFTER
        if is_pooled:
            _check_transactions(connection)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        deadline = connection.info.pop("deadline", None)
        _begin(connection.connection.cursor(), deadline or time.monotonic() + limits.seconds)

    return engine
