"""The rows of a group in SQLite, which has one writer at a time: the transaction decides what is new."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine.interfaces import DBAPICursor

from receiver.store.fax import COLUMNS, Fax
from receiver.store.rows import (
    ANNOUNCEMENT,
    CHANGED,
    ENDPOINT_HOUR,
    EVENT,
    LEARNED,
    RECEIPT,
    REPEAT,
    REPLAY,
    Changes,
    Jobs,
    Row,
    add_discrepancies,
    changed,
    facts_query,
    kept_by,
    move_cursors,
    of_interest,
    read_facts,
)
from receiver.store.tables import PROJECTOR, QUEUE, Tables, define
from receiver.store.turns import last_of_sqlite
from receiver.store.types import packed, unpacked

_NAME = "sqlite"
_MOST_NAMED = 512  # faxes in one statement


class SqliteRows:
    def __init__(self, cursor: DBAPICursor, sinks: Sequence[str]) -> None:
        self._cursor = cursor
        self._last = last_of_sqlite(*sinks)
        self._sql = _statements()
        self._kept = kept_by(_NAME)

    def load(self, first: dict[str, Fax], digests: Mapping[str, set[str]]) -> tuple[dict[str, Fax], Jobs]:
        wanted = list(first)
        jobs = {unpacked(fax_id): json.loads(known) for fax_id, known in self._among(self._sql.jobs, wanted)}
        found = self._kept.faxes.read(self._among(self._sql.faxes, wanted))
        known = {row[0]: Fax.from_row(row) for row in found}
        if known:
            announced = self._kept.announcements.read(self._among(self._sql.announcements, list(known)))
            for fax_id, digest, outcome, event_id, _ in announced:
                known[fax_id].heard(digest, outcome, event_id)
            news = of_interest(known, digests, jobs)
            for fax_id, facts in read_facts(self._among(self._sql.facts, news), define(_NAME), _NAME):
                known[fax_id].facts = facts
        return {**first, **known}, jobs

    def _among(self, statement: str, fax_ids: Sequence[str]) -> list[Row]:
        found: list[Row] = []
        for start in range(0, len(fax_ids), _MOST_NAMED):
            some = [packed(fax_id) for fax_id in fax_ids[start : start + _MOST_NAMED]]
            # In powers of two, so that the driver keeps the few statements.
            places = 1 << (len(some) - 1).bit_length()
            some += some[-1:] * (places - len(some))
            self._cursor.execute(statement.format(", ".join("?" * places)), some)
            found += cast("list[Row]", self._cursor.fetchall())
        return found

    def numbers(self, count: int) -> Sequence[int]:
        if not count:
            return ()
        self._cursor.execute(self._last)
        ((last,),) = self._cursor.fetchall()
        return range(last + 1, last + 1 + count)

    def write(self, changes: Changes) -> None:
        sql, kept = self._sql, self._kept
        self._run(sql.add_faxes, kept.faxes.bound(changes.new_faxes))
        change = [(*values, key) for key, *values in kept.changed.bound(map(changed, changes.faxes))]
        self._run(sql.change_faxes, change)
        self._run(sql.add_announcements, kept.announcements.bound(changes.announcements))
        events = kept.events.bound(changes.events)
        self._run(sql.add_events, events)
        self._run(sql.add_waiting, [(seq, fax_id, revision) for seq, _, fax_id, revision, *_ in events])
        self._run(sql.add_further, kept.further.bound(changes.further))
        self._run(sql.add_receipts, kept.receipts.bound(changes.receipts))
        self._run(sql.add_rejected_receipts, kept.receipts.bound(changes.rejected_receipts))
        hours = kept.endpoint_hours.bound((*hour, receipt) for hour, receipt in changes.endpoint_hours.items())
        self._run(sql.note_hours, hours)
        self._run(sql.add_replays, kept.replays.bound(changes.replays))
        self._run(sql.forget_learned, _ids(changes.told_again))
        self._run(sql.learn, kept.learned.bound(changes.learned))
        self._run(sql.look_again, kept.to_project.bound(changes.to_project))
        self._run(sql.add_repeats, kept.repeats.bound(changes.repeats))
        self._run(sql.delete_jobs, _ids(changes.jobs))
        self._run(sql.move_cursors, changes.positions)
        self._run(sql.add_discrepancies, changes.contradictions)

    def _run(self, statement: str, rows: Sequence[Any]) -> None:
        if len(rows) == 1:
            self._cursor.execute(statement, rows[0])
        elif rows:
            self._cursor.executemany(statement, rows)


def _ids(fax_ids: Iterable[str]) -> list[Row]:
    return [(packed(fax_id),) for fax_id in fax_ids]


@dataclass(frozen=True, slots=True)
class _Statements:
    """The first four have a place for the faxes they are about."""

    faxes: str
    announcements: str
    facts: str
    jobs: str
    add_faxes: str
    change_faxes: str
    add_announcements: str
    add_events: str
    add_waiting: str
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


def _note_hours(tables: Tables) -> str:
    name = tables.endpoint_hours.name
    known = " AND ".join(f"{column} = ?{at}" for at, column in enumerate(ENDPOINT_HOUR[:3], start=1))
    return (
        f"INSERT INTO {name} ({', '.join(ENDPOINT_HOUR)}) SELECT ?1, ?2, ?3, ?4"  # noqa: S608 - names of ours
        f" WHERE NOT EXISTS (SELECT 1 FROM {name} WHERE {known})"
    )


@cache
def _statements() -> _Statements:
    tables = define(_NAME)
    named = sqlite.dialect(paramstyle="named")

    def insert(table: sa.Table, *columns: str, verb: str = "INSERT") -> str:
        marks = ", ".join("?" * len(columns))
        return f"{verb} INTO {table.name} ({', '.join(columns)}) VALUES ({marks})"

    def find(table: sa.Table, *columns: str) -> str:
        return f"SELECT {', '.join(columns)} FROM {table.name} WHERE fax_id IN ({{}})"  # noqa: S608 - names of ours

    def delete(table: sa.Table) -> str:
        return f"DELETE FROM {table.name} WHERE fax_id = ?"  # noqa: S608 - names of ours

    wait = f"INSERT INTO {tables.waiting.name} (sink, turn, seq, fax_id, revision) VALUES"
    change = ", ".join(f"{column} = ?" for column in CHANGED[1:])
    return _Statements(
        faxes=find(tables.faxes, *COLUMNS),
        announcements=find(tables.announcements, *ANNOUNCEMENT),
        facts=facts_query(tables, "faxes.fax_id IN ({})"),
        jobs=find(tables.jobs, "fax_id", "facts"),
        add_faxes=insert(tables.faxes, *COLUMNS),
        change_faxes=f"UPDATE {tables.faxes.name} SET {change} WHERE fax_id = ?",  # noqa: S608 - names of ours
        add_announcements=insert(tables.announcements, *ANNOUNCEMENT),
        add_events=insert(tables.events, *EVENT),
        add_waiting=f"{wait} ('{QUEUE}', ?1, ?1, ?2, ?3), ('{PROJECTOR}', ?1, ?1, ?2, ?3)",
        add_further=f"{wait} (?, ?, ?, ?, ?)",
        add_receipts=insert(tables.receipts, *RECEIPT),
        add_rejected_receipts=insert(tables.rejected_receipts, *RECEIPT),
        note_hours=_note_hours(tables),
        add_replays=insert(tables.replays, *REPLAY),
        forget_learned=delete(tables.learned),
        learn=insert(tables.learned, *LEARNED, verb="INSERT OR REPLACE"),
        look_again=f"{wait} ('{PROJECTOR}', ?, ?, ?, ?)",
        add_repeats=insert(tables.repeats, *REPEAT, verb="INSERT OR IGNORE"),
        delete_jobs=delete(tables.jobs),
        move_cursors=move_cursors(tables, named),
        add_discrepancies=add_discrepancies(tables, named),
    )
