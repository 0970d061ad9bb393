"""What the command line reads of events, newest first; and who has read or changed what."""

import getpass
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from receiver.settings import EVERYTHING, Filter
from receiver.store import now_ms, projection, rfc3339, sinks
from receiver.store.outbox import LONGEST_RUN
from receiver.store.paging import AT_ONCE, newest_first
from receiver.store.states import events_with_states
from receiver.store.tables import PREFIX, QUEUE, Tables
from receiver.store.types import is_id
from schemas.envelope import AMENDED, COMPLETED

_LAST = (1 << 63) - 1
_RUNS = 200  # of ``taken``, read at once


def events(
    connection: Connection,
    tables: Tables,
    *,
    limit: int | None,
    state: str | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    fax_id: str | None = None,
    only: Filter = EVERYTHING,
    reason: str | None = None,
    before: str | None = None,
) -> list[dict[str, Any]]:
    """
    The newest events, as ``events list --json`` shows them. reason: of a failure.

    before: the id of an event; only of older ones, and none where there is no such event.
    """
    table = tables.events
    names = sinks.names(connection, tables)
    query, its_state = events_with_states(tables, names)
    query = query.where(its_state == state) if state else query
    first, last = projection.between(connection, tables, since_ms, until_ms)
    if before is not None:
        end = (typed_seq(connection, tables, before) or 0) - 1
        last = end if last is None else min(last, end)
    query = query.where(*in_time(tables, since_ms, until_ms), table.c.seq >= first)
    query = query.where(table.c.seq <= last) if last is not None else query
    query = query.where(table.c.seq.in_(seqs_of_fax(connection, tables, fax_id))) if fax_id else query
    query = query.where(sinks.passing(tables, only), *failed_for(tables, reason)).order_by(table.c.seq.desc())
    if state is None or fax_id or (state == "published" and len(names) > 1):
        return [_event(row, names) for row in connection.execute(query.limit(limit))]
    rows: list[dict[str, Any]] = []
    for seqs in _in_state(connection, tables, names, state, first, last):  # and not all events
        left = None if limit is None else limit - len(rows)
        rows += [_event(row, names) for row in connection.execute(query.where(table.c.seq.in_(seqs)).limit(left))]
        if len(rows) == limit:
            break
    return rows


def in_time(tables: Tables, since_ms: int | None, until_ms: int | None) -> list[sa.ColumnElement[bool]]:
    made = tables.events.c.created_at_ms
    return [
        *([made >= since_ms] if since_ms is not None else []),
        *([made <= until_ms] if until_ms is not None else []),
    ]


def failed_for(tables: Tables, reason: str | None) -> list[sa.ColumnElement[bool]]:
    """That an event says so. Nobody knows of one whose payload is purged."""
    events = tables.events
    if reason is None:
        return []
    # As it is written there; in a text the quotation marks would be escaped.
    said = f'"failure":{{"reason":{json.dumps(reason)}'.encode()
    position = sa.func.instr if events.name.startswith(PREFIX) else sa.func.pg_catalog.position
    return [events.c.outcome == "failed", position(events.c.body, sa.literal(said, sa.LargeBinary())) > 0]


def _in_state(
    connection: Connection, tables: Tables, names: Sequence[str], state: str, first: int, last: int | None
) -> Iterator[list[int]]:
    """
    Row numbers of events that may be in this state, down to the first one, the newest first and some at a time.

    names: of the sinks; of several, what is published is in no table by itself.
    """
    last = _LAST if last is None else last
    if state == "published":
        return _arrived(connection, tables, first, last)
    waiting, dead = tables.waiting, tables.dead_letters
    if state == "dead":
        parked = sa.select(dead.c.seq).where(dead.c.seq >= first, dead.c.seq <= last)
        return newest_first(connection, *((parked.where(dead.c.sink == name), dead.c.seq) for name in names))
    its = sa.select(waiting.c.seq).where(waiting.c.sink.in_(names), waiting.c.seq >= first, waiting.c.seq <= last)
    if state == "leased":
        return newest_first(connection, (its.where(waiting.c.holder.is_not(None)), waiting.c.seq))
    in_turn = sa.select(waiting.c.turn).where(
        waiting.c.turn >= first, waiting.c.turn <= last, waiting.c.seq == waiting.c.turn, waiting.c.holder.is_(None)
    )
    again = its.where(sa.text("seq <> turn"), waiting.c.holder.is_(None))  # in the words of the index
    of_each = ((in_turn.where(waiting.c.sink == name), waiting.c.turn) for name in names)
    return newest_first(connection, *of_each, (again, waiting.c.seq))


