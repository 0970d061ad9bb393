"""Record reports: each row goes the way of a callback's data, from its schema to the store."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from receiver import stations
from receiver.errors import Inbound, Refusal, ReportTrouble
from receiver.logs import error_class, log, place
from receiver.providers import Finding, Page, RecordReport
from receiver.reconcile import windows
from receiver.reconcile.model import Place
from receiver.reconcile.turn import Turn
from receiver.store import jobs, new_id, now_ms, rfc3339
from receiver.store.recording import record
from receiver.store.submissions import REPORT, Announcement, Position, Recorded, Submission
from receiver.store.trouble import BUSY_SECONDS, StoreUnavailable
from receiver.system.stopping import Interrupted
from schemas.envelope import AMENDED
from schemas.event import FaxCompleted
from schemas.fields import InvalidRow

_LARGEST_SUBMISSION = 500  # faxes in one transaction: callbacks wait for it
_MOST_JOBS = 1000  # asked for in one run
_NAMED = 20  # invalid rows of a page


def read_records(turn: Turn, report: RecordReport) -> None:
    """Read one report of the turn's account to its end, and store it page by page. Raises ReportTrouble."""
    overdue = _overdue(turn) if report.of_jobs else []
    if report.of_jobs and not overdue:
        return
    keeps_place = turn.choice.is_routine and not report.of_jobs
    start = turn.place(report.name) if keeps_place else Place(None, None)
    if keeps_place and start.until is None:
        # So that a first run which fails, and is mended days later, leaves no gap.
        start = Place(turn.now - windows.FIRST + report.overlap, start.cursor)
        turn.move(report.name, start.text())
    begin, end = windows.of_records(turn.choice, start.until, report.overlap, turn.now, turn.oldest)
    ask = turn.ask(begin, end, cursor=start.cursor, jobs=overdue)
    cursor, is_whole, rows = start.cursor, True, 0
    for page in _noting(turn, report.fetch(ask, turn.client), overdue):
        announcements, invalid, failed = _read(turn, report, page)
        is_whole = is_whole and not failed
        cursor = page.cursor or cursor
        # Where we failed ourselves on a row, everything behind it is read again once that is mended.
        moves = keeps_place and is_whole and page.cursor is not None
        _store(turn, report, announcements, invalid, Place(start.until, cursor).text() if moves else None)
        for finding in page.findings:
            turn.find(finding)
        rows += len(page.rows)
        turn.told(turn.account.endpoint, report.name, rows)
        if turn.stop.asked:
            raise ReportTrouble("interrupted", "stopped; the next run goes on")
    if keeps_place and is_whole:
        turn.move(report.name, Place(end, cursor).text())


def _noting(turn: Turn, pages: Iterator[Page], overdue: Sequence[str]) -> Iterator[Page]:
    """
    The pages; and at their end, that these jobs were asked for.

    An answer that cannot be used counts as asked, so that one bad job does not hold up the rest.
    """
    try:
        yield from pages
    except ReportTrouble as trouble:
        if trouble.kind in ("unreadable", "failed"):
            turn.found.asked.update(overdue)
        raise
    turn.found.asked.update(overdue)


def note_asked(turn: Turn) -> None:
    """When all reports of jobs were read, or the second of them would find no job to ask for."""
    if turn.found.asked and not turn.choice.dry_run:
        with turn.store.writing() as connection:
            jobs.note_asked(connection, turn.store.tables, turn.provider, turn.name, sorted(turn.found.asked), now_ms())


