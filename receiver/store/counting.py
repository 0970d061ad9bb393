"""What we know of an account's faxes, counted as providers count; and how regularly an endpoint is called."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver import facts as fax_facts
from receiver.store import HOUR_MS, projection
from receiver.store.known import learned_since
from receiver.store.tables import Tables

_BATCH = 1000  # events
_AT_ONCE = 500  # values in one statement


def counts(
    connection: Connection,
    tables: Tables,
    provider: str,
    account: str,
    zone: ZoneInfo,
    since_ms: int,
    numbers: Collection[str],
) -> dict[tuple[date, str | None], dict[str, int]]:
    """
    Of the faxes with news since then: for each day they ended on in the zone, how many had which outcome.

    Keys: the day and None, or the day and one of ``numbers`` (as ``digits`` has them). Values: each outcome's name,
    ``total`` and ``pages_sent``. A fax without a time counts for the day it was last heard of; one whose facts are
    purged for none.
    """
    found: dict[tuple[date, str | None], dict[str, int]] = {}
    for facts, seen_at_ms in _facts(connection, tables, provider, account, since_ms):
        stated = facts["completed_at"]
        ended_at = datetime.fromisoformat(stated) if stated else datetime.fromtimestamp(seen_at_ms / 1000, UTC)
        day = ended_at.astimezone(zone).date()
        number = digits(facts["recipient"]["number_raw"])
        for key in [(day, None), *([(day, number)] if number in numbers else [])]:
            of_day = found.setdefault(key, {})
            for name, count in ((facts["outcome"], 1), ("total", 1), ("pages_sent", facts["pages"]["sent"] or 0)):
                of_day[name] = of_day.get(name, 0) + count
    return found


def digits(number: str | None) -> str:
    """A number as providers' counts are compared by: the last ten digits, since country codes come and go."""
    return "".join(character for character in number or "" if character in "0123456789")[-10:]


def _facts(
    connection: Connection, tables: Tables, provider: str, account: str, since_ms: int
) -> Iterator[tuple[Mapping[str, Any], int]]:
    """What is known of each fax of the account with news since, and when it was last heard of."""
    first, _ = projection.between(connection, tables, since_ms, None)
    faxes, events, learned = tables.faxes, tables.events, tables.learned
    while True:
        some = (
            sa.select(events.c.seq, events.c.id, events.c.fax_id, events.c.body)
            .where(events.c.seq >= first, events.c.created_at_ms >= since_ms, events.c.body.is_not(None))
            .order_by(events.c.seq)
            .limit(_BATCH)
        )
        rows = connection.execute(some).all()
        known: dict[str, Any] = {}
        its = learned_since(tables, faxes.c.event_id)
        query = sa.select(faxes.c.fax_id, faxes.c.event_id, faxes.c.seen_at_ms, learned.c.facts).outerjoin_from(
            faxes, learned, its
        )
        query = query.where(faxes.c.provider == provider, faxes.c.account == account)
        for start in range(0, len(rows), _AT_ONCE):
            of_some = faxes.c.fax_id.in_([row.fax_id for row in rows[start : start + _AT_ONCE]])
            known |= {row.fax_id: row for row in connection.execute(query.where(of_some))}
        for row in rows:
            fax = known.get(row.fax_id)
            if fax is not None and fax.event_id == row.id:
                facts = json.loads(fax.facts) if fax.facts else fax_facts.of_published(json.loads(row.body)["data"])
                yield facts, fax.seen_at_ms
        if len(rows) < _BATCH:
            return
        first = rows[-1].seq + 1


def called_hours(
    connection: Connection, tables: Tables, endpoints: Iterable[str], since_ms: int
) -> dict[str, list[int]]:
    """Endpoint -> the hours since 1970 in which a callback came to it, in order; reports and replays are none."""
    table = tables.endpoint_hours
    called = table.c.hour >= since_ms // HOUR_MS, table.c.by_report.is_(False)
    query = sa.select(table.c.hour).distinct().where(*called).order_by(table.c.hour)
    return {one: list(connection.scalars(query.where(table.c.endpoint == one))) for one in endpoints}
