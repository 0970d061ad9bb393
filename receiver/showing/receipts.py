"""Receipts, as ``receipts list`` and ``receipts show`` tell of them."""

from typing import Any

from receiver.showing.texts import readable
from receiver.store.browsing import iso
from receiver.store.kept_receipts import ReceiptRow

COLUMNS = ("id", "endpoint", "provider", "state", "reason", "received_at", "size", "events")
STATES = ("accepted", "partial", "duplicate", "ignored", "rejected")


def described(receipt: ReceiptRow, *, reveal: bool) -> dict[str, Any]:
    """What became of it and why; with reveal also the body."""
    found: dict[str, Any] = {
        "id": receipt.id,
        "endpoint": receipt.endpoint,
        "provider": receipt.provider,
        "state": receipt.state,
        "reason": receipt.reason,
        "received_at": iso(receipt.received_at_ms),
        "size": receipt.size,
        "events": list(receipt.events),
        "detail": dict(receipt.detail),
        "kept": receipt.body is not None,
    }
    if reveal and receipt.body is not None:
        kept = receipt.body
        found |= {
            "content_type": kept.content_type,
            "reference": kept.reference,
            "query": readable(kept.query),
            "body": readable(kept.body),
        }
    return found
