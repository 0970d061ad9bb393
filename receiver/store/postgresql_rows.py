"""
The rows of a group in PostgreSQL, where several instances may record at the same time.

The insert of new faxes is the arbiter between them: every id of the group goes through it, in sorted order, and those
that it does not return are locked, in sorted order as well, by a later statement. What is known of them is read by
statements that begin when all locks are held, since a statement that waited sees the moment before it waited.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPICursor

from receiver.store import known as what_is_known
from receiver.store import meeting
from receiver.store.fax import COLUMNS, Fax
from receiver.store.rows import EVENT, Changes, Jobs, Kept, Reads, Row, Write, kept_by, of_interest, reads
from receiver.store.tables import PROJECTOR, QUEUE, TURNS, Tables, define
from receiver.store.trouble import ConflictError

_NAME = "postgresql"
_NUMBERS = f"SELECT nextval('{TURNS}') FROM generate_series(1, %(count)s::int)"  # noqa: S608 - a name of ours


class PostgresqlRows:
    def __init__(self, cursor: DBAPICursor, dialect: sa.Dialect) -> None:
        self._connection: Any = cursor.connection  # psycopg's
        self._dialect = dialect

    def load(self, first: dict[str, Fax], digests: Mapping[str, set[str]]) -> tuple[dict[str, Fax], Jobs]:
        kept, sql, wanted = kept_by(_NAME), _reads(self._dialect), sorted(first)
        new_rows = kept.faxes.bound(first[fax_id].row() for fax_id in wanted)
        arrived = {fax_id: place for place, fax_id in enumerate(first, start=1)}
        places = [arrived[fax_id] for fax_id in wanted]
        new = {**_columns(new_rows, COLUMNS), "event_seq": places, "first_seq": places}
        with self._sent_together():
            self._execute(meeting.SHARED, meeting.buckets(wanted))
            added = self._execute(_add_faxes(self._dialect), new)
            expected = self._execute(sql.jobs, {"wanted": wanted})
        jobs = {str(fax_id): json.loads(stated) for fax_id, stated in expected.fetchall()}
        for fax_id, seq in added.fetchall():
            first[str(fax_id)].event_seq = first[str(fax_id)].first_seq = seq
        found = [fax_id for fax_id in wanted if not first[fax_id].event_seq]
        if not found:
            return first, jobs
        with self._sent_together():
            locked = self._execute(sql.faxes, {"wanted": found})
            announced = self._execute(sql.announcements, {"wanted": found})
        known = {row[0]: Fax.from_row(row) for row in kept.faxes.read(locked.fetchall())}
        if len(known) < len(found):
            raise ConflictError  # neither new nor there: it was purged in between
        for fax_id, digest, outcome, event_id, _ in kept.announcements.read(announced.fetchall()):
            known[fax_id].heard(digest, outcome, event_id)
        news = of_interest(known, digests, jobs)
        if news:
            stored = self._execute(sql.facts, {"wanted": news}).fetchall()
            for fax_id, facts in what_is_known.read(stored, define(_NAME), _NAME):
                known[fax_id].facts = facts
        return {**first, **known}, jobs

    def numbers(self, count: int) -> Sequence[int]:
        """Taken when the faxes are locked, so that those of one fax are in the order of its revisions."""
        if not count:
            return ()
        return sorted(number for (number,) in self._execute(_NUMBERS, {"count": count}).fetchall())

    def write(self, changes: Changes) -> None:
        changes.faxes += changes.amended_new_faxes
        changes.new_faxes = []  # ``load`` has added them
        with self._sent_together():
            for name, statement, kept in _writes(self._dialect):
                rows = kept.bound(changes.rows(name))
                if rows:
                    self._execute(statement, _columns(rows, kept.columns))

    def _execute(self, statement: str, parameters: Mapping[str, Any]) -> Any:
        return self._connection.execute(statement, parameters)

    def _sent_together(self) -> AbstractContextManager[object]:
        """No statement waits for the answer to the one before; an error comes up at the end."""
        return cast("AbstractContextManager[object]", self._connection.pipeline())


def _columns(rows: Iterable[Row], names: Sequence[str]) -> dict[str, list[Any]]:
    """The rows as one array for each column."""
    return {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}


@cache
def _reads(dialect: sa.Dialect) -> Reads:
    """They take the ids of faxes as ``wanted``."""
    found = reads(dialect, "= ANY(%(wanted)s::uuid[])")
    return replace(found, faxes=f"{found.faxes} ORDER BY fax_id FOR UPDATE")


@cache
def _writes(dialect: sa.Dialect) -> Sequence[tuple[str, str, Kept]]:
    """They take an array for each column."""
    return [(write.rows, _statement(write, table, dialect), kept) for write, table, kept in kept_by(_NAME).written]


def _statement(write: Write, table: sa.Table, dialect: sa.Dialect) -> str:
    name, columns, rows = table.fullname, ", ".join(write.columns), _unnest(table, write.columns, dialect)
    if write.rows == "events":
        return _add_events(define(_NAME), rows)
    of_key = " AND ".join(f"known.{column} = new.{column}" for column in write.columns[: write.key])
    new = f"{rows} AS new ({columns})"
    if write.verb == "change":
        change = ", ".join(f"{column} = new.{column}" for column in write.columns[write.key :])
        return f"UPDATE {name} AS known SET {change} FROM {new} WHERE {of_key}"  # noqa: S608 - names of ours
    if write.verb == "delete":
        return f"DELETE FROM {name} AS known USING {new} WHERE {of_key}"  # noqa: S608 - names of ours
    add = f"INSERT INTO {name} AS known ({columns}) SELECT * FROM {new}"  # noqa: S608 - names of ours
    if write.unless:
        return f"{add} WHERE NOT EXISTS (SELECT 1 FROM {name} AS known WHERE {of_key})"  # noqa: S608 - names of ours
    return add + write.conflict


def _unnest(table: sa.Table, columns: Sequence[str], dialect: sa.Dialect) -> str:
    kinds = {name: table.c[name].type.compile(dialect) for name in columns}
    return "unnest(" + ", ".join(f"%({name})s::{kind}[]" for name, kind in kinds.items()) + ")"


@cache
def _add_faxes(dialect: sa.Dialect) -> str:
    """
    New faxes, each with a row number for its first event, in the order of arrival: the parameters have their places.

    One that is there already costs a number, and nothing else.
    """
    faxes, columns = define(_NAME).faxes, ", ".join(COLUMNS)
    values = ", ".join(f"taken.numbers[new.{name}]" if name.endswith("_seq") else f"new.{name}" for name in COLUMNS)
    numbers = f"SELECT array_agg(nextval('{TURNS}')) AS numbers FROM unnest(%(event_seq)s::bigint[])"  # noqa: S608
    return (
        f"INSERT INTO {faxes.fullname} ({columns}) SELECT {values} FROM {_unnest(faxes, COLUMNS, dialect)}"  # noqa: S608
        f" AS new ({columns}), ({numbers}) AS taken ON CONFLICT DO NOTHING RETURNING fax_id, event_seq"
    )


def _add_events(tables: Tables, rows: str) -> str:
    """Events, and two rows in ``waiting`` for each."""
    return (
        f"WITH told AS (INSERT INTO {tables.events.fullname} ({', '.join(EVENT)})"  # noqa: S608 - names of ours
        f" SELECT * FROM {rows} RETURNING seq, fax_id, revision)"
        f" INSERT INTO {tables.waiting.fullname} (sink, turn, seq, fax_id, revision)"
        f" SELECT sink, seq, seq, fax_id, revision FROM told, (VALUES ('{QUEUE}'), ('{PROJECTOR}')) AS sinks (sink)"
    )
