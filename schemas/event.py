"""
The canonical event: one recipient of one fax job reached its end.

``FaxCompleted`` is what a provider module makes of a callback or of a report row; ``fax_completed.v1.json`` is the
published form. ``schemas/README.md`` explains every field for consumers.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class Outcome(StrEnum):
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELED = "canceled"
    UNCONFIRMED = "unconfirmed"  # final, but nobody can tell whether the fax arrived


class FailureReason(StrEnum):
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    NOT_A_FAX = "not_a_fax"
    BAD_NUMBER = "bad_number"
    DISCONNECTED = "disconnected"
    CIRCUITS_BUSY = "circuits_busy"
    NETWORK_ERROR = "network_error"
    REJECTED = "rejected"
    TRANSMISSION_ERROR = "transmission_error"
    INCOMPATIBLE = "incompatible"
    DOCUMENT_CONVERSION = "document_conversion"
    DOCUMENT_MISSING = "document_missing"
    INVALID_REQUEST = "invalid_request"
    INSUFFICIENT_CREDIT = "insufficient_credit"
    BLOCKED = "blocked"
    EXPIRED = "expired"
    PROVIDER_ERROR = "provider_error"
    UNKNOWN = "unknown"


class Retryable(StrEnum):
    """Whether sending the same fax again later, unchanged, may work."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Confidence(StrEnum):
    """How sure we are of the meaning of the provider's code."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class TimeQuality(StrEnum):
    """How ``completed_at`` came to be."""

    PROVIDER = "provider"  # stated with its zone
    ASSUMED_ZONE = "assumed_zone"  # stated without a zone; the endpoint's was used
    AMBIGUOUS = "ambiguous"  # the same, in the hour a clock change repeats or skips
    NONE = "none"  # not stated


@dataclass(frozen=True, slots=True)
class Failure:
    reason: FailureReason
    retryable: Retryable
    confidence: Confidence


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one status code of a provider means: a row of its code table."""

    outcome: Outcome
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Recipient:
    number: str | None = None  # E.164
    number_raw: str | None = None  # as the provider wrote it
    name: str | None = None
    station_id: str | None = None  # how the remote machine names itself (CSID)
    country: str | None = None  # as the provider wrote it


@dataclass(frozen=True, slots=True)
class Sender:
    name: str | None = None
    number: str | None = None  # E.164


@dataclass(frozen=True, slots=True)
class Pages:
    total: int | None = None  # in the document; of the whole job where that is all there is
    sent: int | None = None  # taken by the remote machine


@dataclass(frozen=True, slots=True)
class Reference:
    """What the sender of the fax attached to the job."""

    id: str | None = None
    billing_code: str | None = None
    billing_info: str | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    amount: Decimal
    currency: str | None = None  # ISO 4217


@dataclass(frozen=True, slots=True, kw_only=True)
class FaxCompleted:
    """
    One recipient of one job is final, as one announcement of the provider states it.

    key: the provider's own identity of this fax within the account, all text; it is what makes the ``fax_id`` and is
    the same whether the fax is seen by callback or by report. Datetimes are aware and in UTC. Whatever the provider
    did not state is None; a stated 0 stays 0.
    """

    account: str
    key: tuple[str, ...]
    outcome: Outcome
    status_code: str
    failure: Failure | None = None
    status_text: str | None = None
    provider_job_id: str | None = None
    provider_fax_id: str | None = None
    provider_call_id: str | None = None  # of the call that ended the fax
    recipient: Recipient = Recipient()
    sender: Sender = Sender()
    pages: Pages = Pages()
    duration_seconds: int | None = None
    attempts: int | None = None
    cost: Cost | None = None
    submitted_at: datetime | None = None
    completed_at: datetime | None = None
    time_quality: TimeQuality = TimeQuality.NONE
    reference: Reference = Reference()
    test: bool = False

    @property
    def partial(self) -> bool:
        """Not delivered, yet some of the pages arrived."""
        sent, total = self.pages.sent, self.pages.total
        return self.outcome is not Outcome.DELIVERED and sent is not None and total is not None and 0 < sent < total