def _overdue(turn: Turn) -> list[str]:
    assert turn.account.reports is not None
    # No more than the budget allows where each is a request of its own, or a run that ends early would ask for the
    # same ones again and again.
    most = min(_MOST_JOBS, max(1, turn.account.reports.requests // 2))
    with turn.store.reading() as connection:
        return jobs.overdue(connection, turn.store.tables, turn.provider, turn.name, now_ms(), limit=most)


def _read(turn: Turn, report: RecordReport, page: Page) -> tuple[list[Announcement], dict[str, Any], bool]:
    """What the page announces; by position, the rows that cannot be used; whether one of them is our own failure."""
    entries: list[tuple[FaxCompleted, Sequence[str]]] = []  # with what could not be read in its row
    invalid: dict[str, Any] = {}
    failed = False
    for index, row in enumerate(page.rows):
        try:
            found, unreadable = stations.understand(report, row, turn.account.source)
        except Inbound:
            continue
        except Refusal as refusal:
            invalid[str(index)] = dict(refusal.fields)
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 - our bug: this row waits, and the others need not
            where = place(error.__traceback__)
            log.error("row_failed", endpoint=turn.account.endpoint, error=error_class(error), where=where)
            invalid[str(index)] = {}
            failed = True
        else:
            for number, entry in enumerate(found):
                if isinstance(entry, InvalidRow):
                    invalid[f"{index}.{number}"] = dict(entry.expected)
                else:
                    entries.append((entry, unreadable))
    recent = [(entry, unreadable) for entry, unreadable in entries if not _is_too_old(turn, entry)]
    turn.summary.rows += len(page.rows)
    turn.summary.faxes += len(recent)
    turn.summary.too_old += len(entries) - len(recent)
    if invalid:
        turn.summary.unreadable += len(invalid)
        fields = {name: words for fields in list(invalid.values())[:_NAMED] for name, words in fields.items()}
        turn.find(Finding("unreadable", report.name, {"rows": turn.summary.unreadable, **fields}))
    salt, provider = turn.runtime.identity_salt, turn.account.provider
    announcements = [stations.announce(provider, *one, salt, report.is_listed) for one in recent]
    return announcements, invalid, failed


def _is_too_old(turn: Turn, entry: FaxCompleted) -> bool:
    at = entry.completed_at or entry.submitted_at
    return at is not None and at < turn.oldest


def _store(
    turn: Turn,
    report: RecordReport,
    announcements: Sequence[Announcement],
    invalid: Mapping[str, Any],
    position: str | None,
) -> None:
    """A page in transactions that callbacks can wait for; the position is in the last of them."""
    if turn.choice.dry_run:
        announcements = _unrehearsed(turn, announcements)
    starts = range(0, len(announcements), _LARGEST_SUBMISSION)
    parts = [tuple(announcements[at : at + _LARGEST_SUBMISSION]) for at in starts]
    if not parts and (invalid or position):
        parts = [()]
    for number, part in enumerate(parts, start=1):
        is_last = number == len(parts)
        at = now_ms()
        detail: dict[str, Any] = {"report": report.name, **stations.odd(part)}
        if invalid and is_last:
            detail |= {"invalid": dict(list(invalid.items())[:_NAMED]), "invalid_count": len(invalid)}
        if turn.found.repaired:
            detail["repaired"] = sorted(turn.found.repaired)
        reached = None if position is None else Position(turn.provider, turn.name, report.name, position)
        submission = Submission(
            receipt=new_id(at),
            endpoint=turn.account.endpoint,
            provider=turn.provider,
            received_at_ms=at,
            size=0,
            body=None,
            observed_at=rfc3339(at),
            auth=REPORT,
            observed_via=REPORT,
            announcements=part,
            invalid=len(invalid) if is_last else 0,
            detail=detail,
            position=reached if is_last else None,
        )
        for one, recorded in _record(turn, submission):
            _count(turn, one, recorded)


def _unrehearsed(turn: Turn, announcements: Sequence[Announcement]) -> Sequence[Announcement]:
    """In a dry run each fax once: a second report would find it told by the first."""
    some = [one for one in announcements if one.fax_id not in turn.found.rehearsed]
    turn.found.rehearsed.update(one.fax_id for one in some)
    return some


def _record(turn: Turn, submission: Submission) -> list[tuple[Submission, Recorded]]:
    """What became of it, or of its parts where it had to be divided."""
    if turn.choice.dry_run:
        return _rehearse(turn, submission)
    try:
        return [(submission, turn.runtime.writer.submit(submission))]
    except StoreUnavailable as trouble:
        if not trouble.may_be_too_much or len(submission.announcements) < 2:
            raise
    # Others record some of the same new faxes, or the machine is busy: halves get through.
    middle = len(submission.announcements) // 2
    before, behind = submission.announcements[:middle], submission.announcements[middle:]
    first = replace(submission, receipt=new_id(now_ms()), announcements=before, invalid=0, position=None)
    return [*_record(turn, first), *_record(turn, replace(submission, announcements=behind))]


def _rehearse(turn: Turn, submission: Submission) -> list[tuple[Submission, Recorded]]:
    with turn.store.rehearsing(time.monotonic() + BUSY_SECONDS) as cursor:
        recorded = record(cursor, turn.store.engine.dialect, [submission], turn.runtime.advisor)
    return [(submission, one) for one in recorded]


def _count(turn: Turn, submission: Submission, recorded: Recorded) -> None:
    summary = turn.summary
    summary.filled += recorded.filled
    summary.by_callback += recorded.by_callback
    summary.contradicting += recorded.conflicts
    for event in recorded.told:
        summary.amended += event.type == AMENDED and not event.conflict
        if event.conflict:  # kept in the event's own transaction
            summary.discrepancies += 1
            log.warning(
                "discrepancy_found", endpoint=summary.endpoint, provider=summary.provider, reason="contradiction"
            )
    if not turn.choice.dry_run:
        stations.tell(submission, recorded, turn.count)
