"""All that is kept of one fax, in the order of time."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store import browsing, sinks
from receiver.store.browsing import iso
from receiver.store.known import newest_facts
from receiver.store.outbox import LONGEST_RUN
from receiver.store.submissions import REPORT, checksum
from receiver.store.tables import QUEUE, Tables
from receiver.store.types import is_id

_MOST_RECEIPTS = 500  # that repeat what is known


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened to a fax. what: one word; detail: names and values, none of them personal."""

    at_ms: int
    what: str
    detail: Mapping[str, Any]

    def described(self) -> dict[str, Any]:
        return {"at": iso(self.at_ms), "what": self.what, **self.detail}


@dataclass(frozen=True, slots=True)
class History:
    """facts: what is known of it, personal; None once purged. gaps: what is not known any more, a sentence each."""

    fax: Mapping[str, Any]
    facts: Mapping[str, Any] | None
    steps: Sequence[Step]
    gaps: Sequence[str]


def of_fax(connection: Connection, tables: Tables, fax_id: str) -> History | None:
    """None where nothing is known of it and nobody expects it."""
    faxes = tables.faxes
    row = connection.execute(sa.select(faxes).where(faxes.c.fax_id == fax_id)).first() if is_id(fax_id) else None
    job = _job(connection, tables, fax_id)
    if row is None:
        return None if job is None else _expected(job)
    events = _events(connection, tables, fax_id)
    receipts = _receipts(connection, tables, fax_id, events)
    facts = newest_facts(connection, tables, [fax_id]).get(fax_id)
    taken = list(_taken(connection, tables, events))
    steps = [
        *([_registered(job)] if job is not None else []),
        *(_received(receipt, events) for receipt in receipts),
        *_replayed(connection, tables, fax_id, [receipt.id for receipt in receipts]),
        *(_told(event) for event in events),
        *taken,
        *_parked(connection, tables, events),
        *_discrepancies(connection, tables, row, facts),
    ]
    steps.sort(key=lambda step: step.at_ms)
    newest = next((event for event in events if event.id == row.event_id), None)
    delivered = {step.detail["event"] for step in taken}
    nowhere = [event.id for event in events if event.state == "published" and event.id not in delivered]
    fax = {
        "fax_id": fax_id,
        "provider": row.provider,
        "account": row.account,
        "outcome": row.outcome,
        "failure": (facts or {}).get("failure"),
        "advice": (newest.data or {}).get("advice") if newest is not None else None,
        "state": newest.state if newest is not None and newest.id not in nowhere else None,
        "revision": row.revision,
        "event": row.event_id,
        "seen_at": iso(row.seen_at_ms),
    }
    gaps = [f"no delivery of event {event_id} is noted: it was given up before it was sent" for event_id in nowhere]
    return History(fax, facts, steps, [*_gaps(row, events, receipts, facts), *gaps])


# --- registered -----------------------------------------------------------------------------------------------------


def _job(connection: Connection, tables: Tables, fax_id: str) -> Any:
    jobs = tables.jobs
    return connection.execute(sa.select(jobs).where(jobs.c.fax_id == fax_id)).first() if is_id(fax_id) else None


def _registered(job: Any) -> Step:
    return Step(job.registered_at_ms, "registered", {"endpoint": job.endpoint, "due_at": iso(job.due_at_ms)})


def _expected(job: Any) -> History:
    stated = json.loads(job.facts)
    facts: dict[str, Any] = {"provider_job_id": job.job_id}
    for name, value in stated.items():
        group, _, part = name.partition(".")
        if part:
            facts.setdefault(group, {})[part] = value
        else:
            facts[group] = value
    fax = {
        "fax_id": job.fax_id,
        "provider": job.provider,
        "account": job.account,
        **dict.fromkeys(("outcome", "failure", "advice")),
        "state": "expected",
        "revision": 0,
        **dict.fromkeys(("event", "seen_at")),
    }
    asked = [Step(job.asked_at_ms, "asked for", {"times": job.asked})] if job.asked_at_ms is not None else []
    return History(fax, facts, [_registered(job), *asked], ["nothing has been heard of it yet"])


# --- events and receipts --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Event:
    seq: int
    id: str
    revision: int
    outcome: str
    receipt: str
    created_at_ms: int
    state: str
    data: Mapping[str, Any] | None  # None: purged, or damaged


def _events(connection: Connection, tables: Tables, fax_id: str) -> list[_Event]:
    events = tables.events
    seqs = browsing.seqs_of_fax(connection, tables, fax_id)
    states = {event["id"]: event["state"] for event in browsing.events_of(connection, tables, seqs)}
    found = []
    for row in connection.execute(sa.select(events).where(events.c.seq.in_(seqs)).order_by(events.c.seq)):
        is_whole = row.body is not None and checksum(row.id, row.body) == row.checksum
        data = json.loads(row.body)["data"] if is_whole else None
        known = (row.seq, row.id, row.revision, row.outcome, row.receipt, row.created_at_ms)
        found.append(_Event(*known, states[row.id], data))
    return found


