"""Call records, which name no job: they are counted, day by day."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from receiver.errors import ReportTrouble
from receiver.providers.faxage.asking import MARGIN, lines_of
from receiver.providers.faxage.callback import local
from receiver.providers.shared.client import Client
from receiver.providers.shared.contract import MOST_ROWS, Ask, Finding, Tally

# nuid with nuidshow=1 only; then calldate, direction, src, dst, duration. The source may be anything, commas too.
_CALL = re.compile(
    r"(?:[0-9]+,)?(?P<calldate>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}),(?P<direction>IN|OUT),(?P<src>.*),(?P<dst>[^,]*),"
    r"(?P<duration>[0-9]{1,9})",
    re.ASCII,
)
_LIKE_A_CALL = re.compile(r"(?:[0-9]+,)?([0-9]{4}-[0-9]{2}-[0-9]{2})[ ,T]", re.ASCII)


def fetch_calls(ask: Ask, client: Client) -> Iterator[Tally | Finding]:
    """
    The outgoing calls of each day and their billable seconds. A call says neither its job nor its result.

    It counts for the day it ended on, as a fax does; so those that began shortly before the first day are asked for.
    A line that cannot be read is named, and may be a call of any day.
    """
    if not ask.options["cdr_url"]:
        return
    begin, end = local(ask.begin - MARGIN, ask.zone), local(ask.end - timedelta(seconds=1), ask.zone)
    days = {day: _Day() for day in _days(ask)}
    odd: list[Mapping[str, str | int]] = []
    unreadable, are_calls = 0, False
    for number, line in enumerate(lines_of(ask, client, "cdr_url", {"begin": begin, "end": end}), start=1):
        call = _call(line)
        are_calls = are_calls or call is not None or _LIKE_A_CALL.match(line) is not None
        if call is None:
            unreadable += 1
            if len(odd) < MOST_ROWS:
                odd.append({"line": number, "record": line})
        elif call.direction == "OUT" and call.ended_on in days:
            days[call.ended_on].add(call)
    if unreadable and not are_calls:
        detail = "FAXAGE answered something that is no call record; check the cdr_url of the endpoint's reports"
        raise ReportTrouble("unreadable", detail)
    more = {"unreadable": unreadable} if unreadable else {}
    yield from (Tally(day, calls.counts | more, rows=tuple(calls.rows)) for day, calls in days.items())
    if unreadable:
        lines = ", ".join(str(one["line"]) for one in odd)
        expected = "expected calldate, IN or OUT, src, dst and whole seconds"
        yield Finding("unreadable", "calls", {"rows": unreadable, "lines": lines, "record": expected}, tuple(odd))


@dataclass(frozen=True, slots=True)
class _Call:
    ended_on: date
    direction: str  # IN or OUT
    seconds: int
    record: Mapping[str, str]


class _Day:
    """The outgoing calls of one day. rows: the first of them."""

    def __init__(self) -> None:
        self.counts = {"calls": 0, "seconds": 0}
        self.rows: list[Mapping[str, str | int]] = []

    def add(self, call: _Call) -> None:
        self.counts["calls"] += 1
        self.counts["seconds"] += call.seconds
        if len(self.rows) < MOST_ROWS:
            self.rows.append(call.record)


def _days(ask: Ask) -> Iterator[date]:
    day = ask.begin.astimezone(ask.zone or UTC).date()
    last = (ask.end - timedelta(seconds=1)).astimezone(ask.zone or UTC).date()
    while day <= last:
        yield day
        day += timedelta(days=1)


def _call(line: str) -> _Call | None:
    """One call record; None where the line cannot be read."""
    match = _CALL.fullmatch(line.strip())
    if match is None:
        return None
    seconds = int(match["duration"])
    try:  # naive, as the days are: both in the endpoint's zone
        ended_at = datetime.fromisoformat(match["calldate"]) + timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        return None
    return _Call(ended_at.date(), match["direction"], seconds, match.groupdict())


def differs(theirs: Mapping[str, int], ours: Mapping[str, int]) -> bool:
    """
    Whether the calls of a day cannot be those of our faxes: fewer than were delivered, or some where we know none.

    More cannot be told: a fax may take several calls, or fail without one. A line that could not be read may be a call.
    """
    at_most = theirs["calls"] + theirs.get("unreadable", 0)
    return at_most < ours.get("delivered", 0) or (theirs["calls"] > 0 and not ours.get("total"))
