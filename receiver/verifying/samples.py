"""Events to send: whole ones as faxhook publishes them, of faxes that nobody has sent."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas import identity
from schemas.envelope import AMENDED, COMPLETED, MAPPING_VERSION, SCHEMA_URN
from schemas.event import FailureReason

ACCOUNT = "verify-consumer"
_PROVIDER = "example"
_LONGEST = 4096  # characters of a text

Event = dict[str, Any]


def completed(outcome: str = "delivered", reason: str | None = None, *, hours_ago: float = 0, **facts: Any) -> Event:
    """The first event of a new fax. facts: of ``data``, in place of the usual ones."""
    fax_id = str(uuid.uuid4())
    data = {"fax_id": fax_id, **_usual(fax_id, hours_ago), **_result(outcome, reason), **facts}
    event_id = str(identity.completed_id(uuid.UUID(fax_id), outcome))
    return _envelope(event_id, COMPLETED, data)


def amended(before: Event, **facts: Any) -> Event:
    """The next event of its fax."""
    data = {
        **before["data"],
        "revision": before["data"]["revision"] + 1,
        "supersedes": before["id"],
        "changed": ["pages.sent"],
        **facts,
    }
    return _envelope(str(uuid.uuid5(uuid.UUID(data["fax_id"]), f"amended {data['revision']}")), AMENDED, data)


def contradicting(before: Event) -> Event:
    """The provider says otherwise, and that holds now."""
    return amended(before, **_result("failed", "busy"), changed=["outcome", "failure.reason"], conflict=True)


def with_nulls() -> Event:
    """Nothing is stated that need not be."""
    nothing = dict.fromkeys(("number", "number_raw", "name", "station_id", "country"))
    ids = ("provider_job_id", "provider_fax_id", "provider_call_id")
    nulls: dict[str, Any] = dict.fromkeys(
        (*ids, "duration_seconds", "attempts", "cost", "submitted_at", "completed_at")
    )
    return completed(
        **nulls,
        provider_status={"code": "0", "text": None},
        recipient=nothing,
        sender={"name": None, "number": None},
        pages={"total": None, "sent": None},
        time_quality="none",
        reference=dict.fromkeys(("id", "billing_code", "billing_info")),
    )


def of_before() -> Event:
    """As it was made before fields were added."""
    event = completed("failed", "busy")
    del event["traceparent"], event["data"]["advice"], event["data"]["provider_call_id"]
    del event["data"]["recipient"]["country"]
    return event


def with_unknown_fields() -> Event:
    """In the envelope, in ``data`` and below it."""
    event = completed("failed", "no_answer")
    event |= {"tenant": "a", "sequence": 7}
    event["data"] |= {"carbon_grams": 3, "legs": [{"carrier": "x"}], "extra": None}
    for part in ("failure", "advice", "recipient", "pages", "reference"):
        event["data"][part]["added_later"] = {"deep": [1, 2, 3]}
    return event


def with_unknown_words() -> Event:
    """In each list that is not closed."""
    event = completed("failed", "unknown", provider="a-provider-added-later", observed_via="telepathy")
    event["source"] = f"/a-provider-added-later/{ACCOUNT}"
    event["data"]["advice"] |= {"action": "send_by_pigeon", "fault": "weather"}
    event["data"]["provider_status"] = {"code": "E-9999/x", "text": "a code that no table has"}
    return event


def of_unknown_type() -> Event:
    """A type that does not exist, with data of its own."""
    event = completed()
    return {**event, "type": "fax.archived.v1", "dataschema": "urn:faxhook:schema:fax-archived:v1", "data": {"x": [1]}}


def with_texts(text: str) -> Event:
    """In each field that is free text."""
    long = (text * _LONGEST)[:_LONGEST] if len(text) == 1 else text
    return completed(
        "failed",
        "disconnected",
        provider_status={"code": "2", "text": long},
        recipient={"number": "+12085550139", **dict.fromkeys(("number_raw", "name", "station_id", "country"), long)},
        sender={"name": long, "number": None},
        reference=dict.fromkeys(("id", "billing_code", "billing_info"), long),
    )


def _envelope(event_id: str, event_type: str, data: Mapping[str, Any]) -> Event:
    return {
        "specversion": "1.0",
        "id": event_id,
        "type": event_type,
        "source": f"/{data['provider']}/{ACCOUNT}",
        "subject": data["fax_id"],
        "time": data["completed_at"] or data["observed_at"],
        "datacontenttype": "application/json",
        "dataschema": SCHEMA_URN,
        "partitionkey": data["fax_id"],
        "traceparent": f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-00",
        "data": dict(data),
    }


def _usual(fax_id: str, hours_ago: float) -> dict[str, Any]:
    ended = datetime.now(UTC) - timedelta(hours=hours_ago)
    return {
        "provider": _PROVIDER,
        "endpoint": _PROVIDER,
        "account": ACCOUNT,
        "direction": "outbound",
        "provider_job_id": fax_id[:8],
        "provider_fax_id": fax_id[9:18],
        "provider_call_id": None,
        "provider_status": {"code": "0", "text": "as the provider says"},
        "recipient": {
            "number": "+12085550139",
            "number_raw": "12085550139",
            "name": "Verify Consumer",
            "station_id": "+1 208 5550139",
            "country": "US",
        },
        "sender": {"name": "faxhook", "number": "+12085550100"},
        "pages": {"total": 3, "sent": 3},
        "partial": False,
        "duration_seconds": 42,
        "attempts": 1,
        "cost": {"amount": "0.0294", "currency": "USD"},
        "submitted_at": None,
        "completed_at": ended.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "time_quality": "provider",
        "observed_at": ended.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "observed_via": "callback",
        "reference": {"id": f"verify-{fax_id[:8]}", "billing_code": None, "billing_info": None},
        "revision": 1,
        "supersedes": None,
        "changed": [],
        "conflict": False,
        "test": True,
        "mapping_version": MAPPING_VERSION,
    }


def _result(outcome: str, reason: str | None) -> dict[str, Any]:
    retry = {"action": "retry", "after_seconds": 900, "max_tries": 1, "fault": None}
    person = {"action": "call_recipient", "after_seconds": None, "max_tries": None, "fault": None}
    failure = {"reason": FailureReason(reason or "unknown"), "retryable": "unknown", "confidence": "medium"}
    return {
        "outcome": outcome,
        "failure": failure if outcome == "failed" else None,
        "advice": {"delivered": None, "failed": retry}.get(outcome, person),
    }