def _told(event: _Event) -> Step:
    detail: dict[str, Any] = {"event": event.id, "revision": event.revision, "outcome": event.outcome}
    if event.data is not None:
        failure = event.data["failure"]
        detail |= {"reason": failure and failure["reason"], "changed": event.data["changed"]}
        detail |= {"conflict": True} if event.data["conflict"] else {}
    return Step(event.created_at_ms, "completed" if event.revision == 1 else "amended", detail)


def _receipts(connection: Connection, tables: Tables, fax_id: str, events: Sequence[_Event]) -> list[Any]:
    """The receipts that name it and are still kept, the oldest first."""
    repeats = tables.repeats
    others = sa.select(repeats.c.receipt).where(repeats.c.fax_id == fax_id).order_by(repeats.c.receipt)
    ids = [*(event.receipt for event in events), *connection.scalars(others.limit(_MOST_RECEIPTS))]
    names = ("id", "endpoint", "state", "reason", "received_at_ms", "auth", "answer")
    found = [
        row
        for table in (tables.receipts, tables.rejected_receipts)
        for row in connection.execute(sa.select(*(table.c[name] for name in names)).where(table.c.id.in_(ids)))
    ]
    return sorted(found, key=lambda row: str(row.id))


def _received(receipt: Any, events: Sequence[_Event]) -> Step:
    detail = {
        "receipt": receipt.id,
        "endpoint": receipt.endpoint,
        "via": "report" if receipt.auth == REPORT else "callback",
        "auth": receipt.auth,
        "answer": receipt.answer,
        "state": receipt.state,
        "reason": receipt.reason,
        "events": [event.id for event in events if event.receipt == receipt.id],
    }
    return Step(receipt.received_at_ms, "received", detail)


def _replayed(connection: Connection, tables: Tables, fax_id: str, receipts: Sequence[str]) -> Iterator[Step]:
    replays = tables.replays
    for row in connection.execute(sa.select(replays).where(replays.c.receipt.in_(receipts))):
        if any(named == fax_id for named, _ in row.faxes):
            detail = {"receipt": row.receipt, "state": row.state, "reason": row.reason}
            yield Step(row.at_ms, "replayed", detail)


# --- what became of the events --------------------------------------------------------------------------------------


def _taken(connection: Connection, tables: Tables, events: Sequence[_Event]) -> Iterator[Step]:
    taken = tables.taken
    its_sinks = taken.c.sink.in_(sinks.names(connection, tables))
    for event in events:
        covers = taken.c.first > event.seq - LONGEST_RUN, taken.c.first <= event.seq, taken.c.last >= event.seq
        for sink, at_ms in connection.execute(sa.select(taken.c.sink, taken.c.at_ms).where(its_sinks, *covers)):
            yield Step(at_ms, "taken", {"event": event.id, **_where(sink)})


def _parked(connection: Connection, tables: Tables, events: Sequence[_Event]) -> Iterator[Step]:
    dead, ids = tables.dead_letters, {event.seq: event.id for event in events}
    its = dead.c.sink.in_(sinks.names(connection, tables)), dead.c.seq.in_(list(ids))
    for row in connection.execute(sa.select(dead).where(*its)):
        yield Step(row.parked_at_ms, "dead letter", {"event": ids[row.seq], "reason": row.reason, **_where(row.sink)})


def _where(sink: str) -> dict[str, str]:
    """Of the queue nothing is said: it is where events go."""
    return {} if sink == QUEUE else {"sink": sink}


def _discrepancies(connection: Connection, tables: Tables, fax: Any, facts: Mapping[str, Any] | None) -> Iterator[Step]:
    table = tables.discrepancies
    subjects = {"contradiction": fax.fax_id, "missing": (facts or {}).get("provider_job_id")}
    for kind, subject in subjects.items():
        its = table.c.kind == kind, table.c.subject == subject
        query = sa.select(table).where(table.c.provider == fax.provider, table.c.account == fax.account, *its)
        for row in connection.execute(query):
            yield Step(row.found_at_ms, "discrepancy", {"id": row.seq, "kind": row.kind})
            if row.closed_at_ms is not None:
                yield Step(row.closed_at_ms, "closed", {"id": row.seq, "kind": row.kind})


def _gaps(fax: Any, events: Sequence[_Event], receipts: Sequence[Any], facts: Mapping[str, Any] | None) -> list[str]:
    gaps = []
    if facts is None:
        gaps.append("its facts are purged: number, reference and what changed are not known any more")
    if len(events) < fax.revision:
        gaps.append(f"of its {fax.revision} events, {fax.revision - len(events)} are purged")
    kept = {receipt.id for receipt in receipts}
    missing = sum(event.receipt not in kept for event in events)
    if missing:
        gaps.append(f"the receipts of {missing} of its events are purged")
    if len(kept - {event.receipt for event in events}) >= _MOST_RECEIPTS:
        gaps.append(f"of the callbacks that repeated what was known, only the first {_MOST_RECEIPTS} are told")
    return gaps
