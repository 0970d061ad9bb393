"""What has just happened, as a line for people or a JSON object: receipts and events, masked."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from receiver.showing.masking import masked
from receiver.store import rfc3339
from schemas.envelope import AMENDED, COMPLETED

_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # what a terminal might obey


def of_receipt(row: Any) -> dict[str, Any]:
    """row: of ``following.FollowingReceipts``."""
    return {
        "kind": "receipt",
        "at": rfc3339(row.received_at_ms),
        "id": row.id,
        "endpoint": row.endpoint,
        "provider": row.provider,
        "state": row.state,
        "reason": row.reason,
        "size": row.size,
    }


def of_event(row: Any) -> dict[str, Any]:
    """row: of ``events``. What only the payload tells is null where that is purged or damaged."""
    return {
        "kind": "event",
        "at": rfc3339(row.created_at_ms),
        "id": row.id,
        "fax_id": row.fax_id,
        "type": COMPLETED if row.revision == 1 else AMENDED,
        "revision": row.revision,
        "outcome": row.outcome,
        "receipt": row.receipt,
        **of_payload(row.body),
    }


def of_payload(body: bytes | None) -> dict[str, Any]:
    """Endpoint, provider, reason and the number's last two digits."""
    try:
        data = masked(json.loads(body or b"{}"))["data"]
    except (ValueError, AttributeError, TypeError):
        data = {}
    return {
        "endpoint": data.get("endpoint"),
        "provider": data.get("provider"),
        "reason": _within(data, "failure", "reason"),
        "number": _within(data, "recipient", "number"),
    }


def _within(data: Mapping[str, Any], part: str, name: str) -> Any:
    found = data.get(part)
    return found.get(name) if isinstance(found, dict) else None


def line(happened: Mapping[str, Any]) -> str:
    """For people: time, kind, what it is, where it came from, what became of it."""
    if happened["kind"] == "receipt":
        words = [happened["state"], happened["reason"], f"{happened['size']} bytes"]
    else:
        amended = f"revision {happened['revision']}" if happened["revision"] > 1 else None
        words = [happened["outcome"], happened["reason"], amended, happened["number"]]
    known = [_time(happened), f"{happened['kind']:<7}", happened["id"], happened["endpoint"]]
    return _joined([*known, *words])


def answered(posted: Mapping[str, Any]) -> str:
    """For people: an event that was posted to a consumer, and the answer."""
    amended = f"revision {posted['revision']}" if posted["revision"] > 1 else None
    answer = [_time(posted), posted["status"], f"{posted['seconds'] * 1000:.0f} ms"]
    return _joined(
        [*answer, posted["id"], posted["endpoint"], posted["outcome"], posted["reason"], amended, posted["number"]]
    )


def _time(happened: Mapping[str, Any]) -> str:
    return str(happened["at"])[:19].replace("T", " ")


def _joined(words: Sequence[object]) -> str:
    return _UNSHOWN.sub(" ", "  ".join(str(word) for word in words if word is not None))
