"""Openfax: what its codes mean, those of a result and the states of its report."""

from receiver.providers.shared.normalising import CANCELED, DELIVERED, failed, table, whole_number
from schemas.advice import Action, Step
from schemas.event import Confidence, FailureReason, Retryable

# Openfax has used up its own redials when it posts; retryable is about the sender trying later.
CODES = table(
    "LastStatus",
    [
        ("-1", None, "Received, in processing"),
        ("0", DELIVERED, "Successful"),
        ("1", failed(FailureReason.NO_ANSWER, Retryable.YES, Confidence.HIGH), "No Answer"),
        ("2", failed(FailureReason.BUSY, Retryable.YES, Confidence.HIGH), "Busy"),
        ("3", failed(FailureReason.NOT_A_FAX, Retryable.NO, Confidence.HIGH), "Not Fax"),
        ("4", failed(FailureReason.CIRCUITS_BUSY, Retryable.YES, Confidence.HIGH), "All Circuits Busy"),
        ("5", failed(FailureReason.BAD_NUMBER, Retryable.NO, Confidence.HIGH), "Bad Number"),
        ("6", failed(FailureReason.DISCONNECTED, Retryable.YES, Confidence.HIGH), "Call Disconnected"),
        ("7", failed(FailureReason.UNKNOWN, Retryable.YES, Confidence.HIGH), "Unknown / Other"),
        ("8", failed(FailureReason.DOCUMENT_CONVERSION, Retryable.NO, Confidence.HIGH), "Doc Conversion Failed"),
        ("9", failed(FailureReason.INSUFFICIENT_CREDIT, Retryable.NO, Confidence.HIGH), "Credit Check Failed"),
    ],
    spelling=whole_number,
)

# It has dialed up to four times by then, four minutes apart.
ADVICE = {
    FailureReason.BUSY: Step(Action.RETRY, 1800, 2),
    FailureReason.CIRCUITS_BUSY: Step(Action.OTHER_ROUTE),
    FailureReason.DISCONNECTED: Step(Action.RETRY_LATER, 3600, 1),
}

# Which of them are final is documented for 8, 9, 10 and 13 alone. A state nobody listed is refused, not taken for one.
STATES = table(
    "CurrentState",
    [
        ("0", None, "Received"),
        ("1", None, "Document Rendering"),
        ("2", None, "Checking Credit"),
        ("3", None, "On Outbound Table / Waiting for queue space"),
        ("4", None, "In Outbound Queue / In queue for node"),
        ("5", None, "At Fax Node / Fax dialing"),
        ("6", None, "Reporting Engine"),
        ("7", None, "Waiting for Redial"),
        ("8", DELIVERED, "Finalized / Fax Successful"),
        ("9", failed(FailureReason.UNKNOWN, Retryable.UNKNOWN, Confidence.HIGH), "Finalized / Fax Failed"),
        (
            "10",
            failed(FailureReason.DOCUMENT_CONVERSION, Retryable.NO, Confidence.HIGH),
            "Finalized / Fax Failed due to document conversion",
        ),
        ("11", None, "Credit Hold"),
        ("12", None, "Retry Eligible"),
        ("13", CANCELED, "Canceled"),
    ],
    unknown=None,
    spelling=whole_number,
)
