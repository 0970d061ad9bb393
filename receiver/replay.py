"""Processing a kept callback once more, for instance after the configuration or a code table was mended."""

from receiver import intake
from receiver.errors import ConfigurationError, StoreError
from receiver.intake import Arrival
from receiver.providers import RawCallback
from receiver.runtime import Endpoint, Runtime
from receiver.store import browsing, kept_receipts
from receiver.store.submissions import Recorded


def replay(runtime: Runtime, receipt_id: str, as_endpoint: str | None = None, *, actor: str | None = None) -> Recorded:
    """
    Send one receipt through stations 4 to 7 as if it came now, but observed when it came.

    as_endpoint: the one to take instead of the receipt's own, of the same provider. actor: who does it, for the audit.

    What is refused again stays rejected, and the Refusal is raised. StoreError: there is no such receipt, or its body
    is purged. ConfigurationError: no endpoint to take.
    """
    with runtime.store.writing() as connection:
        receipt = kept_receipts.one(connection, runtime.store.tables, receipt_id)
        if receipt is None:
            raise StoreError(f"there is no receipt {receipt_id}")
        if "report" in receipt.detail:
            raise StoreError(f"receipt {receipt_id} is of a report, which is not kept; run faxhook reconcile --since")
        if receipt.body is None:
            raise StoreError(f"the body of receipt {receipt_id} has been purged; it cannot be replayed")
        endpoint = _endpoint(runtime, as_endpoint or receipt.endpoint, receipt.provider)
        subject = receipt_id if endpoint.name == receipt.endpoint else f"{receipt_id} as {endpoint.name}"
        browsing.audit(connection, runtime.store.tables, "receipts.replay", subject, actor)
    kept = receipt.body
    raw = RawCallback(kept.body, kept.content_type, kept.query, kept.reference)
    return intake.process(Arrival(endpoint, raw, receipt.id, receipt.received_at_ms, replay=True), runtime)


def _endpoint(runtime: Runtime, name: str, provider: str) -> Endpoint:
    endpoint = runtime.endpoints.get(name)
    if endpoint is None:
        raise ConfigurationError(f"endpoint {name} is not configured; name one of the same provider with --as")
    if endpoint.provider.name != provider:
        raise ConfigurationError(f"endpoint {name} is for {endpoint.provider.name}; the receipt is from {provider}")
    return endpoint
