"""What the command line reads: receipts and events, newest first, and the few things it may change. All is audited."""

import getpass
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from receiver.store import now_ms, places, rfc3339
from receiver.store.outbox import LONGEST_RUN
from receiver.store.postgresql import wake
from receiver.store.submissions import KeptBody
from receiver.store.tables import QUEUE, Tables
from receiver.store.turns import put_in
from receiver.store.types import is_id
from schemas.envelope import AMENDED, COMPLETED
from schemas.identity import completed_id

_AT_ONCE = 500

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
    fax_id: str | None = None,
) -> list[dict[str, Any]]:
    """The newest events, as ``events list --json`` shows them."""
    table = tables.events
    query, its_state = _events(tables)
    if state == "dead":  # these few first, and not all events
        dead = tables.dead_letters
        query = query.where(table.c.seq.in_(sa.select(dead.c.seq).where(dead.c.sink == QUEUE).scalar_subquery()))
    elif state in ("pending", "leased"):
        waiting = tables.waiting
        held = waiting.c.holder.is_not(None) if state == "leased" else waiting.c.holder.is_(None)
        query = query.where(
            table.c.seq.in_(sa.select(waiting.c.seq).where(waiting.c.sink == QUEUE, held).scalar_subquery())
        )
    elif state is not None:
        query = query.where(its_state == state)
    query = query.where(table.c.created_at_ms >= since_ms) if since_ms is not None else query
    query = query.where(table.c.id.in_(_of_fax(connection, tables, fax_id))) if fax_id else query
    query = query.order_by(table.c.seq.desc()).limit(limit)
    return [_event(row) for row in connection.execute(query)]


def event(connection: Connection, tables: Tables, event_id: str) -> tuple[dict[str, Any], bytes | None] | None:
    """One event and its payload, which is None once purged."""
    table = tables.events
    event_id = event_id.lower()
    if not is_id(event_id):
        return None
    query, _ = _events(tables, table.c.body)
    row = connection.execute(query.where(table.c.id == event_id)).first()
    return None if row is None else (_event(row), row.body)


def _events(tables: Tables, *columns: sa.Column[Any]) -> tuple[sa.Select[*tuple[Any, ...]], sa.ColumnElement[str]]:
    """Events with their states, which follow from where else they stand; and the state by itself."""
    table, dead, taken = tables.events, tables.dead_letters, tables.taken
    first, again = tables.waiting.alias("first"), tables.waiting.alias("again")
    state = sa.case(
        (sa.or_(first.c.holder.is_not(None), again.c.holder.is_not(None)), "leased"),
        (sa.or_(first.c.seq.is_not(None), again.c.seq.is_not(None)), "pending"),
        (dead.c.seq.is_not(None), "dead"),
        else_="published",
    )
    arrived = sa.select(sa.func.max(taken.c.at_ms)).where(
        taken.c.sink == QUEUE,
        taken.c.first > table.c.seq - LONGEST_RUN,
        taken.c.first <= table.c.seq,
        taken.c.last >= table.c.seq,
    )
    same = ("id", "fax_id", "revision", "outcome", "receipt", "created_at_ms")
    query = (
        sa.select(
            *(table.c[name] for name in same),
            state.label("state"),
            arrived.scalar_subquery().label("published_at_ms"),
            *columns,
        )
        .outerjoin_from(
            table, first, sa.and_(first.c.sink == QUEUE, first.c.turn == table.c.seq, first.c.seq == table.c.seq)
        )
        .outerjoin(again, sa.and_(again.c.seq == table.c.seq, again.c.seq != again.c.turn, again.c.sink == QUEUE))
        .outerjoin(dead, sa.and_(dead.c.sink == QUEUE, dead.c.seq == table.c.seq))
    )
    return query, state


def _of_fax(connection: Connection, tables: Tables, fax_id: str) -> list[str]:
    """The ids of a fax's events: each was made by one of its announcements."""
    faxes, announcements = tables.faxes, tables.announcements
    fax_id = fax_id.lower()
    if not is_id(fax_id):
        return []
    outcome = connection.scalar(sa.select(faxes.c.first_outcome).where(faxes.c.fax_id == fax_id))
    if outcome is None:
        return []
    later = sa.select(announcements.c.event_id).where(
        announcements.c.fax_id == fax_id, announcements.c.event_id.is_not(None)
    )
    return [str(completed_id(uuid.UUID(fax_id), outcome)), *connection.scalars(later)]


def republish(
    connection: Connection,
    tables: Tables,
    *,
    event_id: str | None = None,
    since_ms: int | None = None,
    endpoint: str | None = None,
) -> int:
    """Put published events into the queue again, the same bytes under the same id; how many still had a payload."""
    table = tables.events
    event_id = event_id and event_id.lower()
    if event_id is not None and not is_id(event_id):
        return 0
    places.locked(connection, tables)  # nobody else sends them again, or forgets their payloads
    query, state = _events(tables, table.c.seq, table.c.revision)
    query = query.where(state == "published", table.c.body.is_not(None))
    if event_id is not None:
        query = query.where(table.c.id == event_id)
    if since_ms is not None:
        query = query.where(table.c.created_at_ms >= since_ms)
    if endpoint is not None:
        of_endpoint = sa.union_all(
            *(
                sa.select(one.c.id).where(one.c.endpoint == endpoint)
                for one in (tables.receipts, tables.rejected_receipts)
            )
        )
        query = query.where(table.c.receipt.in_(of_endpoint))
    count = put_in(connection, tables, query.with_only_columns(table.c.seq, table.c.fax_id, table.c.revision))
    wake(connection)
    return count


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


def _event(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "fax_id": row.fax_id,
        "type": COMPLETED if row.revision == 1 else AMENDED,
        "outcome": row.outcome,
        "state": row.state,
        "receipt": row.receipt,
        "created_at": iso(row.created_at_ms),
        "published_at": iso(row.published_at_ms) if row.state == "published" else None,
    }
