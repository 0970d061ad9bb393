"""
The rows of a group in PostgreSQL, where several instances may record at the same time.

The insert of new faxes is the arbiter between them: every id of the group goes through it, in sorted order, and those
that it does not return are locked, in sorted order as well, by a later statement. What is known of them is read by
statements that begin when all locks are held, since a statement that waited sees the moment before it waited.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPICursor

from receiver.store import meeting
from receiver.store.fax import COLUMNS, Fax
from receiver.store.rows import (
    ANNOUNCEMENT,
    CHANGED,
    ENDPOINT_HOUR,
    EVENT,
    FURTHER,
    LEARNED,
    RECEIPT,
    REPEAT,
    REPLAY,
    WAITING,
    Changes,
    Jobs,
    Kept,
    Row,
    add_discrepancies,
    changed,
    facts_query,
    kept_by,
    move_cursors,
    of_interest,
    read_facts,
)
from receiver.store.tables import PROJECTOR, QUEUE, TURNS, Tables, define
from receiver.store.trouble import ConflictError

_NAME = "postgresql"


class PostgresqlRows:
    def __init__(self, cursor: DBAPICursor, dialect: sa.Dialect) -> None:
        self._connection: Any = cursor.connection  # psycopg's
        self._sql = _statements(dialect)
        self._kept = kept_by(_NAME)

    def load(self, first: dict[str, Fax], digests: Mapping[str, set[str]]) -> tuple[dict[str, Fax], Jobs]:
        wanted = sorted(first)
        new_rows = self._kept.faxes.bound(first[fax_id].row() for fax_id in wanted)
        arrived = {fax_id: place for place, fax_id in enumerate(first, start=1)}
        places = [arrived[fax_id] for fax_id in wanted]
        new = {**_columns(new_rows, COLUMNS), "event_seq": places, "first_seq": places}
        with self._sent_together():
            self._execute(meeting.SHARED, meeting.buckets(wanted))
            added = self._execute(self._sql.add_faxes, new)
            expected = self._execute(self._sql.jobs, {"wanted": wanted})
        jobs = {str(fax_id): json.loads(known) for fax_id, known in expected.fetchall()}
        for fax_id, seq in added.fetchall():
            first[str(fax_id)].event_seq = first[str(fax_id)].first_seq = seq
        found = [fax_id for fax_id in wanted if not first[fax_id].event_seq]
        if not found:
            return first, jobs
        with self._sent_together():
            locked = self._execute(self._sql.faxes, {"wanted": found})
            announced = self._execute(self._sql.announcements, {"wanted": found})
        known = {row[0]: Fax.from_row(row) for row in self._kept.faxes.read(locked.fetchall())}
        if len(known) < len(found):
            raise ConflictError  # neither new nor there: it was purged in between
        for fax_id, digest, outcome, event_id, _ in self._kept.announcements.read(announced.fetchall()):
            known[fax_id].heard(digest, outcome, event_id)
        news = of_interest(known, digests, jobs)
        if news:
            stored = self._execute(self._sql.facts, {"wanted": news}).fetchall()
            for fax_id, facts in read_facts(stored, define(_NAME), _NAME):
                known[fax_id].facts = facts
        return {**first, **known}, jobs

    def numbers(self, count: int) -> Sequence[int]:
        """Taken when the faxes are locked, so that those of one fax are in the order of its revisions."""
        if not count:
            return ()
        return sorted(number for (number,) in self._execute(self._sql.numbers, {"count": count}).fetchall())

    def write(self, changes: Changes) -> None:
        sql, kept = self._sql, self._kept
        with self._sent_together():
            self._run(sql.change_faxes, kept.changed, map(changed, (*changes.faxes, *changes.amended_new_faxes)))
            self._run(sql.add_announcements, kept.announcements, changes.announcements)
            self._run(sql.add_events, kept.events, changes.events)
            self._run(sql.add_further, kept.further, changes.further)
            self._run(sql.add_receipts, kept.receipts, changes.receipts)
            self._run(sql.add_rejected_receipts, kept.receipts, changes.rejected_receipts)
            hours = [(*hour, receipt) for hour, receipt in changes.endpoint_hours.items()]
            self._run(sql.note_hours, kept.endpoint_hours, hours)
            self._run(sql.add_replays, kept.replays, changes.replays)
            if changes.told_again:
                self._execute(sql.forget_learned, {"wanted": changes.told_again})
            self._run(sql.learn, kept.learned, changes.learned)
            self._run(sql.look_again, kept.to_project, changes.to_project)
            self._run(sql.add_repeats, kept.repeats, changes.repeats)
            if changes.jobs:
                self._execute(sql.delete_jobs, {"wanted": changes.jobs})
            for one in changes.positions:
                self._execute(sql.move_cursors, one)
            for one in changes.contradictions:
                self._execute(sql.add_discrepancies, one)

    def _run(self, statement: str, kept: Kept, rows: Iterable[Row]) -> None:
        bound = kept.bound(rows)
        if bound:
            self._execute(statement, _columns(bound, kept.columns))

    def _execute(self, statement: str, parameters: Mapping[str, Any]) -> Any:
        return self._connection.execute(statement, parameters)

    def _sent_together(self) -> AbstractContextManager[object]:
        """No statement waits for the answer to the one before; an error comes up at the end."""
        return cast("AbstractContextManager[object]", self._connection.pipeline())


def _columns(rows: Iterable[Row], names: Sequence[str]) -> dict[str, list[Any]]:
    """The rows as one array for each column."""
    return {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}


@dataclass(frozen=True, slots=True)
class _Statements:
    """Those that find and delete take the ids of faxes as ``wanted``, the others an array for each column."""

    add_faxes: str
    numbers: str
    faxes: str
    announcements: str
    facts: str
    jobs: str
    change_faxes: str
    add_announcements: str
    add_events: str
    add_further: str
    add_receipts: str
    add_rejected_receipts: str
    note_hours: str
    add_replays: str
    forget_learned: str
    learn: str
    look_again: str
    add_repeats: str
    delete_jobs: str
    move_cursors: str
    add_discrepancies: str


@cache
def _statements(dialect: sa.Dialect) -> _Statements:
    tables = define(_NAME)

    def unnest(table: sa.Table, columns: Sequence[str]) -> str:
        kinds = {name: table.c[name].type.compile(dialect) for name in columns}
        return "unnest(" + ", ".join(f"%({name})s::{kind}[]" for name, kind in kinds.items()) + ")"

    def insert(table: sa.Table, columns: Sequence[str]) -> str:
        into = f"INSERT INTO {table.fullname} ({', '.join(columns)})"
        return f"{into} SELECT * FROM {unnest(table, columns)}"  # noqa: S608 - names of ours

    def find(table: sa.Table, *columns: str) -> str:
        return f"SELECT {', '.join(columns)} FROM {table.fullname} WHERE fax_id = ANY(%(wanted)s::uuid[])"  # noqa: S608

    def delete(table: sa.Table) -> str:
        return f"DELETE FROM {table.fullname} WHERE fax_id = ANY(%(wanted)s::uuid[])"  # noqa: S608 - names of ours

    faxes, learned = tables.faxes, tables.learned
    change = ", ".join(f"{name} = new.{name}" for name in CHANGED[1:])
    return _Statements(
        add_faxes=_add_faxes(tables, unnest(faxes, COLUMNS)),
        numbers=f"SELECT nextval('{TURNS}') FROM generate_series(1, %(count)s::int)",  # noqa: S608
        faxes=f"{find(faxes, *COLUMNS)} ORDER BY fax_id FOR UPDATE",
        announcements=find(tables.announcements, *ANNOUNCEMENT),
        facts=facts_query(tables, "faxes.fax_id = ANY(%(wanted)s::uuid[])"),
        jobs=find(tables.jobs, "fax_id", "facts"),
        change_faxes=f"UPDATE {faxes.fullname} AS known SET {change}"  # noqa: S608 - names of ours
        f" FROM {unnest(faxes, CHANGED)} AS new ({', '.join(CHANGED)}) WHERE known.fax_id = new.fax_id",
        add_announcements=insert(tables.announcements, ANNOUNCEMENT),
        add_events=_add_events(tables, unnest(tables.events, EVENT)),
        add_further=f"INSERT INTO {tables.waiting.fullname} ({', '.join(FURTHER)})"  # noqa: S608 - names of ours
        f" SELECT * FROM {unnest(tables.waiting, FURTHER)}",
        add_receipts=insert(tables.receipts, RECEIPT),
        add_rejected_receipts=insert(tables.rejected_receipts, RECEIPT),
        note_hours=_note_hours(tables, unnest(tables.endpoint_hours, ENDPOINT_HOUR)),
        add_replays=insert(tables.replays, REPLAY),
        forget_learned=delete(learned),
        learn=f"{insert(learned, LEARNED)} ON CONFLICT (fax_id)"
        " DO UPDATE SET event_id = excluded.event_id, facts = excluded.facts",
        look_again=f"INSERT INTO {tables.waiting.fullname} (sink, {', '.join(WAITING)})"  # noqa: S608 - names of ours
        f" SELECT '{PROJECTOR}', * FROM {unnest(tables.waiting, WAITING)}",
        add_repeats=f"{insert(tables.repeats, REPEAT)} ON CONFLICT DO NOTHING",
        delete_jobs=delete(tables.jobs),
        move_cursors=move_cursors(tables, dialect),
        add_discrepancies=add_discrepancies(tables, dialect),
    )


def _add_faxes(tables: Tables, rows: str) -> str:
    """
    New faxes, each with a row number for its first event, in the order of arrival: the parameters have their places.

    One that is there already costs a number, and nothing else.
    """
    columns = ", ".join(COLUMNS)
    values = ", ".join(f"taken.numbers[new.{name}]" if name.endswith("_seq") else f"new.{name}" for name in COLUMNS)
    numbers = f"SELECT array_agg(nextval('{TURNS}')) AS numbers FROM unnest(%(event_seq)s::bigint[])"  # noqa: S608
    return (
        f"INSERT INTO {tables.faxes.fullname} ({columns}) SELECT {values}"  # noqa: S608 - names of ours
        f" FROM {rows} AS new ({columns}), ({numbers}) AS taken ON CONFLICT DO NOTHING RETURNING fax_id, event_seq"
    )


def _note_hours(tables: Tables, rows: str) -> str:
    """Those that nobody else has noted. No key decides, as then all would wait for the one who has noted it first."""
    name, columns = tables.endpoint_hours.fullname, ", ".join(ENDPOINT_HOUR)
    same = " AND ".join(f"known.{column} = new.{column}" for column in ENDPOINT_HOUR[:3])
    return (
        f"INSERT INTO {name} ({columns}) SELECT * FROM {rows} AS new ({columns})"  # noqa: S608 - names of ours
        f" WHERE NOT EXISTS (SELECT 1 FROM {name} AS known WHERE {same})"
    )


def _add_events(tables: Tables, rows: str) -> str:
    """Events, and two rows in ``waiting`` for each."""
    return (
        f"WITH told AS (INSERT INTO {tables.events.fullname} ({', '.join(EVENT)})"  # noqa: S608 - names of ours
        f" SELECT * FROM {rows} RETURNING seq, fax_id, revision)"
        f" INSERT INTO {tables.waiting.fullname} (sink, turn, seq, fax_id, revision)"
        f" SELECT sink, seq, seq, fax_id, revision FROM told, (VALUES ('{QUEUE}'), ('{PROJECTOR}')) AS sinks (sink)"
    )
