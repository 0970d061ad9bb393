"""Events and dead letters, as ``events`` and ``dead-letters`` tell of them."""

import json
from collections.abc import Sequence
from typing import Any

from receiver.showing.masking import masked
from receiver.showing.texts import readable
from receiver.store.browsing import iso
from receiver.store.dead_letters import DeadLetter

COLUMNS = ("id", "fax_id", "type", "outcome", "state", "receipt", "created_at", "published_at")
DEAD_COLUMNS = ("id", "fax_id", "outcome", "reason", "damaged", "receipt", "created_at", "parked_at", "sink")
OUTCOMES = ("delivered", "failed", "canceled", "unconfirmed")
STATES = ("pending", "leased", "published", "dead")


def described(row: dict[str, Any], stored: bytes | None, *, reveal: bool) -> dict[str, Any]:
    """One event with what was published; None once that is purged."""
    return {**row, "payload": _payload(stored, reveal=reveal)}


def _payload(stored: bytes | None, *, reveal: bool) -> Any:
    if stored is None:
        return None
    try:
        envelope = json.loads(stored)
    except ValueError:
        return "damaged"
    return envelope if reveal else masked(envelope)


def dead_row(letter: DeadLetter) -> dict[str, Any]:
    """One row of the list of dead letters."""
    return {
        "id": letter.id,
        "fax_id": letter.fax_id,
        "outcome": letter.outcome,
        "reason": letter.reason,
        "damaged": letter.is_damaged,
        "receipt": letter.receipt,
        "created_at": iso(letter.created_at_ms),
        "parked_at": iso(letter.parked_at_ms),
        "sink": letter.sink,
    }


def dead(row: dict[str, Any], stored: bytes | None, letters: Sequence[DeadLetter], *, reveal: bool) -> dict[str, Any]:
    """One event that is a dead letter, of one sink or several. What is damaged may be anything: it is left out."""
    letter = letters[0]
    payload: Any
    if letter.is_damaged:
        payload = readable(stored) if reveal and stored is not None else None
    else:
        payload = _payload(stored, reveal=reveal)
    reasons = {"reasons": {one.sink: one.reason for one in letters}} if "sinks" in row else {}
    return {**row, "reason": letter.reason, **reasons, "damaged": letter.is_damaged, "payload": payload}
