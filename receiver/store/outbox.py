"""
The outbox as a queue: consumers lease its rows, write them out, and acknowledge.

At least once: a row whose consumer died is leased again. No row of a fax is leased while an earlier one of the same fax
is not acknowledged. A row whose payload fails its checksum is parked (``dead``), and the others go on.
"""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store.recording import checksum
from receiver.store.tables import Tables

LEASE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Leased:
    """One event handed to a consumer. body: the published envelope."""

    seq: int
    event_id: str
    type: str
    outcome: str
    body: bytes


def owner() -> str:
    """This process as the holder of leases: host, pid, and when the pid was given, since pids come round again."""
    return f"{_host()}/{os.getpid()}/{_started(os.getpid())}"


def lease(
    connection: Connection, tables: Tables, holder: str, limit: int, now_ms: int
) -> tuple[list[Leased], list[str]]:
    """Up to ``limit`` rows in row order, now held by ``holder``; and the ids of damaged ones, which are parked."""
    events, payloads = tables.events, tables.payloads
    earlier = events.alias("earlier")
    rows = connection.execute(
        sa.select(events.c.seq, events.c.id, events.c.type, events.c.outcome, payloads.c.body, payloads.c.checksum)
        .outerjoin_from(events, payloads, payloads.c.event_id == events.c.id)
        .where(
            events.c.state == "pending",
            ~sa.exists().where(
                earlier.c.fax_id == events.c.fax_id,
                earlier.c.seq < events.c.seq,
                earlier.c.state.in_(("pending", "leased")),
            ),
        )
        .order_by(events.c.seq)
        .limit(limit)
        .with_for_update(of=events, skip_locked=True)
    ).all()
    leased: list[Leased] = []
    damaged: list[str] = []
    for row in rows:
        if row.body is None or checksum(row.id, row.body) != row.checksum:
            damaged.append(row.id)
        else:
            leased.append(Leased(row.seq, row.id, row.type, row.outcome, row.body))
    if damaged:
        connection.execute(events.update().where(events.c.id.in_(damaged)).values(state="dead"))
    if leased:
        connection.execute(
            events.update()
            .where(events.c.seq.in_([row.seq for row in leased]))
            .values(state="leased", lease_owner=holder, lease_until_ms=now_ms + LEASE_SECONDS * 1000)
        )
    return leased, damaged


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
