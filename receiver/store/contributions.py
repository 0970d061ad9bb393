"""
What each fax adds to the statistics: written by the projector, in the transaction that takes its event.

A fax counts in the five minutes, and in the hour, of its first completion. What was counted of it stands beside its
first event, so that an amendment, or something it has learned, takes the old figures out and puts the new ones in.
Whatever is projected again says what is known already, and changes nothing: the statistics are always the sum over the
faxes. No figure holds anything personal.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.facts import Facts
from receiver.store import HOUR_MS
from receiver.store.stats_columns import CALLING, ENDING, FIGURES, KEY, bucket
from receiver.store.submissions import REPORT
from receiver.store.tables import Tables
from receiver.system.batches import batches
from schemas.encoding import compact

FIVE_MINUTES_MS = 5 * 60_000
STEPS = {5: FIVE_MINUTES_MS, 60: HOUR_MS}  # minutes that a row is about -> milliseconds
COST_UNIT = Decimal("0.000001")  # costs are added up in whole ones
_PLACES = {name: at for at, name in enumerate(FIGURES)}
OF_THE_FIRST = frozenset({"called", "missed", *CALLING})  # what no later event changes

_AT_ONCE = 500  # values in one statement
_MOST_PAGES, _MOST_COST = 10**6, Decimal(10**6)  # more is no fax's, and the sum of millions must fit into a column
_SKEW_SECONDS = 60  # that clocks may be apart: a callback that much before its completion took no time
_ONE_PROJECTOR = f"SELECT pg_advisory_xact_lock({0x6661787374617473})"  # on PostgreSQL a former one may be at work


@dataclass(frozen=True, slots=True)
class Counted:
    """
    What is counted of one fax. revision: of the event that says so. from_ms: the five minutes it counts in. key: in the
    order of ``KEY``. figures: some of ``FIGURES``; the others are 0.
    """

    revision: int
    from_ms: int
    key: tuple[str, ...]
    figures: Mapping[str, int]

    @classmethod
    def read(cls, text: str) -> "Counted":
        revision, five_minutes, key, ones, others = json.loads(text)
        figures = {FIGURES[at]: 1 for at in ones} | {FIGURES[at]: count for at, count in others}
        return cls(revision, five_minutes * FIVE_MINUTES_MS, tuple(key), figures)

    def text(self) -> str:
        """Short, since each fax has one: figures by their places, those that are 1 by the place alone."""
        ones = [_PLACES[name] for name, count in self.figures.items() if count == 1]
        others = [(_PLACES[name], count) for name, count in self.figures.items() if count != 1]
        return compact([self.revision, self.from_ms // FIVE_MINUTES_MS, self.key, ones, others])

    def amended(self, later: "Counted") -> "Counted":
        """What is counted once a later event has said the rest: time and endpoint stay those of the first."""
        stays = {name: count for name, count in self.figures.items() if name in OF_THE_FIRST}
        comes = {name: count for name, count in later.figures.items() if name not in OF_THE_FIRST}
        return Counted(later.revision, self.from_ms, (*self.key[:2], *later.key[2:]), stays | comes)


# --- what an event says ---------------------------------------------------------------------------------------------


def said(data: Mapping[str, Any], facts: Facts) -> Counted:
    """As if it were the fax's first event. data: as published. facts: those, and what the fax has learned since."""
    provider, failure, cost = data["provider"], facts["failure"], _cost(facts["cost"])
    observed, completed = _time(data["observed_at"]), _time(data["completed_at"])
    assert observed is not None
    # What is said to end after we were told of it ended when we were told.
    ended = min(observed, completed or observed)
    key = (
        *(data["endpoint"], provider, _country(facts["recipient"]["number"])),
        *(facts["outcome"], failure["reason"] if failure else "", (cost and cost[1]) or ""),
    )
    figures = {
        "faxes": 1,
        "pages": _pages(facts["pages"]["sent"]),
        "tried": int(facts["attempts"] is not None),
        "first_tries": int(facts["attempts"] == 1 and facts["outcome"] == "delivered"),
        "unlisted": int(_is_unlisted(provider, facts)),
        "priced": int(cost is not None),
        "cost": cost[0] if cost else 0,
        **_duration(ENDING, _time(facts["submitted_at"]), _time(facts["completed_at"])),
    }
    if _calls(provider):
        figures |= (
            {"missed": 1} if data["observed_via"] == REPORT else {"called": 1} | _duration(CALLING, completed, observed)
        )
    from_ms = int(ended * 1000) // FIVE_MINUTES_MS * FIVE_MINUTES_MS
    return Counted(data["revision"], from_ms, key, {name: count for name, count in figures.items() if count})


def _duration(columns: Sequence[str], start: float | None, end: float | None) -> dict[str, int]:
    """The bucket, where both times are known and can be true."""
    if start is None or end is None or end < start - _SKEW_SECONDS:
        return {}
    return {columns[bucket(end - start)]: 1}


def _time(text: str | None) -> float | None:
    """Seconds since 1970."""
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _pages(stated: int | None) -> int:
    return stated if stated is not None and 0 <= stated <= _MOST_PAGES else 0


def _cost(stated: Mapping[str, Any] | None) -> tuple[int, str | None] | None:
    """In units, and the currency."""
    if stated is None:
        return None
    amount = Decimal(stated["amount"])
    if abs(amount) > _MOST_COST:
        return None
    return int((amount / COST_UNIT).to_integral_value()), stated["currency"]


