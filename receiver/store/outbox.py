"""
The outbox as a queue: what stands in ``waiting`` is undelivered, and who has taken an event deletes its row there.

The relay, of which one is active, takes rows to a broker. Where there is none, consumers lease them and acknowledge; a
row whose consumer died is leased again. Either way no row of a fax goes out while an earlier one of the same fax has
not arrived, and a row whose payload fails its checksum is parked (a dead letter) while the others go on.
"""

import os
import socket
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store import places
from receiver.store.submissions import checksum
from receiver.store.tables import PROJECTOR, QUEUE, Tables, insert_or_keep
from receiver.system.batches import batches
from schemas.envelope import AMENDED, COMPLETED

LEASE_SECONDS = 30
LONGEST_RUN = 200  # row numbers in one row of ``taken``, so that an event is looked for in few of them
_COUNTED = 1000  # rows of a backlog
_MOST_COUNTED = 10_000
_AT_ONCE = 200  # rows read, or named in one statement


@dataclass(frozen=True, slots=True)
class Row:
    """
    One event on its way out. seq: row order. turn: its place in the queue. body: the published envelope; empty and
    is_damaged where it is not there as it was written.
    """

    seq: int
    turn: int
    event_id: str
    fax_id: str
    revision: int
    type: str
    outcome: str
    created_at_ms: int
    body: bytes
    is_damaged: bool = False


def owner() -> str:
    """This process as the holder of leases: host, pid, and when the pid was given, since pids come round again."""
    return f"{_host()}/{os.getpid()}/{_started(os.getpid())}"


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row of ``waiting``, without its event."""

    turn: int
    seq: int
    fax_id: str
    holder: str | None


def pending(
    connection: Connection, tables: Tables, limit: int, after: int = 0, held: Container[str] = (), sink: str = QUEUE
) -> list[Row]:
    """
    Up to ``limit`` rows to send to the sink, in turn, of those behind the turn ``after``: at most one of each fax, and
    none of a fax that is held, or of which an earlier row is in the hands of a consumer.
    """
    free: list[Waiting] = []
    for some in _free(connection, tables, after, held, sink):
        free += some
        if len(free) >= limit:
            break
    return _with_events(connection, tables, free[:limit])


def waiting(connection: Connection, tables: Tables, limit: int, after: int) -> list[Row]:
    """Rows that consumers have not acknowledged, also those in the hands of one."""
    return _with_events(connection, tables, _read(connection, tables, after, limit))


def without_followers(
    connection: Connection, tables: Tables, rows: Sequence[Row], after: int, sink: str = QUEUE
) -> list[Row]:
    """Those of which no earlier row of the same fax waits up to ``after``; a first event in its own turn has none."""
    some = {row.fax_id for row in rows if row.revision > 1 or row.seq != row.turn}
    table = tables.waiting
    query = sa.select(table.c.fax_id).where(table.c.sink == sink, table.c.turn <= after, table.c.fax_id.in_(some))
    held = set(connection.scalars(query)) if after and some else set()
    return [row for row in rows if row.fax_id not in held]


def all_waiting(connection: Connection, tables: Tables) -> list[Waiting]:
    """Every row in turn, without its event: where events are on bad pages, these rows need not be."""
    found: list[Waiting] = []
    while some := _read(connection, tables, found[-1].turn if found else 0, _AT_ONCE):
        found += some
    return found


def _free(
    connection: Connection, tables: Tables, after: int, held: Container[str], sink: str = QUEUE
) -> Iterator[list[Waiting]]:
    """Some at a time: rows that nobody has, each the first one of its fax."""
    met: set[str] = set()
    while rows := _read(connection, tables, after, _AT_ONCE, sink):
        free = []
        for row in rows:
            if row.fax_id not in met and row.fax_id not in held and row.holder is None:
                free.append(row)
            met.add(row.fax_id)
        yield free
        if len(rows) < _AT_ONCE:
            return
        after = rows[-1].turn


def _read(connection: Connection, tables: Tables, after: int, limit: int, sink: str = QUEUE) -> list[Waiting]:
    table = tables.waiting
    query = (
        sa.select(table.c.turn, table.c.seq, table.c.fax_id, table.c.holder)
        .where(table.c.sink == sink, table.c.turn > after)
        .order_by(table.c.turn)
        .limit(limit)
    )
    return [Waiting(*row) for row in connection.execute(query)]


def _with_events(connection: Connection, tables: Tables, rows: Sequence[Waiting]) -> list[Row]:
    events = tables.events
    found: dict[int, Any] = {}
    for some in batches([row.seq for row in rows], _AT_ONCE):
        for event in connection.execute(sa.select(events).where(events.c.seq.in_(some))):
            found[event.seq] = event
    return [_row(row, found.get(row.seq)) for row in rows]


def _row(row: Waiting, event: Any) -> Row:
    if event is None:  # lost with a bad page
        return Row(row.seq, row.turn, "", row.fax_id, 0, "", "", 0, b"", is_damaged=True)
    is_whole = event.body is not None and checksum(event.id, event.body) == event.checksum
    return Row(
        seq=row.seq,
        turn=row.turn,
        event_id=event.id,
        fax_id=row.fax_id,
        revision=event.revision,
        type=COMPLETED if event.revision == 1 else AMENDED,
        outcome=event.outcome,
        created_at_ms=event.created_at_ms,
        body=event.body if is_whole else b"",
        is_damaged=not is_whole,
    )


def undelivered(connection: Connection, tables: Tables, sink: str = QUEUE) -> int:
    """
    How many events have not arrived at the broker or a consumer; or at another sink, of which 10,000 are counted.

    Of more than a thousand only these are counted; the others are so many as there are turns behind them, which are
    given one after the other. So a large backlog is no work for who asks. The turns of another sink have holes, where
    its filter passes nothing.
    """
    turn = tables.waiting.c.turn
    mine = tables.waiting.c.sink == sink
    if sink not in (QUEUE, PROJECTOR):
        some = sa.select(turn).where(mine).limit(_MOST_COUNTED).subquery()
        return int(connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0)
    counted = sa.select(turn).where(mine).order_by(turn).limit(_COUNTED).subquery()
    count, last = connection.execute(sa.select(sa.func.count(), sa.func.max(counted.c.turn))).one()
    if count < _COUNTED:
        return int(count)
    newest = connection.execute(sa.select(turn).where(mine).order_by(turn.desc()).limit(1)).scalar_one()
    return int(count + newest - last)


# --- changing -------------------------------------------------------------------------------------------------------


def publish(connection: Connection, tables: Tables, rows: Sequence[Row], now_ms: int, sink: str = QUEUE) -> None:
    """These have arrived at the sink, whether or not a consumer holds them."""
    _take(connection, tables, rows, now_ms, sa.true(), sink)


def acknowledge(connection: Connection, tables: Tables, holder: str, rows: Sequence[Row], now_ms: int) -> int:
    """These have arrived, as far as they are still this holder's; how many of them are."""
    return _take(connection, tables, rows, now_ms, tables.waiting.c.holder == holder, QUEUE)


