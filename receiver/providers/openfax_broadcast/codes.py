"""Openfax Broadcast: its result codes, from openfax.com/reports."""

from receiver.providers.shared.normalising import DELIVERED, failed, table, whole_number
from schemas.advice import Action, Step
from schemas.event import Confidence, FailureReason, Retryable

# The result of the last try; the list could not be read beyond 5.
CODES = table(
    "ErrorCode",
    [
        ("0", DELIVERED, "Success"),
        ("1", failed(FailureReason.NO_ANSWER, Retryable.YES, Confidence.HIGH), "No Answer"),
        ("2", failed(FailureReason.BUSY, Retryable.YES, Confidence.HIGH), "Busy"),
        ("3", failed(FailureReason.NOT_A_FAX, Retryable.NO, Confidence.HIGH), "Not a Fax Machine"),
        ("4", failed(FailureReason.CIRCUITS_BUSY, Retryable.YES, Confidence.HIGH), "All Circuits Busy"),
        ("5", failed(FailureReason.BAD_NUMBER, Retryable.NO, Confidence.HIGH), "Bad Fax Number"),
    ],
    spelling=whole_number,
)

# It has dialed up to four times by then, at least five minutes apart.
ADVICE = {
    FailureReason.BUSY: Step(Action.RETRY, 1800, 2),
    FailureReason.CIRCUITS_BUSY: Step(Action.OTHER_ROUTE),
}
