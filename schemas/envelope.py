"""The published form: a CloudEvents 1.0 envelope around the facts of one fax, as bytes that never change again."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from schemas.encoding import compact

CONTENT_TYPE = "application/cloudevents+json"
SCHEMA_URN = "urn:faxhook:schema:fax-completed:v1"
COMPLETED = "fax.completed.v1"
AMENDED = "fax.amended.v1"
MAPPING_VERSION = "1"  # of the code tables: higher when a code's meaning changes


def envelope(
    *,
    event_id: str,
    event_type: str,
    fax_id: str,
    provider: str,
    endpoint: str,
    facts: Mapping[str, Any],
    observed_at: str,
    observed_via: str,
    advice: Mapping[str, Any] | None,
    revision: int = 1,
    supersedes: str | None = None,
    changed: Sequence[str] = (),
    conflict: bool = False,
    traceparent: str,
) -> bytes:
    """The event as UTF-8 JSON. facts, advice: as ``receiver`` makes them; times are RFC 3339 in UTC."""
    event = {
        "specversion": "1.0",
        "id": event_id,
        "type": event_type,
        "source": _source(provider, facts["account"]),
        "subject": fax_id,
        "time": facts["completed_at"] or observed_at,
        "datacontenttype": "application/json",
        "dataschema": SCHEMA_URN,
        "partitionkey": fax_id,
        "traceparent": traceparent,
        "data": {
            "fax_id": fax_id,
            "provider": provider,
            "endpoint": endpoint,
            "account": facts["account"],
            "direction": "outbound",
            **_result(facts, advice),
            **_stated(facts),
            "observed_at": observed_at,
            "observed_via": observed_via,
            "reference": facts["reference"],
            "revision": revision,
            "supersedes": supersedes,
            "changed": list(changed),
            "conflict": conflict,
            "test": facts["test"],
            "mapping_version": MAPPING_VERSION,
        },
    }
    return compact(event).encode()


def _result(facts: Mapping[str, Any], advice: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "provider_job_id": facts["provider_job_id"],
        "provider_fax_id": facts["provider_fax_id"],
        "provider_call_id": facts.get("provider_call_id"),
        "outcome": facts["outcome"],
        "failure": facts["failure"],
        "advice": advice,
        "provider_status": facts["provider_status"],
    }


def _stated(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "recipient": facts["recipient"] | {"country": facts["recipient"].get("country")},
        "sender": facts["sender"],
        "pages": facts["pages"],
        "partial": facts["partial"],
        "duration_seconds": facts["duration_seconds"],
        "attempts": facts["attempts"],
        "cost": facts["cost"],
        "submitted_at": facts["submitted_at"],
        "completed_at": facts["completed_at"],
        "time_quality": facts["time_quality"],
    }


@lru_cache(maxsize=256)
def _source(provider: str, account: str) -> str:
    return f"/{quote(provider, safe='')}/{quote(account, safe='')}"


_TRACEPARENT = re.compile(rb'"traceparent":"([0-9a-f-]{55})"')


def traceparent_of(body: bytes) -> str | None:
    """Of an envelope as it is stored; None where it has none."""
    found = _TRACEPARENT.search(body, 0, body.find(b'"data":'))  # before anything that a provider has written
    return found[1].decode() if found else None


def routing_key(event_type: str, outcome: str) -> str:
    """``fax.completed.delivered``: always three words, so that a binding never misses one."""
    return f"{event_type.removesuffix('.v1')}.{outcome}"
