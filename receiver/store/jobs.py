"""
Faxes that were sent and not heard of yet, as their senders registered them.

A row goes in the transaction that records its fax, so that what stands here is what is missing.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from receiver import facts as fax_facts
from receiver.store import meeting
from receiver.store.browsing import iso
from receiver.store.known import newest_facts
from receiver.store.tables import PROJECTOR, Tables, insert_or_keep, insert_or_replace
from receiver.store.turns import put_in
from receiver.system.batches import batches
from schemas.encoding import compact_ascii

_FIRST_PAUSE_MS = 60_000  # between two questions for the same fax, doubled each time
_LONGEST_PAUSE_MS = 6 * 3600_000
_MOST_DOUBLINGS = 9
_AT_ONCE = 500  # values in one statement


@dataclass(frozen=True, slots=True)
class ExpectedFax:
    """
    One fax that was sent. facts: dotted names as ``receiver.facts.completed`` takes them.

    due_at_ms: when its callback should have come.
    """

    fax_id: str
    provider: str
    account: str
    endpoint: str
    job_id: str
    facts: Mapping[str, Any]
    due_at_ms: int


@dataclass(frozen=True, slots=True)
class Registered:
    """
    What became of the registration of one fax.

    state: ``expected``; ``registered``, before; or ``known``, as it has been heard of already. Then outcome and
    event_id are those of its current event.
    """

    state: str
    outcome: str | None = None
    event_id: str | None = None


def register(
    connection: Connection, tables: Tables, faxes: Sequence[ExpectedFax], now_ms: int
) -> dict[str, Registered]:
    """
    Expect these faxes; fax_id -> what became of it.

    What was registered first stays as it is. A fax that is known learns what its sender says and its provider did not:
    its next event has it.
    """
    wanted = {fax.fax_id: fax for fax in reversed(faxes)}  # of equal ones the first
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(meeting.ALONE, meeting.buckets(wanted))
    found = _teach(connection, tables, wanted)
    before = _present(connection, tables.jobs.c.fax_id, list(wanted))
    rows: list[dict[str, Any]] = []
    for fax_id, fax in wanted.items():
        if fax_id in found:
            continue
        found[fax_id] = Registered("registered" if fax_id in before else "expected")
        if fax_id not in before:
            rows.append(
                {
                    "fax_id": fax_id,
                    "provider": fax.provider,
                    "account": fax.account,
                    "endpoint": fax.endpoint,
                    "job_id": fax.job_id,
                    "facts": json.dumps(dict(fax.facts)),
                    "registered_at_ms": now_ms,
                    "due_at_ms": fax.due_at_ms,
                    "asked": 0,
                }
            )
    if rows:
        rows.sort(key=itemgetter("fax_id"))  # in one order, so that two who register the same never wait for each other
        insert = insert_or_keep(tables.jobs, connection.dialect.name).returning(tables.jobs.c.fax_id)
        added = set(connection.scalars(insert, rows))
        # The others came in between, from somebody who registered the same.
        found |= {row["fax_id"]: Registered("registered") for row in rows if row["fax_id"] not in added}
    return {fax.fax_id: found[fax.fax_id] for fax in faxes}


def _teach(connection: Connection, tables: Tables, wanted: Mapping[str, ExpectedFax]) -> dict[str, Registered]:
    """The known ones of these faxes, each of which has learned what its sender says of it."""
    faxes = tables.faxes
    known = {}
    for some in batches(sorted(wanted), _AT_ONCE):
        query = sa.select(faxes.c.fax_id, faxes.c.outcome, faxes.c.event_id)
        query = query.where(faxes.c.fax_id.in_(some)).order_by(faxes.c.fax_id).with_for_update()
        rows = connection.execute(query).all()
        facts = newest_facts(connection, tables, [row.fax_id for row in rows])
        values = []
        for row in rows:
            known[row.fax_id] = Registered("known", row.outcome, row.event_id)
            before = facts.get(row.fax_id)
            if before is None:
                continue  # purged: nothing of the fax is kept any more but its outcome
            learned = fax_facts.completed(before, wanted[row.fax_id].facts)
            if learned != before:
                values.append({"fax_id": row.fax_id, "event_id": row.event_id, "facts": compact_ascii(learned)})
        if values:
            connection.execute(insert_or_replace(tables.learned, connection.dialect.name), values)
            _let_project(connection, tables, [value["fax_id"] for value in values])
    return known


def _let_project(connection: Connection, tables: Tables, fax_ids: Sequence[str]) -> None:
    """What these faxes have learned, they can be found by."""
    faxes = tables.faxes
    some = sa.select(faxes.c.event_seq.label("seq"), faxes.c.fax_id, faxes.c.revision)
    put_in(connection, tables, some.where(faxes.c.fax_id.in_(fax_ids)), PROJECTOR)


def overdue(connection: Connection, tables: Tables, provider: str, account: str, now_ms: int, limit: int) -> list[str]:
    """
    The ids of jobs whose end is overdue and that may be asked for again: those never asked for first, then those not
    asked for longest, so that every one has its turn; of equals, those that wait longest.
    """
    jobs = tables.jobs
    # A minute, then two, four ... as a table of cases: the two databases have no function for it in common.
    pause = sa.case(
        {asked: _FIRST_PAUSE_MS << (asked - 1) for asked in range(1, _MOST_DOUBLINGS)},
        value=jobs.c.asked,
        else_=_LONGEST_PAUSE_MS,
    )
    may_be_asked = sa.or_(jobs.c.asked == 0, jobs.c.asked_at_ms + pause <= now_ms)
    query = (
        sa.select(jobs.c.job_id)
        .where(*_missing(tables, provider, account, now_ms), may_be_asked)
        .group_by(jobs.c.job_id)
        .order_by(sa.func.coalesce(sa.func.min(jobs.c.asked_at_ms), 0), sa.func.min(jobs.c.due_at_ms))
        .limit(limit)
    )
    return list(connection.scalars(query))


def note_asked(
    connection: Connection, tables: Tables, provider: str, account: str, job_ids: Sequence[str], now_ms: int
) -> None:
    """These jobs were asked for; the next time is later."""
    jobs = tables.jobs
    for some in batches(job_ids, _AT_ONCE):
        connection.execute(
            jobs.update()
            .where(jobs.c.provider == provider, jobs.c.account == account, jobs.c.job_id.in_(some))
            .values(asked_at_ms=now_ms, asked=jobs.c.asked + 1)
        )


def missing(
    connection: Connection,
    tables: Tables,
    provider: str,
    account: str,
    at_ms: int,
    *,
    but: Collection[str] = (),
    asked: Collection[str] | None = None,
) -> dict[str, tuple[int, int]]:
    """
    Job id -> how many of its faxes were overdue at that time, and since when (milliseconds).

    but: faxes that are not. asked: jobs that were asked for just now; where it is given, one that was never asked for
    is not missing.
    """
    jobs = tables.jobs
    query = sa.select(jobs.c.fax_id, jobs.c.job_id, jobs.c.due_at_ms).where(
        *_missing(tables, provider, account, at_ms), jobs.c.registered_at_ms <= at_ms
    )
    if asked is not None:
        query = query.where(sa.or_(jobs.c.asked > 0, jobs.c.job_id.in_(asked)))
    found: dict[str, tuple[int, int]] = {}
    for fax_id, job_id, due_at_ms in connection.execute(query):
        if fax_id not in but:
            count, earliest = found.get(job_id, (0, due_at_ms))
            found[job_id] = count + 1, min(earliest, due_at_ms)
    return found


def listing(
    connection: Connection,
    tables: Tables,
    *,
    limit: int | None,
    overdue_at_ms: int | None = None,
    after: tuple[int, str] | None = None,
) -> list[dict[str, Any]]:
    """
    Those that are expected, the longest due first, as ``jobs list --json`` shows them; or the overdue ones only.

    after: when one was due (milliseconds), and its fax_id; only those that come behind it.
    """
    jobs = tables.jobs
    query = sa.select(jobs).where(~_is_known(tables)).order_by(jobs.c.due_at_ms, jobs.c.fax_id).limit(limit)
    query = query.where(jobs.c.due_at_ms <= overdue_at_ms) if overdue_at_ms is not None else query
    if after is not None:
        due_at_ms, fax_id = after
        later = jobs.c.due_at_ms == due_at_ms, jobs.c.fax_id > fax_id
        query = query.where(jobs.c.due_at_ms >= due_at_ms, sa.or_(jobs.c.due_at_ms > due_at_ms, sa.and_(*later)))
    found: list[Row[Any]] = []
    for provider, account in accounts_with_jobs(connection, tables):  # as the index has them
        found += connection.execute(query.where(jobs.c.provider == provider, jobs.c.account == account))
    found.sort(key=lambda row: (row.due_at_ms, row.fax_id))
    return [_row(row) for row in found[:limit]]


def accounts_with_jobs(connection: Connection, tables: Tables) -> list[tuple[str, str]]:
    """Provider and account of each that expects faxes; each is two looks into the index."""
    jobs = tables.jobs
    found: list[tuple[str, str]] = []
    query = sa.select(jobs.c.provider, jobs.c.account).order_by(jobs.c.provider, jobs.c.account).limit(1)
    row = connection.execute(query).first()
    while row is not None:
        found.append((row.provider, row.account))
        of_same = jobs.c.provider == row.provider, jobs.c.account > row.account
        of_next = query.where(jobs.c.provider > row.provider)
        row = connection.execute(query.where(*of_same)).first() or connection.execute(of_next).first()
    return found


def _row(row: Row[Any]) -> dict[str, Any]:
    return {
        "fax_id": row.fax_id,
        "endpoint": row.endpoint,
        "provider": row.provider,
        "account": row.account,
        "job_id": row.job_id,
        "registered_at": iso(row.registered_at_ms),
        "due_at": iso(row.due_at_ms),
        "asked": row.asked,
        "asked_at": iso(row.asked_at_ms),
    }


def _missing(tables: Tables, provider: str, account: str, now_ms: int) -> tuple[sa.ColumnElement[bool], ...]:
    jobs = tables.jobs
    return (jobs.c.provider == provider, jobs.c.account == account, jobs.c.due_at_ms <= now_ms, ~_is_known(tables))


def _is_known(tables: Tables) -> sa.ColumnElement[bool]:
    """A fax may have been recorded by a transaction that did not see its registration."""
    return sa.exists().where(tables.faxes.c.fax_id == tables.jobs.c.fax_id)


def _present(connection: Connection, column: sa.Column[Any], values: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for some in batches(values, _AT_ONCE):
        found |= set(connection.scalars(sa.select(column).where(column.in_(some))))
    return found
