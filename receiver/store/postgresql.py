"""PostgreSQL: transactions of several machines, with limits on how long each may wait."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.pool import PoolProxiedConnection

from receiver.store.trouble import BUSY_SECONDS, StoreUnavailable

NOTIFIED = "faxhook"  # the channel on which PostgreSQL says that there are events to send


class Postgresql:
    """The transactions of a store in a PostgreSQL database."""

    file = None

    def __init__(self, url: URL) -> None:
        self.engine = _engine(url)

    @contextmanager
    def writing(self, deadline: float) -> Iterator[Connection]:
        with self.engine.begin() as connection:
            _limit_waiting(connection.connection.cursor(), deadline)
            yield connection

    @contextmanager
    def recording(self, deadline: float) -> Iterator[DBAPICursor]:
        with self._driver_connection() as connection:
            cursor = connection.cursor()
            _limit_waiting(cursor, deadline)
            yield cursor
            connection.commit()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            yield connection.execution_options(faxhook_reading=True)

    def empty_log(self) -> bool:
        return True

    def durability(self, connection: Connection) -> dict[str, str]:
        version = connection.dialect.server_version_info or ()
        commit = connection.exec_driver_sql("SHOW synchronous_commit").scalar_one()
        return {"store": "postgresql", "version": ".".join(map(str, version)), "synchronous": str(commit)}

    def close(self) -> None:
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


def _limit_waiting(cursor: DBAPICursor, deadline: float) -> None:
    """Leave a request that has waited for its turn already only the rest of its time."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise StoreUnavailable("Timeout")
    if left < BUSY_SECONDS - 0.5:  # the session's own limits hold for the others, at no cost
        limit = max(int(left * 1000), 1)
        cursor.execute(f"SET LOCAL lock_timeout = {limit}; SET LOCAL statement_timeout = {limit}")


def _engine(url: URL) -> Engine:
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
