"""
Reading what can be read of a damaged SQLite store, into a new one.

Rows are asked for in ranges of row numbers, halved wherever SQLite says that the file is corrupt, so that one bad page
costs the rows on it and no others. The damaged files are copied first and never opened themselves.
"""

import errno
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from receiver.errors import StoreError
from receiver.store import DAMAGED, Store
from receiver.store.migrating import migrate
from receiver.store.recording import checksum
from receiver.store.sqlite import SQLITE
from receiver.store.tables import PREFIX

_STEP = 500  # rows asked for at once
_DEAD = 5000  # row numbers, of which none could be read
_MOST_ROWS = 1_000_000  # where nothing tells how many there were
_FILES = ("", "-wal", "-shm", "-journal", ".lock")  # of a store, after its name
_LONGEST = 1 << 40  # bytes: a header that says more is damaged itself


_KINDS = {sa.Integer: int, sa.BigInteger: int, sa.Boolean: int, sa.Text: str, sa.LargeBinary: bytes}


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
            for table in fresh.tables.metadata.sorted_tables:
                yield _salvage(connection, fresh, table)
    with fresh.writing() as connection:
        _complete(connection, fresh)


def _has_no_tables(connection: Any) -> bool:
    """Whether the list of tables can be read, and none of ours stands in it."""
    try:
        ours = "SELECT 1 FROM sqlite_master WHERE substr(name, 1, ?) = ? LIMIT 1"
        return connection.execute(ours, (len(PREFIX), PREFIX)).fetchone() is None
    except SQLITE.DatabaseError:
        return False


def _has_numbers(table: sa.Table) -> bool:
    return "seq" in table.c or table.name == f"{PREFIX}faxes"


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
    read = _by_number if _has_numbers(table) else _by_key
    count = foreign = 0
    lost: int | None = 0
    batches = read(source, table, names)
    is_ours = _checked_by([table.c[name] for name in columns])
    while True:
        try:
            found = next(batches)
        except StopIteration as end:
            lost = end.value
            break
        rows = [row for row in found if is_ours(row)]
        foreign += len(found) - len(rows)
        with fresh.writing() as connection:
            marks = ", ".join("?" for _ in columns)
            insert = f"INSERT OR REPLACE INTO {table.name} ({names}) VALUES ({marks})"  # noqa: S608 - names of ours
            for row in rows:
                connection.exec_driver_sql(insert, tuple(row))
        count += len(rows)
    return Salvaged(table.name.removeprefix(PREFIX), count, None if lost is None else lost + foreign)


def _checked_by(columns: Sequence[sa.Column[Any]]) -> Callable[[Sequence[Any]], bool]:
    """Whether a row can be one of the table: a page of another one may have been written in its place."""
    kinds = [
        (*((type(None),) if column.nullable else ()), _KINDS[type(column.type.as_generic())]) for column in columns
    ]
    return lambda row: all(isinstance(value, kind) for value, kind in zip(row, kinds, strict=True))


def _by_number(source: Any, table: sa.Table, names: str) -> Any:
    """Yields rows; returns how many row numbers could not be read."""
    query = f"SELECT {names} FROM {table.name} WHERE rowid >= ? AND rowid < ? ORDER BY rowid"  # noqa: S608

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
    """From the table's last page; where that is bad, from another table's, since they grow together."""
    numbered = [one for one in table.metadata.sorted_tables if _has_numbers(one)]
    for one in (table, *numbered):
        try:
            (last,) = source.execute(f"SELECT max(rowid) FROM {one.name}").fetchone()  # noqa: S608
        except SQLITE.DatabaseError:
            continue
        if one is table:
            return last or 0
        if last:
            return int(last) + 10 * _STEP
    return _MOST_ROWS


def _by_key(source: Any, table: sa.Table, names: str) -> Any:
    """A table without row numbers: from its beginning and from its end, up to the damage. What is between is lost."""
    keys = ", ".join(f'"{column.name}"' for column in table.primary_key)
    back = ", ".join(f'"{column.name}" DESC' for column in table.primary_key)
    for order in (keys, back):
        rows: list[Any] = []
        try:
            for row in source.execute(f"SELECT {names} FROM {table.name} ORDER BY {order}"):  # noqa: S608
                rows.append(row)
                if len(rows) == _STEP:
                    yield rows
                    rows = []
        except (SQLITE.DatabaseError, UnicodeDecodeError):
            if rows:
                yield rows
        else:
            if rows:
                yield rows
            return 0
    return None


def _complete(connection: sa.Connection, fresh: Store) -> None:
    """Make whole what was torn apart: an event is undelivered until the opposite is known, and its fax is known."""
    events, payloads, faxes = fresh.tables.events, fresh.tables.payloads, fresh.tables.faxes
    connection.execute(fresh.tables.meta.delete().where(fresh.tables.meta.c.name == DAMAGED))
    connection.execute(
        events.update().where(events.c.state == "leased").values(state="pending", lease_owner=None, lease_until_ms=None)
    )
    orphans = sa.select(payloads).where(~sa.exists().where(events.c.seq == payloads.c.seq))
    for row in connection.execute(orphans).all():
        event = _envelope(row)
        if event is None:
            continue
        connection.execute(
            events.insert().prefix_with("OR IGNORE"),
            {
                "seq": row.seq,
                "id": event["id"],
                "fax_id": event["subject"],
                "type": event["type"],
                "outcome": event["data"]["outcome"],
                "receipt": None,
                "state": "pending",  # rather twice than never
                "created_at_ms": row.stored_at_ms,
            },
        )
    unknown = (
        sa.select(events, payloads.c.body, payloads.c.checksum)
        .outerjoin_from(events, payloads, payloads.c.seq == events.c.seq)
        .where(~sa.exists().where(faxes.c.fax_id == events.c.fax_id))
        .order_by(events.c.seq)
    )
    known: dict[str, dict[str, Any]] = {}
    for row in connection.execute(unknown):
        data = (_envelope(row) or {}).get("data", {})
        known[row.fax_id] = {
            "fax_id": row.fax_id,
            "provider": data.get("provider", ""),
            "account": data.get("account", ""),
            "outcome": row.outcome,
            "revision": data.get("revision", 1),
            "event_id": row.id,
            "seen_at_ms": row.created_at_ms,
            "first_digest": "",
            "first_outcome": row.outcome,
            "facts": None,  # as of one whose facts were purged: only its outcome is compared
        }
    if known:
        connection.execute(faxes.insert(), list(known.values()))


def _envelope(payload: Any) -> dict[str, Any] | None:
    """What was published, from a row with ``body`` and ``checksum``; None unless it is there as it was written."""
    try:
        event = json.loads(payload.body or b"")
        is_whole = checksum(event["id"], payload.body) == payload.checksum
    except (ValueError, LookupError, TypeError):
        return None
    return event if is_whole else None
