"""What the command line reads: receipts and events, newest first, and the few things it may change. All is audited."""

import getpass
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from receiver.store import now_ms, rfc3339
from receiver.store.recording import WAKE, KeptBody, checksum
from receiver.store.tables import Tables


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
    table, events = tables.receipts, tables.events
    query = sa.select(table).order_by(table.c.id.desc()).limit(limit)  # newest first
    query = query.where(table.c.state == state) if state else query
    query = query.where(table.c.endpoint == endpoint) if endpoint else query
    rows = connection.execute(query).all()
    added: dict[str, list[str]] = {row.id: [] for row in rows}
    for start in range(0, len(rows), 500):
        ids = [row.id for row in rows[start : start + 500]]
        found = sa.select(events.c.receipt, events.c.id).where(events.c.receipt.in_(ids)).order_by(events.c.seq)
        for receipt, event_id in connection.execute(found):
            added[receipt].append(event_id)
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
        for row in rows
    ]


def receipt(connection: Connection, tables: Tables, receipt_id: str) -> ReceiptRow | None:
    table, bodies, events = tables.receipts, tables.bodies, tables.events
    row = connection.execute(sa.select(table).where(table.c.id == receipt_id)).first()
    if row is None:
        return None
    kept = connection.execute(sa.select(bodies).where(bodies.c.hash == row.body_hash)).first()
    added = connection.execute(sa.select(events.c.id).where(events.c.receipt == receipt_id).order_by(events.c.seq))
    return ReceiptRow(
        id=row.id,
        endpoint=row.endpoint,
        provider=row.provider,
        state=row.state,
        reason=row.reason,
        detail=json.loads(row.detail) if row.detail else {},
        received_at_ms=row.received_at_ms,
        size=row.size,
        body=KeptBody(kept.hash, kept.body, kept.query, kept.content_type, kept.reference) if kept else None,
        events=tuple(added.scalars()),
    )


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
    query = sa.select(table).order_by(table.c.seq.desc()).limit(limit)
    query = query.where(table.c.state == state) if state else query
    query = query.where(table.c.created_at_ms >= since_ms) if since_ms is not None else query
    query = query.where(table.c.fax_id == fax_id) if fax_id else query
    return [_event(row) for row in connection.execute(query)]


def event(connection: Connection, tables: Tables, event_id: str) -> tuple[dict[str, Any], bytes | None] | None:
    """One event and its payload, which is None once purged."""
    table, payloads = tables.events, tables.payloads
    row = connection.execute(sa.select(table).where(table.c.id == event_id)).first()
    if row is None:
        return None
    body = connection.execute(sa.select(payloads.c.body).where(payloads.c.seq == row.seq)).scalar_one_or_none()
    return _event(row), body


def republish(
    connection: Connection,
    tables: Tables,
    *,
    event_id: str | None = None,
    since_ms: int | None = None,
    endpoint: str | None = None,
) -> int:
    """Put published events back into the queue, the same bytes under the same id; how many still had a payload."""
    table, payloads, receipts_ = tables.events, tables.payloads, tables.receipts
    change = table.update().where(
        table.c.state == "published", table.c.seq.in_(sa.select(payloads.c.seq).scalar_subquery())
    )
    if event_id is not None:
        change = change.where(table.c.id == event_id)
    if since_ms is not None:
        change = change.where(table.c.created_at_ms >= since_ms)
    if endpoint is not None:
        of_endpoint = sa.select(receipts_.c.id).where(receipts_.c.endpoint == endpoint).scalar_subquery()
        change = change.where(table.c.receipt.in_(of_endpoint))
    count = connection.execute(change.values(state="pending", published_at_ms=None)).rowcount
    _wake(connection)
    return int(count)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that the relay has parked. is_damaged: its payload is gone, or not as it was written."""

    seq: int
    id: str
    is_damaged: bool


def dead_letters(
    connection: Connection, tables: Tables, *, event_id: str | None = None, after: int = 0, limit: int = 200
) -> list[DeadLetter]:
    """Those above the row ``after``, in row order, verified; or the one of this id."""
    table, payloads = tables.events, tables.payloads
    query = (
        sa.select(table.c.seq, table.c.id, payloads.c.body, payloads.c.checksum)
        .outerjoin_from(table, payloads, payloads.c.seq == table.c.seq)
        .where(table.c.state == "dead", table.c.seq > after)
        .order_by(table.c.seq)
        .limit(limit)
    )
    query = query.where(table.c.id == event_id) if event_id is not None else query
    return [
        DeadLetter(row.seq, row.id, row.body is None or checksum(row.id, row.body) != row.checksum)
        for row in connection.execute(query)
    ]


def revive(connection: Connection, tables: Tables, letters: Sequence[DeadLetter]) -> int:
    """Put dead letters back into the queue, but no damaged one; how many."""
    table = tables.events
    whole = [letter.seq for letter in letters if not letter.is_damaged]
    change = table.update().where(table.c.seq.in_(whole), table.c.state == "dead").values(state="pending")
    count = connection.execute(change).rowcount
    _wake(connection)
    return int(count)


def _wake(connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(WAKE)


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
        "type": row.type,
        "outcome": row.outcome,
        "state": row.state,
        "receipt": row.receipt,
        "created_at": iso(row.created_at_ms),
        "published_at": iso(row.published_at_ms),
    }
