"""
Reading what can be read of a damaged SQLite store, into a new one.

Rows are asked for in ranges of row numbers, halved wherever SQLite says that the file is corrupt, or from key to key
around the damage, so that one bad page costs the rows on it and no others. The damaged files are copied first and never
opened themselves.
"""

import errno
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from receiver import facts as fax_facts
from receiver.errors import StoreError
from receiver.store import DAMAGED, HOUR_MS, Store, outbox, places, sinks
from receiver.store.damage import begun_anew
from receiver.store.known import is_newest
from receiver.store.migrating import migrate
from receiver.store.places import Places
from receiver.store.sqlite import SQLITE
from receiver.store.states import covering
from receiver.store.submissions import REPORT, checksum
from receiver.store.tables import PREFIX, PROJECTOR, QUEUE, Tables
from receiver.store.unnumbered import by_key, checked_by

_STEP = 500  # rows asked for at once
_DEAD = 5000  # row numbers, of which none could be read
_MOST_ROWS = 1_000_000  # where nothing tells how many there were
_FILES = ("", "-wal", "-shm", "-journal", ".lock")  # of a store, after its name
_LONGEST = 1 << 40  # bytes: a header that says more is damaged itself


@dataclass(frozen=True, slots=True)
class Salvaged:
    """Of one table: rows that were read, and row numbers that could not be; None where nobody can tell how many."""

    table: str
    read: int
    lost: int | None


def salvage(damaged: Path, fresh: Store) -> Iterator[Salvaged]:
    """
    Fill a new store, table by table. Where that fails, or is ended, nothing of the new store stays.

    Raises StoreError where not even the names of tables can be read, and where the disk is full.
    """
    assert fresh.file is not None
    path = fresh.file.path
    try:
        yield from _filled(damaged, fresh)
    except BaseException as error:
        fresh.close()
        for suffix in _FILES:
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"{path.parent}: the disk is full; a copy of {damaged} and the new file must fit on it together. Make"
                " room, or name a NEW_FILE on another disk"
            ) from None
        raise


def _filled(damaged: Path, fresh: Store) -> Iterator[Salvaged]:
    assert fresh.file is not None
    migrate(fresh)
    with tempfile.TemporaryDirectory(dir=fresh.file.path.parent, prefix="salvage-") as folder:
        copy = Path(folder) / damaged.name
        for suffix in ("", "-wal"):
            if (source := damaged.with_name(damaged.name + suffix)).exists():
                shutil.copyfile(source, copy.with_name(copy.name + suffix))
        _lengthen(copy)
        with closing(SQLITE.connect(copy, isolation_level=None)) as connection:
            if _has_no_tables(connection):
                raise StoreError(f"{damaged}: there are no tables of faxhook in it; restore a backup")
            tables = fresh.tables
            is_all_waiting_known = not _was_begun_anew(connection, tables.waiting)
            are_all_dead_known = not _was_begun_anew(connection, tables.dead_letters)
            for table in tables.metadata.sorted_tables:
                if table in (tables.finds, tables.hours, tables.endpoint_hours):
                    continue  # the projector makes the first two anew, and the last one follows from the receipts
                done = _salvage(connection, fresh, table)
                if table is tables.waiting and done.lost != 0:
                    is_all_waiting_known = False
                if table is tables.dead_letters and done.lost != 0:
                    are_all_dead_known = False
                yield done
    with fresh.writing() as connection:
        _complete(connection, tables, is_all_waiting_known=is_all_waiting_known)
        if not (is_all_waiting_known and are_all_dead_known):
            sinks.fill_again(connection, tables)


def _has_no_tables(connection: Any) -> bool:
    """Whether the list of tables can be read, and none of ours stands in it."""
    try:
        ours = "SELECT 1 FROM sqlite_master WHERE substr(name, 1, ?) = ? LIMIT 1"
        return connection.execute(ours, (len(PREFIX), PREFIX)).fetchone() is None
    except SQLITE.DatabaseError:
        return False


def _was_begun_anew(connection: Any, table: sa.Table) -> bool:
    """Whether some of its rows were lost while faxhook ran."""
    try:
        old = "SELECT 1 FROM sqlite_master WHERE name GLOB ? LIMIT 1"
        return connection.execute(old, (begun_anew("*", table),)).fetchone() is not None
    except SQLITE.DatabaseError:
        return True


def _has_numbers(table: sa.Table) -> bool:
    """Whether its rows are ordered by a number of their own."""
    return [column.name for column in table.primary_key] == ["seq"]


def _lengthen(copy: Path) -> None:
    """Of a file that was cut off, SQLite reads nothing at all; of one with empty pages at its end, all the others."""
    with copy.open("r+b") as file:
        header = file.read(100)
        page_size = int.from_bytes(header[16:18])
        whole = page_size * int.from_bytes(header[28:32])
        if header.startswith(b"SQLite format 3") and copy.stat().st_size < whole <= _LONGEST:
            file.truncate(whole)


