"""The rows of a group in SQLite, which has one writer at a time: the transaction decides what is new."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

from sqlalchemy.dialects import sqlite
from sqlalchemy.engine.interfaces import DBAPICursor

from receiver.store import known as what_is_known
from receiver.store.fax import Fax
from receiver.store.rows import Changes, Jobs, Kept, Reads, Row, Write, kept_by, of_interest, reads
from receiver.store.tables import PROJECTOR, QUEUE, define
from receiver.store.turns import last_of_sqlite
from receiver.store.types import packed, unpacked

_NAME = "sqlite"
_MOST_NAMED = 512  # faxes in one statement


class SqliteRows:
    def __init__(self, cursor: DBAPICursor, sinks: Sequence[str]) -> None:
        self._cursor = cursor
        self._last = last_of_sqlite(*sinks)

    def load(self, first: dict[str, Fax], digests: Mapping[str, set[str]]) -> tuple[dict[str, Fax], Jobs]:
        kept, wanted = kept_by(_NAME), list(first)
        jobs = {unpacked(fax_id): json.loads(stated) for fax_id, stated in self._among("jobs", wanted)}
        known = {row[0]: Fax.from_row(row) for row in kept.faxes.read(self._among("faxes", wanted))}
        if known:
            announced = kept.announcements.read(self._among("announcements", list(known)))
            for fax_id, digest, outcome, event_id, _ in announced:
                known[fax_id].heard(digest, outcome, event_id)
            news = of_interest(known, digests, jobs)
            for fax_id, facts in what_is_known.read(self._among("facts", news), define(_NAME), _NAME):
                known[fax_id].facts = facts
        return {**first, **known}, jobs

    def _among(self, name: str, fax_ids: Sequence[str]) -> list[Row]:
        """What one of ``Reads`` finds."""
        found: list[Row] = []
        for start in range(0, len(fax_ids), _MOST_NAMED):
            some = [packed(fax_id) for fax_id in fax_ids[start : start + _MOST_NAMED]]
            # In powers of two, so that the driver keeps the few statements.
            places = 1 << (len(some) - 1).bit_length()
            some += some[-1:] * (places - len(some))
            self._cursor.execute(getattr(_reads(places), name), some)
            found += cast("list[Row]", self._cursor.fetchall())
        return found

    def numbers(self, count: int) -> Sequence[int]:
        if not count:
            return ()
        self._cursor.execute(self._last)
        ((last,),) = self._cursor.fetchall()
        return range(last + 1, last + 1 + count)

    def write(self, changes: Changes) -> None:
        for name, statement, kept in _writes():
            rows = kept.bound(changes.rows(name))
            if rows:
                self._run(statement, rows)
                if name == "events":
                    self._run(_WAIT, [(seq, fax_id, revision) for seq, _, fax_id, revision, *_ in rows])

    def _run(self, statement: str, rows: Sequence[Any]) -> None:
        if len(rows) == 1:
            self._cursor.execute(statement, rows[0])
        else:
            self._cursor.executemany(statement, rows)


_WAIT = (
    f"INSERT INTO {define(_NAME).waiting.name} (sink, turn, seq, fax_id, revision)"  # noqa: S608 - names of ours
    f" VALUES ('{QUEUE}', ?1, ?1, ?2, ?3), ('{PROJECTOR}', ?1, ?1, ?2, ?3)"
)


@cache
def _reads(places: int) -> Reads:
    return reads(sqlite.dialect(), f"IN ({', '.join('?' * places)})")


@cache
def _writes() -> Sequence[tuple[str, str, Kept]]:
    return [(write.rows, _statement(write, table.name), kept) for write, table, kept in kept_by(_NAME).written]


def _statement(write: Write, name: str) -> str:
    marks = [f"?{at}" for at in range(1, len(write.columns) + 1)]
    marked = [f"{column} = {mark}" for column, mark in zip(write.columns, marks, strict=True)]
    of_key = " AND ".join(marked[: write.key])
    if write.verb == "change":
        return f"UPDATE {name} SET {', '.join(marked[write.key :])} WHERE {of_key}"  # noqa: S608 - names of ours
    if write.verb == "delete":
        return f"DELETE FROM {name} WHERE {of_key}"  # noqa: S608 - names of ours
    into = f"INSERT INTO {name} AS known ({', '.join(write.columns)})"
    if write.unless:
        return f"{into} SELECT {', '.join(marks)} WHERE NOT EXISTS (SELECT 1 FROM {name} WHERE {of_key})"  # noqa: S608
    return f"{into} VALUES ({', '.join(marks)}){write.conflict}"
