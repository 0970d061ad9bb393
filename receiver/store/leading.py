"""
One active relay for a store, whatever dies; and its sign of life, for those who watch it.

SQLite: a lock on a file beside it, which the system takes back from a dead process. PostgreSQL: a row with the end of
the lease, by the database's own clock, which a living relay keeps moving on; not a session's advisory lock, which a
connection pooler would hand to somebody else.
"""

import fcntl
import os
import threading
import time
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.sql.dml import ReturningInsert

from receiver.errors import Unavailable
from receiver.logs import log
from receiver.store import Store
from receiver.store.outbox import owner
from receiver.store.tables import Tables, insert

_NAME = "outbox"
_LEASE_SECONDS = 3.0  # so that another takes over within 5
_RENEW_SECONDS = 1.0


class Leadership:
    """Whether this process is the store's active relay. ``give_up()`` at the end; a killed one loses it by itself."""

    def __init__(self, store: Store) -> None:
        self._leadership: _FileLock | _Lease = (
            _FileLock(store.file.path) if store.file is not None else _Lease(store, owner())
        )

    def hold(self) -> bool:
        """Take it if nobody else has it; whether it is ours now. Raises Unavailable."""
        return self._leadership.hold()

    @property
    def is_held(self) -> bool:
        """Without asking anybody: nobody else can have it yet."""
        return self._leadership.is_held

    def give_up(self) -> None:
        self._leadership.give_up()


def sign_of_life(connection: Connection, tables: Tables, now_ms: int, trouble: str | None) -> None:
    """Note that the active relay lives, and its trouble with the broker; the time it began stays."""
    relays = tables.relays
    seen = {"seen_at_ms": now_ms, "trouble": trouble}
    began = sa.func.coalesce(relays.c.trouble_since_ms, now_ms) if trouble else None
    connection.execute(
        insert(relays, connection.dialect.name)
        .values(name=_NAME, holder=owner(), until_ms=0, trouble_since_ms=now_ms if trouble else None, **seen)
        .on_conflict_do_update(index_elements=[relays.c.name], set_={**seen, "trouble_since_ms": began})
    )


def is_led(tables: Tables) -> sa.Exists:
    """Whether some relay has a PostgreSQL store now."""
    return sa.exists().where(tables.relays.c.until_ms > _now())


class _FileLock:
    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".relay")
        self._lock: int | None = None

    @property
    def is_held(self) -> bool:
        return self._lock is not None

    def hold(self) -> bool:
        if self._lock is None:
            lock = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            else:
                self._lock = lock
        return self.is_held

    def give_up(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None


class _Lease:
    """Renewed in a thread of its own, since the relay may wait for a broker longer than the lease lasts."""

    def __init__(self, store: Store, holder: str) -> None:
        self._store = store
        self._holder = holder
        self._held_until = 0.0  # on our monotonic clock, counted from before we asked
        self._renewer: threading.Thread | None = None
        self._ended = threading.Event()

    @property
    def is_held(self) -> bool:
        return time.monotonic() < self._held_until

    def hold(self) -> bool:
        if not self.is_held:
            self._renew()
        if self.is_held and (self._renewer is None or not self._renewer.is_alive()):
            self._renewer = threading.Thread(target=self._keep_renewing, daemon=True)
            self._renewer.start()
        return self.is_held

    def give_up(self) -> None:
        self._ended.set()
        if self._renewer is not None:
            self._renewer.join(_RENEW_SECONDS)
        self._held_until = 0.0
        relays = self._store.tables.relays
        # Not for long: it ends by itself soon, and the supervisor that stops us does not wait.
        with self._store.writing(time.monotonic() + _RENEW_SECONDS) as connection:
            connection.execute(relays.update().where(relays.c.holder == self._holder).values(until_ms=0))

    def _keep_renewing(self) -> None:
        while not self._ended.wait(_RENEW_SECONDS):
            try:
                self._renew()
            except Unavailable as error:
                log.warning("lease_not_renewed", error=error.error)

    def _renew(self) -> None:
        asked = time.monotonic()
        with self._store.writing(asked + _LEASE_SECONDS) as connection:
            taken = connection.execute(_take_over(self._store.tables, self._holder)).first() is not None
        self._held_until = asked + _LEASE_SECONDS if taken else 0.0


def _take_over(tables: Tables, holder: str) -> ReturningInsert[str]:
    """The row becomes ours, and is returned, unless another's time runs on. One statement: two cannot both succeed."""
    relays = tables.relays
    now = _now()
    ours = {"holder": holder, "until_ms": now + round(_LEASE_SECONDS * 1000), "seen_at_ms": now}
    return (
        insert(relays, "postgresql")
        .values(name=_NAME, **ours)
        .on_conflict_do_update(
            index_elements=[relays.c.name],
            set_=ours,
            where=sa.or_(relays.c.holder == holder, relays.c.until_ms < now),
        )
        .returning(relays.c.name)  # an insert's rowcount is not told
    )


def _now() -> sa.ColumnElement[int]:
    """By the database's clock, in milliseconds."""
    return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()) * 1000, sa.BigInteger)
