"""
Listeners: what ``faxhook listen`` is to the store, a sink that no configuration has.

A row in ``meta`` says how far it has read, who reads, and when it was last used. No callback writes a row for it: it
lets events wait for itself, in row order behind its place, some at a time, and takes them as every sink does. So it
goes on where it was after each restart, and what has arrived does not come again. Unused for a week it is forgotten.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.errors import StoreError
from receiver.settings import EVERYTHING, Filter
from receiver.store import outbox, places, sinks
from receiver.store.clock import shared_ms
from receiver.store.following import Following, Range, from_now
from receiver.store.states import covering
from receiver.store.tables import LISTENER, QUEUE, Tables, insert_or_keep
from receiver.store.turns import put_in

UNUSED_MS = 7 * 24 * 3600 * 1000
LEASE_MS = 30_000  # after the last sign of life another process may take over
MOST_WAITING = 500  # the rest waits in ``events`` alone, where retention does not spare it


@dataclass(frozen=True, slots=True)
class Listener:
    """
    sink: its name. place: events up to this row number were looked at, but for those missing: what was not committed
    when it began. event_id, made_at_ms: of the event there; None where there is none. holder, until_ms: the process
    that reads, as holders of leases are named.
    """

    sink: str
    place: int
    event_id: str | None = None
    made_at_ms: int | None = None
    used_at_ms: int = 0
    holder: str | None = None
    until_ms: int = 0
    filter: Filter = field(default=EVERYTHING)
    missing: tuple[Range, ...] = ()

    def text(self) -> str:
        known = asdict(self)
        del known["sink"]
        return json.dumps(known)


def names(connection: Connection, tables: Tables) -> list[str]:
    """As they stand in ``waiting``."""
    return [one.sink for one in listeners(connection, tables)]


def every_sink(connection: Connection, tables: Tables) -> set[str]:
    """All that may have rows in ``waiting``, also those that nobody has made known, but for the projector."""
    known = sinks.names(connection, tables), sinks.waited_for(connection, tables), names(connection, tables)
    return {QUEUE}.union(*known)


def listeners(connection: Connection, tables: Tables) -> list[Listener]:
    meta = tables.meta
    mine = meta.c.name.startswith(LISTENER)
    rows = connection.execute(sa.select(meta.c.name, meta.c.value).where(mine).order_by(meta.c.name))
    return [_parsed(*row) for row in rows]


def filters(connection: Connection, tables: Tables) -> dict[str, Filter]:
    """Sink -> what goes there."""
    return {one.sink: one.filter for one in listeners(connection, tables)}


def _parsed(sink: str, text: str) -> Listener:
    values: dict[str, Any] = json.loads(text)
    chosen = Filter(**{key: tuple(some) for key, some in values.pop("filter").items()})
    missing = tuple((first, last) for first, last in values.pop("missing", ()))
    return Listener(sink=sink, filter=chosen, missing=missing, **values)


def begin(
    connection: Connection, tables: Tables, name: str, holder: str, chosen: Filter, *, from_oldest: bool
) -> tuple[Listener, bool]:
    """
    The listener of this name, now this holder's; and whether it is new.

    Raises StoreError while another process has it.
    """
    places.locked(connection, tables, shared=True)  # retention may be about to forget it
    now = shared_ms(connection)
    place, missing = (0, ()) if from_oldest else from_now(connection, tables)
    made = Listener(LISTENER + name, place, holder=holder, filter=chosen, missing=missing)
    insert = insert_or_keep(tables.meta, connection.dialect.name)
    is_new = connection.execute(insert.values(name=made.sink, value=made.text())).rowcount == 1
    known = _locked(connection, tables, made.sink)
    assert known is not None
    is_free = known.holder is None or known.until_ms <= now or outbox.is_dead(known.holder)
    if known.holder != holder and not is_free:
        raise StoreError(f"another `faxhook listen --name {name}` is at work; take another name, or end that one")
    mine = replace(known, place=_place_now(connection, tables, known), holder=holder, filter=chosen)
    return keep(connection, tables, mine, now), is_new


def _place_now(connection: Connection, tables: Tables, known: Listener) -> int:
    """Its place, or where it was before if a file has given numbers again that had gone."""
    events = tables.events
    here = connection.scalar(sa.select(events.c.id).where(events.c.seq == known.place))
    if known.made_at_ms is None or here == known.event_id:
        return known.place
    older = events.c.seq <= known.place, events.c.created_at_ms <= known.made_at_ms
    return connection.scalar(sa.select(events.c.seq).where(*older).order_by(events.c.seq.desc()).limit(1)) or 0


def keep(connection: Connection, tables: Tables, listener: Listener, now: int) -> Listener:
    """Note its place, and that its holder is alive."""
    events = tables.events
    row = connection.execute(
        sa.select(events.c.id, events.c.created_at_ms).where(events.c.seq == listener.place)
    ).first()
    event_id, made_at_ms = (None, None) if row is None else row
    kept = replace(listener, event_id=event_id, made_at_ms=made_at_ms, used_at_ms=now, until_ms=now + LEASE_MS)
    meta = tables.meta
    connection.execute(meta.update().where(meta.c.name == kept.sink).values(value=kept.text()))
    return kept


def fill(
    connection: Connection, tables: Tables, listener: Listener, seqs: Sequence[int], reader: Following
) -> Listener:
    """
    Let these events wait for it, as far as they pass, have a payload, and neither wait for it nor have arrived; and
    move its place to that of the reader, which has found them. Raises StoreError where another process has taken over.
    """
    places.locked(connection, tables, shared=True)
    known = _locked(connection, tables, listener.sink)
    if known is None or known.holder != listener.holder:
        raise StoreError("another process has taken over, since this one has not been heard of for too long")
    if seqs:
        _let_wait(connection, tables, listener, seqs)
    moved = replace(listener, place=reader.settled, missing=reader.missing)
    return keep(connection, tables, moved, shared_ms(connection))


def leave(connection: Connection, tables: Tables, listener: Listener) -> None:
    """Nobody reads any more, for now."""
    known = _locked(connection, tables, listener.sink)
    if known is not None and known.holder == listener.holder:
        keep(connection, tables, replace(known, holder=None), shared_ms(connection))


def forgotten(connection: Connection, tables: Tables, seqs: Sequence[int]) -> int:
    """How many of these events have no payload any more, and go nowhere."""
    events = tables.events
    gone = events.c.seq.in_(seqs), events.c.body.is_(None)
    return int(connection.scalar(sa.select(sa.func.count()).select_from(events).where(*gone)) or 0)


def room(connection: Connection, tables: Tables, listener: Listener) -> int:
    """How many more events may wait for it."""
    waiting = tables.waiting
    some = sa.select(waiting.c.turn).where(waiting.c.sink == listener.sink).limit(MOST_WAITING).subquery()
    return MOST_WAITING - int(connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0)


def forget_unused(connection: Connection, tables: Tables, now: int) -> None:
    """With what waits for them. The places must be locked."""
    for one in listeners(connection, tables):
        if one.used_at_ms < now - UNUSED_MS:
            sinks.forget(connection, tables, one.sink)


def _locked(connection: Connection, tables: Tables, sink: str) -> Listener | None:
    meta = tables.meta
    query = sa.select(meta.c.value).where(meta.c.name == sink).with_for_update()
    text = connection.scalar(query)
    return None if text is None else _parsed(sink, text)


def _let_wait(connection: Connection, tables: Tables, listener: Listener, seqs: Sequence[int]) -> None:
    events, waiting, dead = tables.events, tables.waiting, tables.dead_letters
    sink = listener.sink
    some = sa.select(events.c.seq, events.c.fax_id, events.c.revision).where(
        events.c.seq.in_(seqs),
        events.c.body.is_not(None),
        sinks.passing(tables, listener.filter),
        ~sa.exists().where(*covering(tables, sink)),
        ~sa.exists().where(waiting.c.sink == sink, waiting.c.seq == events.c.seq),
        ~sa.exists().where(dead.c.sink == sink, dead.c.seq == events.c.seq),
    )
    if connection.dialect.name == "sqlite":  # what is sent again may have a turn that is another event's number
        put_in(connection, tables, some, sink)
        return
    chosen = some.subquery()
    rows = sa.select(sa.literal(sink), chosen.c.seq, chosen.c.seq, chosen.c.fax_id, chosen.c.revision)
    columns = ["sink", "turn", "seq", "fax_id", "revision"]
    connection.execute(waiting.insert().from_select(columns, rows))
