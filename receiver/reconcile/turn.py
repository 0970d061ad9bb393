"""One account's turn: what its stations share, and what they found that does not add up."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from receiver.logs import log
from receiver.providers import Ask, Client, Finding
from receiver.reconcile.model import Choice, Place, Summary
from receiver.runtime import Account, Runtime
from receiver.store import Store, counters, cursors, discrepancies, jobs, now_ms, rfc3339
from receiver.store.counters import Counts
from receiver.store.discrepancies import After, Discrepancy
from receiver.system.stopping import Stop
from schemas.repairing import Repair

_AT_ONCE = 200  # discrepancies in one transaction: callbacks wait for it

Told = Callable[[str, str, int], object]


@dataclass(slots=True)
class Found:
    """
    What a turn has found so far.

    asked: ids of the overdue jobs that were asked for. has_all_records: whether every record report was read to its
    end. rehearsed: faxes that a dry run would have told. repaired: in the report that is read now. discrepancies: to be
    kept at the end. looked_at: kinds of discrepancies, and about which subjects: those are over unless found again.
    """

    summary: Summary
    asked: set[str] = field(default_factory=set)
    has_all_records: bool = False
    rehearsed: set[UUID] = field(default_factory=set)
    repaired: Set[Repair] = frozenset()
    discrepancies: list[Discrepancy] = field(default_factory=list)
    looked_at: list[tuple[str, Callable[[str], bool]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one account's turn is about. told: what it is told after each page. now: when the turn began."""

    runtime: Runtime
    account: Account
    choice: Choice
    stop: Stop
    client: Client
    told: Told
    now: datetime
    found: Found = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "found", Found(Summary(self.account.endpoint, self.provider)))

    @property
    def store(self) -> Store:
        return self.runtime.store

    @property
    def summary(self) -> Summary:
        return self.found.summary

    @property
    def provider(self) -> str:
        return self.account.provider.name

    @property
    def name(self) -> str:
        """The account's, at its provider."""
        assert self.account.source.account is not None, "the settings require it"
        return self.account.source.account

    @property
    def oldest(self) -> datetime:
        """What is older would be told again as something new."""
        return self.now - self.runtime.settings.retention.ids

    # --- what is asked for -------------------------------------------------------------------------------------------

    def ask(self, begin: datetime, end: datetime, *, cursor: str | None = None, jobs: Sequence[str] = ()) -> Ask:
        assert self.account.reports is not None
        zone, options = self.account.source.timezone, self.account.reports.options
        is_stored = not self.choice.dry_run
        return Ask(self.name, begin, end, cursor, jobs, zone, options, is_stored=is_stored, oldest=self.oldest)

    def place(self, report: str) -> Place:
        """Where the last run has ended; nowhere, for a window that somebody asks for."""
        if not self.choice.is_routine:
            return Place(None, None)
        with self.store.reading() as connection:
            return Place.of(cursors.position(connection, self.store.tables, self.provider, self.name, report))

    def move(self, report: str, position: str) -> None:
        """Keep a place that no events go with."""
        if self.choice.dry_run:
            return
        with self.store.writing() as connection:
            cursors.move(connection, self.store.tables, self.provider, self.name, report, position, now_ms())

    def count(self, counts: Counts) -> None:
        """Let the operators' counters in the store grow: this process has no ``/metrics``."""
        if counts:
            with self.store.writing() as connection:
                counters.add(connection, self.store.tables, counts)

    # --- what does not add up ----------------------------------------------------------------------------------------

    def find(self, finding: Finding) -> None:
        who = (self.provider, self.name, self.account.endpoint)
        self.found.discrepancies.append(Discrepancy(*who, finding.kind, finding.subject, finding.detail, finding.rows))

    def looked_at(self, kind: str, about: Callable[[str], bool] = lambda _subject: True) -> None:
        """Discrepancies of this kind and about these subjects are over, unless they were found again."""
        self.found.looked_at.append((kind, about))

    def records_are_read(self) -> None:
        """
        What record reports find is over only where all of them were read to their end.

        But for unreadable rows: the next run may not read them again, and whose end they told is still unknown.
        """
        is_cut = self.summary.is_cut or self.stop.asked
        self.found.has_all_records = not self.summary.trouble and not is_cut
        if self.found.has_all_records and self.choice.is_routine:
            self.looked_at("full_list")
            self.looked_at("tally", lambda subject: subject.startswith("job "))

    def find_missing(self) -> None:
        """
        The registered faxes that are overdue and that no report names.

        Where a report could not be read, it may know them: nothing is newly found missing, and what was stays so until
        it is heard of. Nor is a job missing that was registered after the reports were read, or that still waits for
        its turn to be asked for.
        """
        reports = self.account.provider.reports
        is_asked_for = reports is not None and any(report.of_jobs for report in reports.records)
        with self.store.reading() as connection:
            missing = jobs.missing(
                connection,
                self.store.tables,
                self.provider,
                self.name,
                round(self.now.timestamp() * 1000),
                but=set(map(str, self.found.rehearsed)),
                asked=self.found.asked if is_asked_for else None,
            )
        self.looked_at("missing", lambda job_id: job_id not in missing)
        if not self.found.has_all_records:
            return
        self.summary.missing = sum(count for count, _ in missing.values())
        for job_id, (count, due_at_ms) in missing.items():
            self.find(Finding("missing", job_id, {"faxes": count, "due_at": rfc3339(due_at_ms)}))

    def settle(self) -> None:
        """Keep what was found, with a line for what is new; close what was looked at and not found again."""
        found, tables = self.found.discrepancies, self.store.tables
        if self.choice.dry_run:
            with self.store.reading() as connection:
                self.summary.discrepancies += discrepancies.would_be_new(connection, tables, found)
            return
        for at in range(0, len(found), _AT_ONCE):
            with self.store.writing() as connection:
                new = discrepancies.note(connection, tables, found[at : at + _AT_ONCE], now_ms())
            for one in new:
                log.warning("discrepancy_found", endpoint=one.endpoint, provider=one.provider, reason=one.kind)
            self.summary.discrepancies += len(new)
        for kind, about in self.found.looked_at:
            still = {one.subject for one in found if one.kind == kind}
            after: After | None = discrepancies.BEGINNING
            while after is not None:
                after = self._close(kind, about, still, after)

    def _close(self, kind: str, about: Callable[[str], bool], still: set[str], after: After) -> After | None:
        with self.store.writing() as connection:
            who = (self.provider, self.name, kind)
            closed = discrepancies.close(
                connection, self.store.tables, *who, about, but=still, after=after, now_ms=now_ms()
            )
        return closed.after
