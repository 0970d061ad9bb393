"""What the command line reads of receipts, the newest first."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from receiver.store import HOUR_MS, first_id, rfc3339
from receiver.store.paging import newest_first
from receiver.store.submissions import KeptBody
from receiver.store.tables import Tables
from receiver.store.types import is_id

_AT_ONCE = 500
_FIRST_ID, _LAST_ID = first_id(0), first_id((1 << 48) - 1)

_WITH_REASON = ("rejected", "partial", "ignored")

Range = tuple[str, str]  # two ids: the first one is in it, the last one is not


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    id: str
    endpoint: str
    provider: str
    state: str
    reason: str | None
    detail: Mapping[str, Any]
    received_at_ms: int
    size: int
    body: KeptBody | None  # None: purged
    events: tuple[str, ...]  # the events it added


@dataclass(frozen=True, slots=True)
class Chosen:
    """
    Which receipts: all where None. reason: a refusal's code, or why one is ignored. before: a receipt's id; only older
    ones.
    """

    state: str | None = None
    endpoint: str | None = None
    provider: str | None = None
    reason: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    before: str | None = None

    @property
    def within(self) -> Range:
        end = _LAST_ID if self.until_ms is None else first_id(self.until_ms + 1)
        return (
            _FIRST_ID if self.since_ms is None else first_id(self.since_ms),
            end if self.before is None else min(end, self.before),
        )

    @property
    def states(self) -> Sequence[str]:
        """Those that a receipt may be in; empty: in whichever."""
        return (self.state,) if self.state else _WITH_REASON if self.reason else ()


EVERY = Chosen()


def listing(
    connection: Connection, tables: Tables, *, limit: int | None, chosen: Chosen = EVERY
) -> list[dict[str, Any]]:
    """
    The newest receipts, as ``receipts list --json`` shows them.

    Of an endpoint or provider only the hours are looked through in which it has any, and of a state other than
    ``accepted`` only the receipts that were in it or were replayed.
    """
    shown: list[Row[Any]] = []
    for within in _ranges(connection, tables, chosen):
        found = [
            row
            for table in (tables.receipts, tables.rejected_receipts)
            for row in _newest(connection, tables, table, within, _left(limit, shown), chosen)
        ]
        shown += sorted(found, key=lambda row: str(row.id), reverse=True)[: _left(limit, shown)]
        if len(shown) == limit:
            break
    added = _events_added(connection, tables, shown)
    return [
        {
            "id": row.id,
            "endpoint": row.endpoint,
            "provider": row.provider,
            "state": row.state,
            "reason": row.reason,
            "received_at": rfc3339(row.received_at_ms),
            "size": row.size,
            "events": added[row.id],
        }
        for row in shown
    ]


def _left(limit: int | None, shown: Sequence[Any]) -> int | None:
    return None if limit is None else limit - len(shown)


def _ranges(connection: Connection, tables: Tables, chosen: Chosen) -> Iterator[Range]:
    """Where the chosen ones are, the newest first: the hours in which their endpoints have receipts."""
    first, last = chosen.within
    table, endpoints = tables.endpoint_hours, tables.endpoints
    if chosen.endpoint is not None:
        mine = table.c.endpoint == chosen.endpoint
    elif chosen.provider is not None:
        its = sa.select(endpoints.c.name).where(endpoints.c.provider == chosen.provider)
        mine = table.c.endpoint.in_(connection.scalars(its).all())
    else:
        yield first, last
        return
    query = sa.select(table.c.hour).where(mine).distinct()
    for hour in connection.scalars(query.order_by(table.c.hour.desc())).all():
        start, end = max(first, first_id(hour * HOUR_MS)), min(last, first_id((hour + 1) * HOUR_MS))
        if start < end:
            yield start, end


def _newest(
    connection: Connection,
    tables: Tables,
    table: sa.Table,
    within: Range,
    limit: int | None,
    chosen: Chosen,
) -> list[Row[Any]]:
    """Those of one of the two tables."""
    query, its_state, its_reason = _receipts(tables, table)
    wanted = {its_state: chosen.state, its_reason: chosen.reason}
    wanted |= {table.c.endpoint: chosen.endpoint, table.c.provider: chosen.provider}
    query = query.where(*(column == value for column, value in wanted.items() if value is not None))
    query = query.order_by(table.c.id.desc())
    is_usual = table is tables.receipts and chosen.state == "accepted"
    if not chosen.states or is_usual:
        return list(connection.execute(query.where(*_are_in(table.c.id, within)).limit(limit)))
    found: list[Row[Any]] = []
    for ids in _candidates(connection, tables, table, within, chosen.states):
        found += connection.execute(query.where(table.c.id.in_(ids)).limit(_left(limit, found)))
        if len(found) == limit:
            break
    return found


def _candidates(
    connection: Connection, tables: Tables, table: sa.Table, within: Range, states: Sequence[str]
) -> Iterator[Sequence[str]]:
    """Which of one of the two tables may be in one of these states: some at a time, the newest first."""
    replays = tables.replays
    # In the words of the index, or SQLite does not see that it can be used.
    rare = (sa.text("state <> 'accepted'"),) if table is tables.receipts else ()
    some = sa.select(table.c.id).where(*rare, *_are_in(table.c.id, within))
    so = [(some.where(table.c.state == state), table.c.id) for state in states]
    replayed = sa.select(replays.c.receipt).where(*_are_in(replays.c.receipt, within))
    return newest_first(connection, *so, (replayed, replays.c.receipt))


def _are_in(column: sa.Column[Any], within: Range) -> tuple[sa.ColumnElement[bool], ...]:
    return column >= within[0], column < within[1]


def newest_ms(connection: Connection, tables: Tables) -> int | None:
    """When it was received."""
    both = (tables.receipts, tables.rejected_receipts)
    newest = (sa.select(its.c.received_at_ms).order_by(its.c.id.desc()).limit(1) for its in both)
    return max(filter(None, map(connection.scalar, newest)), default=None)


def one(connection: Connection, tables: Tables, receipt_id: str) -> ReceiptRow | None:
    receipt_id = receipt_id.lower()
    if not is_id(receipt_id):
        return None
    for table in (tables.receipts, tables.rejected_receipts):
        query, _, _ = _receipts(tables, table, table.c.query, table.c.content_type, table.c.reference, table.c.body)
        row = connection.execute(query.where(table.c.id == receipt_id)).first()
        if row is not None:
            return _receipt_row(row, _events_added(connection, tables, [row])[row.id])
    return None


def faxes_named(connection: Connection, tables: Tables, receipt_id: str) -> list[str]:
    """The ids of the faxes that it, and its replays, have named."""
    kept = [sa.select(its.c.faxes).where(its.c.id == receipt_id) for its in (tables.receipts, tables.rejected_receipts)]
    replayed = sa.select(tables.replays.c.faxes).where(tables.replays.c.receipt == receipt_id)
    lists = [faxes for query in (*kept, replayed) for faxes in connection.scalars(query)]
    return [fax_id for faxes in lists for fax_id, _ in faxes]


def _receipt_row(row: Row[Any], events: Sequence[str]) -> ReceiptRow:
    is_kept = row.content_type is not None
    return ReceiptRow(
        id=row.id,
        endpoint=row.endpoint,
        provider=row.provider,
        state=row.state,
        reason=row.reason,
        detail=json.loads(row.detail) if row.detail else {},
        received_at_ms=row.received_at_ms,
        size=row.size,
        body=KeptBody(row.body, row.query, row.content_type, row.reference) if is_kept else None,
        events=tuple(events),
    )


def _receipts(
    tables: Tables, table: sa.Table, *columns: sa.Column[Any]
) -> tuple[sa.Select[*tuple[Any, ...]], sa.ColumnElement[Any], sa.ColumnElement[Any]]:
    """
    The receipts of one of their two tables with what became of them, which the last replay says; and state and reason.

    One that was accepted stays so: its replay finds what it has announced itself.
    """
    replays, its = tables.replays, tables.replays.alias("its")
    newest = (
        sa.select(its.c.seq)
        .where(its.c.receipt == table.c.id)
        .order_by((its.c.state == "accepted").desc(), its.c.seq.desc())
        .limit(1)
        .scalar_subquery()
    )
    is_replayed = sa.and_(replays.c.seq.is_not(None), table.c.state != "accepted")

    def last(name: str) -> sa.ColumnElement[Any]:
        return sa.case((is_replayed, replays.c[name]), else_=table.c[name])

    state, reason = last("state"), last("reason")
    same = (table.c.id, table.c.endpoint, table.c.provider, table.c.received_at_ms, table.c.size)
    query = sa.select(
        *same,
        state.label("state"),
        reason.label("reason"),
        last("detail").label("detail"),
        table.c.faxes.label("faxes"),
        *columns,
    ).outerjoin_from(table, replays, replays.c.seq == newest)
    return query, state, reason


def _events_added(connection: Connection, tables: Tables, rows: Sequence[Row[Any]]) -> dict[str, list[str]]:
    """Receipt -> the ids of the events that were added by itself and by its replays."""
    replays = tables.replays
    named = {row.id: list(row.faxes) for row in rows}
    ids = list(named)
    for start in range(0, len(ids), _AT_ONCE):
        query = sa.select(replays.c.receipt, replays.c.faxes).where(
            replays.c.receipt.in_(ids[start : start + _AT_ONCE])
        )
        for receipt_id, faxes in connection.execute(query.order_by(replays.c.seq)):
            named[receipt_id] += faxes
    return {
        receipt_id: list(dict.fromkeys(event_id for _, event_id in faxes if event_id is not None))
        for receipt_id, faxes in named.items()
    }
