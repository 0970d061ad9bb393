"""
Events and receipts as they come, for who has no rows of its own in ``waiting``.

PostgreSQL gives a row number before the transaction commits, so a lower number may be seen after a higher one. Numbers
that were passed over are therefore looked for again, for longer than a transaction can be. A receipt's id is as old as
its arrival, and its commit is later: ids are looked for again in the same way.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store import first_id, now_ms
from receiver.store.tables import Tables

LATE_SECONDS = 120.0  # a transaction has statements of seconds, and no minute without one
_AT_ONCE = 500
_RANGES = 100  # of row numbers, in one statement
_UNDER_WAY = 500  # row numbers that transactions may have which are open at one moment
_RECENT_MS = 10_000  # how late a receipt nearly always is at most, by the clocks of several machines
_FROM_THE_START_SECONDS = 5.0


Range = tuple[int, int]  # of row numbers, both included


@dataclass(frozen=True, slots=True)
class _Gap:
    """Row numbers without an event, and when that was noticed, on the monotonic clock."""

    first: int
    last: int
    noticed: float


class Following:
    """The row numbers of events behind ``place``, and of ``missing`` ones before it that come late, each given once."""

    def __init__(self, place: int, missing: Sequence[Range] = ()) -> None:
        self._start = self._newest = place
        now = time.monotonic()
        # In the order of their numbers, which is that in which they were noticed.
        self._gaps = [_Gap(first, last, now) for first, last in missing]

    @property
    def settled(self) -> int:
        """No event up to this row number will come any more that was not given, but for those missing."""
        return next((gap.first - 1 for gap in self._gaps if gap.first > self._start), self._newest)

    @property
    def missing(self) -> tuple[Range, ...]:
        """Of those before the place, what may still come."""
        return tuple((gap.first, gap.last) for gap in self._gaps if gap.first <= self._start)

    def read(self, connection: Connection, tables: Tables, limit: int = _AT_ONCE) -> list[int]:
        """Those that were not there before, in order: about ``limit`` at most."""
        events = tables.events
        if connection.dialect.name == "sqlite":  # it gives a number again when it was the highest
            self._newest = min(self._newest, newest(connection, tables))
        query = sa.select(events.c.seq).where(events.c.seq > self._newest).order_by(events.c.seq).limit(limit)
        found = list(connection.scalars(query))
        # Behind these: the earlier event of a fax was committed when its later one was given a number.
        late = self._late(connection, tables)
        self._pass(found, connection.dialect.name)
        return [*late, *found]

    def _late(self, connection: Connection, tables: Tables) -> list[int]:
        now = time.monotonic()
        self._gaps = [gap for gap in self._gaps if gap.noticed > now - LATE_SECONDS]
        seq = tables.events.c.seq
        found: list[int] = []
        for start in range(0, len(self._gaps), _RANGES):
            some = self._gaps[start : start + _RANGES]
            query = sa.select(seq).where(sa.or_(*(seq.between(gap.first, gap.last) for gap in some))).order_by(seq)
            found += connection.scalars(query)
        if found:
            self._gaps = [left for gap in self._gaps for left in _without(gap, found)]
        return found

    def _pass(self, found: Sequence[int], dialect: str) -> None:
        now = time.monotonic()
        for seq in found:
            if seq > self._newest + 1 and dialect != "sqlite":  # which commits in the order of its numbers
                self._gaps.append(_Gap(self._newest + 1, seq - 1, now))
            self._newest = seq


def _without(gap: _Gap, found: Sequence[int]) -> list[_Gap]:
    """What is left of it. found: in order."""
    left, first = [], gap.first
    for seq in (seq for seq in found if gap.first <= seq <= gap.last):
        if seq > first:
            left.append(_Gap(first, seq - 1, gap.noticed))
        first = seq + 1
    return [*left, _Gap(first, gap.last, gap.noticed)] if first <= gap.last else left


def newest(connection: Connection, tables: Tables) -> int:
    """The highest row number of an event; 0 without any."""
    return connection.scalar(sa.select(sa.func.max(tables.events.c.seq))) or 0


def from_now(connection: Connection, tables: Tables) -> tuple[int, tuple[Range, ...]]:
    """
    Where to begin with what is committed from now on: the highest row number of an event, and the lower ones without
    an event, which transactions that are under way may have.
    """
    seq = tables.events.c.seq
    highest = sa.select(sa.func.max(seq)).scalar_subquery()
    found = list(connection.scalars(sa.select(seq).where(seq > highest - _UNDER_WAY).order_by(seq)))
    if not found:
        return 0, ()
    if connection.dialect.name == "sqlite":  # which commits in the order of its numbers
        return found[-1], ()
    before = [max(0, found[-1] - _UNDER_WAY), *found]
    return found[-1], tuple((one + 1, other - 1) for one, other in pairwise(before) if other > one + 1)


def events(connection: Connection, tables: Tables, seqs: Sequence[int]) -> list[sa.Row[Any]]:
    """Those with these row numbers, in order."""
    table = tables.events
    return [
        row
        for start in range(0, len(seqs), _AT_ONCE)
        for row in connection.execute(
            sa.select(table).where(table.c.seq.in_(seqs[start : start + _AT_ONCE])).order_by(table.c.seq)
        )
    ]


class FollowingReceipts:
    """The receipts that have arrived since ``since_ms``, each given once."""

    def __init__(self, since_ms: int) -> None:
        self._since = first_id(since_ms)
        self._newest_ms = since_ms
        self._given: set[str] = set()
        self._start_due = 0.0

    def read(self, connection: Connection, tables: Tables) -> list[sa.Row[Any]]:
        """Those that were not there before, in the order of their ids."""
        now = time.monotonic()
        back_ms = _RECENT_MS
        if now >= self._start_due:
            self._start_due = now + _FROM_THE_START_SECONDS
            back_ms = round(LATE_SECONDS * 1000)
        begin = max(self._since, first_id(self._newest_ms - back_ms))
        found = [
            row for table in (tables.receipts, tables.rejected_receipts) for row in self._new(connection, table, begin)
        ]
        self._given.update(row.id for row in found)
        arrived = [row.received_at_ms for row in found]
        self._newest_ms = max(self._newest_ms, min(max(arrived, default=0), now_ms()))  # a clock may have been wrong
        oldest = first_id(self._newest_ms - 2 * round(LATE_SECONDS * 1000))
        self._given = {one for one in self._given if one >= oldest}
        return sorted(found, key=lambda row: str(row.id))

    def _new(self, connection: Connection, table: sa.Table, begin: str) -> list[sa.Row[Any]]:
        there = connection.scalars(sa.select(table.c.id).where(table.c.id >= begin))
        ids = [one for one in there if one not in self._given]
        shown = [table.c[name] for name in ("id", "endpoint", "provider", "state", "reason", "received_at_ms", "size")]
        return [
            row
            for start in range(0, len(ids), _AT_ONCE)
            for row in connection.execute(sa.select(*shown).where(table.c.id.in_(ids[start : start + _AT_ONCE])))
        ]
