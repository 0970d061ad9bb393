"""
Forgetting: raw bodies, payloads and facts first, ids and outcomes when no duplicate is to be expected any more.

Each call looks at a window of rows from where the last one has come to, so that callbacks never wait for it and no call
is longer in a larger store. What is undelivered or parked is left; when it has arrived, it comes here as ``overdue``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store import HOUR_MS, first_id, listening, places, projection
from receiver.store.jobs import accounts_with_jobs
from receiver.store.outbox import LONGEST_RUN
from receiver.store.places import Places
from receiver.store.tables import PROJECTOR, Tables, insert_or_keep

_VACUUMED_PAGES = 200  # in one transaction: callbacks wait for it
_DAY_MS = 24 * 3600 * 1000
# Of the statistics. An hour longer than anybody reads those of five minutes, whose clock may be behind.
_STATS_KEPT = {5: 49 * HOUR_MS, 60: 400 * _DAY_MS}


@dataclass(frozen=True, slots=True)
class Limits:
    """Nothing older is kept. bodies: raw callbacks, published payloads, facts. rejected: raw callbacks of those."""

    bodies: timedelta
    rejected: timedelta
    ids: timedelta


@dataclass(slots=True)
class Purged:
    """looked_at: rows that were old enough; forgotten: those of them that could be. Both 0: nothing more is due."""

    looked_at: int = 0
    forgotten: int = 0


class _Purge:
    """The steps. ages: what is older is forgotten, in milliseconds since 1970."""

    def __init__(self, connection: Connection, tables: Tables, limits: Limits, now_ms: int, batch: int) -> None:
        self._connection = connection
        self._tables = tables
        self._batch = batch
        self._now_ms = now_ms
        self._body_age, self._rejected_age, self._id_age = (
            now_ms - round(limit.total_seconds() * 1000) for limit in (limits.bodies, limits.rejected, limits.ids)
        )
        self.done = Purged()
        # First of all: what is undelivered changes no more until this transaction ends.
        self._places = places.locked(connection, tables)
        self._before = Places.text(self._places)
        # Also those that nobody has made known: another process may have a configuration of its own.
        self._sinks = (PROJECTOR, *sorted(listening.every_sink(connection, tables)))

    def keep_places(self) -> None:
        if self._places.text() != self._before:
            places.move(self._connection, self._tables, self._places)

    # --- receipts ---------------------------------------------------------------------------------------------------

    def receipt_bodies(self) -> None:
        self._blank_bodies("receipts", self._body_age)

    def rejected_bodies(self) -> None:
        self._blank_bodies("rejected_receipts", self._rejected_age)

    def _blank_bodies(self, name: str, age_ms: int) -> None:
        table: sa.Table = getattr(self._tables, name)
        place = getattr(self._places, name)
        window = sa.select(table.c.id).where(table.c.id > place, table.c.id < first_id(age_ms))
        ids = self._connection.scalars(window.order_by(table.c.id).limit(self._batch)).all()
        if not ids:
            return
        gone = dict.fromkeys(("content_type", "reference", "query", "body"))
        kept = table.c.id.in_(ids), table.c.content_type.is_not(None)
        blanked = self._connection.execute(table.update().where(*kept).values(gone)).rowcount
        setattr(self._places, name, ids[-1])
        self._note(len(ids), blanked)

    def receipts(self) -> None:
        for table in (self._tables.receipts, self._tables.rejected_receipts):
            old = sa.select(table.c.id, table.c.id, table.c.faxes).where(table.c.id < first_id(self._id_age))
            self._forget_receipts(table.c.id, self._connection.execute(old.limit(self._batch)).all())

    def endpoint_hours(self) -> None:
        """Endpoint by endpoint, as the table has them."""
        table, endpoints = self._tables.endpoint_hours, self._tables.endpoints
        old = (
            table.c.endpoint.in_(sa.select(endpoints.c.name).scalar_subquery()),
            table.c.hour < self._id_age // HOUR_MS,
        )
        deleted = self._connection.execute(table.delete().where(*old)).rowcount
        self._note(deleted, deleted)

    def replays(self) -> None:
        table = self._tables.replays
        oldest = sa.select(table.c.seq, table.c.receipt, table.c.faxes, table.c.at_ms)
        rows = self._connection.execute(oldest.order_by(table.c.seq).limit(self._batch)).all()
        self._forget_receipts(table.c.seq, [row[:3] for row in rows if row.at_ms < self._id_age])

    def audit(self) -> None:
        """Who looked at what: as long as the ids are there of what they looked at."""
        audit = self._tables.audit
        oldest = sa.select(audit.c.seq, audit.c.at_ms).order_by(audit.c.seq).limit(self._batch).subquery()
        old = sa.select(oldest.c.seq).where(oldest.c.at_ms < self._id_age)
        self._delete(audit, audit.c.seq, audit.c.seq.in_(old))

    def _forget_receipts(self, key: sa.Column[Any], rows: Sequence[Sequence[Any]]) -> None:
        """rows: their keys, the receipts' ids, and the faxes that these name."""
        if not rows:
            return
        repeats = self._tables.repeats
        named = {(fax_id, receipt) for _, receipt, faxes in rows for fax_id, event_id in faxes if event_id is None}
        mine = repeats.delete().where(
            repeats.c.fax_id == sa.bindparam("its_fax"), repeats.c.receipt == sa.bindparam("its_receipt")
        )
        if named:
            self._connection.execute(mine, [{"its_fax": fax, "its_receipt": receipt} for fax, receipt in sorted(named)])
        self._connection.execute(key.table.delete().where(key.in_([row[0] for row in rows])))
        self._note(len(rows), len(rows))

    # --- events -----------------------------------------------------------------------------------------------------

    def payloads(self) -> None:
        """None outlives its event."""
        seqs = self._old_events(self._places.payloads, max(self._body_age, self._id_age))
        if seqs:
            self._places.payloads = seqs[-1]
            self._note(len(seqs), self._blank(self._delivered(seqs)))

    def events(self) -> None:
        seqs = self._old_events(self._places.events, self._id_age)
        if seqs:
            self._places.events = seqs[-1]
            self._note(len(seqs), self._forget(self._delivered(seqs)))

    def overdue(self) -> None:
        """What was left, and has arrived since."""
        overdue, events = self._tables.overdue, self._tables.events
        seqs = self._connection.scalars(sa.select(overdue.c.seq).order_by(overdue.c.seq).limit(self._batch)).all()
        if not seqs:
            return
        delivered = self._delivered(seqs)  # some may have been sent again
        old = sa.select(events.c.seq).where(events.c.seq.in_(delivered), events.c.created_at_ms < self._id_age)
        gone = sorted(seq for seq in self._connection.scalars(old) if seq <= self._places.events)
        forgotten = self._blank([seq for seq in delivered if seq not in set(gone)]) + self._forget(gone)
        self._connection.execute(overdue.delete().where(overdue.c.seq.in_(seqs)))
        self._note(len(seqs), forgotten)

    def _old_events(self, place: int, age_ms: int) -> Sequence[int]:
        """
        Rows come in the order of time: where the first of them are young enough, so are the others.

        One from the future was written while a clock was wrong, and is as old as those around it.
        """
        events = self._tables.events
        window = (
            sa.select(events.c.seq, events.c.created_at_ms)
            .where(events.c.seq > place)
            .order_by(events.c.seq)
            .limit(self._batch)
        )
        rows = self._connection.execute(window).all()
        count = 0
        for at, row in enumerate(rows, start=1):
            if row.created_at_ms < age_ms:
                count = at
            elif row.created_at_ms <= self._now_ms:
                break
        return [row.seq for row in rows[:count]]

    def _delivered(self, seqs: Sequence[int]) -> Sequence[int]:
        """Without those that wait for somebody, or were parked: these stay until an operator has dealt with them."""
        waiting, dead = self._tables.waiting, self._tables.dead_letters
        in_turn = sa.select(waiting.c.seq).where(
            waiting.c.sink.in_(self._sinks), waiting.c.turn.in_(seqs), waiting.c.seq == waiting.c.turn
        )
        again = sa.select(waiting.c.seq).where(waiting.c.seq.in_(seqs), sa.text("seq <> turn"))
        parked = sa.select(dead.c.seq).where(dead.c.sink.in_(self._sinks), dead.c.seq.in_(seqs))
        left = {seq for query in (in_turn, again, parked) for seq in self._connection.scalars(query)}
        return [seq for seq in seqs if seq not in left]

    def _blank(self, seqs: Sequence[int]) -> int:
        """Payloads, and what their faxes have learned since; how many."""
        events, learned = self._tables.events, self._tables.learned
        for_faxes = sa.select(events.c.seq, events.c.id, events.c.fax_id)
        with_payload = events.c.seq.in_(seqs), events.c.body.is_not(None)
        found = self._connection.execute(for_faxes.where(*with_payload)).all()
        if not found:
            return 0
        self._lock([row.fax_id for row in found])
        projection.forget_facts(self._connection, self._tables, [row.seq for row in found])
        ids = [row.id for row in found]
        blanked = events.c.seq.in_([row.seq for row in found])
        self._connection.execute(events.update().where(blanked).values(body=None))
        self._connection.execute(
            learned.delete().where(learned.c.fax_id.in_([row.fax_id for row in found]), learned.c.event_id.in_(ids))
        )
        return len(found)

    def _lock(self, fax_ids: Sequence[str]) -> None:
        """A callback may be at work on one of them: what it learns would outlive the payload."""
        faxes = self._tables.faxes
        if self._connection.dialect.name != "sqlite":
            query = sa.select(faxes.c.fax_id).where(faxes.c.fax_id.in_(fax_ids))
            self._connection.execute(query.order_by(faxes.c.fax_id).with_for_update()).all()

    def _forget(self, seqs: Sequence[int]) -> int:
        """Events, and in time the faxes of which these are the newest; how many."""
        if not seqs:
            return 0
        events, taken = self._tables.events, self._tables.taken
        its = sa.select(events.c.seq, events.c.id, events.c.fax_id).where(events.c.seq.in_(seqs))
        found = self._connection.execute(its).all()
        self._lock([row.fax_id for row in found])
        projection.forget(self._connection, self._tables, {row.seq: row.id for row in found})
        self._connection.execute(events.delete().where(events.c.seq.in_(seqs)))
        learned = self._tables.learned
        mine = learned.c.fax_id.in_([row.fax_id for row in found]), learned.c.event_id.in_([row.id for row in found])
        self._connection.execute(learned.delete().where(*mine))
        runs = taken.c.first > seqs[0] - LONGEST_RUN, taken.c.first <= seqs[-1], taken.c.last <= seqs[-1]
        self._connection.execute(taken.delete().where(taken.c.sink.in_(self._sinks), *runs))
        self._to_be_looked_at({row.id: row.fax_id for row in found})
        places.step_back(self._connection, self._tables, self._places)
        return len(found)

    def _to_be_looked_at(self, events: dict[str, str]) -> None:
        """events: ids of forgotten events -> their faxes, which have no newer one."""
        faxes = self._tables.faxes
        newest = sa.select(faxes.c.fax_id, faxes.c.seen_at_ms).where(
            faxes.c.fax_id.in_(list(events.values())), faxes.c.event_id.in_(list(events))
        )
        rows = [{"due_at_ms": row.seen_at_ms, "fax_id": row.fax_id} for row in self._connection.execute(newest)]
        if rows:
            late = insert_or_keep(self._tables.late_faxes, self._connection.dialect.name)
            self._connection.execute(late, sorted(rows, key=lambda row: str(row["fax_id"])))

    # --- faxes ------------------------------------------------------------------------------------------------------

    def late_faxes(self) -> None:
        """
        Faxes without events, unless they were heard of again: then they are looked at again in time.

        A fax goes last, and takes with it what was said of it: heard again it is new, and nothing of it may be left.
        """
        late, faxes, age_ms = self._tables.late_faxes, self._tables.faxes, self._id_age
        due = sa.select(late).where(late.c.due_at_ms < age_ms).order_by(late.c.due_at_ms).limit(self._batch)
        rows = self._connection.execute(due).all()
        if not rows:
            return
        fax_ids = sorted({row.fax_id for row in rows})
        query = sa.select(faxes).where(faxes.c.fax_id.in_(fax_ids)).order_by(faxes.c.fax_id).with_for_update()
        known = self._connection.execute(query).all()
        with_events = self._with_events(known)
        gone = [fax.fax_id for fax in known if fax.seen_at_ms < age_ms and fax.fax_id not in with_events]
        for table in (self._tables.announcements, self._tables.learned, faxes):
            self._connection.execute(table.delete().where(table.c.fax_id.in_(gone)))
        self._connection.execute(
            late.delete().where(late.c.due_at_ms <= rows[-1].due_at_ms, late.c.fax_id.in_(fax_ids))
        )
        again = [
            {"due_at_ms": fax.seen_at_ms if fax.seen_at_ms >= age_ms else age_ms + _DAY_MS, "fax_id": fax.fax_id}
            for fax in known
            # One with an event that was told since comes here with that event.
            if fax.fax_id not in gone and fax.event_id not in with_events.get(fax.fax_id, ())
        ]
        if again:
            self._connection.execute(insert_or_keep(late, self._connection.dialect.name), again)
        self._note(len(rows), len(gone))

    def _with_events(self, faxes: Sequence[sa.Row[Any]]) -> dict[str, set[str]]:
        """Fax -> those of its events that are still there, such as a dead letter."""
        announcements, events = self._tables.announcements, self._tables.events
        fax_ids = [fax.fax_id for fax in faxes]
        made = sa.select(announcements.c.event_seq).where(
            announcements.c.fax_id.in_(fax_ids), announcements.c.event_seq.is_not(None)
        )
        seqs = [*(fax.first_seq for fax in faxes), *self._connection.scalars(made)]
        # The fax as well: a number may be given again once its event is gone.
        its = sa.select(events.c.id, events.c.fax_id).where(events.c.seq.in_(seqs), events.c.fax_id.in_(fax_ids))
        found: dict[str, set[str]] = {}
        for row in self._connection.execute(its):
            found.setdefault(row.fax_id, set()).add(row.id)
        return found

    # --- the rest ---------------------------------------------------------------------------------------------------

    def jobs(self) -> None:
        """Those that were due so long ago, and never heard of; account by account, as the index has them."""
        jobs = self._tables.jobs
        for provider, account in accounts_with_jobs(self._connection, self._tables):
            mine = jobs.c.provider == provider, jobs.c.account == account
            self._delete(jobs, jobs.c.fax_id, *mine, jobs.c.due_at_ms < self._id_age)

    def discrepancies(self) -> None:
        table = self._tables.discrepancies
        of_rows = table.c.rows.is_not(None), table.c.seen_at_ms < self._body_age
        some = sa.select(table.c.seq).where(*of_rows).limit(self._batch).scalar_subquery()
        blanked = self._connection.execute(table.update().where(table.c.seq.in_(some)).values(rows=None)).rowcount
        self._note(blanked, blanked)
        is_closed = table.c.closed_at_ms.is_not(None)  # in the words of the index
        self._delete(table, table.c.seq, is_closed, table.c.closed_at_ms < self._id_age)

    def hours(self) -> None:
        count = projection.forget_hours(self._connection, self._tables)
        self._note(count, count)

    def stats(self) -> None:
        """Step by step, as the table has them, the oldest first."""
        table = self._tables.stats
        for step, kept_ms in _STATS_KEPT.items():
            old = table.c.step == step, table.c.from_ms < self._now_ms - kept_ms
            some = sa.select(table.c.from_ms).where(*old).order_by(table.c.from_ms).limit(self._batch).subquery()
            last = self._connection.scalar(sa.select(sa.func.max(some.c.from_ms)))
            if last is not None:
                mine = table.c.step == step, table.c.from_ms <= last
                deleted = self._connection.execute(table.delete().where(*mine)).rowcount
                self._note(deleted, deleted)

    def listeners(self) -> None:
        listening.forget_unused(self._connection, self._tables, self._now_ms)

    def refusals(self) -> None:
        table = self._tables.refusals
        self._delete(table, table.c.from_ms, table.c.from_ms < self._rejected_age)

    def _delete(self, table: sa.Table, key: sa.Column[Any], *conditions: sa.ColumnElement[bool]) -> None:
        some = sa.select(key).where(*conditions).limit(self._batch).scalar_subquery()
        deleted = self._connection.execute(table.delete().where(key.in_(some))).rowcount
        self._note(deleted, deleted)

    def _note(self, looked_at: int, forgotten: int) -> None:
        self.done.looked_at += looked_at
        self.done.forgotten += forgotten


Step = Callable[[_Purge], None]

# Each is a transaction of its own in a round of housekeeping, so that callbacks wait for one kind of window at most.
STEPS: tuple[Step, ...] = (
    _Purge.receipt_bodies,
    _Purge.rejected_bodies,
    _Purge.payloads,
    _Purge.events,
    _Purge.overdue,
    _Purge.late_faxes,
    _Purge.hours,
    _Purge.receipts,
    _Purge.endpoint_hours,
    _Purge.replays,
    _Purge.audit,
    _Purge.jobs,
    _Purge.discrepancies,
    _Purge.stats,
    _Purge.refusals,
    _Purge.listeners,
)


def purge(
    connection: Connection,
    tables: Tables,
    limits: Limits,
    now_ms: int,
    batch: int = 100,
    steps: Sequence[Step] = STEPS,
) -> Purged:
    """Look at one batch of each kind."""
    work = _Purge(connection, tables, limits, now_ms, batch)
    for step in steps:
        step(work)
    work.keep_places()
    return work.done


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
