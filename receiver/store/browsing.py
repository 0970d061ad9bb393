"""What the command line reads: receipts and events, newest first, and the few things it may change. All is audited."""

import getpass
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from receiver.store import now_ms, projection, rfc3339, sinks
from receiver.store.outbox import LONGEST_RUN
from receiver.store.states import events_with_states
from receiver.store.submissions import KeptBody
from receiver.store.tables import QUEUE, Tables
from receiver.store.types import is_id
from schemas.envelope import AMENDED, COMPLETED

_AT_ONCE = 500
_RUNS = 200  # of ``taken``, read at once

# --- receipts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    id: str
    endpoint: str
    provider: str
    state: str
    reason: str | None
    detail: Mapping[str, Any]
    received_at_ms: int
    size: int
    body: KeptBody | None  # None: purged
    events: tuple[str, ...]  # the events it added


def receipts(
    connection: Connection, tables: Tables, *, limit: int | None, state: str | None = None, endpoint: str | None = None
) -> list[dict[str, Any]]:
    """The newest receipts, as ``receipts list --json`` shows them."""
    found: list[Row[Any]] = []
    known = sa.select(tables.endpoints.c.name).where(tables.endpoints.c.name == endpoint)
    if endpoint and connection.scalar(known) is None:
        return []  # it never had one
    for table in (tables.receipts, tables.rejected_receipts):
        query, its_state = _receipts(tables, table)
        query = query.where(its_state == state, _may_be(tables, table, state)) if state else query
        query = query.where(table.c.endpoint == endpoint) if endpoint else query
        found += connection.execute(query.order_by(table.c.id.desc()).limit(limit)).all()
    found.sort(key=lambda row: str(row.id), reverse=True)
    shown = found[:limit]
    added = _events_added(connection, tables, shown)
    return [
        {
            "id": row.id,
            "endpoint": row.endpoint,
            "provider": row.provider,
            "state": row.state,
            "reason": row.reason,
            "received_at": iso(row.received_at_ms),
            "size": row.size,
            "events": added[row.id],
        }
        for row in shown
    ]


def newest_receipt_ms(connection: Connection, tables: Tables) -> int | None:
    """When it was received."""
    both = (tables.receipts, tables.rejected_receipts)
    newest = (sa.select(one.c.received_at_ms).order_by(one.c.id.desc()).limit(1) for one in both)
    return max(filter(None, map(connection.scalar, newest)), default=None)


def receipt(connection: Connection, tables: Tables, receipt_id: str) -> ReceiptRow | None:
    receipt_id = receipt_id.lower()
    if not is_id(receipt_id):
        return None
    for table in (tables.receipts, tables.rejected_receipts):
        query, _ = _receipts(tables, table, table.c.query, table.c.content_type, table.c.reference, table.c.body)
        row = connection.execute(query.where(table.c.id == receipt_id)).first()
        if row is not None:
            return _receipt_row(row, _events_added(connection, tables, [row])[row.id])
    return None


def _receipt_row(row: Row[Any], events: Sequence[str]) -> ReceiptRow:
    is_kept = row.content_type is not None
    return ReceiptRow(
        id=row.id,
        endpoint=row.endpoint,
        provider=row.provider,
        state=row.state,
        reason=row.reason,
        detail=json.loads(row.detail) if row.detail else {},
        received_at_ms=row.received_at_ms,
        size=row.size,
        body=KeptBody(row.body, row.query, row.content_type, row.reference) if is_kept else None,
        events=tuple(events),
    )


def _receipts(
    tables: Tables, table: sa.Table, *columns: sa.Column[Any]
) -> tuple[sa.Select[*tuple[Any, ...]], sa.ColumnElement[str]]:
    """
    The receipts of one of their two tables with what became of them, which the last replay says; and their state.

    One that was accepted stays so: its replay finds what it has announced itself.
    """
    replays, its = tables.replays, tables.replays.alias("its")
    newest = (
        sa.select(its.c.seq)
        .where(its.c.receipt == table.c.id)
        .order_by((its.c.state == "accepted").desc(), its.c.seq.desc())
        .limit(1)
        .scalar_subquery()
    )
    is_replayed = sa.and_(replays.c.seq.is_not(None), table.c.state != "accepted")

    def last(name: str) -> sa.ColumnElement[Any]:
        return sa.case((is_replayed, replays.c[name]), else_=table.c[name])

    state = last("state")
    same = (table.c.id, table.c.endpoint, table.c.provider, table.c.received_at_ms, table.c.size)
    query = sa.select(
        *same,
        state.label("state"),
        last("reason").label("reason"),
        last("detail").label("detail"),
        table.c.faxes.label("faxes"),
        *columns,
    ).outerjoin_from(table, replays, replays.c.seq == newest)
    return query, state


