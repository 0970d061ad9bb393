"""One row of ``faxes``, and what else is known of the fax while a group is recorded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from receiver.facts import Facts
from receiver.store.submissions import Announcement, Submission
from schemas.identity import completed_id

# In the order of ``Fax.row``.
COLUMNS = (
    "fax_id",
    "provider",
    "account",
    "outcome",
    "revision",
    "event_id",
    "event_seq",
    "first_seq",
    "seen_at_ms",
    "first_digest",
    "first_outcome",
    "by_report",
)


@dataclass(slots=True)
class Fax:
    """
    event_seq, first_seq: the row numbers of its newest and its first event; 0 until there are any. is_heard_again: more
    is said of it than a new fax's first announcement. digests: of its announcements. outcomes: announced ones, current
    or not. event_ids: of all its events. facts: None where they are purged; of a known fax only read where something
    new is said of it.
    """

    fax_id: str
    provider: str
    account: str
    outcome: str
    revision: int
    event_id: str
    event_seq: int
    first_seq: int
    seen_at_ms: int
    first_digest: str
    first_outcome: str
    by_report: bool
    is_new: bool
    is_heard_again: bool = False
    facts: Facts | None = None
    digests: set[str] = field(default_factory=set)
    outcomes: set[str] = field(default_factory=set)
    event_ids: set[str] = field(default_factory=set)

    @classmethod
    def first_heard(cls, submission: Submission, announcement: Announcement) -> "Fax":
        """A fax as its first announcement makes it."""
        outcome = announcement.facts["outcome"]
        return cls(
            fax_id=announcement.subject,
            provider=submission.provider,
            account=announcement.facts["account"],
            outcome=outcome,
            revision=1,
            event_id=str(completed_id(announcement.fax_id, outcome)),
            event_seq=0,
            first_seq=0,
            seen_at_ms=submission.received_at_ms,
            first_digest=announcement.digest,
            first_outcome=outcome,
            by_report=submission.is_report,
            is_new=True,
            facts=announcement.facts,
        )

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "Fax":
        known = dict(zip(COLUMNS, row, strict=True))
        fax = cls(**{**known, "by_report": bool(known["by_report"])}, is_new=False)
        fax.heard(fax.first_digest, fax.first_outcome, None)
        return fax

    def row(self) -> tuple[Any, ...]:
        return (
            self.fax_id,
            self.provider,
            self.account,
            self.outcome,
            self.revision,
            self.event_id,
            self.event_seq,
            self.first_seq,
            self.seen_at_ms,
            self.first_digest,
            self.first_outcome,
            self.by_report or None,
        )

    def changed(self) -> tuple[Any, ...]:
        """Of its row what may change, behind its id."""
        return self.fax_id, self.outcome, self.revision, self.event_id, self.event_seq, self.seen_at_ms

    def heard(self, digest: str, outcome: str, event_id: str | None) -> None:
        """It was announced so, and that made this event."""
        self.digests.add(digest)
        self.outcomes.add(outcome)
        if event_id is not None:
            self.event_ids.add(event_id)
