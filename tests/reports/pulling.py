"""A report fetched over real HTTP, and its rows brought to events as ``receiver.reconcile`` does it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask
from house import serving
from ports import listener
from providers.samples import source

from receiver import facts, providers, stations
from receiver.providers import Ask, Client, Page, Provider, RecordReport
from schemas.identity import fax_id

UNTIL = datetime(2026, 7, 15, 18, 0, tzinfo=UTC)
SECRET = "example-password"


def ask(name: str, url: str, **changes: Any) -> Ask:
    """For the account of ``providers.samples``, with every option that has no default; changes: options, or Ask's."""
    provider = providers.load()[name]
    where = source(provider)
    assert where.account is not None and provider.reports is not None
    options = {
        option.name: {"password": SECRET, "user": "exampleuser", "company": where.account}.get(
            option.name, option.default or ""
        )
        for option in provider.reports.options
    }
    options |= {"url": url} | {name: changes.pop(name) for name in list(changes) if name in options}
    asked = {"begin": UNTIL - timedelta(days=1), "end": UNTIL, "cursor": None, "jobs": (), "zone": where.timezone}
    return Ask(where.account, **(asked | changes), options=options)


def client(name: str, *, budget: int = 100) -> Client:
    """One that does not wait between tries."""
    return Client(providers.load()[name].title, budget, lambda _seconds: False)


def report(name: str, called: str) -> RecordReport:
    reports = providers.load()[name].reports
    assert reports is not None
    return next(one for one in reports.records if one.name == called)


def fetched(name: str, called: str, url: str, **changes: Any) -> list[Page]:
    """All pages of a record report."""
    asking = client(name)
    try:
        return list(report(name, called).fetch(ask(name, url, **changes), asking))
    finally:
        asking.close()


def rows(pages: Sequence[Page]) -> list[Any]:
    return [row for page in pages for row in page.rows]


def entries(name: str, called: str, pages: Sequence[Page]) -> list[Any]:
    """The events and invalid rows of these pages, in order; raises what a row is refused with."""
    one, found = report(name, called), []
    for row in rows(pages):
        if message := one.shape(row):
            data, _ = stations.check(message, one.schema)
            found += one.normalise(data, source(providers.load()[name]))
    return found


def ids(name: str, events: Sequence[Any]) -> list[str]:
    return [str(fax_id(name, event.account, event.key)) for event in events]


def learned(known: Any, announced: Any) -> tuple[str, ...]:
    """What a further announcement changes in what is known of a fax."""
    merged = facts.merge(facts.of(known), facts.of(announced))
    assert not merged.conflict
    return merged.changed + merged.differing


@contextmanager
def served(app: Flask) -> Iterator[str]:
    with listener() as sock, serving(app, sock) as port:
        yield f"http://127.0.0.1:{port}"


def provider(name: str) -> Provider:
    return providers.load()[name]
