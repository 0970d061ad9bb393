"""
Which provider fails: faxes counted by provider, reason, endpoint, hour and country.

Read from ``stats``, which the projector keeps (``receiver.store.contributions``); what it costs follows from the time
that is asked about, not from how many faxes there are. A fax counts at its first completion: at the time that the
provider states, or else when we were told.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store import HOUR_MS
from receiver.store.browsing import iso
from receiver.store.contributions import COST_UNIT, FIVE_MINUTES_MS
from receiver.store.stats_columns import CALLING, ENDING, FIGURES, quantile
from receiver.store.tables import Tables
from schemas.event import Outcome

BY = ("provider", "reason", "endpoint", "hour", "country")
COLUMNS = (
    *("faxes", *(outcome.value for outcome in Outcome), "delivered_share", "first_attempt_share"),
    *("completion_p50", "completion_p95", "callback_p50", "callback_p95"),
    *("missed", "missed_share", "unknown_codes", "pages", "cost"),
)
_FINE_HOURS = 47  # rows of five minutes are read; they are kept for two hours more


@dataclass(frozen=True, slots=True)
class Stats:
    """
    rows: one for each group that has faxes, ordered by what they are grouped by. since_ms, until_ms: what they are
    about, in milliseconds since 1970: whole five minutes of the last two days, whole hours of before; until_ms None:
    until now.

    A row has the names of ``by`` in their order, then ``COLUMNS``:

    - ``provider``, ``endpoint``: text; ``reason``: of a failure, else None; ``hour``: its beginning as RFC 3339;
      ``country``: of the recipient's number, two letters of ISO 3166, None without a number in E.164;
    - ``faxes``, and of these ``delivered``, ``failed``, ``canceled``, ``unconfirmed``: how many;
    - ``delivered_share``: of all faxes, 0 to 1; ``first_attempt_share``: delivered at the first attempt, of those
      whose attempts are stated; None: of none;
    - ``completion_p50``, ``completion_p95``: seconds from submission to completion, ``callback_p50``,
      ``callback_p95``: from completion to the callback; both of those whose times are known, None where none is;
    - ``missed``: first heard of by a report, though the provider sends callbacks; ``missed_share``: of all faxes of
      such providers, None: of none; ``unknown_codes``: failed with a code that no table lists;
    - ``pages``: that were sent, where stated; ``cost``: a list of ``{"amount", "currency"}``, exact decimal text to a
      millionth, one for each currency that was stated (None: costs without one).
    """

    rows: list[dict[str, Any]]
    since_ms: int
    until_ms: int | None


def read(
    connection: Connection, tables: Tables, by: Sequence[str], since_ms: int, now_ms: int, until_ms: int | None = None
) -> Stats:
    """by: any of ``BY``, none: one row for all. now_ms: the clock, by which five minutes are told from hours."""
    fine_ms = (now_ms - _FINE_HOURS * HOUR_MS) // HOUR_MS * HOUR_MS
    since = since_ms - since_ms % (FIVE_MINUTES_MS if since_ms >= fine_ms else HOUR_MS)
    until = until_ms
    if until is not None:
        # What has begun counts wholly, as at the other end.
        step = FIVE_MINUTES_MS if until >= fine_ms else HOUR_MS
        until = -(-until // step) * step
    groups: dict[tuple[Any, ...], _Sum] = {}
    for step, begin, end in _segments(since, until):
        for row in connection.execute(_query(tables, by, step, begin, end)):
            group = tuple(getattr(row, name) for name in by)
            groups.setdefault(group, _Sum()).add(row)
    ordered = sorted(groups.items(), key=lambda one: one[0])
    rows = [_named(by, group) | found.described() for group, found in ordered if found.counts["faxes"]]
    return Stats(rows, since, until)


def _segments(since: int, until: int | None) -> Iterator[tuple[int, int, int | None]]:
    """Whole hours as such, and what is left at both ends in five minutes: step, begin, end."""
    first = -(-since // HOUR_MS) * HOUR_MS
    last = None if until is None else until // HOUR_MS * HOUR_MS
    if last is not None and last < first:  # within one hour
        yield 5, since, until
        return
    if since < first:
        yield 5, since, first
    if last is None or first < last:
        yield 60, first, last
    if last is not None and until is not None and last < until:
        yield 5, last, until


def _query(tables: Tables, by: Sequence[str], step: int, begin: int, end: int | None) -> sa.Select[*tuple[Any, ...]]:
    table = tables.stats
    hour = (table.c.from_ms - table.c.from_ms % HOUR_MS).label("hour")
    groups = [hour if name == "hour" else table.c[name] for name in by]
    # By outcome and currency as well: these become columns.
    within = [*groups, *(table.c[name] for name in ("outcome", "currency") if name not in by)]
    sums = (sa.cast(sa.func.sum(table.c[name]), sa.BigInteger).label(name) for name in FIGURES)
    query = sa.select(*within, *sums).where(table.c.step == step, table.c.from_ms >= begin)
    if end is not None:
        query = query.where(table.c.from_ms < end)
    return query.group_by(*within)


class _Sum:
    """Of one group."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(FIGURES, 0)
        self._outcomes = dict.fromkeys(Outcome, 0)
        self._costs: dict[str, list[int]] = {}

    def add(self, row: Any) -> None:
        for name in FIGURES:
            self.counts[name] += getattr(row, name)
        self._outcomes[Outcome(row.outcome)] += row.faxes
        costs = self._costs.setdefault(row.currency, [0, 0])
        costs[0] += row.priced
        costs[1] += row.cost

    def described(self) -> dict[str, Any]:
        counts = self.counts
        ending, calling = ([counts[name] for name in names] for names in (ENDING, CALLING))
        values = (
            counts["faxes"],
            *self._outcomes.values(),
            _share(self._outcomes[Outcome.DELIVERED], counts["faxes"]),
            _share(counts["first_tries"], counts["tried"]),
            *(quantile(some, share) for some in (ending, calling) for share in (0.5, 0.95)),
            *(counts["missed"], _share(counts["missed"], counts["missed"] + counts["called"])),
            *(counts["unlisted"], counts["pages"], self._described_costs()),
        )
        return dict(zip(COLUMNS, values, strict=True))

    def _described_costs(self) -> list[dict[str, str | None]]:
        stated = sorted((currency, units) for currency, (priced, units) in self._costs.items() if priced)
        return [{"amount": _decimal(units * COST_UNIT), "currency": currency or None} for currency, units in stated]


def _named(by: Sequence[str], group: Sequence[Any]) -> dict[str, Any]:
    return {name: iso(value) if name == "hour" else value or None for name, value in zip(by, group, strict=True)}


def _share(some: int, of_all: int) -> float | None:
    return round(some / of_all, 4) if of_all else None


def _decimal(amount: Decimal) -> str:
    """Without zeros at its end."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
