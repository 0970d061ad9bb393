"""
Forgetting: raw bodies, payloads and facts first, ids and outcomes when no duplicate is to be expected any more.

Each call deletes a small batch, so that callbacks never wait for it. What is not yet published is never deleted.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store.tables import Tables


@dataclass(frozen=True, slots=True)
class Limits:
    """Nothing older is kept. bodies: raw callbacks, published payloads, facts. rejected: raw callbacks of those."""

    bodies: timedelta
    rejected: timedelta
    ids: timedelta


def purge(connection: Connection, tables: Tables, limits: Limits, now_ms: int, batch: int = 500) -> int:
    """Delete one batch of each kind; the number of rows changed. 0: nothing is left to forget."""
    bodies, payloads, events = tables.bodies, tables.payloads, tables.events
    faxes, announcements, receipts = tables.faxes, tables.announcements, tables.receipts
    body_age, rejected_age, id_age = (
        now_ms - round(limit.total_seconds() * 1000) for limit in (limits.bodies, limits.rejected, limits.ids)
    )
    waiting = ("pending", "leased")
    unpublished_event = sa.exists().where(events.c.id == payloads.c.event_id, events.c.state.in_(waiting))
    unpublished_fax = sa.exists().where(events.c.fax_id == faxes.c.fax_id, events.c.state.in_(waiting))

    def delete(table: sa.Table, key: sa.Column[Any], *conditions: sa.ColumnElement[bool]) -> int:
        some = sa.select(key).where(*conditions).limit(batch).scalar_subquery()
        return int(connection.execute(table.delete().where(key.in_(some))).rowcount)

    changed = delete(
        bodies,
        bodies.c.hash,
        bodies.c.stored_at_ms < sa.case((bodies.c.rejected, rejected_age), else_=body_age),
        bodies.c.stored_at_ms < max(body_age, rejected_age),
    )
    changed += delete(payloads, payloads.c.event_id, payloads.c.stored_at_ms < body_age, ~unpublished_event)
    old_facts = (
        sa.select(faxes.c.fax_id)
        .where(faxes.c.facts.is_not(None), faxes.c.seen_at_ms < body_age, ~unpublished_fax)
        .limit(batch)
        .scalar_subquery()
    )
    changed += connection.execute(faxes.update().where(faxes.c.fax_id.in_(old_facts)).values(facts=None)).rowcount
    changed += delete(events, events.c.seq, events.c.created_at_ms < id_age, events.c.state.not_in(waiting))
    changed += delete(receipts, receipts.c.id, receipts.c.received_at_ms < id_age)
    changed += delete(faxes, faxes.c.fax_id, faxes.c.seen_at_ms < id_age, ~unpublished_fax)
    changed += _delete_announcements(connection, announcements, faxes, id_age, batch)
    return int(changed)


def _delete_announcements(
    connection: Connection, announcements: sa.Table, faxes: sa.Table, id_age: int, batch: int
) -> int:
    """Those of faxes that are gone: as long as a fax is known, everything said of it stays a duplicate."""
    gone = (
        sa.select(announcements.c.fax_id)
        .where(
            announcements.c.seen_at_ms < id_age,
            ~sa.exists().where(faxes.c.fax_id == announcements.c.fax_id),
        )
        .limit(batch)
        .scalar_subquery()
    )
    return int(connection.execute(announcements.delete().where(announcements.c.fax_id.in_(gone))).rowcount)


def give_back_space(connection: Connection) -> None:
    """Return freed pages of a SQLite file to the disk, a few at a time. Nothing to do elsewhere."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA incremental_vacuum(200)").fetchall()
