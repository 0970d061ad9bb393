"""The signature of a webhook, as Standard Webhooks has it: HMAC-SHA256 over id, time and body."""

import base64
import hmac
from collections.abc import Iterable


def key_of(secret: str) -> bytes:
    """secret: ``whsec_`` and base64."""
    return base64.b64decode(secret.removeprefix("whsec_"))


def headers(keys: Iterable[bytes], event_id: str, at: int, body: bytes) -> dict[str, str]:
    """at: seconds since 1970. One signature for each key, so that the receiver may have either of two."""
    signed = f"{event_id}.{at}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