def _salvage(source: Any, fresh: Store, table: sa.Table) -> Salvaged:
    try:
        there = {row[1] for row in source.execute(f"PRAGMA table_info({table.name})")}
    except SQLITE.DatabaseError:
        raise StoreError("nothing can be read of the damaged store; restore a backup") from None
    columns = [column.name for column in table.c if column.name in there]
    if not columns:
        return Salvaged(table.name.removeprefix(PREFIX), 0, 0)
    names = ", ".join(f'"{name}"' for name in columns)
    read = _by_number if _has_numbers(table) else by_key
    count = foreign = 0
    lost: int | None = 0
    batches = read(source, table, columns)
    is_ours = checked_by([table.c[name] for name in columns])
    while True:
        try:
            found = next(batches)
        except StopIteration as end:
            lost = end.value
            break
        rows = [row for row in found if is_ours(row)]
        foreign += len(found) - len(rows)
        if rows:
            with fresh.writing() as connection:
                marks = ", ".join("?" for _ in columns)
                insert = f"INSERT OR REPLACE INTO {table.name} ({names}) VALUES ({marks})"  # noqa: S608 - names of ours
                connection.exec_driver_sql(insert, [tuple(row) for row in rows])
        count += len(rows)
    return Salvaged(table.name.removeprefix(PREFIX), count, None if lost is None else lost + foreign)


