"""What can go wrong with a database, as its users see it; and how long they wait for it."""

from receiver.errors import Unavailable

BUSY_SECONDS = 4.0  # a request waits no longer for the database
CONFLICT = "Conflict"  # what a StoreUnavailable says when a transaction met another one each time it was tried


class StoreUnavailable(Unavailable):
    """The database did not take or give what was asked. error: the driver's name of it, for logs."""

    def __init__(self, error: str, *, retryable: bool = False) -> None:
        super().__init__("the store is unavailable")
        self.error = error
        self.retryable = retryable


class ConflictError(Exception):
    """Two writers met on a unique key: the same transaction, run again, finds what the other one wrote."""


def is_retryable(error: BaseException) -> bool:
    """A deadlock or serialisation failure: the same transaction may work when run again."""
    return getattr(error, "sqlstate", None) in ("40001", "40P01")
