"""Faxes: the list that is searched and narrowed, and the one page about a single fax."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from receiver.errors import NotFound
from receiver.settings import Filter
from receiver.showing import events
from receiver.showing import faxes as showing
from receiver.store import finding, projection
from receiver.web.console import rendering
from receiver.web.console.visiting import PRIVACY, Elsewhere, Shown, Visit

PATH = "/console/faxes"
_EXACT = ("provider", "endpoint", "outcome", "reason", "state")
_MOST, _MOST_WITH_STATES = 20_000, 8000  # events that are looked at for something rare; the page goes on from there
_OF_REFERENCE = 10


_FACTS: Sequence[tuple[str, str, Callable[[Any], Any] | None]] = (
    ("Fax id", "fax_id", None),
    ("Provider", "provider", None),
    ("Account", "account", None),
    ("Provider's job id", "facts.provider_job_id", None),
    ("Provider's fax id", "facts.provider_fax_id", None),
    ("Number", "facts.recipient.number", None),
    ("Number as sent", "facts.recipient.number_raw", None),
    ("Recipient", "facts.recipient.name", None),
    ("Station", "facts.recipient.station_id", None),
    ("Country of the number", "facts.recipient.country", None),
    ("Sender", "facts.sender.name", None),
    ("Sender's number", "facts.sender.number", None),
    ("Reference", "facts.reference.id", None),
    ("Billing code", "facts.reference.billing_code", None),
    ("Billing information", "facts.reference.billing_info", None),
    ("Provider's code", "facts.provider_status.code", None),
    ("Provider's words", "facts.provider_status.text", None),
    ("May be tried again", "failure.retryable", None),
    ("Confidence of that", "failure.confidence", None),
    ("Pages", "facts.pages.total", None),
    ("Pages sent", "facts.pages.sent", None),
    ("Transmission took", "facts.duration_seconds", rendering.span),
    ("Attempts", "facts.attempts", None),
    ("Cost", "facts.cost", lambda cost: f"{cost['amount']} {cost['currency'] or ''}"),
    ("Submitted", "facts.submitted_at", rendering.moment),
    ("Completed", "facts.completed_at", rendering.moment),
    ("Quality of these times", "facts.time_quality", rendering.words),
    ("Last heard of", "seen_at", rendering.moment),
)


def listing(visit: Visit) -> Shown | Elsewhere:
    """What a search finds; else the newest that are as is asked for."""
    text = visit.arg("q")
    visit.choice("outcome", events.OUTCOMES)
    visit.choice("state", events.STATES)
    found = _searched(visit, text) if text else _newest(visit)
    if text and len(found.rows) == 1:
        return Elsewhere(f"{PATH}/{found.rows[0]['fax_id']}")
    rows = showing.shown(found, reveal=False)
    values = {
        "rows": rows,
        "notes": found.notes,
        "older": None if found.older is None else visit.link(before=found.older),
        "is_search": bool(text),
        "choices": _choices(visit),
        "chips": visit.chips("q", *_EXACT, "since", "until"),
    }
    return Shown("faxes.html", "Faxes", rows, values, showing.COLUMNS, rows)


def _searched(visit: Visit, text: str) -> finding.Found:
    runtime = visit.runtime
    longest = None if visit.person.may(PRIVACY) else projection.ENDING
    found = runtime.settings, runtime.find_keys, text, visit.most
    return showing.search(visit.store, *found, longest_ending=longest)


def _newest(visit: Visit) -> finding.Found:
    only = Filter(**{name: (value,) for name, value in visit.chosen("provider", "endpoint", "outcome").items()})
    with visit.store.reading() as connection:
        return finding.newest(
            connection,
            visit.store.tables,
            visit.most,
            since_ms=visit.milliseconds("since"),
            until_ms=visit.milliseconds("until"),
            before=visit.number("before"),
            only=only,
            reason=visit.arg("reason"),
            state=visit.arg("state"),
            most=_MOST_WITH_STATES if visit.arg("state") else _MOST,
        )


def _choices(visit: Visit) -> dict[str, list[str]]:
    accounts = visit.runtime.accounts
    return {
        "outcome": list(events.OUTCOMES),
        "state": list(events.STATES),
        "provider": sorted({account.provider.name for account in accounts.values()}),
        "endpoint": sorted(accounts),
    }


def one(visit: Visit, fax_id: str) -> Shown:
    """The whole history of one fax, without what is personal."""
    return page(visit, fax_id, reveal=False)


def page(visit: Visit, fax_id: str, *, reveal: bool) -> Shown:
    """Who reveals has written the audit row before."""
    found = showing.read(visit.store, fax_id)
    if found is None:
        raise NotFound("there is no such fax; what is known of one is forgotten after [retention] ids")
    document = showing.described(found, reveal=reveal)
    values = {
        "fax": document,
        "history": [defaultdict(lambda: None, step) for step in document["history"]],
        "known": list(_known(document)),
        "others": _others(visit, found.facts, fax_id),
        "is_revealed": reveal,
    }
    recipient = (document["facts"] or {}).get("recipient") or {}
    number = recipient.get("number") or recipient.get("number_raw") or recipient.get("name")
    return Shown("fax.html", f"Fax to {number or 'a number that is not known'}", document, values)


def _known(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What is known, with its name for people."""
    for name, place, form in _FACTS:
        value: Any = document
        for part in place.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value not in (None, ""):
            yield name, form(value) if form else value


def _others(visit: Visit, facts: Mapping[str, Any] | None, fax_id: str) -> list[dict[str, Any]]:
    """The other faxes of the same business reference: one that was delivered closes the matter."""
    reference = ((facts or {}).get("reference") or {}).get("id")
    if not reference:
        return []
    found = showing.of_reference(visit.store, visit.runtime.find_keys, reference, _OF_REFERENCE)
    return [row for row in showing.shown(found, reveal=False) if row["fax_id"] != fax_id.lower()]
