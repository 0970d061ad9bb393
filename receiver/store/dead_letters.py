"""Dead letters: events that were parked since they cannot be sent; they are listed, put back, or dropped."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store import Store, listening, places, projection, sinks
from receiver.store.browsing import typed_seq
from receiver.store.damage import is_damage
from receiver.store.known import is_newest
from receiver.store.postgresql import wake
from receiver.store.states import events_with_states
from receiver.store.submissions import checksum
from receiver.store.tables import QUEUE, Tables, insert_or_keep
from receiver.store.trouble import StoreUnavailable
from receiver.store.turns import put_in


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """
    One event that was parked on its way to a sink. id, outcome, receipt, created_at_ms: None where its row is lost or
    cannot be read.

    is_damaged: its payload is gone, or not as it was written.
    """

    sink: str
    seq: int
    fax_id: str
    reason: str
    parked_at_ms: int
    id: str | None = None
    outcome: str | None = None
    receipt: str | None = None
    created_at_ms: int | None = None
    is_damaged: bool = True

    @property
    def name(self) -> str:
        """As the audit calls it."""
        return self.id or f"row {self.seq}"


def newest(store: Store, limit: int, before: int | None = None) -> list[DeadLetter]:
    """
    The newest events' first; also those whose event is on a bad page of a file.

    before: a row number; only of older events.
    """
    dead = store.tables.dead_letters
    query = sa.select(dead).order_by(dead.c.seq.desc(), dead.c.sink).limit(limit)
    query = query if before is None else query.where(dead.c.seq < before)
    with store.reading() as connection:
        rows = connection.execute(query).all()
    try:
        return _with_events(store, rows)
    except StoreUnavailable as error:
        if not is_damage(error):
            raise
    return [letter for row in rows for letter in _alone(store, row)]


def _alone(store: Store, row: sa.Row[Any]) -> list[DeadLetter]:
    try:
        return _with_events(store, [row])
    except StoreUnavailable as error:
        if not is_damage(error):
            raise
        return [DeadLetter(row.sink, row.seq, row.fax_id, row.reason, row.parked_at_ms)]


def _with_events(store: Store, rows: Sequence[sa.Row[Any]]) -> list[DeadLetter]:
    with store.reading() as connection:
        return _letters(connection, store.tables, rows)


def after(
    connection: Connection, tables: Tables, seq: int = 0, limit: int = 200, sink: str = QUEUE
) -> list[DeadLetter]:
    """A sink's above this row number, in the order of their events."""
    dead = tables.dead_letters
    query = sa.select(dead).where(dead.c.sink == sink, dead.c.seq > seq).order_by(dead.c.seq).limit(limit)
    return _letters(connection, tables, connection.execute(query).all())


def all_of(store: Store, sink: str) -> Iterator[Sequence[DeadLetter]]:
    """All of a sink, some at a time, in the order of their events."""
    seq = 0
    while True:
        with store.reading() as connection:
            some = after(connection, store.tables, seq, sink=sink)
        if not some:
            return
        yield some
        seq = some[-1].seq


def of_event(connection: Connection, tables: Tables, event_id: str, sink: str | None = None) -> list[DeadLetter]:
    """Those of this event; of a sink, where it is named."""
    dead, seq = tables.dead_letters, typed_seq(connection, tables, event_id)
    if seq is None:
        return []
    query = sa.select(dead).where(dead.c.seq == seq).order_by(dead.c.sink)
    return _letters(connection, tables, connection.execute(query.where(dead.c.sink == sink) if sink else query).all())


def _letters(connection: Connection, tables: Tables, rows: Sequence[sa.Row[Any]]) -> list[DeadLetter]:
    events = tables.events
    query = sa.select(events).where(events.c.seq.in_([row.seq for row in rows]))
    found = {event.seq: event for event in connection.execute(query)}
    return [_letter(row, found.get(row.seq)) for row in rows]


def _letter(row: sa.Row[Any], event: sa.Row[Any] | None) -> DeadLetter:
    same = row.sink, row.seq, row.fax_id, row.reason, row.parked_at_ms
    if event is None:
        return DeadLetter(*same)
    is_damaged = event.body is None or checksum(event.id, event.body) != event.checksum
    return DeadLetter(*same, event.id, event.outcome, event.receipt, event.created_at_ms, is_damaged)


