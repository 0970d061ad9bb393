"""
The outbox as a queue: its rows are sent or handed out in row order, and marked published when they have arrived.

The relay, of which one is active, takes pending rows to a broker. Where there is none, consumers lease them and
acknowledge; a row whose consumer died is leased again. Either way no row of a fax goes out while an earlier one of the
same fax has not arrived, and a row whose payload fails its checksum is parked (``dead``) while the others go on.
"""

import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store.recording import checksum
from receiver.store.tables import Tables

LEASE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Row:
    """One event on its way out. seq: row order. body: the published envelope."""

    seq: int
    event_id: str
    fax_id: str
    type: str
    outcome: str
    body: bytes
    created_at_ms: int


def owner() -> str:
    """This process as the holder of leases: host, pid, and when the pid was given, since pids come round again."""
    return f"{_host()}/{os.getpid()}/{_started(os.getpid())}"


def pending(connection: Connection, tables: Tables, limit: int, after: int = 0) -> tuple[list[Row], list[str]]:
    """Up to ``limit`` rows to send, in row order, of those above ``after``; and the ids of damaged ones."""
    found = connection.execute(_next_rows(tables, limit).where(tables.events.c.seq > after))
    return _verified(found)


def waiting(connection: Connection, tables: Tables, limit: int, after: int) -> tuple[list[Row], list[str], int]:
    """Rows that consumers have not acknowledged, also those in the hands of one; as ``pending``, and the last's seq."""
    state, seq = tables.events.c.state, tables.events.c.seq
    found = connection.execute(_rows(tables, limit).where(state.in_(("pending", "leased")), seq > after)).all()
    return *_verified(found), found[-1].seq if found else after


def publish(connection: Connection, tables: Tables, seqs: Sequence[int], now_ms: int) -> None:
    """Mark rows that a broker has confirmed, whether or not a consumer holds them."""
    events = tables.events
    connection.execute(
        events.update()
        .where(events.c.seq.in_(seqs), events.c.state.in_(("pending", "leased")))
        .values(state="published", published_at_ms=now_ms, lease_owner=None, lease_until_ms=None)
    )


def park(connection: Connection, tables: Tables, event_ids: Sequence[str]) -> None:
    """Make dead letters of pending rows: kept, listed, and no longer in the way of others."""
    events = tables.events
    connection.execute(
        events.update().where(events.c.id.in_(event_ids), events.c.state == "pending").values(state="dead")
    )


def lease(connection: Connection, tables: Tables, holder: str, limit: int, now_ms: int) -> tuple[list[Row], list[str]]:
    """Up to ``limit`` rows in row order, now held by ``holder``; and the ids of damaged ones, which are parked."""
    events = tables.events
    wanted = _next_rows(tables, limit).with_for_update(of=events, skip_locked=True)
    rows, damaged = _verified(connection.execute(wanted))
    if damaged:
        park(connection, tables, damaged)
    if rows:
        connection.execute(
            events.update()
            .where(events.c.seq.in_([row.seq for row in rows]))
            .values(state="leased", lease_owner=holder, lease_until_ms=now_ms + LEASE_SECONDS * 1000)
        )
    return rows, damaged


def _next_rows(tables: Tables, limit: int) -> sa.Select[*tuple[Any, ...]]:
    """Pending rows with their payloads: at most one of each fax, and none whose fax has an earlier one under way."""
    events = tables.events
    earlier = events.alias("earlier")
    return _rows(tables, limit).where(
        events.c.state == "pending",
        ~sa.exists().where(
            earlier.c.fax_id == events.c.fax_id,
            earlier.c.seq < events.c.seq,
            earlier.c.state.in_(("pending", "leased")),
        ),
    )


def _rows(tables: Tables, limit: int) -> sa.Select[*tuple[Any, ...]]:
    """In row order, with their payloads."""
    events, payloads = tables.events, tables.payloads
    columns = (events.c.seq, events.c.id, events.c.fax_id, events.c.type, events.c.outcome, events.c.created_at_ms)
    return (
        sa.select(*columns, payloads.c.body, payloads.c.checksum)
        .outerjoin_from(events, payloads, payloads.c.seq == events.c.seq)
        .order_by(events.c.seq)
        .limit(limit)
    )


def _verified(found: Iterable[Any]) -> tuple[list[Row], list[str]]:
    """The rows as stored, and the ids of those that are not as they were written."""
    rows: list[Row] = []
    damaged: list[str] = []
    for one in found:
        if one.body is None or checksum(one.id, one.body) != one.checksum:
            damaged.append(one.id)
        else:
            rows.append(Row(one.seq, one.id, one.fax_id, one.type, one.outcome, one.body, one.created_at_ms))
    return rows, damaged


def acknowledge(connection: Connection, tables: Tables, holder: str, seqs: Sequence[int], now_ms: int) -> int:
    """Mark leased rows published; the number that were still ours."""
    events = tables.events
    done = connection.execute(
        events.update()
        .where(events.c.seq.in_(seqs), events.c.lease_owner == holder, events.c.state == "leased")
        .values(state="published", published_at_ms=now_ms, lease_owner=None, lease_until_ms=None)
    )
    return int(done.rowcount)


def release(connection: Connection, tables: Tables, holder: str) -> int:
    """Give back what a consumer still holds."""
    events = tables.events
    given_back = connection.execute(
        events.update()
        .where(events.c.lease_owner == holder, events.c.state == "leased")
        .values(state="pending", lease_owner=None, lease_until_ms=None)
    )
    return int(given_back.rowcount)


def reclaim(connection: Connection, tables: Tables, now_ms: int) -> int:
    """Give back the rows of consumers that died: at once where they ran on this host, else when the lease ends."""
    events = tables.events
    held = events.c.state == "leased"
    holders = connection.scalars(sa.select(events.c.lease_owner).where(held).distinct()).all()
    dead = [holder for holder in holders if _is_dead(holder)]
    ended = sa.or_(events.c.lease_until_ms <= now_ms, events.c.lease_owner.in_(dead))
    given_back = connection.execute(
        events.update().where(held, ended).values(state="pending", lease_owner=None, lease_until_ms=None)
    )
    return int(given_back.rowcount)


def _is_dead(holder: str) -> bool:
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
