"""One account's turn: what its stations share, and what they found that does not add up."""

from collections.abc import Callable, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from uuid import UUID

from receiver.logs import log
from receiver.providers import Ask, Client, Finding
from receiver.reconcile.model import Choice, Place, Summary
from receiver.runtime import Account, Runtime
from receiver.store import counters, cursors, discrepancies, jobs, now_ms, rfc3339
from receiver.store.counters import Counts
from receiver.store.discrepancies import Discrepancy
from receiver.system.stopping import Stop
from schemas.repairing import Repair

FIRST_WINDOW = timedelta(hours=24)
_AT_ONCE = 200  # discrepancies in one transaction: callbacks wait for it

Told = Callable[[str, str, int], object]


class Turn:
    def __init__(
        self,
        runtime: Runtime,
        account: Account,
        options: Mapping[str, str],
        choice: Choice,
        stop: Stop,
        client: Client,
        told: Told,
    ) -> None:
        assert account.source.account is not None, "the settings require it"
        self.runtime = runtime
        self.store = runtime.store
        self.account = account
        self.provider = account.provider.name
        self.name = account.source.account
        self.choice = choice
        self.stop = stop
        self.client = client
        self.told = told
        self.now = datetime.now(UTC)
        self.oldest = self.now - runtime.settings.retention.ids  # what is older would be told again as something new
        self.summary = Summary(account.endpoint, self.provider)
        self.asked: set[str] = set()  # ids of overdue jobs
        self.has_all_records = False  # whether every record report was read to its end
        self.rehearsed: set[UUID] = set()  # faxes that a dry run would have told
        self.repaired: Set[Repair] = frozenset()  # in the report that is read now
        self._options = options
        self._found: list[Discrepancy] = []
        self._looked_at: list[tuple[str, Callable[[str], bool]]] = []  # kinds, and which of their subjects

    # --- what is asked for -------------------------------------------------------------------------------------------

    def ask(self, begin: datetime, end: datetime, *, cursor: str | None = None, jobs: Sequence[str] = ()) -> Ask:
        zone = self.account.source.timezone
        is_stored = not self.choice.dry_run
        return Ask(self.name, begin, end, cursor, jobs, zone, self._options, is_stored=is_stored, oldest=self.oldest)

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
        self._found.append(Discrepancy(*who, finding.kind, finding.subject, finding.detail, finding.rows))

    def looked_at(self, kind: str, about: Callable[[str], bool] = lambda _subject: True) -> None:
        """Discrepancies of this kind and about these subjects are over, unless they were found again."""
        self._looked_at.append((kind, about))

    def records_are_read(self) -> None:
        """
        What record reports find is over only where all of them were read to their end.

        But for unreadable rows: the next run may not read them again, and whose end they told is still unknown.
        """
        is_cut = self.summary.is_cut or self.stop.asked
        self.has_all_records = not self.summary.trouble and not is_cut
        if self.has_all_records and self.choice.is_routine:
            self.looked_at("full_list")
            self.looked_at("tally", lambda subject: subject.startswith("job "))

    def find_missing(self) -> None:
        """
        The faxes that were registered, are overdue, and no report has told of.

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
                but=set(map(str, self.rehearsed)),
                asked=self.asked if is_asked_for else None,
            )
        self.looked_at("missing", lambda job_id: job_id not in missing)
        if not self.has_all_records:
            return
        self.summary.missing = sum(count for count, _ in missing.values())
        for job_id, (count, due_at_ms) in missing.items():
            self.find(Finding("missing", job_id, {"faxes": count, "due_at": rfc3339(due_at_ms)}))

    def settle(self) -> None:
        """Keep what was found, with a line for what is new; close what was looked at and is so no more."""
        if self.choice.dry_run:
            with self.store.reading() as connection:
                self.summary.discrepancies += discrepancies.would_be_new(connection, self.store.tables, self._found)
            return
        for at in range(0, len(self._found), _AT_ONCE):
            with self.store.writing() as connection:
                new = discrepancies.note(connection, self.store.tables, self._found[at : at + _AT_ONCE], now_ms())
            for one in new:
                log.warning("discrepancy_found", endpoint=one.endpoint, provider=one.provider, reason=one.kind)
            self.summary.discrepancies += len(new)
        for kind, about in self._looked_at:
            still = {one.subject for one in self._found if one.kind == kind}
            while self._close(kind, about, still):
                pass

    def _close(self, kind: str, about: Callable[[str], bool], still: set[str]) -> int:
        with self.store.writing() as connection:
            who = (self.provider, self.name, kind)
            return discrepancies.close(connection, self.store.tables, *who, about, but=still, now_ms=now_ms())
