"""Aggregate reports: a provider's counts held against ours. They prove that something is missing, and tell no event."""

import hmac
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from hashlib import sha256
from zoneinfo import ZoneInfo

from receiver.providers import AggregateReport, Ask, Client, Finding, Tally
from receiver.reconcile import windows
from receiver.reconcile.model import Place
from receiver.reconcile.turn import Turn
from receiver.store import counting

_OURS = ("delivered", "failed", "total", "pages_sent")


def compare(turn: Turn, report: AggregateReport) -> None:
    """Each whole day of the window: theirs, ours, and a finding where the two differ. Raises ReportTrouble."""
    zone = turn.account.source.timezone or ZoneInfo("UTC")
    first, last = _days(turn, report, zone)
    if first > last:
        return
    begin, end = windows.midnight(first, zone), windows.midnight(last + timedelta(days=1), zone)
    theirs: list[Tally] = []
    for one in report.fetch(turn.ask(begin, end), turn.client):
        if isinstance(one, Tally):
            theirs.append(one)
        else:
            turn.find(one)
            turn.summary.unreadable += int(one.detail.get("rows", 0)) if one.kind == "unreadable" else 0
    numbers = {counting.digits(tally.number) for tally in theirs if tally.number is not None}
    with turn.store.reading() as connection:
        ours = counting.counts(
            connection,
            turn.store.tables,
            turn.provider,
            turn.name,
            zone,
            round(begin.timestamp() * 1000),
            numbers,
        )
    subjects = set()
    for tally in theirs:
        known = ours.get((tally.day, None if tally.number is None else counting.digits(tally.number)), {})
        subject = _subject(turn, report, tally)
        subjects.add(subject)
        if report.differs(tally.counts, known):
            own = {f"ours_{name}": known.get(name, 0) for name in _OURS}
            turn.find(Finding("tally", subject, {**tally.counts, **own}, tally.rows))
    turn.looked_at("tally", lambda subject: subject in subjects)
    turn.summary.tallies += len(theirs)
    turn.told(turn.account.endpoint, report.name, len(theirs))
    if turn.choice.is_routine:
        turn.move(report.name, Place(end, None).text())


def _days(turn: Turn, report: AggregateReport, zone: ZoneInfo) -> tuple[date, date]:
    until = turn.place(report.name).until
    kept_since = turn.now - turn.runtime.settings.retention.bodies
    return windows.of_counts(turn.choice, until, zone, turn.now, kept_since)


def _subject(turn: Turn, report: AggregateReport, tally: Tally) -> str:
    """Of a number only the last two digits, and a keyed hash that tells it from others."""
    subject = f"{report.name} {tally.day.isoformat()}"
    if tally.number is None:
        return subject
    digits = counting.digits(tally.number)
    mark = hmac.new(turn.runtime.fingerprint_key, digits.encode(), sha256).hexdigest()[:8]
    return f"{subject} …{digits[-2:]} ({mark})"


CREDIT = "credit"


def read_credit(turn: Turn, fetch: Callable[[Ask, Client], Decimal]) -> None:
    """What is left of a prepaid account; a finding where it is below ``low_credit``. Raises ReportTrouble."""
    ask = turn.ask(turn.now, turn.now)
    credit = fetch(ask, turn.client)
    turn.summary.credit = credit
    turn.looked_at("low_credit")
    low = ask.options.get("low_credit")
    if low and credit < Decimal(low):
        turn.find(Finding("low_credit", turn.account.endpoint, {"credit": f"{credit:f}", "low": low}))
    turn.move(CREDIT, f"{credit:f}")
