"""
What was missed, fetched: each account's reports, sent along the line that callbacks take, and what does not add up.

``reconcile`` owns the order: what is overdue is asked for first, then each report is read page by page, then the
provider's counts are held against ours. A page's events are committed together with the place where reading goes on,
so that an end at any point loses nothing and repeats only what is recognised as a duplicate.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from receiver.errors import ReportTrouble, Unavailable
from receiver.logs import error_class, log, place
from receiver.providers import Client
from receiver.reconcile.counts import compare, read_credit
from receiver.reconcile.model import Choice, Summary
from receiver.reconcile.records import note_asked, read_records
from receiver.reconcile.silence import watch
from receiver.reconcile.turn import Told, Turn
from receiver.runtime import Account, Runtime
from receiver.system.stopping import Interrupted, Stop
from schemas.repairing import noting_repairs

__all__ = ["Choice", "Summary", "chosen", "follow", "reconcile", "watch"]

_STORE_PAUSE_SECONDS = 10.0
_MOST_DOUBLINGS = 4  # of the pause after trouble


def chosen(runtime: Runtime, names: Sequence[str] = ()) -> list[Account]:
    """The accounts with reports, or those of these endpoints; each account once, though several endpoints share it."""
    accounts: dict[tuple[str, str | None], Account] = {}
    for name, account in runtime.accounts.items():
        if account.reports is not None and (not names or name in names):
            accounts.setdefault((account.provider.name, account.source.account), account)
    return list(accounts.values())


def reconcile(
    runtime: Runtime,
    account: Account,
    choice: Choice,
    stop: Stop,
    told: Told = lambda _endpoint, _report, _rows: None,
) -> Summary:
    """
    Read all reports of one account. told: endpoint, report and rows so far, after each page.

    Trouble with the provider is in the summary; raises Unavailable when the store is away.
    """
    assert account.reports is not None
    assert account.provider.reports is not None, "the settings require it"
    reports = account.provider.reports
    client = Client(account.provider.title, account.reports.requests, stop.wait)
    turn = Turn(runtime, account, choice, stop, client, told, datetime.now(UTC))
    try:
        for report in (report for report in reports.records if report.of_jobs):
            _attempt(turn, report.name, partial(read_records, turn, report))
        note_asked(turn)
        for report in (report for report in reports.records if not report.of_jobs):
            _attempt(turn, report.name, partial(read_records, turn, report))
        turn.records_are_read()
        if reports.credit is not None and choice.is_routine:
            _attempt(turn, "credit", partial(read_credit, turn, reports.credit))
        # What a dry run has only rehearsed is not among ours, so that no count would be the same.
        for aggregate in () if choice.dry_run else reports.aggregates:
            _attempt(turn, aggregate.name, partial(compare, turn, aggregate))
        if not stop.asked:
            turn.find_missing()
        turn.settle()
    finally:
        client.close()
    turn.summary.requests = client.requests
    return turn.summary


def _attempt(turn: Turn, report: str, work: Callable[[], None]) -> None:
    """Trouble with one report is no reason not to read the others."""
    if turn.stop.asked:
        return
    started = time.monotonic()
    summary, client = turn.summary, turn.client
    rows, filled, requests = summary.rows, summary.filled, client.requests
    who: dict[str, Any] = {"endpoint": summary.endpoint, "provider": summary.provider, "report": report}
    if turn.choice.dry_run:
        who["dry_run"] = True
    try:
        _counting_repairs(turn, work)
    except ReportTrouble as trouble:
        if trouble.kind == "interrupted":
            summary.is_cut = True
            return
        summary.trouble.append(f"{report}: {trouble.detail}")
        log.warning("report_failed", **who, reason=trouble.kind)
        return
    except (Unavailable, Interrupted):
        raise
    except Exception as error:  # noqa: BLE001 - our bug: the other reports and accounts are read all the same
        where = place(error.__traceback__)
        summary.trouble.append(f"{report}: faxhook failed on it ({error_class(error)}, {where}); tell the project")
        log.error("report_failed", **who, reason="internal_error", error=error_class(error), where=where)
        return
    log.info(
        "report_read",
        **who,
        count=summary.rows - rows,
        filled=summary.filled - filled,
        requests=client.requests - requests,
        duration_ms=round((time.monotonic() - started) * 1000, 1),
    )


def _counting_repairs(turn: Turn, work: Callable[[], None]) -> None:
    """Each once, however often it was needed."""
    with noting_repairs() as turn.found.repaired:
        try:
            work()
        finally:
            if not turn.choice.dry_run:
                turn.count(Counter(("repairs", turn.provider, str(repair)) for repair in turn.found.repaired))


def follow(runtime: Runtime, choice: Choice, stop: Stop, done: Callable[[Summary], object]) -> None:
    """
    Reconcile each account when it is due, until asked to stop: each ``every``, and later after trouble.

    A store that is away is waited for.
    """
    accounts = chosen(runtime, choice.endpoints)
    due = {account.endpoint: 0.0 for account in accounts}
    failures = dict.fromkeys(due, 0)
    while not stop.asked:
        for account in accounts:
            name = account.endpoint
            if stop.asked or time.monotonic() < due[name]:
                continue
            assert account.reports is not None
            try:
                summary = reconcile(runtime, account, choice, stop)
                done(summary)
                watch(runtime)
            except Unavailable as error:
                log.error("store_unavailable", error=error.error, cause=error.trouble)
                due[name] = time.monotonic() + _STORE_PAUSE_SECONDS
                continue
            failures[name] = failures[name] + 1 if summary.trouble else 0
            pause = account.reports.every.total_seconds() * 2 ** min(failures[name], _MOST_DOUBLINGS)
            due[name] = time.monotonic() + pause
        stop.wait(max(0.0, min(due.values()) - time.monotonic()))
