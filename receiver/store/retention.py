"""
Forgetting: raw bodies, payloads and facts first, ids and outcomes when no duplicate is to be expected any more.

Each call deletes a small batch, so that callbacks never wait for it. What is not yet published is never deleted.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store import first_id
from receiver.store.tables import Tables

_VACUUMED_PAGES = 200  # in one transaction: callbacks wait for it


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
    jobs, discrepancies, refusals = tables.jobs, tables.discrepancies, tables.refusals
    body_age, rejected_age, id_age = (
        now_ms - round(limit.total_seconds() * 1000) for limit in (limits.bodies, limits.rejected, limits.ids)
    )
    # One that was parked is not published either: its payload stays until an operator has dealt with it.
    unpublished = events.c.state != "published"
    unpublished_fax = sa.exists().where(events.c.fax_id == faxes.c.fax_id, unpublished)
    any_event = sa.exists().where(events.c.fax_id == faxes.c.fax_id)

    def delete(table: sa.Table, key: sa.Column[Any], *conditions: sa.ColumnElement[bool] | sa.TextClause) -> int:
        some = sa.select(key).where(*conditions).limit(batch).scalar_subquery()
        return int(connection.execute(table.delete().where(key.in_(some))).rowcount)

    def some_faxes(*conditions: sa.ColumnElement[bool]) -> list[str]:
        """Locked, and without those a callback is at work on."""
        some = sa.select(faxes.c.fax_id).where(*conditions).limit(batch).with_for_update(skip_locked=True)
        return list(connection.scalars(some))

    def delete_oldest(key: sa.Column[Any], at: sa.Column[Any], age: int, *conditions: sa.ColumnElement[bool]) -> int:
        """Rows come in the order of time: where the first of them are young enough, so are the others."""
        oldest = sa.select(key, at.label("at")).where(*conditions).order_by(key).limit(batch).subquery()
        return delete(key.table, key, key.in_(sa.select(oldest.c[key.name]).where(oldest.c.at < age)))

    published_payload = sa.exists().where(events.c.seq == payloads.c.seq, events.c.state == "published")
    changed = delete_oldest(bodies.c.seq, bodies.c.stored_at_ms, body_age, bodies.c.rejected.is_(False))
    # As in the index, or SQLite does not see that it is meant.
    changed += delete(bodies, bodies.c.seq, sa.text("rejected"), bodies.c.stored_at_ms < rejected_age)
    # None outlives its event, whose number may be given again.
    changed += delete_oldest(payloads.c.seq, payloads.c.stored_at_ms, max(body_age, id_age), published_payload)
    if blank := some_faxes(faxes.c.facts.is_not(None), faxes.c.seen_at_ms < body_age, ~unpublished_fax):
        connection.execute(faxes.update().where(faxes.c.fax_id.in_(blank)).values(facts=None))
    changed += len(blank)
    changed += delete_oldest(events.c.seq, events.c.created_at_ms, id_age, events.c.state == "published")
    changed += delete(receipts, receipts.c.id, receipts.c.id < first_id(id_age))
    # A fax goes last and takes with it what was said of it: heard again, it is new, and nothing of it may be left.
    if gone := some_faxes(faxes.c.facts.is_(None), faxes.c.seen_at_ms < id_age, ~any_event):
        connection.execute(announcements.delete().where(announcements.c.fax_id.in_(gone)))
        connection.execute(faxes.delete().where(faxes.c.fax_id.in_(gone)))
    changed += len(gone)
    # Of a fax that has ended, a job is left only where one transaction did not see the other's.
    is_known = sa.exists().where(faxes.c.fax_id == jobs.c.fax_id)
    changed += delete(jobs, jobs.c.fax_id, sa.or_(jobs.c.registered_at_ms < id_age, is_known))
    of_rows = discrepancies.c.rows.is_not(None), discrepancies.c.seen_at_ms < body_age
    some = sa.select(discrepancies.c.seq).where(*of_rows).limit(batch).scalar_subquery()
    changed += connection.execute(
        discrepancies.update().where(discrepancies.c.seq.in_(some)).values(rows=None)
    ).rowcount
    changed += delete(discrepancies, discrepancies.c.seq, discrepancies.c.closed_at_ms < id_age)
    changed += delete(refusals, refusals.c.from_ms, refusals.c.from_ms < rejected_age)
    return changed


def give_back_space(connection: Connection) -> bool:
    """Return some freed pages of a SQLite file to the disk; whether there are more. Nothing to do elsewhere."""
    if connection.dialect.name != "sqlite":
        return False
    # One page a statement: the pragma answers with rows that have no columns, and the standard library's driver stops
    # at the first of them.
    for _ in range(_VACUUMED_PAGES):
        connection.exec_driver_sql("PRAGMA incremental_vacuum(1)")
    # A database made before auto_vacuum was set keeps its pages.
    vacuums = connection.exec_driver_sql("PRAGMA auto_vacuum").scalar_one()
    free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    return bool(vacuums == 2 and free > 0)
