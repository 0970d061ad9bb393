"""The words of ``data.advice``: what may be done now about a fax that was not delivered. Both lists are open."""

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    NONE = "none"
    RETRY = "retry"  # the same fax the same way, in some minutes
    RETRY_LATER = "retry_later"  # the same, at another hour
    OTHER_ROUTE = "other_route"  # through another provider
    FIX_NUMBER = "fix_number"
    FIX_DOCUMENT = "fix_document"
    CALL_RECIPIENT = "call_recipient"
    TOP_UP = "top_up"  # the account at the provider


class Fault(StrEnum):
    """With whom the cause is."""

    RECIPIENT = "recipient"
    CARRIER = "carrier"
    PROVIDER = "provider"
    SENDER = "sender"


RETRIES = frozenset({Action.RETRY, Action.RETRY_LATER})
RESENDS = RETRIES | {Action.OTHER_ROUTE}


@dataclass(frozen=True, slots=True)
class Step:
    """after_seconds, max_tries: of a retry; None for all else."""

    action: Action
    after_seconds: int | None = None
    max_tries: int | None = None
