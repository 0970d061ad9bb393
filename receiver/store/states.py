"""The states of events, which are not stored: they follow from where else an event stands."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from receiver.store.outbox import LONGEST_RUN
from receiver.store.tables import QUEUE, Tables

_ORDER = ("dead", "pending", "leased")  # of an event that is something else at each sink: the first of these


def events_with_states(
    tables: Tables, sinks: Sequence[str] = (QUEUE,), *columns: sa.Column[Any]
) -> tuple[sa.Select[*tuple[Any, ...]], sa.ColumnElement[str]]:
    """
    Events with their states and ``published_at_ms``; and the state by itself.

    Of several sinks each has its own state as well, ``state_0`` and so on; null where the event has not gone there.
    """
    table = tables.events
    joined: sa.FromClause = table
    states: list[sa.ColumnElement[Any]] = []
    arrived: list[sa.ColumnElement[Any]] = []
    for sink in sinks:
        joined, state = _joined(tables, joined, sink)
        states.append(state)
        arrived.append(_arrived(tables, sink))
    its_state: sa.ColumnElement[str]
    if len(sinks) == 1:
        its_state, arrived_at = sa.func.coalesce(states[0], "published"), arrived[0]
        each: list[sa.ColumnElement[Any]] = []
    else:
        its_state = sa.case(
            *((sa.or_(*(state == one for state in states)), one) for one in _ORDER),
            else_="published",
        )
        # SQLite's max() of several values is null where one of them is.
        known = [sa.func.coalesce(one, 0) for one in arrived]
        latest = sa.func.max(*known) if table.name.startswith("faxhook_") else sa.func.greatest(*known)
        arrived_at = sa.func.nullif(latest, 0)
        each = [
            sa.func.coalesce(state, sa.case((at.is_not(None), "published"))).label(f"state_{number}")
            for number, (state, at) in enumerate(zip(states, arrived, strict=True))
        ]
    same = ("id", "fax_id", "revision", "outcome", "receipt", "created_at_ms")
    chosen = (
        *(table.c[name] for name in same),
        its_state.label("state"),
        arrived_at.label("published_at_ms"),
        *each,
        *columns,
    )
    return sa.select(*chosen).select_from(joined), its_state


def _joined(tables: Tables, joined: sa.FromClause, sink: str) -> tuple[sa.FromClause, sa.ColumnElement[str | None]]:
    """With what says how an event stands with the sink: leased, pending, dead, or null."""
    table, dead = tables.events, tables.dead_letters.alias()
    first, again = tables.waiting.alias(), tables.waiting.alias()
    in_turn = sa.and_(first.c.sink == sink, first.c.turn == table.c.seq, first.c.seq == table.c.seq)
    joined = joined.outerjoin(first, in_turn)
    joined = joined.outerjoin(
        again, sa.and_(again.c.seq == table.c.seq, again.c.seq != again.c.turn, again.c.sink == sink)
    )
    joined = joined.outerjoin(dead, sa.and_(dead.c.sink == sink, dead.c.seq == table.c.seq))
    state = sa.case(
        (sa.or_(first.c.holder.is_not(None), again.c.holder.is_not(None)), "leased"),
        (sa.or_(first.c.seq.is_not(None), again.c.seq.is_not(None)), "pending"),
        (dead.c.seq.is_not(None), "dead"),
    )
    return joined, state


def _arrived(tables: Tables, sink: str) -> sa.ColumnElement[Any]:
    """When it has arrived at the sink."""
    arrived = sa.select(sa.func.max(tables.taken.c.at_ms)).where(*covering(tables, sink))
    return arrived.correlate(tables.events).scalar_subquery()


def covering(tables: Tables, sink: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions for the rows of ``taken`` that say that an event has arrived at the sink."""
    seq, taken = tables.events.c.seq, tables.taken
    return taken.c.sink == sink, taken.c.first > seq - LONGEST_RUN, taken.c.first <= seq, taken.c.last >= seq
