"""Retarus: the status codes of its documents and public clients."""

from receiver.providers.shared.normalising import CANCELED, DELIVERED, UNCONFIRMED, failed, table
from schemas.event import Confidence, FailureReason, Retryable

# The official list cannot be read to its end, so unlisted codes must be expected. Retrying after NOFAX* is what
# Retarus itself advises.
CODES = table(
    "status",
    [
        ("OK", DELIVERED, "all pages delivered"),
        ("EOD_FAILED", UNCONFIRMED, "all sent, end not confirmed; the fax has often arrived"),
        ("BUSY", failed(FailureReason.BUSY, Retryable.YES, Confidence.HIGH), "busy"),
        ("NOFAX", failed(FailureReason.NOT_A_FAX, Retryable.YES, Confidence.HIGH), "a person or machine answered"),
        ("NOFAX_DIS", failed(FailureReason.NOT_A_FAX, Retryable.YES, Confidence.HIGH), "a person hung up"),
        ("NOFAX_TO", failed(FailureReason.NOT_A_FAX, Retryable.YES, Confidence.HIGH), "answered, no fax signal"),
        ("RING_TO", failed(FailureReason.NO_ANSWER, Retryable.YES, Confidence.HIGH), "nobody answered in time"),
        ("WOUT_TO", failed(FailureReason.BAD_NUMBER, Retryable.UNKNOWN, Confidence.LOW), "no reaction to dialing"),
        ("NO_TRAIN", failed(FailureReason.TRANSMISSION_ERROR, Retryable.YES, Confidence.MEDIUM), "training failed"),
        (
            "PAGE_SEND_ERROR PAGE_SEND_ERR",  # two spellings, both in use
            failed(FailureReason.TRANSMISSION_ERROR, Retryable.YES, Confidence.MEDIUM),
            "page not accepted",
        ),
        ("REM_DIS", failed(FailureReason.DISCONNECTED, Retryable.YES, Confidence.MEDIUM), "remote hung up"),
        (
            "NO_REMOTEINFO",
            failed(FailureReason.DISCONNECTED, Retryable.YES, Confidence.MEDIUM),
            "remote hung up before a mode was agreed",
        ),
        ("BAD_LINES", failed(FailureReason.TRANSMISSION_ERROR, Retryable.YES, Confidence.MEDIUM), "bad scan lines"),
        ("FANS_GF", failed(FailureReason.TRANSMISSION_ERROR, Retryable.YES, Confidence.MEDIUM), "protocol error"),
        ("DIAL_GF", failed(FailureReason.NETWORK_ERROR, Retryable.YES, Confidence.MEDIUM), "no connection set up"),
        ("COMERROR", failed(FailureReason.TRANSMISSION_ERROR, Retryable.YES, Confidence.MEDIUM), "communication error"),
        ("DIAL_NC", failed(FailureReason.BAD_NUMBER, Retryable.NO, Confidence.MEDIUM), "number invalid or incomplete"),
        ("CHANGED_NO", failed(FailureReason.BAD_NUMBER, Retryable.NO, Confidence.MEDIUM), "number has changed"),
        ("WRONG_NO", failed(FailureReason.BAD_NUMBER, Retryable.NO, Confidence.MEDIUM), "wrong or unassigned number"),
        ("BLACKLIST", failed(FailureReason.BLOCKED, Retryable.NO, Confidence.MEDIUM), "on a public do-not-fax list"),
        ("PBLACKLIST", failed(FailureReason.BLOCKED, Retryable.NO, Confidence.MEDIUM), "on the customer's block list"),
        (
            "MISSING_FAX_FILE UNKNOWN_FAX_FILE",
            failed(FailureReason.DOCUMENT_MISSING, Retryable.NO, Confidence.MEDIUM),
            "document missing or without a name",
        ),
        (
            "TIFF_PAGE_ERR RENDERING_ERROR",
            failed(FailureReason.DOCUMENT_CONVERSION, Retryable.NO, Confidence.MEDIUM),
            "document cannot be converted",
        ),
        ("CANCELLED", CANCELED, "canceled in the portal"),
        ("PENDING", None, "still in work"),
    ],
    spelling=str.upper,
)
