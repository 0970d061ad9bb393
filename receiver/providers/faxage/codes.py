"""FAXAGE: the three words for how a fax stands."""

from receiver.providers.shared.normalising import DELIVERED, failed, table
from schemas.event import Confidence, FailureReason, Retryable

# Why a fax failed is in longstatus only, a text that may change at any time: it is passed on, never read.
CODES = table(
    "shortstatus",
    [
        ("pending", None, "queued, converting or retrying"),
        ("success", DELIVERED, "delivered"),
        ("failure", failed(FailureReason.UNKNOWN, Retryable.UNKNOWN, Confidence.HIGH), "not delivered"),
    ],
    unknown=None,  # the schema takes these three words only
    spelling=str.lower,
)
