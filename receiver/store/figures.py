"""Figures of the moment for operators, the same for every process that asks: backlog, dead letters, relay, delays."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store import HOUR_MS, counters, cursors, discrepancies, now_ms, outbox, refusals, sinks
from receiver.store.counters import Counts
from receiver.store.sinks import Standing
from receiver.store.tables import PROJECTOR, QUEUE, Tables

ALIVE_SECONDS = 60.0  # a relay shows a sign of life each 10 s, or later while it waits for its broker
_MOST_DEAD = 10_000  # counted
_SAMPLE = 500  # events that delays are measured on


@dataclass(frozen=True, slots=True)
class Relay:
    """The active relay's last sign of life, and the kind of its trouble with the broker; None while all is well."""

    seen_at_ms: int
    trouble: str | None
    trouble_since_ms: int | None


@dataclass(frozen=True, slots=True)
class OfSink:
    """backlog, oldest_at_ms and dead as in Figures, and how the sink stands."""

    standing: Standing
    backlog: int
    oldest_at_ms: int | None
    dead: int


@dataclass(frozen=True, slots=True)
class Figures:
    """
    backlog: events that have not arrived; oldest_at_ms: when the first of them was written.

    dead: dead letters, ten thousand at most, as in ``discrepancies``.

    unprojected: events that cannot be found by number, reference and the like yet. delays: from commit to arrival of
    the newest published events, in seconds, the shortest first. relay: None where none has ever run. discrepancies:
    kind -> how many are open, and when the oldest was found. degraded: endpoints whose faxes fail more than usual.
    credits: (provider, account) -> what is left of a prepaid account, as its report has it. refusals: (endpoint,
    reason) -> how many requests left no receipt in the last hour. reported: the counters of what reports told. backlog,
    oldest_at_ms, dead and delays are those of the queue; sinks
    has the same of each other sink.
    """

    at_ms: int
    backlog: int
    oldest_at_ms: int | None
    unprojected: int
    dead: int
    relay: Relay | None
    delays: tuple[float, ...]
    discrepancies: Mapping[str, tuple[int, int]]
    degraded: frozenset[str]
    credits: Mapping[tuple[str, str], float]
    refusals: Counter[tuple[str, str]]
    reported: Counts
    sinks: Mapping[str, OfSink]

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest waits; 0 where nothing does."""
        return self.seconds_since(self.oldest_at_ms)

    def seconds_since(self, at_ms: int | None) -> float:
        return 0.0 if at_ms is None else max(0, self.at_ms - at_ms) / 1000

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
        backlog=outbox.undelivered(connection, tables),
        oldest_at_ms=_oldest(connection, tables, QUEUE),
        unprojected=outbox.undelivered(connection, tables, PROJECTOR),
        dead=_dead(connection, tables, QUEUE),
        relay=_relay(connection, tables),
        delays=_delays(connection, tables),
        discrepancies=discrepancies.open_by_kind(connection, tables),
        degraded=frozenset(discrepancies.open_since(connection, tables, "degraded")),
        credits={who: float(text) for who, (text, _) in cursors.all_of(connection, tables, "credit").items()},
        refusals=refusals.since(connection, tables, now - HOUR_MS),
        reported=counters.all_of(connection, tables),
        sinks={one.name: _of_sink(connection, tables, one) for one in sinks.beside_the_queue(connection, tables)},
    )


def _of_sink(connection: Connection, tables: Tables, one: Standing) -> OfSink:
    backlog = outbox.undelivered(connection, tables, one.name)
    oldest = _oldest(connection, tables, one.name) if backlog else None
    return OfSink(one, backlog, oldest, _dead(connection, tables, one.name))


def _dead(connection: Connection, tables: Tables, sink: str) -> int:
    table = tables.dead_letters
    some = sa.select(table.c.seq).where(table.c.sink == sink).limit(_MOST_DEAD).subquery()
    return int(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())


def _oldest(connection: Connection, tables: Tables, sink: str) -> int | None:
    """When the event was written whose turn is next."""
    events, waiting = tables.events, tables.waiting
    query = (
        sa.select(events.c.created_at_ms)
        .join_from(waiting, events, events.c.seq == waiting.c.seq)
        .where(waiting.c.sink == sink)
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
