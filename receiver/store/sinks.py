"""
The sinks that events go to: which of them the store knows, how each stands, how one begins and how it ends.

A commit puts a row into ``waiting`` for each sink that the process's configuration has, so what is written here decides
nothing about that. It is what start-up, relay and operators go by.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.errors import ConfigurationError
from receiver.settings import Filter, Sink
from receiver.store import now_ms, outbox, places
from receiver.store.states import covering
from receiver.store.tables import LISTENER, PROJECTOR, QUEUE, Tables, insert_or_keep
from schemas.envelope import COMPLETED

_AT_ONCE = 500  # rows in a transaction
_LATE_MS = 60_000  # in which each process gets to know a new sink; what those that do not commit is filled in then


@dataclass(frozen=True, slots=True)
class Standing:
    """
    How a sink stands. filled_to: where ``from = "oldest"`` has come to; None where nothing is left to fill.

    stopped_for: why nothing goes there until an operator resumes it. trouble: the kind of the last one; None while all
    is well.
    """

    name: str
    made_at_ms: int
    filled_to: int | None
    stopped_at_ms: int | None
    stopped_for: str | None
    trouble: str | None
    trouble_since_ms: int | None

    @property
    def may_be_filled(self) -> bool:
        """Whether all processes know it by now. Before it is filled nothing goes there: it would overtake."""
        return now_ms() >= self.made_at_ms + _LATE_MS


def names(connection: Connection, tables: Tables) -> tuple[str, ...]:
    """Those that the store knows, the queue first; the queue alone in a store that no process has begun with yet."""
    found = set(connection.scalars(sa.select(tables.sinks.c.name)))
    others = sorted(found - {QUEUE})
    return (QUEUE, *others) if QUEUE in found or not others else tuple(others)


def beside_the_queue(connection: Connection, tables: Tables) -> list[Standing]:
    """How each of them stands, in the order of their names."""
    some = sa.select(tables.sinks).where(tables.sinks.c.name != QUEUE).order_by(tables.sinks.c.name)
    return [Standing(*row) for row in connection.execute(some)]


def standing(connection: Connection, tables: Tables, name: str) -> Standing | None:
    """None where it is not known any more."""
    row = connection.execute(sa.select(tables.sinks).where(tables.sinks.c.name == name)).first()
    return None if row is None else Standing(*row)


# --- beginning and ending -------------------------------------------------------------------------------------------


def verify(connection: Connection, tables: Tables, configured: Mapping[str, Sink | None]) -> list[str]:
    """
    The sinks that the configuration has no more and that nothing waits for.

    Raises ConfigurationError where something does. configured: by their names, the queue with None.
    """
    gone = sorted({*names(connection, tables), *waited_for(connection, tables)} - configured.keys())
    held_for = {name: count for name in gone if (count := left(connection, tables, name))}
    if held_for:
        first = next(iter(held_for))
        held = [f"{count} for {name}" for name, count in held_for.items()]
        key = "queue.url" if first == QUEUE else f"sinks.{first}"
        raise ConfigurationError(
            f"{key}: events wait for, or are dead letters of, a sink that the configuration does not have any more"
            f" ({', '.join(held)}). Put it back, or give these events up: faxhook sinks drop {first} --yes"
        )
    return gone


def register(connection: Connection, tables: Tables, configured: Mapping[str, Sink | None]) -> list[str]:
    """Make the configured sinks known, and forget the others; which those are. Raises ConfigurationError as verify."""
    gone = verify(connection, tables, configured)
    for name in gone:
        forget(connection, tables, name)
    rows = [
        {"name": name, "made_at_ms": now_ms(), "filled_to": 0 if sink is not None and sink.from_oldest else None}
        for name, sink in configured.items()
    ]
    connection.execute(insert_or_keep(tables.sinks, connection.dialect.name), rows)
    return gone


def waited_for(connection: Connection, tables: Tables) -> list[str]:
    """
    The sinks that events wait for, without those of ``listen``, which no configuration has.

    One step in the key of ``waiting`` for each, however many rows there are.
    """
    sink, found = tables.waiting.c.sink, ""
    sinks: list[str] = []
    while (found := connection.scalar(sa.select(sa.func.min(sink)).where(sink > found)) or "") != "":
        sinks.append(found)
    return [name for name in sinks if name != PROJECTOR and not name.startswith(LISTENER)]


def left(connection: Connection, tables: Tables, name: str) -> int:
    """How many events wait for it, or are dead letters of it."""
    dead = tables.dead_letters
    letters = sa.select(sa.func.count()).select_from(dead).where(dead.c.sink == name)
    return outbox.undelivered(connection, tables, name) + int(connection.scalar(letters) or 0)


def drop_some(connection: Connection, tables: Tables, name: str) -> int:
    """Give up some of what waits for a sink, or is a dead letter of it; 0 when it is forgotten."""
    count = outbox.give_up(connection, tables, name, _AT_ONCE)
    if count == 0:
        forget(connection, tables, name)
    return count


def forget(connection: Connection, tables: Tables, name: str) -> None:
    """With all that waits for it, or is a dead letter of it."""
    while outbox.give_up(connection, tables, name, _AT_ONCE):
        pass
    connection.execute(tables.taken.delete().where(tables.taken.c.sink == name))
    connection.execute(tables.sinks.delete().where(tables.sinks.c.name == name))
    if name.startswith(LISTENER):
        connection.execute(tables.meta.delete().where(tables.meta.c.name == name))


# --- what it begins with --------------------------------------------------------------------------------------------


def fill(connection: Connection, tables: Tables, name: str, chosen: Filter) -> bool:
    """
    Let some more of the events that are still there wait for a sink with ``from = "oldest"``, in their turns; whether
    there are more. What waits for it already, has arrived or is a dead letter stays so.
    """
    known = standing(connection, tables, name)
    if known is None or known.filled_to is None:
        return False
    places.locked(connection, tables, shared=True)  # retention looks for them in one place after the other
    events, sinks = tables.events, tables.sinks
    some = sa.select(events.c.seq).where(events.c.seq > known.filled_to).order_by(events.c.seq).limit(_AT_ONCE)
    seqs = connection.scalars(some).all()
    _let_wait(connection, tables, name, chosen, seqs)
    place = seqs[-1] if seqs else None
    connection.execute(sinks.update().where(sinks.c.name == name).values(filled_to=place))
    return place is not None


def fill_again(connection: Connection, tables: Tables) -> None:
    """
    Have the relay make up for rows of the sinks beside the queue that were lost, as ``fill`` does: what came since
    such a sink was made, or since the first event that it is known to have had, waits unless it has arrived.
    """
    events, known = tables.events, tables.sinks
    for each in beside_the_queue(connection, tables):
        begun = sa.select(sa.func.min(events.c.seq)).where(events.c.created_at_ms >= each.made_at_ms - _LATE_MS)
        had = [
            sa.select(sa.func.min(column)).where(sink == each.name)
            for column, sink in (
                (tables.waiting.c.seq, tables.waiting.c.sink),
                (tables.taken.c.first, tables.taken.c.sink),
            )
        ]
        firsts = [first - 1 for query in (begun, *had) if (first := connection.scalar(query)) is not None]
        if each.filled_to is not None:
            firsts.append(each.filled_to)
        if firsts:
            values = {"filled_to": min(firsts), "made_at_ms": now_ms()}
            connection.execute(known.update().where(known.c.name == each.name).values(values))


def _let_wait(connection: Connection, tables: Tables, name: str, chosen: Filter, seqs: Sequence[int]) -> None:
    events, dead = tables.events, tables.dead_letters
    has_arrived = sa.exists().where(*covering(tables, name))
    is_dead = sa.exists().where(dead.c.sink == name, dead.c.seq == events.c.seq)
    some = sa.select(events.c.seq, events.c.fax_id, events.c.revision).where(
        events.c.seq.in_(seqs), events.c.body.is_not(None), passing(tables, chosen), ~has_arrived, ~is_dead
    )
    rows = [
        {"sink": name, "turn": row.seq, "seq": row.seq, "fax_id": row.fax_id, "revision": row.revision}
        for row in connection.execute(some)
    ]
    if rows:
        connection.execute(insert_or_keep(tables.waiting, connection.dialect.name), rows)


def passing(tables: Tables, chosen: Filter) -> sa.ColumnElement[bool]:
    """What ``Filter.passes`` says, as a condition for rows of ``events``."""
    events, faxes = tables.events, tables.faxes
    conditions: list[sa.ColumnElement[bool]] = []
    if chosen.outcome:
        conditions.append(events.c.outcome.in_(chosen.outcome))
    if len(chosen.type) == 1:
        conditions.append((events.c.revision == 1) if chosen.type == (COMPLETED,) else (events.c.revision > 1))
    if chosen.provider:
        its = faxes.c.fax_id == events.c.fax_id, faxes.c.provider.in_(chosen.provider)
        conditions.append(sa.exists().where(*its))
    if chosen.endpoint:
        both = (tables.receipts, tables.rejected_receipts)
        conditions.append(sa.or_(*(_came_by(events, one, chosen.endpoint) for one in both)))
    return sa.and_(sa.true(), *conditions)


def _came_by(events: sa.Table, receipts: sa.Table, endpoints: Iterable[str]) -> sa.ColumnElement[bool]:
    return sa.exists().where(receipts.c.id == events.c.receipt, receipts.c.endpoint.in_(list(endpoints)))


# --- how it stands --------------------------------------------------------------------------------------------------


def note_trouble(connection: Connection, tables: Tables, name: str, trouble: str | None) -> None:
    """What is the matter with it, and since when; None: all is well again."""
    sinks = tables.sinks
    began = sa.func.coalesce(sinks.c.trouble_since_ms, now_ms()) if trouble else None
    connection.execute(sinks.update().where(sinks.c.name == name).values(trouble=trouble, trouble_since_ms=began))


def stop(connection: Connection, tables: Tables, name: str, reason: str) -> None:
    """Nothing goes there until it is resumed; what waits for it waits on."""
    sinks = tables.sinks
    values = {"stopped_at_ms": now_ms(), "stopped_for": reason}
    connection.execute(sinks.update().where(sinks.c.name == name).values(values))


def resume(connection: Connection, tables: Tables, name: str) -> bool:
    """Whether it was stopped."""
    sinks = tables.sinks
    mine = sinks.c.name == name, sinks.c.stopped_at_ms.is_not(None)
    values = dict.fromkeys(("stopped_at_ms", "stopped_for", "trouble", "trouble_since_ms"))
    return bool(connection.execute(sinks.update().where(*mine).values(values)).rowcount)
