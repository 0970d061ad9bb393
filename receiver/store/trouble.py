"""What can go wrong with a database, as its users see it; and how long they wait for it."""

from dataclasses import dataclass

from receiver.errors import Unavailable

BUSY_SECONDS = 4.0  # a request waits no longer for the database
CONFLICT = "Conflict"  # what a StoreUnavailable says when a transaction met another one each time it was tried


@dataclass(frozen=True, slots=True)
class Limits:
    """
    seconds: how long a statement may take. connections: how many there are at most; None: as many as are needed.

    With connections the store is read beside others who must not feel it.
    """

    seconds: float = BUSY_SECONDS
    connections: int | None = None


LIMITS = Limits()


# What is not the database's own refusal -> a sentence.
_WORDS = {
    CONFLICT: "store: another transaction was in the way each time; try again",
    "Damaged": "store: damaged pages were found; `faxhook doctor --deep` says where",
    "Timeout": f"store: others kept it busy for {BUSY_SECONDS:.0f} s; is its disk slow, or the machine overloaded?",
}


class StoreUnavailable(Unavailable):
    """
    The database did not take or give what was asked.

    error: a short name of the cause, for logs. trouble: a sentence for operators, naming the database and what to do.
    """

    def __init__(self, error: str, trouble: str = "", *, retryable: bool = False) -> None:
        super().__init__("the store is unavailable", error=error, trouble=trouble or _WORDS.get(error, ""))
        self.retryable = retryable

    @property
    def may_be_too_much(self) -> bool:
        """Whether a smaller transaction may get through: this one met others each time, or took too long."""
        return self.error == CONFLICT or self.took_too_long

    @property
    def took_too_long(self) -> bool:
        """Whether a statement was given up when its time was over."""
        return self.error in ("QueryCanceled", "SQLITE_INTERRUPT")

    @property
    def is_busy(self) -> bool:
        """Whether somebody else writes at this moment."""
        return self.error == "Locked" or self.error.startswith("SQLITE_BUSY")

    @property
    def is_damage(self) -> bool:
        """Whether a page of the SQLite file could not be read as what it should be."""
        return self.error.startswith("SQLITE_CORRUPT")


class ConflictError(Exception):
    """Two writers met on a unique key: the same transaction, run again, finds what the other one wrote."""
