"""Discrepancies, expected faxes, endpoints, the audit: lists of what there is."""

from datetime import datetime
from typing import Any

from receiver.errors import NotFound
from receiver.showing import configured
from receiver.showing import discrepancies as showing
from receiver.store import HOUR_MS, browsing, counting, discrepancies, jobs, kept_receipts, now_ms
from receiver.store.kept_receipts import Chosen
from receiver.web.console import charts
from receiver.web.console.visiting import Shown, Visit, first_of

_DAY_HOURS, _DAYS = 24, 14
_JOB_COLUMNS = (
    *("fax_id", "endpoint", "provider", "account", "job_id"),
    *("registered_at", "due_at", "asked", "asked_at"),
)
_AUDIT_COLUMNS = ("id", "at", "actor", "action", "subject")
_ENDPOINT_COLUMNS = ("endpoint", "provider", "account", "auth", "url")


# --- discrepancies --------------------------------------------------------------------------------------------------


def open_discrepancies(visit: Visit) -> Shown:
    """The oldest first; with ``all`` those that are closed as well."""
    place = visit.place("after")
    after = (
        discrepancies.BEGINNING
        if place is None
        else (place[0], int(place[1]) if place[1].isdecimal() and len(place[1]) < 19 else 0)
    )
    with visit.store.reading() as connection:
        found = discrepancies.listing(
            connection,
            visit.store.tables,
            limit=visit.most + 1,
            now_ms=now_ms(),
            closed=visit.arg("all") is not None,
            after=after,
        )
    rows, is_more = first_of(found, visit.most)
    last = f"{_ms(rows[-1]['found_at'])}.{rows[-1]['id']}" if is_more else None
    values = {"rows": rows, "older": last and visit.link(after=last), "kinds": discrepancies.KINDS}
    return Shown("discrepancies.html", "Discrepancies", rows, values, showing.COLUMNS, rows)


def one_discrepancy(visit: Visit, seq: int) -> Shown:
    """What it is made of, without what is personal."""
    return discrepancy_page(visit, seq, reveal=False)


def discrepancy_page(visit: Visit, seq: int, *, reveal: bool) -> Shown:
    """Who reveals has written the audit row before."""
    with visit.store.reading() as connection:
        found = discrepancies.one(connection, visit.store.tables, seq, now_ms())
    if found is None:
        raise NotFound("there is no such discrepancy")
    document = showing.described(found, reveal=reveal)
    names = list(dict.fromkeys(name for row in document["rows"] for name in row))
    values = {
        "one": document,
        "names": names,
        "meaning": discrepancies.KINDS.get(document["kind"]),
        "is_revealed": reveal,
    }
    return Shown("discrepancy.html", f"Discrepancy {seq}", document, values)


# --- expected faxes -------------------------------------------------------------------------------------------------


def expected(visit: Visit) -> Shown:
    """The longest due first; with ``overdue`` only those whose callback should have come."""
    is_overdue = visit.arg("overdue") is not None
    with visit.store.reading() as connection:
        found = jobs.listing(
            connection,
            visit.store.tables,
            limit=visit.most + 1,
            overdue_at_ms=now_ms() if is_overdue else None,
            after=visit.place("after"),
        )
    rows, is_more = first_of(found, visit.most)
    last = f"{_ms(rows[-1]['due_at'])}.{rows[-1]['fax_id']}" if is_more else None
    values = {"rows": rows, "older": last and visit.link(after=last), "is_overdue": is_overdue}
    return Shown("expected.html", "Expected faxes", rows, values, _JOB_COLUMNS, rows)


# --- endpoints ------------------------------------------------------------------------------------------------------


def endpoints(visit: Visit) -> Shown:
    """Each with its callback URLs, when it was last heard of, and in how many hours of each day it was called."""
    settings = visit.runtime.settings
    rows = configured.endpoints(settings, reveal=False)
    today = now_ms() // (_DAY_HOURS * HOUR_MS)
    days = range(today - _DAYS + 1, today + 1)
    with visit.store.reading() as connection:
        tables, since_ms = visit.store.tables, days[0] * _DAY_HOURS * HOUR_MS
        hours = counting.called_hours(connection, tables, settings.endpoints, since_ms)
        last = {}
        for name in settings.endpoints:
            newest = kept_receipts.listing(connection, tables, limit=1, chosen=Chosen(endpoint=name))
            last[name] = newest[0]["received_at"] if newest else None
    called = {
        name: charts.bars([(_day(day), sum(hour // _DAY_HOURS == day for hour in of)) for day in days], _DAY_HOURS)
        for name, of in hours.items()
    }
    values: dict[str, Any] = {
        "endpoints": [settings.endpoints[name] for name in sorted(settings.endpoints)],
        "urls": {name: [row["url"] for row in rows if row["endpoint"] == name] for name in settings.endpoints},
        "last": last,
        "called": called,
        "days": [_day(day) for day in days],
    }
    return Shown("endpoints.html", "Endpoints", rows, values, _ENDPOINT_COLUMNS, rows)


def _day(number: int) -> str:
    """Of so many days since 1970."""
    return browsing.iso(number * _DAY_HOURS * HOUR_MS)[:10]  # type: ignore[index]  # it is a time


# --- the audit ------------------------------------------------------------------------------------------------------


def audit(visit: Visit) -> Shown:
    """Who did what, the newest first."""
    with visit.store.reading() as connection:
        found = browsing.audited(connection, visit.store.tables, visit.most + 1, before=visit.number("before"))
    rows, is_more = first_of(found, visit.most)
    values = {"rows": rows, "older": visit.link(before=rows[-1]["id"]) if is_more else None}
    return Shown("audit.html", "Audit", rows, values, _AUDIT_COLUMNS, rows)


def _ms(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)
