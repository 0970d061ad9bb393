"""Processing a kept callback once more, for instance after the configuration or a code table was mended."""

import json
import time
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from receiver import intake
from receiver.errors import ConfigurationError, Refusal, StoreError
from receiver.intake import Arrival
from receiver.providers import RawCallback
from receiver.runtime import Endpoint, Runtime
from receiver.store import Store, browsing, kept_receipts
from receiver.store.kept_receipts import ReceiptRow
from receiver.store.known import is_newest
from receiver.store.recording import foretell
from receiver.store.submissions import Recorded
from receiver.store.tables import Tables

_SECONDS = 2.0  # that a rehearsal waits for others


def replay(runtime: Runtime, receipt_id: str, as_endpoint: str | None = None, *, actor: str | None = None) -> Recorded:
    """
    Send one receipt through stations 4 to 7 as if it came now, but observed when it came.

    as_endpoint: the one to take instead of the receipt's own, of the same provider. actor: who does it, for the audit.

    What is refused again stays rejected, and the Refusal is raised. StoreError: there is no such receipt, or its body
    is purged. ConfigurationError: no endpoint to take.
    """
    with runtime.store.writing() as connection:
        receipt = _receipt(connection, runtime.store.tables, receipt_id)
        arrival = _arrival(receipt, runtime, as_endpoint)
        name = arrival.endpoint.name
        subject = receipt_id if name == receipt.endpoint else f"{receipt_id} as {name}"
        browsing.audit(connection, runtime.store.tables, "receipts.replay", subject, actor)
    return intake.process(arrival, runtime)


@dataclass(frozen=True, slots=True)
class Foretold:
    """
    What a replay would come to now: its state, and each event that it would add, with the fax's newest one so far.

    refusal: what it would be refused with. before: None for a fax that is not known, or whose event is purged.
    """

    state: str
    events: tuple[tuple[bytes, bytes | None], ...]
    refusal: Refusal | None


def rehearse(runtime: Runtime, store: Store, receipt_id: str, as_endpoint: str | None = None) -> Foretold:
    """
    A replay of which nothing stays.

    store: where it is tried, which may be the runtime's own. Raises as ``replay`` does, but for Refusals.
    """
    with store.reading() as connection:
        receipt = _receipt(connection, store.tables, receipt_id)
    submission, refusal = intake.prepare(_arrival(receipt, runtime, as_endpoint), runtime)
    with store.rehearsing(time.monotonic() + _SECONDS) as cursor:
        recorded, payloads = foretell(cursor, store.engine.dialect, submission, runtime.advisor)
    with store.reading() as connection:
        events = tuple((payload, _newest(connection, store.tables, payload)) for payload in payloads)
    return Foretold(recorded.state, events, refusal)


def _newest(connection: Connection, tables: Tables, payload: bytes) -> bytes | None:
    """The newest event of the payload's fax."""
    fax_id = json.loads(payload)["subject"]
    query = sa.select(tables.events.c.body).join_from(tables.faxes, tables.events, is_newest(tables))
    return connection.scalar(query.where(tables.faxes.c.fax_id == fax_id))


def _receipt(connection: Connection, tables: Tables, receipt_id: str) -> ReceiptRow:
    receipt = kept_receipts.one(connection, tables, receipt_id)
    if receipt is None:
        raise StoreError(f"there is no receipt {receipt_id}")
    if "report" in receipt.detail:
        raise StoreError(f"receipt {receipt_id} is of a report, which is not kept; run faxhook reconcile --since")
    return receipt


def _arrival(receipt: ReceiptRow, runtime: Runtime, as_endpoint: str | None) -> Arrival:
    kept = receipt.body
    if kept is None:
        raise StoreError(f"the body of receipt {receipt.id} has been purged; it cannot be replayed")
    endpoint = _endpoint(runtime, as_endpoint or receipt.endpoint, receipt.provider)
    raw = RawCallback(kept.body, kept.content_type, kept.query, kept.reference)
    return Arrival(endpoint, raw, receipt.id, receipt.received_at_ms, replay=True)


def _endpoint(runtime: Runtime, name: str, provider: str) -> Endpoint:
    endpoint = runtime.endpoints.get(name)
    if endpoint is None:
        raise ConfigurationError(f"endpoint {name} is not configured; name one of the same provider with --as")
    if endpoint.provider.name != provider:
        raise ConfigurationError(f"endpoint {name} is for {endpoint.provider.name}; the receipt is from {provider}")
    return endpoint