def _by_number(source: Any, table: sa.Table, names: Sequence[str]) -> Any:
    """Yields rows; returns how many row numbers could not be read."""
    columns = ", ".join(f'"{name}"' for name in names)
    query = f"SELECT {columns} FROM {table.name} WHERE rowid >= ? AND rowid < ? ORDER BY rowid"  # noqa: S608

    def ask(low: int, high: int) -> list[Any] | None:
        try:
            return list(source.execute(query, (low, high)).fetchall())
        except (SQLITE.DatabaseError, UnicodeDecodeError):
            return None

    lost = unread = 0
    for first in range(1, _last_number(source, table) + 1, _STEP):
        ranges = [(first, first + _STEP)]
        # Where thousands in a row cannot be read, a few of the next ones tell whether all have to be asked for.
        if unread >= _DEAD and all(ask(at, at + 1) is None for at in range(first, first + _STEP, _STEP // 4)):
            lost, ranges = lost + _STEP, []
        while ranges:
            low, high = ranges.pop()
            rows = ask(low, high)
            if rows:
                unread = 0
                yield rows
            elif rows is None and high - low == 1:
                lost, unread = lost + 1, unread + 1
            elif rows is None:
                middle = (low + high) // 2
                ranges += [(middle, high), (low, middle)]
    return lost


def _last_number(source: Any, table: sa.Table) -> int:
    """From the table's last page; where that is bad and it is the events', from those who have their numbers."""
    last = _highest(source, f"SELECT max(rowid) FROM {table.name}")  # noqa: S608 - names of ours
    if last is not None or table.name != f"{PREFIX}events":
        return _MOST_ROWS if last is None else last
    others = [
        _highest(source, f"SELECT {number} FROM {PREFIX}{other} WHERE sink = '{QUEUE}' ORDER BY {order} DESC LIMIT 1")  # noqa: S608
        for other, number, order in (
            ("waiting", "turn", "turn"),
            ("taken", "last", "first"),
            ("dead_letters", "seq", "seq"),
        )
    ]
    known = [number for number in others if number is not None]
    return max(known, default=0) + (_MOST_ROWS if len(known) < len(others) else 0)


def _highest(source: Any, query: str) -> int | None:
    """The one number that is asked for, 0 where there are no rows; None where it cannot be read."""
    try:
        found = source.execute(query).fetchall()
    except SQLITE.DatabaseError:
        return None
    return int(found[0][0] or 0) if found else 0


def _complete(connection: sa.Connection, tables: Tables, *, is_all_waiting_known: bool) -> None:
    """
    Make whole what was torn apart: an event is undelivered until the opposite is known, a fax is known by its events,
    and retention looks at everything once more.
    """
    connection.execute(tables.meta.delete().where(tables.meta.c.name == DAMAGED))
    places.move(connection, tables, Places())
    outbox.reclaim_all(connection, tables)
    connection.execute(tables.waiting.delete().where(tables.waiting.c.sink == PROJECTOR))
    _forget_faxes(connection, tables, is_all_waiting_known=is_all_waiting_known)
    _forget_lost_events(connection, tables)
    _let_wait(connection, tables)
    _make_known(connection, tables)
    _note_hours(connection, tables)


def _forget_faxes(connection: sa.Connection, tables: Tables, *, is_all_waiting_known: bool) -> None:
    """
    Of the faxes whose newest event is lost, forget those of which it may be undelivered: heard again, they are new.

    The others stay known; retention finds them as ``late_faxes``.
    """
    faxes, late = tables.faxes, tables.late_faxes
    is_there = sa.exists().where(is_newest(tables))
    lost = ~is_there, faxes.c.fax_id.not_in(sa.select(late.c.fax_id))
    gone = sa.select(faxes.c.fax_id).where(*lost)
    if is_all_waiting_known:
        undelivered = [
            sa.select(table.c.fax_id).where(_has_no_event(table, tables.events))
            for table in (tables.waiting, tables.dead_letters)
        ]
        gone = gone.where(faxes.c.fax_id.in_(sa.union(*undelivered)))
    for table in (tables.announcements, tables.learned, faxes):  # the last one says which they are
        connection.execute(table.delete().where(table.c.fax_id.in_(gone)))
    kept = sa.select(faxes.c.seen_at_ms, faxes.c.fax_id).where(*lost)
    connection.execute(late.insert().from_select(["due_at_ms", "fax_id"], kept))


def _has_no_event(table: sa.Table, events: sa.Table) -> sa.ColumnElement[bool]:
    return ~sa.exists().where(events.c.seq == table.c.seq)


def _forget_lost_events(connection: sa.Connection, tables: Tables) -> None:
    """What is said of their row numbers: the highest ones will be given again."""
    events, taken = tables.events, tables.taken
    for table in (tables.waiting, tables.dead_letters, tables.overdue, tables.find_keys):
        connection.execute(table.delete().where(_has_no_event(table, events)))
    last = connection.scalar(sa.select(sa.func.max(events.c.seq))) or 0
    connection.execute(taken.delete().where(taken.c.first > last))
    connection.execute(taken.update().where(taken.c.last > last).values(last=last))


def _let_wait(connection: sa.Connection, tables: Tables) -> None:
    """Rather twice than never, and in the order in which they were told."""
    events, waiting, dead = tables.events, tables.waiting, tables.dead_letters
    has_arrived = sa.exists().where(*covering(tables, QUEUE))
    is_waiting = sa.exists().where(waiting.c.sink == QUEUE, waiting.c.turn == events.c.seq)
    waits_again = sa.exists().where(waiting.c.seq == events.c.seq, sa.text("seq <> turn"))
    is_dead = sa.exists().where(dead.c.sink == QUEUE, dead.c.seq == events.c.seq)
    lost = sa.select(sa.literal(QUEUE), events.c.seq, events.c.seq, events.c.fax_id, events.c.revision).where(
        ~has_arrived, ~is_waiting, ~waits_again, ~is_dead
    )
    columns = ["sink", "turn", "seq", "fax_id", "revision"]
    connection.execute(waiting.insert().from_select(columns, lost))
    every = sa.select(sa.literal(PROJECTOR), events.c.seq, events.c.seq, events.c.fax_id, events.c.revision)
    connection.execute(waiting.insert().from_select(columns, every))


def _make_known(connection: sa.Connection, tables: Tables) -> None:
    """
    Faxes whose row is lost, by the newest of their events.

    What the first announcement said follows from the first event, unless the sender's own words have completed that:
    then its repetition is compared once more, and says nothing new.
    """
    events, faxes = tables.events, tables.faxes
    unknown = (
        sa.select(events)
        .where(~sa.exists().where(faxes.c.fax_id == events.c.fax_id))
        .order_by(events.c.fax_id, events.c.revision)
    )
    known: dict[str, dict[str, Any]] = {}
    for row in connection.execute(unknown):
        data = _data(row)
        if row.fax_id in known:
            first = {name: known[row.fax_id][name] for name in ("first_digest", "first_outcome")}
        else:
            is_first = data and row.revision == 1
            digest = fax_facts.digest(fax_facts.of_published(data)) if is_first else ""
            first = {"first_digest": digest, "first_outcome": row.outcome}
        known[row.fax_id] = {
            "fax_id": row.fax_id,
            "provider": data.get("provider", ""),
            "account": data.get("account", ""),
            "outcome": row.outcome,
            "revision": row.revision,
            "event_id": row.id,
            "event_seq": row.seq,
            "first_seq": known[row.fax_id]["first_seq"] if row.fax_id in known else row.seq,
            "seen_at_ms": row.created_at_ms,
            **first,
        }
    if known:
        connection.execute(faxes.insert(), list(known.values()))


def _note_hours(connection: sa.Connection, tables: Tables) -> None:
    """In which hours each endpoint has receipts."""
    for table in (tables.receipts, tables.rejected_receipts):
        hour = table.c.received_at_ms // HOUR_MS
        which = table.c.endpoint, hour, table.c.auth == REPORT
        its = sa.select(*which, sa.func.min(table.c.id)).group_by(*which)
        connection.execute(tables.endpoint_hours.insert().from_select(tables.endpoint_hours.c.keys(), its))


def _data(event: Any) -> dict[str, Any]:
    """What was published; nothing unless it is there as it was written."""
    if event.body is None or checksum(event.id, event.body) != event.checksum:
        return {}
    data: dict[str, Any] = json.loads(event.body)["data"]
    return data
