"""JSON Schema of our own answers, and of the requests that no marshmallow schema reads."""

from collections.abc import Iterator
from typing import Any

from receiver import errors

_NAMES = {"type": "array", "items": {"type": "string"}}


def _codes() -> list[str]:
    def below(base: type[errors.Refusal]) -> Iterator[str]:
        yield base.code
        for one in base.__subclasses__():
            if one.__module__ == errors.__name__:
                yield from below(one)

    return [*dict.fromkeys(below(errors.Refusal)), "bad_request"]


OWN_BODIES: dict[str, Any] = {
    "Problem": {
        "type": "object",
        "description": "RFC 9457. It never repeats a value that was sent.",
        "required": ["status", "code", "detail"],
        "properties": {
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string", "enum": _codes(), "description": "A closed list."},
            "detail": {"type": "string", "description": "One sentence for a person."},
            "fields": {
                "type": "object",
                "description": "Names as they were sent, and what was expected of each.",
                "additionalProperties": {"type": "string"},
            },
            "received": {**_NAMES, "description": "Which names came instead."},
            "receipt": {"type": "string", "format": "uuid", "description": "What was kept of the callback."},
        },
    },
    "CallbackAnswer": {
        "type": "object",
        "required": ["status", "receipt", "events"],
        "properties": {
            "status": {"type": "string", "enum": ["accepted", "partial", "duplicate", "ignored"]},
            "receipt": {"type": "string", "format": "uuid"},
            "events": {
                "type": "array",
                "description": "The current event of each fax that has ended, new or known, in order.",
                "items": {"type": "string", "format": "uuid"},
            },
        },
    },
    "JobAnswer": {
        "type": "object",
        "required": ["status", "faxes"],
        "properties": {
            "status": {"type": "string", "const": "registered"},
            "faxes": {
                "type": "array",
                "description": "In the order of the recipients.",
                "items": {
                    "type": "object",
                    "required": ["fax_id", "state"],
                    "properties": {
                        "fax_id": {"type": "string", "format": "uuid"},
                        "state": {"type": "string", "enum": ["expected", "registered", "known"]},
                        "outcome": {"type": "string"},
                        "event": {"type": "string", "format": "uuid"},
                    },
                },
            },
        },
    },
    "ReferenceAnswer": {
        "type": "object",
        "required": ["reference", "delivered", "faxes"],
        "properties": {
            "reference": {"type": "string"},
            "delivered": {"type": "boolean", "description": "Whether one of them is: then send none again."},
            "faxes": {
                "type": "array",
                "description": "The newest first, at most 100.",
                "items": {
                    "type": "object",
                    "required": ["fax_id", "provider", "account", "state", "outcome"],
                    "properties": {
                        "fax_id": {"type": "string", "format": "uuid"},
                        **{name: {"type": "string"} for name in ("provider", "account")},
                        "state": {
                            "type": ["string", "null"],
                            "description": "expected: registered and not heard of; else of its newest event.",
                        },
                        **{name: {"type": ["string", "null"]} for name in ("endpoint", "outcome", "reason")},
                        **{name: {"type": ["string", "null"]} for name in ("retryable", "job_id", "completed_at")},
                        "revision": {"type": "integer"},
                        "pages": {"type": ["integer", "null"], "description": "That arrived."},
                        "event": {"type": ["string", "null"], "description": "The id of the newest one."},
                        "number": {"type": ["string", "null"], "description": "Its last two digits."},
                    },
                },
            },
        },
    },
    "TokenRequest": {
        "type": "object",
        "required": ["grant_type"],
        "properties": {
            "grant_type": {"type": "string", "const": "client_credentials"},
            "scope": {"type": "string"},
            "client_id": {"type": "string"},
            "client_secret": {"type": "string", "format": "password"},
        },
        "additionalProperties": {"type": "string"},
    },
    "Token": {
        "type": "object",
        "required": ["access_token", "token_type", "expires_in"],
        "properties": {
            "access_token": {"type": "string"},
            "token_type": {"type": "string", "const": "Bearer"},
            "expires_in": {"type": "integer", "description": "Seconds."},
            "scope": {"type": "string"},
        },
    },
    "TokenError": {
        "type": "object",
        "description": "RFC 6749, 5.2.",
        "required": ["error"],
        "properties": {"error": {"type": "string"}, "error_description": {"type": "string"}},
    },
}