# Only the projector needs these two, and most commands start in half the time without them.


def _country(number: str | None) -> str:
    from receiver.providers.shared.normalising import country

    return country(number) or ""


def _is_unlisted(provider: str, facts: Facts) -> bool:
    """Whether its code is in no table, and nothing else has said how it ended."""
    from receiver.providers.shared.normalising import UNLISTED

    assert UNLISTED.failure is not None
    failure, known = facts["failure"], _provider(provider)
    if known is None or failure is None or failure["confidence"] != UNLISTED.failure.confidence.value:
        return False
    try:
        is_listed = known.codes.lists(facts["provider_status"]["code"])
    except ValueError:  # a former version has let it through
        is_listed = False
    return failure["reason"] == UNLISTED.failure.reason.value and not is_listed


def _calls(provider: str) -> bool:
    """Whether it sends callbacks at all, so that one can be missed."""
    known = _provider(provider)
    return known is None or known.callback is not None


@cache
def _provider(name: str) -> Any:
    """None where this version does not have it any more."""
    from receiver import providers

    return providers.load().get(name)


# --- counting -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """One that is projected. counts: what it says."""

    seq: int
    fax_id: str
    counts: Counted


def count(connection: Connection, tables: Tables, events: Sequence[Event]) -> dict[int, str]:
    """Count these, in the order of their turns; row numbers of first events -> what is counted of their faxes now."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_ONE_PROJECTOR)
    firsts = _firsts(connection, tables, [event for event in events if event.counts.revision > 1])
    of_events = [(event.seq if event.counts.revision == 1 else firsts.get(event.fax_id), event) for event in events]
    counted = _counted(connection, tables, {first for first, _ in of_events if first is not None})
    changes, changed = _Changes(), set()
    for first, event in of_events:
        if first is None:
            continue  # forgotten: nobody knows any more what was counted
        was, now = counted.get(first), event.counts
        if was is not None and was.revision > now.revision:
            continue  # projected once more, and a later one has been here
        now = was.amended(now) if was is not None else now
        if now != was:
            changes.add(now)
            if was is not None:
                changes.take_back(was)
            counted[first] = now
            changed.add(first)
    changes.write(connection, tables)
    return {first: counted[first].text() for first in changed}


def take_back(connection: Connection, tables: Tables, seqs: Sequence[int]) -> None:
    """The faxes whose first events these are have never been: a replay will announce them anew."""
    changes = _Changes()
    for was in _counted(connection, tables, seqs).values():
        changes.take_back(was)
    changes.write(connection, tables)


def _firsts(connection: Connection, tables: Tables, events: Sequence[Event]) -> dict[str, int]:
    """Fax -> the row number of its first event, where that is there."""
    faxes, table, found = tables.faxes, tables.events, dict[str, int]()
    # The fax as well: a number may be given again once its event is gone.
    is_first = sa.and_(table.c.seq == faxes.c.first_seq, table.c.fax_id == faxes.c.fax_id)
    query = sa.select(faxes.c.fax_id, faxes.c.first_seq).join_from(faxes, table, is_first)
    for some in batches([event.fax_id for event in events], _AT_ONCE):
        its = connection.execute(query.where(faxes.c.fax_id.in_(some)))
        found |= {row.fax_id: row.first_seq for row in its}
    return found


def _counted(connection: Connection, tables: Tables, seqs: Iterable[int]) -> dict[int, Counted]:
    table, found = tables.find_keys, dict[int, Counted]()
    query = sa.select(table.c.seq, table.c.counted).where(table.c.counted.is_not(None))
    for some in batches(list(seqs), _AT_ONCE):
        found |= {row.seq: Counted.read(row.counted) for row in connection.execute(query.where(table.c.seq.in_(some)))}
    return found


class _Changes:
    """By how much rows grow, or shrink."""

    def __init__(self) -> None:
        self._rows: dict[tuple[Any, ...], dict[str, int]] = {}

    def add(self, counted: Counted) -> None:
        for row in self._of(counted):
            for name, count in counted.figures.items():
                row[name] = row.get(name, 0) + count

    def take_back(self, counted: Counted) -> None:
        for row in self._of(counted):
            for name, count in counted.figures.items():
                row[name] = row.get(name, 0) - count

    def _of(self, counted: Counted) -> Iterable[dict[str, int]]:
        for step, milliseconds in STEPS.items():
            place = step, counted.from_ms // milliseconds * milliseconds, *counted.key
            yield self._rows.setdefault(place, {})

    def write(self, connection: Connection, tables: Tables) -> None:
        rows = [
            (*place, *(grown.get(name, 0) for name in FIGURES))
            for place, grown in sorted(self._rows.items())  # in one order, so that two never wait for each other
            if any(grown.values())
        ]
        if rows:
            connection.exec_driver_sql(_grow(connection.dialect.name, tables.stats.fullname), rows)


@cache
def _grow(dialect: str, table: str) -> str:
    """For the driver itself: SQLAlchemy's way to a statement of so many columns takes longer than the rows."""
    columns, mark = ("step", "from_ms", *KEY, *FIGURES), "?" if dialect == "sqlite" else "%s"
    sums = ", ".join(f"{name} = known.{name} + excluded.{name}" for name in FIGURES)
    return (
        f"INSERT INTO {table} AS known ({', '.join(columns)}) VALUES ({', '.join(mark for _ in columns)})"  # noqa: S608
        f" ON CONFLICT (step, from_ms, {', '.join(KEY)}) DO UPDATE SET {sums}"
    )
