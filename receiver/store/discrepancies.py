"""What does not add up between a provider and us: found, seen again, and closed when a later run no longer finds it."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from receiver.store.browsing import iso
from receiver.store.tables import Tables, insert_or_keep

_AT_ONCE = 500
_MOST_COUNTED = 10_000

After = tuple[int, int]  # of an open discrepancy: when it was found, and its number
BEGINNING: After = (-1, -1)

# Every kind, with what it says.
KINDS = {
    "missing": "a registered job is overdue, and no report has its end",
    "contradiction": "a provider said delivered, and something else at another time",
    "tally": "a provider's counts differ from ours",
    "unreadable": "rows of a report could not be used",
    "full_list": "a report showed no more than its oldest part",
    "low_credit": "the prepaid credit is below low_credit",
    "silent": "an endpoint that used to call has stopped",
    "degraded": "faxes of an endpoint fail more often than they used to",
}


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """
    One of them, at one account. subject: what it is about, the same each time it is found.

    rows: what it is made of, as the provider has it: personal, kept as long as bodies, and shown to who asks for it.
    """

    provider: str
    account: str
    endpoint: str
    kind: str
    subject: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = field(default=(), repr=False)


def note(connection: Connection, tables: Tables, found: Sequence[Discrepancy], now_ms: int) -> list[Discrepancy]:
    """
    Keep what was found; return those that are new, or open again.

    If several processes find the same one at the same time, it is new to only one of them.
    """
    table = tables.discrepancies
    new = set()
    for one in sorted(found, key=_named):  # in one order, so that two never wait for each other
        values = {
            "endpoint": one.endpoint,
            "detail": json.dumps(dict(one.detail)),
            "rows": json.dumps(list(map(dict, one.rows))) if one.rows else None,
            "seen_at_ms": now_ms,
        }
        named = {"provider": one.provider, "account": one.account, "kind": one.kind, "subject": one.subject}
        first = insert_or_keep(table, connection.dialect.name).values(**named, **values, found_at_ms=now_ms)
        if connection.execute(first.returning(table.c.seq)).first() is not None:
            new.add(_named(one))
            continue
        again = table.update().where(*_key(tables, one), table.c.closed_at_ms.is_not(None))
        if connection.execute(again.values(**values, found_at_ms=now_ms, closed_at_ms=None)).rowcount:
            new.add(_named(one))
        else:
            connection.execute(table.update().where(*_key(tables, one)).values(**values))
    return [one for one in found if _named(one) in new]


def _named(one: Discrepancy) -> tuple[str, str, str, str]:
    return one.provider, one.account, one.kind, one.subject


@dataclass(frozen=True, slots=True)
class Closed:
    """count: how many were closed. after: how far ``close`` has come; None: to the end."""

    count: int
    after: After | None


def close(
    connection: Connection,
    tables: Tables,
    provider: str,
    account: str,
    kind: str,
    about: Callable[[str], bool],
    *,
    but: Collection[str] = (),
    after: After = BEGINNING,
    now_ms: int,
) -> Closed:
    """
    Close the open discrepancies of this kind whose subject satisfies ``about``, except ``but``.

    It looks at some hundred at once, as others wait: call it again with the ``after`` that it has returned.
    """
    table = tables.discrepancies
    place = sa.tuple_(table.c.found_at_ms, table.c.seq)
    query = (
        sa.select(table.c.found_at_ms, table.c.seq, table.c.provider, table.c.account, table.c.subject)
        .where(table.c.kind == kind, table.c.closed_at_ms.is_(None), place > sa.tuple_(*after))
        .order_by(table.c.found_at_ms, table.c.seq)
        .limit(_AT_ONCE)
    )
    rows = connection.execute(query).all()
    mine = (row for row in rows if (row.provider, row.account) == (provider, account))
    over = [row.seq for row in mine if row.subject not in but and about(row.subject)]
    if over:
        connection.execute(table.update().where(table.c.seq.in_(over)).values(closed_at_ms=now_ms))
    return Closed(len(over), (rows[-1].found_at_ms, rows[-1].seq) if len(rows) == _AT_ONCE else None)


def close_about(connection: Connection, tables: Tables, one: Discrepancy, now_ms: int) -> None:
    """Close this one, if it is open."""
    is_open = tables.discrepancies.c.closed_at_ms.is_(None)
    connection.execute(tables.discrepancies.update().where(*_key(tables, one), is_open).values(closed_at_ms=now_ms))


def close_one(connection: Connection, tables: Tables, seq: int, now_ms: int) -> bool:
    """
    An operator has dealt with it; whether there was such an open one.

    The overdue faxes of a missing job are no longer expected, or the next run would find them again.
    """
    table, jobs = tables.discrepancies, tables.jobs
    is_it = table.c.seq == seq, table.c.closed_at_ms.is_(None)
    row = connection.execute(sa.select(table).where(*is_it).with_for_update()).first()
    if row is None:
        return False
    connection.execute(table.update().where(table.c.seq == seq).values(closed_at_ms=now_ms))
    if row.kind == "missing":
        whose = jobs.c.provider == row.provider, jobs.c.account == row.account
        connection.execute(jobs.delete().where(*whose, jobs.c.job_id == row.subject, jobs.c.due_at_ms <= now_ms))
    return True


def would_be_new(connection: Connection, tables: Tables, found: Sequence[Discrepancy]) -> int:
    """How many of them ``note`` would say are new; nothing is kept."""
    table = tables.discrepancies
    known = sa.select(table.c.seq)
    return len(
        {
            (one.kind, one.subject)
            for one in found
            if connection.execute(known.where(*_key(tables, one), table.c.closed_at_ms.is_(None))).first() is None
        }
    )


def listing(
    connection: Connection,
    tables: Tables,
    *,
    limit: int | None,
    now_ms: int,
    closed: bool = False,
    after: After = BEGINNING,
) -> list[dict[str, Any]]:
    """The oldest first, as ``discrepancies list --json`` shows them; closed: those as well. after: only later ones."""
    table = tables.discrepancies
    query = sa.select(table).order_by(table.c.found_at_ms, table.c.seq).limit(limit)
    query = query if closed else query.where(table.c.closed_at_ms.is_(None))
    if after != BEGINNING:
        query = query.where(sa.tuple_(table.c.found_at_ms, table.c.seq) > sa.tuple_(*after))
    return [_described(row, now_ms) for row in connection.execute(query)]


def one(connection: Connection, tables: Tables, seq: int, now_ms: int) -> dict[str, Any] | None:
    """
    One of them as in the list, with ``rows``: what it is made of, personal; None where there is no such one.

    Of a missing job these are its faxes as its sender has registered them.
    """
    row = connection.execute(sa.select(tables.discrepancies).where(tables.discrepancies.c.seq == seq)).first()
    if row is None:
        return None
    rows = json.loads(row.rows) if row.rows else []
    if row.kind == "missing":
        jobs = tables.jobs
        query = sa.select(jobs.c.fax_id, jobs.c.facts).where(
            jobs.c.provider == row.provider, jobs.c.account == row.account, jobs.c.job_id == row.subject
        )
        rows = [{"fax_id": fax_id, **json.loads(facts)} for fax_id, facts in connection.execute(query.limit(_AT_ONCE))]
    return {**_described(row, now_ms), "rows": rows}


def _described(row: Row[Any], now_ms: int) -> dict[str, Any]:
    return {
        "id": row.seq,
        "kind": row.kind,
        "endpoint": row.endpoint,
        "provider": row.provider,
        "account": row.account,
        "subject": row.subject,
        "detail": json.loads(row.detail),
        "found_at": iso(row.found_at_ms),
        "seen_at": iso(row.seen_at_ms),
        "closed_at": iso(row.closed_at_ms),
        "age_seconds": max(0, (row.closed_at_ms or now_ms) - row.found_at_ms) // 1000,
    }


def open_by_kind(connection: Connection, tables: Tables) -> dict[str, tuple[int, int]]:
    """
    Kind -> how many are open, and when the oldest was found (milliseconds).

    Of each kind ten thousand are counted at most: what Prometheus asks takes no longer if a provider tells nonsense.
    """
    table, found = tables.discrepancies, {}
    for kind in KINDS:
        of_kind = table.c.kind == kind, table.c.closed_at_ms.is_(None)
        some = sa.select(table.c.found_at_ms).where(*of_kind).order_by(table.c.found_at_ms).limit(_MOST_COUNTED)
        its = some.subquery()
        count, oldest = connection.execute(sa.select(sa.func.count(), sa.func.min(its.c.found_at_ms))).one()
        if count:
            found[kind] = count, oldest
    return found


def open_since(connection: Connection, tables: Tables, kind: str) -> dict[str, int]:
    """The subjects of the open ones of a kind, and when each was found (milliseconds)."""
    table = tables.discrepancies
    query = sa.select(table.c.subject, table.c.found_at_ms).where(table.c.kind == kind, table.c.closed_at_ms.is_(None))
    return {row.subject: row.found_at_ms for row in connection.execute(query)}


def _key(tables: Tables, one: Discrepancy) -> tuple[sa.ColumnElement[bool], ...]:
    table = tables.discrepancies
    return (
        table.c.provider == one.provider,
        table.c.account == one.account,
        table.c.kind == one.kind,
        table.c.subject == one.subject,
    )
