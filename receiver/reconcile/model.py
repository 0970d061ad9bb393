"""What goes into a reconciliation and what comes out: plain values."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Choice:
    """
    What to reconcile. endpoints: by name; empty for all that have reports.

    since, until: aware, in UTC; a window somebody asks for leaves the cursors alone. dry_run: nothing is written.
    """

    endpoints: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    dry_run: bool = False

    @property
    def is_routine(self) -> bool:
        return self.since is None and self.until is None


@dataclass(slots=True)
class Summary:
    """
    What became of one account.

    rows: read in reports. faxes: final ones among them. by_callback: first heard of by a callback. filled: not known
    before. amended, contradicting: events that told more, or another outcome. too_old: beyond [retention] ids, left
    out. unreadable: rows, and parts of counts, that could not be used. missing: registered faxes that are overdue,
    in no report. tallies: counts that were compared. discrepancies: new ones. requests: to the provider. trouble: a
    sentence for each report that was not read to its end. is_cut: stopped by a signal.
    """

    endpoint: str
    provider: str
    rows: int = 0
    faxes: int = 0
    by_callback: int = 0
    filled: int = 0
    amended: int = 0
    contradicting: int = 0
    too_old: int = 0
    unreadable: int = 0
    missing: int = 0
    requests: int = 0
    discrepancies: int = 0
    tallies: int = 0
    is_cut: bool = False
    credit: Decimal | None = None
    trouble: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether an operator has nothing to look at."""
        return not (self.trouble or self.unreadable or self.missing or self.contradicting or self.discrepancies)


@dataclass(frozen=True, slots=True)
class Place:
    """Until when a report has been read to its end, and the provider's own cursor."""

    until: datetime | None
    cursor: str | None

    def text(self) -> str:
        return json.dumps({"until": self.until and self.until.isoformat(), "cursor": self.cursor})

    @classmethod
    def of(cls, text: str | None) -> "Place":
        if text is None:
            return cls(None, None)
        kept = json.loads(text)
        return cls(kept["until"] and datetime.fromisoformat(kept["until"]), kept["cursor"])