def _take(
    connection: Connection,
    tables: Tables,
    rows: Sequence[Row],
    now_ms: int,
    condition: sa.ColumnElement[bool],
    sink: str,
) -> int:
    passed = places.locked(connection, tables, shared=True)
    seqs: list[int] = []
    for some in batches(rows, _AT_ONCE):
        seqs += _delete(connection, tables, some, condition, sink)
    runs = [{"sink": sink, "first": run[0], "last": run[-1], "at_ms": now_ms} for run in _runs(sorted(seqs))]
    if runs:
        connection.execute(insert_or_keep(tables.taken, connection.dialect.name), runs)
    _leave_to_retention(connection, tables, passed, seqs)
    return len(seqs)


def _leave_to_retention(connection: Connection, tables: Tables, passed: places.Places, seqs: Sequence[int]) -> None:
    """Those it has passed and left, since they were undelivered. Their places must be locked."""
    overdue = [{"seq": seq} for seq in seqs if seq <= max(passed.payloads, passed.events)]
    if overdue:
        connection.execute(insert_or_keep(tables.overdue, connection.dialect.name), overdue)


def _delete(
    connection: Connection, tables: Tables, rows: Sequence[Row | Waiting], condition: sa.ColumnElement[bool], sink: str
) -> Sequence[int]:
    """The row numbers of those that were there: one that was sent again meanwhile has another turn, and stays."""
    table = tables.waiting
    delete = table.delete().where(
        table.c.sink == sink,
        table.c.turn.in_([row.turn for row in rows]),
        table.c.seq.in_([row.seq for row in rows]),
        condition,
    )
    return connection.scalars(delete.returning(table.c.seq)).all()


def _runs(seqs: Sequence[int]) -> Iterator[Sequence[int]]:
    """Row numbers that follow each other."""
    start = 0
    for at in range(1, len(seqs) + 1):
        if at == len(seqs) or seqs[at] != seqs[at - 1] + 1 or at - start == LONGEST_RUN:
            yield seqs[start:at]
            start = at


