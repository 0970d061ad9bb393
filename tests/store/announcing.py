"""Announcements of faxes, as a request hands them to the store."""

import itertools
import json
import time
from dataclasses import replace
from datetime import UTC, datetime

import sqlalchemy as sa

from receiver import facts
from receiver.store import browsing, new_id, now_ms, outbox, projection
from receiver.store.known import newest_facts
from receiver.store.projection import Keys
from receiver.store.recording import record
from receiver.store.submissions import Announcement, KeptBody, Submission
from receiver.store.tables import QUEUE
from schemas.event import Confidence, Failure, FailureReason, FaxCompleted, Outcome, Pages, Recipient, Retryable
from schemas.identity import fax_id

_numbers = itertools.count(1)

MORNING = datetime(2026, 7, 1, 9, 30, tzinfo=UTC)
NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def fax(key="1", **facts_stated):
    """A delivered fax of account acme that states nothing else."""
    stated = {"account": "acme", "outcome": Outcome.DELIVERED, "status_code": "OK", **facts_stated}
    return FaxCompleted(key=(key,), **stated)


def failed(key="1", reason=FailureReason.BUSY, **facts_stated):
    failure = Failure(reason, Retryable.YES, Confidence.HIGH)
    return fax(key, outcome=Outcome.FAILED, failure=failure, status_code=reason.value, **facts_stated)


def identity(key="1"):
    return fax_id("faxage", "acme", [key])


def submission(*faxes, body=None, **other):
    """A request that announces these."""
    at = other.pop("received_at_ms", None) or now_ms()
    body = b"body %d" % next(_numbers) if body is None else body
    kept = KeptBody(body, b"", "text/plain", None)
    announcements = tuple(Announcement(identity(*fax.key), facts.of(fax)) for fax in faxes)
    plain = Submission(new_id(at), "fax-age", "faxage", at, len(body), kept, "2026-07-01T13:00:00.000Z", "none", 200)
    return replace(plain, announcements=announcements, **other)


def tell(store, *faxes, **other):
    """Record one request in a transaction of its own."""
    return tell_all(store, submission(*faxes, **other))[0]


def tell_all(store, *submissions):
    """Record these requests in one transaction."""
    with store.recording(time.monotonic() + 4) as cursor:
        return record(cursor, store.engine.dialect, submissions)


def rows(store, table, *columns, sink=QUEUE):
    """All rows of a table, of ``waiting`` those of a sink; where one column is named, its values."""
    table = getattr(store.tables, table)
    query = sa.select(*[table.c[name] for name in columns]) if columns else sa.select(table)
    if "seq" in table.c:
        query = query.order_by(table.c.seq)
    if table is store.tables.waiting:
        query = query.where(table.c.sink == sink)
    with store.reading() as connection:
        found = connection.execute(query).all()
    return [row[0] for row in found] if len(columns) == 1 else found


def published(store, event_id):
    """The envelope stored for an event."""
    events = store.tables.events
    of_event = sa.select(events.c.body).where(events.c.id == event_id)
    with store.reading() as connection:
        return json.loads(connection.execute(of_event).scalar_one())


def states(store):
    """Of all events, in row order."""
    with store.reading() as connection:
        return [event["state"] for event in reversed(browsing.events(connection, store.tables, limit=None))]


def facts_known(store, key="1"):
    """The fax's current facts; None where they are purged."""
    with store.reading() as connection:
        return newest_facts(connection, store.tables, [str(identity(key))]).get(str(identity(key)))


def blank_payloads(store):
    """As retention does."""
    with store.writing() as connection:
        connection.execute(store.tables.events.update().values(body=None))
        connection.execute(store.tables.learned.delete())


KEYS = Keys([b"a secret of the tests"])


def project(store, limit=1000):
    """Let everything be found that waits for it."""
    while True:
        with store.reading() as connection:
            prepared = projection.prepare(connection, store.tables, KEYS, 0, limit)
        if not prepared:
            return
        with store.writing() as connection:
            projection.take(connection, store.tables, prepared)


def deliver(store, now=None):
    """Let everything that waits arrive, and be found."""
    project(store)
    while True:
        with store.writing() as connection:
            found = outbox.waiting(connection, store.tables, 1000, 0)
            if not found:
                return
            outbox.publish(connection, store.tables, found, now or now_ms())


def numbered(count, *, prefix="", **facts_stated):
    """So many faxes with different keys."""
    return [fax(f"{prefix}{number}", **facts_stated) for number in range(count)]


PAGES = Pages(total=3, sent=3)
NUMBER = Recipient(number="+13035550100", number_raw="3035550100")
