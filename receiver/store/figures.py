"""Figures of the moment for operators, the same for every process that asks: backlog, dead letters, relay, delays."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store import counters, cursors, discrepancies, now_ms, refusals
from receiver.store.counters import Counts
from receiver.store.tables import PROJECTOR, QUEUE, Tables

ALIVE_SECONDS = 60.0  # a relay shows a sign of life each 10 s, or later while it waits for its broker
_COUNTED = 1000  # rows of the backlog
_SAMPLE = 500  # events that delays are measured on
_HOUR_MS = 3600_000


@dataclass(frozen=True, slots=True)
class Relay:
    """The active relay's last sign of life, and the kind of its trouble with the broker; None while all is well."""

    seen_at_ms: int
    trouble: str | None
    trouble_since_ms: int | None


@dataclass(frozen=True, slots=True)
class Figures:
    """
    backlog: events that have not arrived; oldest_at_ms: when the first of them was written.

    unprojected: events that cannot be found by number, reference and the like yet. delays: from commit to arrival of
    the newest published events, in seconds, the shortest first. relay: None where none has ever run. discrepancies:
    kind -> how many are open, and when the oldest was found. credits: (provider, account) -> what is left of a prepaid
    account, as its report has it. refusals: (endpoint, reason) -> how many requests left no receipt in the last hour.
    reported: the counters of what reports told.
    """

    at_ms: int
    backlog: int
    oldest_at_ms: int | None
    unprojected: int
    dead: int
    relay: Relay | None
    delays: tuple[float, ...]
    discrepancies: Mapping[str, tuple[int, int]]
    credits: Mapping[tuple[str, str], float]
    refusals: Counter[tuple[str, str]]
    reported: Counts

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest waits; 0 where nothing does."""
        return 0.0 if self.oldest_at_ms is None else max(0, self.at_ms - self.oldest_at_ms) / 1000

    @property
    def relay_is_alive(self) -> bool:
        return self.relay is not None and self.at_ms - self.relay.seen_at_ms < ALIVE_SECONDS * 1000

    def delay(self, share: float) -> float | None:
        """The delay that so many of the events did not exceed; None before the first one."""
        return self.delays[min(int(share * len(self.delays)), len(self.delays) - 1)] if self.delays else None


def read(connection: Connection, tables: Tables) -> Figures:
    """All of them; none takes longer in a larger store."""
    now = now_ms()
    return Figures(
        at_ms=now,
        backlog=undelivered(connection, tables),
        oldest_at_ms=_oldest(connection, tables),
        unprojected=undelivered(connection, tables, PROJECTOR),
        dead=_dead(connection, tables),
        relay=_relay(connection, tables),
        delays=_delays(connection, tables),
        discrepancies=discrepancies.open_by_kind(connection, tables),
        credits={who: float(text) for who, (text, _) in cursors.all_of(connection, tables, "credit").items()},
        refusals=refusals.since(connection, tables, now - _HOUR_MS),
        reported=counters.all_of(connection, tables),
    )


def undelivered(connection: Connection, tables: Tables, sink: str = QUEUE) -> int:
    """
    How many events have not arrived at the broker or a consumer; or at another sink.

    Of more than a thousand only these are counted; the others are so many as there are turns behind them, which are
    given one after the other. So a large backlog is no work for who asks.
    """
    turn = tables.waiting.c.turn
    mine = tables.waiting.c.sink == sink
    counted = sa.select(turn).where(mine).order_by(turn).limit(_COUNTED).subquery()
    count, last = connection.execute(sa.select(sa.func.count(), sa.func.max(counted.c.turn))).one()
    if count < _COUNTED:
        return int(count)
    newest = connection.execute(sa.select(turn).where(mine).order_by(turn.desc()).limit(1)).scalar_one()
    return int(count + newest - last)


def _dead(connection: Connection, tables: Tables) -> int:
    table = tables.dead_letters
    query = sa.select(sa.func.count()).select_from(table).where(table.c.sink == QUEUE)
    return int(connection.execute(query).scalar_one())


def _oldest(connection: Connection, tables: Tables) -> int | None:
    """When the event was written whose turn is next."""
    events, waiting = tables.events, tables.waiting
    query = (
        sa.select(events.c.created_at_ms)
        .join_from(waiting, events, events.c.seq == waiting.c.seq)
        .where(waiting.c.sink == QUEUE)
        .order_by(waiting.c.turn)
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none()


def _relay(connection: Connection, tables: Tables) -> Relay | None:
    relays = tables.relays
    row = connection.execute(sa.select(relays.c.seen_at_ms, relays.c.trouble, relays.c.trouble_since_ms)).first()
    return None if row is None else Relay(row.seen_at_ms, row.trouble, row.trouble_since_ms)


def _delays(connection: Connection, tables: Tables) -> tuple[float, ...]:
    events, taken = tables.events, tables.taken
    newest = sa.select(taken.c.first, taken.c.last, taken.c.at_ms).where(taken.c.sink == QUEUE)
    arrived: dict[int, int] = {}
    for first, last, at_ms in connection.execute(newest.order_by(taken.c.first.desc()).limit(_SAMPLE)):
        arrived |= {seq: at_ms for seq in range(last, first - 1, -1) if seq not in arrived}
        if len(arrived) >= _SAMPLE:
            break
    written = sa.select(events.c.seq, events.c.created_at_ms).where(events.c.seq.in_(list(arrived)[:_SAMPLE]))
    return tuple(sorted(max(0, arrived[row.seq] - row.created_at_ms) / 1000 for row in connection.execute(written)))