def park(
    connection: Connection,
    tables: Tables,
    rows: Sequence[Row | Waiting],
    reason: str,
    now_ms: int,
    sink: str = QUEUE,
) -> None:
    """Make dead letters of rows that nobody holds: kept, listed, and no longer in the way of others."""
    fax_ids = {row.seq: row.fax_id for row in rows}
    for some in batches(rows, _AT_ONCE):
        letters = [
            {"sink": sink, "seq": seq, "fax_id": fax_ids[seq], "reason": reason, "parked_at_ms": now_ms}
            for seq in _delete(connection, tables, some, tables.waiting.c.holder.is_(None), sink)
        ]
        if letters:
            connection.execute(insert_or_keep(tables.dead_letters, connection.dialect.name), letters)


def give_up(connection: Connection, tables: Tables, sink: str, limit: int) -> int:
    """Some of what waits for a sink, or is a dead letter of it, never goes there; how many these were."""
    passed = places.locked(connection, tables, shared=True)
    table, dead = tables.waiting, tables.dead_letters
    some = sa.select(table.c.turn).where(table.c.sink == sink).order_by(table.c.turn).limit(limit).scalar_subquery()
    delete = table.delete().where(table.c.sink == sink, table.c.turn.in_(some))
    seqs = list(connection.scalars(delete.returning(table.c.seq)))
    if not seqs:
        letters = sa.select(dead.c.seq).where(dead.c.sink == sink).order_by(dead.c.seq).limit(limit).scalar_subquery()
        parked = dead.delete().where(dead.c.sink == sink, dead.c.seq.in_(letters))
        seqs = list(connection.scalars(parked.returning(dead.c.seq)))
    _leave_to_retention(connection, tables, passed, seqs)
    return len(seqs)


def lease(connection: Connection, tables: Tables, holder: str, limit: int, now_ms: int) -> tuple[list[Row], list[Row]]:
    """Up to ``limit`` rows in turn, now held by ``holder``; and damaged ones, which are parked."""
    table = tables.waiting
    taken: list[Waiting] = []
    for free in _free(connection, tables, 0, ()):
        # On PostgreSQL others may be at it: a row that one of them has locked is left to them.
        mine = (
            sa.select(table.c.turn)
            .where(table.c.sink == QUEUE, table.c.turn.in_([row.turn for row in free[: limit - len(taken)]]))
            .where(table.c.holder.is_(None))
            .with_for_update(skip_locked=True)
        )
        turns = set(connection.scalars(mine)) if free else set()
        taken += [row for row in free if row.turn in turns]
        if len(taken) >= limit:
            break
    rows = _with_events(connection, tables, taken)
    damaged = [row for row in rows if row.is_damaged]
    if damaged:
        park(connection, tables, damaged, "damaged", now_ms)
    whole = [row for row in rows if not row.is_damaged]
    for some in batches([row.turn for row in whole], _AT_ONCE):
        connection.execute(
            table.update()
            .where(table.c.sink == QUEUE, table.c.turn.in_(some))
            .values(holder=holder, until_ms=now_ms + LEASE_SECONDS * 1000)
        )
    return whole, damaged


def release(connection: Connection, tables: Tables, holder: str) -> int:
    """Give back what a consumer still holds."""
    return _give_back(connection, tables, tables.waiting.c.holder == holder)


def reclaim(connection: Connection, tables: Tables, now_ms: int) -> int:
    """
    Give back the rows of consumers that died: at once where they ran on this host, else when the lease ends.

    now_ms: here and in ``lease``, by the clock that all consumers share.
    """
    table = tables.waiting
    holders = connection.scalars(sa.select(table.c.holder).where(table.c.holder.is_not(None)).distinct()).all()
    dead = [holder for holder in holders if holder is not None and is_dead(holder)]
    return _give_back(connection, tables, sa.or_(table.c.until_ms <= now_ms, table.c.holder.in_(dead)))


def reclaim_all(connection: Connection, tables: Tables) -> int:
    """Give back every leased row, whichever consumer holds it."""
    return _give_back(connection, tables, sa.true())


def _give_back(connection: Connection, tables: Tables, condition: sa.ColumnElement[bool]) -> int:
    table = tables.waiting
    update = table.update().where(table.c.holder.is_not(None), condition).values(holder=None, until_ms=None)
    return int(connection.execute(update).rowcount)


def is_dead(holder: str) -> bool:
    """Whether it was a process of this host, and has ended."""
    host, _, process = holder.partition("/")
    pid, _, started = process.partition("/")
    return host == _host() and _started(int(pid)) != started


def _host() -> str:
    """Where pids mean the same: this host, and in it this container, since containers may share a host name."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()}:{space}"


def _started(pid: int) -> str:
    """When a process of this host was started, in the kernel's ticks; empty where there is none, or no /proc."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
