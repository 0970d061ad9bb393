"""
The degradation alarm: an endpoint whose faxes fail more often than they used to, for which nobody they go to can help.

Failures count whose fault is the carrier's, the provider's or unknown; a busy line or a wrong number says nothing about
a provider. An endpoint is compared with itself, two weeks back, and only where there are enough faxes to say anything:
on quiet days there is no alarm.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.advice import RULES
from receiver.logs import log
from receiver.store import HOUR_MS, Store, discrepancies, now_ms
from receiver.store.contributions import FIVE_MINUTES_MS
from receiver.store.discrepancies import Discrepancy
from receiver.store.tables import Tables
from schemas.advice import Fault
from schemas.event import FailureReason, Outcome

KIND = "degraded"
FAULTS = tuple(sorted(one.value for one in FailureReason if RULES[one].fault in (Fault.CARRIER, Fault.PROVIDER, None)))

_MINUTE_MS = 60_000
_WINDOWS = (10, 30, 120, 360, 1440)  # minutes: the more faxes there are, the sooner it shows
_CALM_MINUTES = 30  # at least, before an alarm is over
_BASELINE_MS = 14 * 24 * HOUR_MS
_LATELY_MS = _WINDOWS[-1] * _MINUTE_MS  # is no part of it
_FEWEST, _FEWEST_FAILED = 20, 5  # faxes in a window
_FEWEST_USUAL, _USUAL_SINCE_MS = 200, 2 * 24 * HOUR_MS  # faxes that make a baseline, and since when at the latest
_MORE = 0.1  # of all faxes, than usual; and twice as many
_CALM = 0.05  # of all faxes more than usual are no alarm
_CHANCE = 1e-6  # that it is one: there are thousands of looks in a month


@dataclass(slots=True)
class Share:
    """Faxes, and how many of them failed by a fault that counts; reasons: by the reason."""

    faxes: int = 0
    failed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def value(self) -> float:
        return self.failed / self.faxes if self.faxes else 0.0

    def add(self, faxes: int, reason: str | None) -> None:
        self.faxes += faxes
        if reason is not None:
            self.failed += faxes
            self.reasons[reason] = self.reasons.get(reason, 0) + faxes


@dataclass(frozen=True, slots=True)
class Judged:
    """worst: minutes of the window that raises the alarm; None: none does. is_calm: an alarm from before is over."""

    worst: int | None = None
    is_calm: bool = False


def judge(windows: Mapping[int, Share], usual: Share) -> Judged:
    """windows: minutes until now -> what was in them. usual: of before; too few faxes, and nothing can be said."""
    if usual.faxes < _FEWEST_USUAL:
        return Judged()
    chance = (usual.failed + 1) / (usual.faxes + 2)
    telling = [minutes for minutes in sorted(windows) if windows[minutes].faxes >= _FEWEST]
    calm = [minutes for minutes in telling if minutes >= _CALM_MINUTES]
    # Where it is over by now, long windows still have what was before.
    if not telling or windows[telling[0]].value <= chance + _CALM:
        return Judged(is_calm=bool(calm) and windows[calm[0]].value <= chance + _CALM)
    return Judged(next((minutes for minutes in telling if _is_worse(windows[minutes], chance)), None))


def _is_worse(recent: Share, chance: float) -> bool:
    if recent.failed < _FEWEST_FAILED or recent.value < max(chance + _MORE, min(2 * chance, (1 + chance) / 2)):
        return False
    return _at_least(recent.failed, recent.faxes, chance) < _CHANCE


def _at_least(some: int, of_all: int, chance: float) -> float:
    """How likely so many or more are by chance, at most: of a binomial distribution, far above its mean."""
    ways = math.lgamma(of_all + 1) - math.lgamma(some + 1) - math.lgamma(of_all - some + 1)
    exactly = math.exp(ways + some * math.log(chance) + (of_all - some) * math.log1p(-chance))
    next_to_it = (of_all - some) / (some + 1) * chance / (1 - chance)  # and each further one is less likely still
    return exactly / (1 - next_to_it)


class Degradation:
    """clock: milliseconds since 1970. Tests give one of their own, and two weeks pass in a moment."""

    def __init__(self, store: Store, clock: Callable[[], int] = now_ms) -> None:
        self._store = store
        self._clock = clock
        self._usual: tuple[int, Mapping[str, Share]] = (0, {})  # since which hour it is as it is

    def look(self) -> list[Discrepancy]:
        """Note the endpoints that are worse than usual, and that others are not any more; the new ones."""
        now, tables = self._clock(), self._store.tables
        with self._store.reading() as connection:
            usual = self._baseline(connection, now)
            recent = _recent(connection, tables, now)
            was = discrepancies.open_since(connection, tables, KIND)
            endpoints = {row.name: row for row in connection.execute(sa.select(tables.endpoints))}
        worse, over = [], []
        for name in usual.keys() & recent.keys() & endpoints.keys():
            judged = judge(recent[name], usual[name])
            who = endpoints[name].provider, endpoints[name].account or "", name, KIND, name
            if judged.worst is not None:
                detail = _detail(judged.worst, recent[name][judged.worst], usual[name])
                worse.append(Discrepancy(*who, detail))
            elif judged.is_calm and name in was:
                over.append(Discrepancy(*who))
        if not worse and not over:
            return []
        with self._store.writing() as connection:
            new = discrepancies.note(connection, tables, worse, now)
            for one in over:
                discrepancies.close_about(connection, tables, one, now)
        for one in new:
            log.warning("discrepancy_found", endpoint=one.endpoint, provider=one.provider, reason=one.kind)
        return new

    def _baseline(self, connection: Connection, now: int) -> Mapping[str, Share]:
        """Of each endpoint that has been there long enough. Whole hours are in it, so that it is the same for one."""
        hour = now // HOUR_MS
        if self._usual[0] != hour:
            self._usual = hour, _usual(connection, self._store.tables, now)
        return self._usual[1]


def _usual(connection: Connection, tables: Tables, now: int) -> dict[str, Share]:
    table = tables.stats
    begin, end = ((now - before) // HOUR_MS * HOUR_MS for before in (_BASELINE_MS, _LATELY_MS))
    its = table.c.step == 60, table.c.from_ms >= begin, table.c.from_ms < end
    first = sa.func.min(table.c.from_ms).label("first")
    query = sa.select(table.c.endpoint, _fault(table), _sum(table.c.faxes, "faxes"), first).where(*its)
    shares, firsts = dict[str, Share](), dict[str, int]()
    for row in connection.execute(query.group_by(table.c.endpoint, "fault")):
        shares.setdefault(row.endpoint, Share()).add(row.faxes, row.fault)
        firsts[row.endpoint] = min(row.first, firsts.get(row.endpoint, row.first))
    return {name: one for name, one in shares.items() if firsts[name] <= now - _USUAL_SINCE_MS}


def _recent(connection: Connection, tables: Tables, now: int) -> dict[str, dict[int, Share]]:
    """Endpoint -> minutes until now -> what was in them."""
    table = tables.stats
    begins = {minutes: (now - minutes * _MINUTE_MS) // FIVE_MINUTES_MS * FIVE_MINUTES_MS for minutes in _WINDOWS}
    # What is later than now has a wrong time.
    its = table.c.step == 5, table.c.from_ms >= min(begins.values()), table.c.from_ms <= now
    sums = (
        _sum(sa.case((table.c.from_ms >= begin, table.c.faxes), else_=0), f"last_{minutes}")
        for minutes, begin in begins.items()
    )
    query = sa.select(table.c.endpoint, _fault(table), *sums).where(*its)
    found = dict[str, dict[int, Share]]()
    for row in connection.execute(query.group_by(table.c.endpoint, "fault")):
        windows = found.setdefault(row.endpoint, {minutes: Share() for minutes in _WINDOWS})
        for minutes, share in windows.items():
            share.add(getattr(row, f"last_{minutes}"), row.fault)
    return found


def _fault(table: sa.Table) -> sa.Label[str | None]:
    """The reason, of a failure that counts; else null."""
    counts = sa.and_(table.c.outcome == Outcome.FAILED.value, table.c.reason.in_(FAULTS))
    return sa.case((counts, table.c.reason), else_=sa.null()).label("fault")


def _sum(value: sa.ColumnElement[int], name: str) -> sa.Label[int]:
    return sa.cast(sa.func.sum(value), sa.BigInteger).label(name)


def _detail(minutes: int, recent: Share, usual: Share) -> dict[str, Any]:
    return {
        "minutes": minutes,
        "faxes": recent.faxes,
        "failed": recent.failed,
        "share": round(recent.value, 4),
        "usual_share": round(usual.value, 4),
        "reason": max(recent.reasons, key=lambda one: recent.reasons[one]),
    }
