"""
Whether this machine's clock can be believed when something is to be forgotten by it.

A clock that is set days ahead for a minute would have retention delete the faxes of the last days, and what tells a
repetition of them. So time is held against what it should be: the last sign of life, plus what the monotonic clock has
counted since, and on PostgreSQL also the database's clock. While the clock is ahead of either, nothing is forgotten.

A jump can be right as well: the machine has slept, or was off. A clock that then runs evenly for an hour is believed.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.logs import log
from receiver.store import now_ms
from receiver.store.tables import Tables, insert_or_replace

AHEAD_SECONDS = 120.0  # so much is no jump: a restart, a slow round, a correction by the network's time
STEADY_SECONDS = 3600.0

_NAME = "clock"  # of the row in ``meta``


@dataclass(frozen=True, slots=True)
class _Mark:
    """What the clock showed at a moment of the monotonic clock."""

    wall_ms: int
    monotonic: float

    def expected(self, monotonic: float) -> float:
        """What the clock shows later if it runs evenly, in milliseconds."""
        return self.wall_ms + (monotonic - self.monotonic) * 1000


class RetentionClock:
    """The clock of the active relay. Whoever becomes the active one takes up what the last one has noted."""

    def __init__(self, wall_ms: Callable[[], int] = now_ms, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall_ms = wall_ms
        self._monotonic = monotonic
        self._believed: _Mark | None = None  # None: nothing is known yet that it could be ahead of
        self._doubted: _Mark | None = None  # since the clock has jumped ahead

    def look(self, connection: Connection) -> int | None:
        """The time in milliseconds since 1970; None while it is not to be believed."""
        now = _Mark(self._wall_ms(), self._monotonic())
        ahead_ms = now.wall_ms - self._believed.expected(now.monotonic) if self._believed else 0.0
        theirs = _of_database(connection)
        if theirs is not None and now.wall_ms - theirs > AHEAD_SECONDS * 1000:
            self._doubt(now, now.wall_ms - theirs)
            return None
        if ahead_ms > AHEAD_SECONDS * 1000 and not self._has_been_steady(now):
            self._doubt(now, ahead_ms)
            return None
        if self._doubted is not None:
            log.info("clock_believed")
        self._believed, self._doubted = now, None
        return now.wall_ms

    def note(self, connection: Connection, tables: Tables) -> None:
        """Keep what is known of the clock, for the next active relay."""
        self.look(connection)
        believed, doubted = self._believed, self._doubted
        noted = {
            "expected_ms": round(believed.expected(self._monotonic())) if believed else None,
            "doubted_since_ms": doubted.wall_ms if doubted else None,
            "seen_ms": self._wall_ms(),
        }
        insert = insert_or_replace(tables.meta, connection.dialect.name)
        connection.execute(insert.values(name=_NAME, value=json.dumps(noted)))

    def take_up(self, connection: Connection, tables: Tables) -> None:
        """Begin with what the last active relay has noted, if there was one."""
        noted = _noted(connection, tables)
        now = _Mark(self._wall_ms(), self._monotonic())
        self._believed = self._doubted = None
        if noted is None:
            # A relay of an earlier version has left its sign of life only.
            seen_ms = connection.scalar(sa.select(tables.relays.c.seen_at_ms))
            self._believed = _Mark(seen_ms, now.monotonic) if seen_ms else None
            return
        if noted["expected_ms"] is not None:
            self._believed = _Mark(noted["expected_ms"], now.monotonic)
        since_ms = noted["doubted_since_ms"]
        if since_ms is not None and 0 <= now.wall_ms - noted["seen_ms"] <= AHEAD_SECONDS * 1000:
            self._doubted = _Mark(since_ms, now.monotonic - (now.wall_ms - since_ms) / 1000)

    def _has_been_steady(self, now: _Mark) -> bool:
        return (
            self._doubted is not None
            and self._runs_evenly(self._doubted, now)
            and now.monotonic - self._doubted.monotonic >= STEADY_SECONDS
        )

    def _doubt(self, now: _Mark, ahead_ms: float) -> None:
        if self._doubted is None:
            log.warning("clock_jumped_ahead", ahead_seconds=round(ahead_ms / 1000), delay_seconds=STEADY_SECONDS)
        if self._doubted is None or not self._runs_evenly(self._doubted, now):
            self._doubted = now

    @staticmethod
    def _runs_evenly(mark: _Mark, now: _Mark) -> bool:
        return abs(now.wall_ms - mark.expected(now.monotonic)) <= AHEAD_SECONDS * 1000


def doubted_since_ms(connection: Connection, tables: Tables) -> int | None:
    """Since when, by the doubted clock itself, the active relay forgets nothing; None while all is well."""
    noted = _noted(connection, tables)
    return None if noted is None else noted["doubted_since_ms"]


def _noted(connection: Connection, tables: Tables) -> dict[str, Any] | None:
    meta = tables.meta
    text = connection.scalar(sa.select(meta.c.value).where(meta.c.name == _NAME))
    return json.loads(text) if text else None


def shared_ms(connection: Connection) -> int:
    """The time by which all machines that use this store measure: the database's; for a file, this machine's own."""
    theirs = _of_database(connection)
    return now_ms() if theirs is None else theirs


def _of_database(connection: Connection) -> int | None:
    """The database's own clock in milliseconds; None where it is ours."""
    if connection.dialect.name == "sqlite":
        return None
    return int(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp()) * 1000").scalar_one())
