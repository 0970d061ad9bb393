"""What is stored of a person, in the form in which they may have it."""

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver.store import Store, history, kept_receipts, now_ms, rfc3339
from receiver.store.browsing import iso, seqs_of_fax
from receiver.store.seeking import Found
from receiver.store.submissions import checksum
from receiver.store.tables import Tables

_OTHERS = "it may hold what is of others; not given"


def document(store: Store, found: Found) -> dict[str, Any]:
    """The faxes with facts, history and payloads; what was registered; bodies of callbacks that are theirs alone."""
    return {
        "made_at": rfc3339(now_ms()),
        "faxes": [_fax(store, fax_id) for fax_id in sorted(found.faxes)],
        "registered": [_job(store, fax_id) for fax_id in sorted(found.jobs)],
        "receipts": [_receipt(store, receipt, found.faxes) for receipt in sorted(found.receipts)],
        "discrepancies": [_discrepancy(store, seq) for seq in sorted(found.discrepancies)],
    }


def _fax(store: Store, fax_id: str) -> dict[str, Any]:
    with store.reading() as connection:
        known = history.of_fax(connection, store.tables, fax_id)
        published = _published(connection, store.tables, fax_id)
    if known is None:
        return {"fax_id": fax_id}  # retention was quicker
    return {
        **known.fax,
        "facts": known.facts,
        "history": [step.described() for step in known.steps],
        "gaps": list(known.gaps),
        "published": published,
    }


def _published(connection: Connection, tables: Tables, fax_id: str) -> list[Any]:
    events = tables.events
    its = events.c.seq.in_(seqs_of_fax(connection, tables, fax_id)), events.c.body.is_not(None)
    rows = connection.execute(sa.select(events).where(*its).order_by(events.c.seq))
    return [json.loads(row.body) if checksum(row.id, row.body) == row.checksum else "damaged" for row in rows]


def _job(store: Store, fax_id: str) -> dict[str, Any]:
    jobs = store.tables.jobs
    with store.reading() as connection:
        row = connection.execute(sa.select(jobs).where(jobs.c.fax_id == fax_id)).first()
    if row is None:
        return {"fax_id": fax_id}
    same = {name: getattr(row, name) for name in ("fax_id", "provider", "account", "endpoint", "job_id")}
    return {**same, "facts": json.loads(row.facts), "registered_at": iso(row.registered_at_ms)}


def _receipt(store: Store, receipt: str, theirs: set[str]) -> dict[str, Any]:
    """As its newest replay has it."""
    with store.reading() as connection:
        row = kept_receipts.one(connection, store.tables, receipt)
        named = set(kept_receipts.faxes_named(connection, store.tables, receipt))
    if row is None:
        return {"id": receipt}
    described = {
        "id": row.id,
        "endpoint": row.endpoint,
        "provider": row.provider,
        "state": row.state,
        "received_at": iso(row.received_at_ms),
    }
    if row.body is None:
        return {**described, "body": None, "why": "purged"}
    described["content_type"] = row.body.content_type
    if not named or not named <= theirs or row.state == "partial":
        return {**described, "body": None, "why": _OTHERS}
    return {
        **described,
        "query": (row.body.query or b"").decode("utf-8", "backslashreplace"),
        "body": (row.body.body or b"").decode("utf-8", "backslashreplace"),
    }


def _discrepancy(store: Store, seq: int) -> dict[str, Any]:
    """That there is one; what it is made of may hold what is of others."""
    table = store.tables.discrepancies
    with store.reading() as connection:
        row = connection.execute(sa.select(table).where(table.c.seq == seq)).first()
    if row is None:
        return {"id": seq}
    same = {name: getattr(row, name) for name in ("provider", "account", "kind", "subject")}
    return {"id": seq, **same, "found_at": iso(row.found_at_ms), "rows": None, "why": _OTHERS}