def revive(connection: Connection, tables: Tables, letters: Sequence[DeadLetter]) -> int:
    """Let dead letters wait for their sinks again, but no damaged one; how many."""
    places.locked(connection, tables, shared=True)  # retention looks for them in one place after the other
    table = tables.events
    count = 0
    for sink, some in _by_sink(letter for letter in letters if not letter.is_damaged):
        taken_out = _delete(connection, tables, sink, some)
        rows = sa.select(table.c.seq, table.c.fax_id, table.c.revision).where(table.c.seq.in_(taken_out))
        count += put_in(connection, tables, rows, sink)
    wake(connection)
    return count


def drop(connection: Connection, tables: Tables, letters: Sequence[DeadLetter]) -> int:
    """
    Delete dead letters, and their events unless these are, wait for or have gone elsewhere; how many letters.

    A fax without another event is forgotten as well: a replay of its receipt announces it anew, under the same
    ids. Retention finds the other faxes as those that have no events any more.
    """
    passed = places.locked(connection, tables)
    fax_ids = {letter.seq: letter.fax_id for letter in letters}
    dropped = [seq for sink, some in _by_sink(letters) for seq in _delete(connection, tables, sink, some)]
    seqs = _nowhere_else(connection, tables, dropped)
    events, faxes = tables.events, tables.faxes
    some = sorted({fax_ids[seq] for seq in seqs})
    query = sa.select(faxes).where(faxes.c.fax_id.in_(some)).order_by(faxes.c.fax_id).with_for_update()
    known = connection.execute(query).all()
    projection.drop(connection, tables, seqs, [fax.first_seq for fax in known if fax.revision == 1])
    connection.execute(events.delete().where(events.c.seq.in_(seqs)))
    newest_ids = sa.select(events.c.id).join_from(faxes, events, is_newest(tables)).where(faxes.c.fax_id.in_(some))
    there = set(connection.scalars(newest_ids))
    headless = [fax for fax in known if fax.event_id not in there]
    gone = [fax.fax_id for fax in headless if fax.revision == 1]
    for table in (tables.announcements, faxes):
        connection.execute(table.delete().where(table.c.fax_id.in_(gone)))
    connection.execute(tables.learned.delete().where(tables.learned.c.fax_id.in_([fax.fax_id for fax in headless])))
    late = [{"due_at_ms": fax.seen_at_ms, "fax_id": fax.fax_id} for fax in headless if fax.revision > 1]
    if late:
        connection.execute(insert_or_keep(tables.late_faxes, connection.dialect.name), late)
    places.step_back(connection, tables, passed)
    places.move(connection, tables, passed)
    return len(dropped)


def _by_sink(letters: Iterable[DeadLetter]) -> Iterator[tuple[str, list[DeadLetter]]]:
    found: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        found.setdefault(letter.sink, []).append(letter)
    yield from found.items()


def _delete(connection: Connection, tables: Tables, sink: str, letters: Sequence[DeadLetter]) -> Sequence[int]:
    dead = tables.dead_letters
    some = dead.c.sink == sink, dead.c.seq.in_([letter.seq for letter in letters])
    return connection.scalars(dead.delete().where(*some).returning(dead.c.seq)).all()


def _nowhere_else(connection: Connection, tables: Tables, seqs: Sequence[int]) -> list[int]:
    """Those that no sink waits for, has as a dead letter or has taken; what has gone out is not forgotten."""
    others = (*sinks.names(connection, tables), *listening.names(connection, tables))
    if len(others) == 1:
        return list(seqs)
    query, _ = events_with_states(tables, others)
    elsewhere = set()
    for row in connection.execute(query.add_columns(tables.events.c.seq).where(tables.events.c.seq.in_(seqs))):
        if any(getattr(row, f"state_{at}") is not None for at in range(len(others))):
            elsewhere.add(row.seq)
    return [seq for seq in dict.fromkeys(seqs) if seq not in elsewhere]