def _arrived(connection: Connection, tables: Tables, first: int, last: int) -> Iterator[list[int]]:
    """The row numbers of what has arrived, down to the first one, the newest first and some at a time."""
    taken = tables.taken
    query = sa.select(taken.c.first, taken.c.last, taken.c.at_ms).where(taken.c.sink == QUEUE)
    query = query.where(taken.c.last >= first, taken.c.first > first - LONGEST_RUN, taken.c.first <= last)
    query = query.order_by(taken.c.first.desc(), taken.c.at_ms.desc()).limit(_RUNS)
    seqs: set[int] = set()
    runs = connection.execute(query).all()
    while runs:
        seqs |= {seq for run in runs for seq in range(run.first, run.last + 1)}
        end = runs[-1]
        before = sa.tuple_(taken.c.first, taken.c.at_ms) < sa.tuple_(end.first, end.at_ms)
        runs = connection.execute(query.where(before)).all()
        # What comes next may reach up to here.
        ready = sorted((seq for seq in seqs if not runs or seq >= end.first + LONGEST_RUN), reverse=True)
        seqs.difference_update(ready)
        for start in range(0, len(ready), AT_ONCE):
            yield ready[start : start + AT_ONCE]


def events_of(connection: Connection, tables: Tables, seqs: Sequence[int]) -> list[dict[str, Any]]:
    """Those with these row numbers, as ``events list --json`` shows them."""
    names = sinks.names(connection, tables)
    query, _ = events_with_states(tables, names)
    return [_event(row, names) for row in connection.execute(query.where(tables.events.c.seq.in_(seqs)))]


def event(connection: Connection, tables: Tables, event_id: str) -> tuple[dict[str, Any], bytes | None] | None:
    """One event and its payload, which is None once purged."""
    table = tables.events
    seq = typed_seq(connection, tables, event_id)
    if seq is None:
        return None
    names = sinks.names(connection, tables)
    query, _ = events_with_states(tables, names, table.c.body)
    row = connection.execute(query.where(table.c.seq == seq)).first()
    return None if row is None else (_event(row, names), row.body)


def typed_seq(connection: Connection, tables: Tables, event_id: str) -> int | None:
    """event_id: as somebody has typed it."""
    event_id = event_id.lower()
    return projection.seq_of(connection, tables, event_id) if is_id(event_id) else None


def seqs_of_fax(connection: Connection, tables: Tables, fax_id: str) -> list[int]:
    """The row numbers of a fax's events: each was made by one of its announcements."""
    faxes, announcements, events = tables.faxes, tables.announcements, tables.events
    fax_id = fax_id.lower()
    if not is_id(fax_id):
        return []
    first = sa.select(faxes.c.first_seq).where(faxes.c.fax_id == fax_id)
    later = sa.select(announcements.c.event_seq).where(
        announcements.c.fax_id == fax_id, announcements.c.event_seq.is_not(None)
    )
    seqs = [*connection.scalars(first), *connection.scalars(later)]
    # The fax as well: a number may be given again once its event is gone.
    return list(connection.scalars(sa.select(events.c.seq).where(events.c.seq.in_(seqs), events.c.fax_id == fax_id)))


def audit(connection: Connection, tables: Tables, action: str, subject: str, actor: str | None = None) -> None:
    """Who did what: every replay, republish and reveal. actor: by default the user that this process runs as."""
    actor = actor or _user()
    connection.execute(tables.audit.insert().values(at_ms=now_ms(), actor=actor, action=action, subject=subject))


def audited(connection: Connection, tables: Tables, limit: int, *, before: int | None = None) -> list[dict[str, Any]]:
    """Who did what, the newest first. before: the ``id`` of an entry; only of older ones."""
    audit = tables.audit
    query = sa.select(audit).order_by(audit.c.seq.desc()).limit(limit)
    query = query if before is None else query.where(audit.c.seq < before)
    return [
        {"id": row.seq, "at": iso(row.at_ms), "actor": row.actor, "action": row.action, "subject": row.subject}
        for row in connection.execute(query)
    ]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"


def iso(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)


def _event(row: Row[Any], names: Sequence[str]) -> dict[str, Any]:
    event = {
        "id": row.id,
        "fax_id": row.fax_id,
        "type": COMPLETED if row.revision == 1 else AMENDED,
        "outcome": row.outcome,
        "state": row.state,
        "receipt": row.receipt,
        "created_at": iso(row.created_at_ms),
        "published_at": iso(row.published_at_ms) if row.state == "published" else None,
    }
    if len(names) > 1:
        states = {name: getattr(row, f"state_{at}") for at, name in enumerate(names)}
        event["sinks"] = {name: state for name, state in states.items() if state is not None}
    return event