def _may_be(tables: Tables, table: sa.Table, state: str) -> sa.ColumnElement[bool]:
    """Which receipts of one of their two tables may be in this state: those that are looked through for it."""
    was_replayed = table.c.id.in_(sa.select(tables.replays.c.receipt).scalar_subquery())
    if (table is tables.rejected_receipts) != (state in ("rejected", "partial")):
        return was_replayed
    if table is tables.rejected_receipts or state == "accepted":
        return sa.true()
    # In the words of the index, or SQLite does not see that it can be used.
    rare = sa.select(table.c.id).where(table.c.state == state, sa.text("state <> 'accepted'")).scalar_subquery()
    return sa.or_(table.c.id.in_(rare), was_replayed)


def _events_added(connection: Connection, tables: Tables, rows: Sequence[Row[Any]]) -> dict[str, list[str]]:
    """Receipt -> the ids of the events that were added by itself and by its replays."""
    replays = tables.replays
    named = {row.id: list(row.faxes) for row in rows}
    ids = list(named)
    for start in range(0, len(ids), _AT_ONCE):
        query = sa.select(replays.c.receipt, replays.c.faxes).where(
            replays.c.receipt.in_(ids[start : start + _AT_ONCE])
        )
        for receipt_id, faxes in connection.execute(query.order_by(replays.c.seq)):
            named[receipt_id] += faxes
    return {
        receipt_id: list(dict.fromkeys(event_id for _, event_id in faxes if event_id is not None))
        for receipt_id, faxes in named.items()
    }


# --- events ---------------------------------------------------------------------------------------------------------


def events(
    connection: Connection,
    tables: Tables,
    *,
    limit: int | None,
    state: str | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    fax_id: str | None = None,
) -> list[dict[str, Any]]:
    """The newest events, as ``events list --json`` shows them."""
    table = tables.events
    names = sinks.names(connection, tables)
    query, its_state = events_with_states(tables, names)
    if state == "dead":  # these few first, and not all events
        dead = tables.dead_letters
        query = query.where(table.c.seq.in_(sa.select(dead.c.seq).where(dead.c.sink.in_(names)).scalar_subquery()))
    elif state in ("pending", "leased"):
        waiting = tables.waiting
        held = waiting.c.holder.is_not(None) if state == "leased" else waiting.c.holder.is_(None)
        some = sa.select(waiting.c.seq).where(waiting.c.sink.in_(names), held)
        query = query.where(table.c.seq.in_(some.scalar_subquery()))
    if state is not None and (state == "published" or len(names) > 1):
        query = query.where(its_state == state)
    first, last = projection.between(connection, tables, since_ms, until_ms)
    query = query.where(*in_time(tables, since_ms, until_ms), table.c.seq >= first)
    query = query.where(table.c.seq <= last) if last is not None else query
    query = query.where(table.c.seq.in_(seqs_of_fax(connection, tables, fax_id))) if fax_id else query
    query = query.order_by(table.c.seq.desc())
    if state != "published" or fax_id or len(names) > 1:
        return [_event(row, names) for row in connection.execute(query.limit(limit))]
    rows: list[dict[str, Any]] = []
    for seqs in _arrived(connection, tables, first):  # and not all that waits
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


def _arrived(connection: Connection, tables: Tables, first: int) -> Iterator[list[int]]:
    """The row numbers of what has arrived, down to the first one, the newest first and some at a time."""
    taken = tables.taken
    query = sa.select(taken.c.first, taken.c.last, taken.c.at_ms).where(taken.c.sink == QUEUE)
    query = query.where(taken.c.last >= first, taken.c.first > first - LONGEST_RUN)
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
        for start in range(0, len(ready), _AT_ONCE):
            yield ready[start : start + _AT_ONCE]


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


# --- both -----------------------------------------------------------------------------------------------------------


def audit(connection: Connection, tables: Tables, action: str, subject: str) -> None:
    """Who did what: every replay, republish and reveal."""
    try:
        actor = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        actor = f"uid {os.getuid()}"
    connection.execute(tables.audit.insert().values(at_ms=now_ms(), actor=actor, action=action, subject=subject))


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
