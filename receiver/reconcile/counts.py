"""Aggregate reports: a provider's counts held against ours. They prove that something is missing, and tell no event."""

import hmac
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from zoneinfo import ZoneInfo

from receiver.providers import AggregateReport, Ask, Client, Finding, Tally
from receiver.reconcile.model import Place
from receiver.reconcile.turn import FIRST_WINDOW, Turn
from receiver.store import counting

_RECOUNTED = timedelta(days=3)  # so long a day is counted again, for results that come late
_OURS = ("delivered", "failed", "total", "pages_sent")


def compare(turn: Turn, report: AggregateReport) -> None:
    """Each whole day of the window: theirs, ours, and a finding where the two differ. Raises ReportTrouble."""
    zone = turn.account.source.timezone or ZoneInfo("UTC")
    first, last = _days(turn, report, zone)
    if first > last:
        return
    begin, end = _midnight(first, zone), _midnight(last + timedelta(days=1), zone)
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


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _days(turn: Turn, report: AggregateReport, zone: ZoneInfo) -> tuple[date, date]:
    """The first and the last one: days that are over, and of which we still have the facts. Routinely once a day."""
    yesterday = turn.now.astimezone(zone).date() - timedelta(days=1)
    kept = (turn.now - turn.runtime.settings.retention.bodies).astimezone(zone).date() + timedelta(days=1)
    if not turn.choice.is_routine:
        since = (turn.choice.since or turn.now - FIRST_WINDOW).astimezone(zone).date()
        until = (turn.choice.until or turn.now).astimezone(zone).date()
        return max(since, kept), min(until, yesterday)
    until_then = turn.place(report.name).until
    if until_then is None:
        return max(yesterday, kept), yesterday
    if until_then >= _midnight(yesterday + timedelta(days=1), zone):
        return yesterday + timedelta(days=1), yesterday
    return max(until_then.astimezone(zone).date() - _RECOUNTED, kept), yesterday


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
