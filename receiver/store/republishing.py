"""Putting published events into the queue again, some at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.settings import EVERYTHING, Filter
from receiver.store import Store, places, projection, sinks
from receiver.store.browsing import failed_for, in_time, typed_seq
from receiver.store.postgresql import wake
from receiver.store.states import events_with_states
from receiver.store.tables import QUEUE, Tables
from receiver.store.turns import put_in

_AT_ONCE = 500  # row numbers

Window = tuple[int, int]  # from this row number to that one


@dataclass(frozen=True, slots=True)
class Chosen:
    """
    Which events: made between two times; of those that ``only`` has, such as of an endpoint; failed for a reason.

    sink: where they go again. passing: what goes there at all.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    only: Filter = EVERYTHING
    reason: str | None = None
    sink: str = QUEUE
    passing: Filter = EVERYTHING


def some(store: Store, chosen: Chosen, *, dry_run: bool = False) -> int:
    """Put them in, some in each transaction, so that callbacks do not wait; how many. dry_run: only count."""
    with store.reading() as connection:
        every = windows(connection, store.tables, chosen)
    do = count if dry_run else republish
    put = 0
    for window in every:
        with store.reading() if dry_run else store.writing() as connection:
            put += do(connection, store.tables, chosen, window)
    return put


def one(store: Store, chosen: Chosen, event_id: str) -> int:
    """Put one event in, if it is chosen; how many."""
    with store.writing() as connection:
        return republish_one(connection, store.tables, event_id, chosen)


def is_chosen(connection: Connection, tables: Tables, chosen: Chosen, event_id: str) -> bool:
    """Whether ``one`` would put it in."""
    seq = typed_seq(connection, tables, event_id)
    return seq is not None and count(connection, tables, chosen, (seq, seq)) > 0


def windows(connection: Connection, tables: Tables, chosen: Chosen) -> Iterator[Window]:
    """All events that are chosen and may have a payload are in one of these."""
    first, last = projection.between(connection, tables, chosen.since_ms, chosen.until_ms)
    newest = connection.scalar(sa.select(sa.func.max(tables.events.c.seq))) or 0
    first = max(first, places.noted(connection, tables).payloads + 1)
    last = newest if last is None else min(last, newest)
    return ((start, min(start + _AT_ONCE - 1, last)) for start in range(first, last + 1, _AT_ONCE))


def count(connection: Connection, tables: Tables, chosen: Chosen, window: Window) -> int:
    """How many ``republish`` would put into the queue."""
    some = _published(tables, chosen).where(tables.events.c.seq.between(*window)).subquery()
    return int(connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0)


def republish(connection: Connection, tables: Tables, chosen: Chosen, window: Window) -> int:
    """The same bytes under the same ids; how many were published and still had a payload."""
    some = _published(tables, chosen).where(tables.events.c.seq.between(*window))
    return _put_in(connection, tables, some, chosen.sink)


def republish_one(connection: Connection, tables: Tables, event_id: str, chosen: Chosen) -> int:
    """The same for one event, if it is chosen."""
    seq = typed_seq(connection, tables, event_id)
    if seq is None:
        return 0
    return _put_in(connection, tables, _published(tables, chosen).where(tables.events.c.seq == seq), chosen.sink)


def _put_in(connection: Connection, tables: Tables, some: sa.Select[tuple[int, str, int]], sink: str) -> int:
    places.locked(connection, tables)  # nobody else sends them again, or forgets their payloads
    put = put_in(connection, tables, some, sink)
    wake(connection)
    return put


def _published(tables: Tables, chosen: Chosen) -> sa.Select[tuple[int, str, int]]:
    """Row number, fax and revision of those that have a payload."""
    table = tables.events
    query, state = events_with_states(tables, (chosen.sink,))
    query = query.where(state == "published", table.c.body.is_not(None))
    query = query.where(sinks.passing(tables, chosen.passing), sinks.passing(tables, chosen.only))
    query = query.where(*in_time(tables, chosen.since_ms, chosen.until_ms), *failed_for(tables, chosen.reason))
    return query.with_only_columns(table.c.seq, table.c.fax_id, table.c.revision)
