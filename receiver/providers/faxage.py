"""
FAXAGE: a form post to the URL that was given with the fax (``url_notify``), and status and call records on request.

Source: FAXAGE Internet Fax API documentation, and what was seen in public code that receives or asks.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any
from urllib.parse import urlencode, urlsplit
from zoneinfo import ZoneInfo

from receiver.errors import Inbound, ReportTrouble, Unprocessable
from receiver.providers._client import Client
from receiver.providers._contract import (
    MOST_ROWS,
    AggregateReport,
    Ask,
    BodyKind,
    Callback,
    Finding,
    Option,
    Page,
    Provider,
    RawCallback,
    RecordReport,
    Reports,
    SimulatedFax,
    SimulatedJob,
    Source,
    Tally,
)
from receiver.providers._decoding import says_inbound, text
from receiver.providers._normalising import DELIVERED, e164, failed, table, utc
from schemas.event import Confidence, FailureReason, FaxCompleted, Pages, Recipient, Reference, Retryable
from schemas.faxage import NOTIFICATION
from schemas.repairing import Repair, repaired

# Why a fax failed is in longstatus only, a text that may change at any time: it is passed on, never read.
CODES = table(
    "shortstatus",
    [
        ("pending", None, "queued, converting or retrying"),
        ("success", DELIVERED, "delivered"),
        ("failure", failed(FailureReason.UNKNOWN, Retryable.UNKNOWN, Confidence.HIGH), "not delivered"),
    ],
    unknown=None,  # the schema takes these three words only
    spelling=str.lower,
)


def shape(form: Mapping[str, Any]) -> Mapping[str, Any]:
    """The form as it is. Raises Inbound for a fax that came in: that has a ``recvid`` and no job."""
    if not form.keys() & {"jobid", "shortstatus"} and says_inbound(form):
        raise Inbound
    return form


def normalise(notification: Mapping[str, Any], source: Source) -> Sequence[FaxCompleted]:
    """One event for one notification or status record, none while the job is pending; times in the endpoint's zone."""
    assert source.account is not None, "the settings require it"
    verdict = CODES.verdict(notification["status"])
    if verdict is None:
        return []
    submitted_at, _ = utc(notification["submitted_at"], source.timezone)
    completed_at, time_quality = utc(notification["completed_at"], source.timezone)
    return [
        FaxCompleted(
            account=source.account,
            key=(notification["job_id"],),
            outcome=verdict.outcome,
            failure=verdict.failure,
            status_code=notification["status"],
            status_text=notification["status_text"],
            provider_job_id=notification["job_id"],
            provider_call_id=notification["call_id"],
            recipient=Recipient(
                number=e164(notification["number"], source.region),
                number_raw=notification["number"],
                name=notification["recipient_name"],
                station_id=notification["station_id"],
            ),
            pages=Pages(total=notification["pages_total"], sent=notification["pages_sent"]),
            duration_seconds=notification["duration_seconds"],
            attempts=notification["attempts"],
            submitted_at=submitted_at,
            completed_at=completed_at,
            time_quality=time_quality,
            reference=Reference(id=source.reference),
        )
    ]


def key(job_id: str, _number: str | None, _occurrence: int) -> tuple[str, ...]:
    """A job is one fax at FAXAGE."""
    return (job_id,)


def simulate(job: SimulatedJob) -> Sequence[RawCallback]:
    """One urlencoded post a fax; as a FAXAGE job is one fax, the following faxes have the following ids."""
    return [_notification(job, str(int(job.job_id) + index), fax) for index, fax in enumerate(job.faxes)]


def _notification(job: SimulatedJob, job_id: str, fax: SimulatedFax) -> RawCallback:
    verdict = CODES.verdict(fax.status)
    delivered = verdict is DELIVERED
    fields = {
        "jobid": job_id,
        "commid": job_id[::-1],
        "destname": "Example",
        "destnum": _number(fax.number),
        "shortstatus": fax.status,
        "longstatus": "Success" if delivered else "Simulated failure" if verdict else "In Queue",
        "sendtime": _time(job.submitted_at, job.timezone),
        "completetime": _time(job.completed_at, job.timezone) if verdict else "0000-00-00 00:00:00",
        "xmittime": "00:00:31" if delivered else "00:00:00",
        "pagecount": "1",
        "xmitpages": "1" if delivered else "0",
    }
    return RawCallback(urlencode(fields).encode(), "application/x-www-form-urlencoded")


def _number(number: str) -> str:
    """A North American number as ``(208)555-0139``, another one as its digits."""
    digits = number.removeprefix("+")
    if len(digits) == 11 and digits.startswith("1"):
        return f"({digits[1:4]}){digits[4:7]}-{digits[7:]}"
    return digits


def _time(time: datetime, zone: ZoneInfo | None) -> str:
    return f"{time.astimezone(zone or UTC):%Y-%m-%d %H:%M:%S}"


# --- reports -------------------------------------------------------------------------------------------------------

# A status record has no header: always the same options, so that always the same columns come, in this order. The
# document ends at xmitpages; what does not know the newer showtries answers without it, and what knows no option
# answers the columns that need none.
_NEED_NO_OPTION = (
    *("jobid", "commid", "destname", "destnum", "shortstatus", "longstatus", "sendtime", "completetime", "xmittime"),
)
_DOCUMENTED = (*_NEED_NO_OPTION, "pagecount", "csid", "login", "xmitpages")
_COLUMNS = (*_DOCUMENTED, "showtries")
_ALL_COLUMNS = dict.fromkeys(("pagecount", "csid", "showlogin", "xmitpages", "showtries"), "1")
_ROWS = 500  # of a page
_GROUP = 100  # jobs of a request
_MOST_DIVIDED = 16  # groups of one run
# FAXAGE documents no zone, so the endpoint's may be an hour off half of the year.
_MARGIN = timedelta(hours=1)

# Errors are HTTP 200 with a text that begins so; what follows may echo the request, password and all.
_ERROR = re.compile(r"\s*(ERR[0-9]{1,3})\b", re.ASCII | re.IGNORECASE)
_NO_JOBS = "ERR06"
_TROUBLE = {
    "ERR01": ("failed", "FAXAGE cannot reach its own database (ERR01); the next run tries again"),
    "ERR02": ("refused", "FAXAGE refused the login, or disabled it (ERR02); check company, user and password"),
    "ERR08": ("unreadable", "FAXAGE did not understand the request (ERR08); check the url of the endpoint's reports"),
}


def fetch_jobs(ask: Ask, client: Client) -> Iterator[Page]:
    """The status records of the jobs asked for, so many in a request."""
    groups = deque(ask.jobs[at : at + _GROUP] for at in range(0, len(ask.jobs), _GROUP))
    divided = 0
    while groups:
        group = groups.popleft()
        found = False
        for page in _pages(ask, client, {"jobids[]": list(group)}):
            found = True
            yield page
        # "No jobs to display or job id specified not found": whether one unknown job hides the others is not said.
        if not found and len(group) > 1 and divided < _MOST_DIVIDED:
            divided += 1
            groups += (group[: len(group) // 2], group[len(group) // 2 :])


def fetch_window(ask: Ask, client: Client) -> Iterator[Page]:
    """The status records of all jobs between the two times, which are probably about ``sendtime``."""
    begin, end = _time(ask.begin - _MARGIN, ask.zone), _time(ask.end + _MARGIN, ask.zone)
    return _pages(ask, client, {"begin": begin, "end": end})


def _pages(ask: Ask, client: Client, which: Mapping[str, Any]) -> Iterator[Page]:
    """The records of one request as they come; they are in no documented order, so there is no cursor."""
    lines = _lines(ask, client, "url", {"operation": "status", **_ALL_COLUMNS, **which})
    are_records = False
    while rows := [{"record": line} for line in islice(lines, _ROWS)]:
        # One odd record is left to ``shape_record``; where all are odd they are none, or of another version.
        are_records = are_records or any(_columns(row["record"]) for row in rows)
        if not are_records:
            detail = f"FAXAGE did not answer status records ({_EXPECTED}); check the url of the reports"
            raise ReportTrouble("unreadable", detail)
        yield Page(rows)


_EXPECTED = f"{len(_COLUMNS)} columns, {len(_DOCUMENTED)} or {len(_NEED_NO_OPTION)}"


def shape_record(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A status record with the names that a callback has. Columns may be empty, also the last ones."""
    columns = _columns(row["record"])
    if not columns:
        raise Unprocessable("not a status record", fields={"columns": f"expected {_EXPECTED}"})
    return columns


# The columns that can be told by their looks, with all that may stand in the texts between them, tabs too.
_RECORD = re.compile(
    r"(?P<jobid>[^\t]*)\t(?P<commid>[^\t]*)\t(?P<destname>.*)\t(?P<destnum>[^\ta-z]*)\t"
    rf"(?P<shortstatus> *(?:{'|'.join(CODES.verdicts)}) *)\t(?P<longstatus>.*)\t"
    r"(?P<sendtime>[0-9]{4}-[0-9-]{5}[ T][^\t]*)\t(?P<completetime>[0-9]{4}-[0-9-]{5}[ T][^\t]*)\t"
    r"(?P<xmittime>[0-9]+:[0-9]{2}:[^\t]*)"
    r"(?:\t(?P<pagecount>[^\t]*)\t(?P<csid>.*?)\t(?P<login>[^\t]*)\t(?P<xmitpages>[0-9]*)"
    r"(?:\t(?P<showtries>[0-9]*))?)?",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)
_MOST_TABS = 30  # of a record that is looked at so


def _columns(record: str) -> Mapping[str, str]:
    """
    A status record's columns by name; none where it has too few or too many.

    A tab within a text would make the columns behind it others: it is told by what does look like a status and times.
    """
    columns = record.split("\t")
    if len(columns) <= _MOST_TABS and (match := _RECORD.fullmatch(record)):
        found = {name: column for name, column in match.groupdict().items() if column is not None}
        pieces = [piece for column in found.values() if "\t" in column for piece in column.split("\t")]
        if any(piece.strip().lower() in CODES.verdicts for piece in pieces):
            return {}  # which of them is the status cannot be told
        if pieces:
            repaired(Repair.TAB)
        return found
    if not len(_NEED_NO_OPTION) <= len(columns) <= len(_COLUMNS):
        return {}
    # Of 10 to 12 columns nothing says which of the options they are: only the first nine are sure.
    known = _COLUMNS if len(columns) >= len(_DOCUMENTED) else _NEED_NO_OPTION
    return dict(zip(known, columns, strict=False))


def _lines(ask: Ask, client: Client, option: str, fields: Mapping[str, Any]) -> Iterator[str]:
    """The lines of an answer but for blank ones; raises ReportTrouble where one says an error."""
    url = ask.options[option]
    if "debug" in urlsplit(url).path.lower():
        detail = f"the {option} of the endpoint's reports is FAXAGE's debugging page, which sends the password back"
        raise ReportTrouble("refused", f"{detail}; use the one without -debug")
    login = {name: ask.options[name] for name in ("company", "password")} | {"username": ask.options["user"]}
    is_empty = True
    for line in client.lines(url, data={**login, **fields}):
        if not line.strip():
            continue
        is_empty = False
        record = text(line).removeprefix("\ufeff")
        if error := _ERROR.match(record):
            code = error[1].upper()
            if code == _NO_JOBS and option == "url":
                return
            unknown = ("unreadable", f"FAXAGE answered {code}, which it documents for nothing asked here; ask FAXAGE")
            raise ReportTrouble(*_TROUBLE.get(code, unknown))
        yield record
    if is_empty and option == "url":  # where there is no job it says so
        raise ReportTrouble("unreadable", "FAXAGE answered nothing at all; the next run asks again")


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
    begin, end = _time(ask.begin - _MARGIN, ask.zone), _time(ask.end - timedelta(seconds=1), ask.zone)
    days = {day: _Day() for day in _days(ask)}
    odd: list[Mapping[str, str | int]] = []
    unreadable, are_calls = 0, False
    for number, line in enumerate(_lines(ask, client, "cdr_url", {"begin": begin, "end": end}), start=1):
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


REPORTS = Reports(
    options=(
        Option("company", "the company that you log in to FAXAGE with"),
        Option("user", "the user name that you log in to FAXAGE with"),
        Option("password", "the password that you log in to FAXAGE with"),
        # The document has www. for both; newer public clients all use this one, of which no getcdr.php is known.
        Option("url", "where operation=status is asked", "https://api.faxage.com/httpsfax.php", is_url=True),
        Option(
            "cdr_url", 'where call records are asked; "" for nowhere', "https://www.faxage.com/getcdr.php", is_url=True
        ),
    ),
    records=(
        RecordReport("status-of-jobs", fetch_jobs, NOTIFICATION, normalise, CODES, shape=shape_record, of_jobs=True),
        # A window is about the times of sending, so a fax that redials or waits in a queue for up to a day is in the
        # window of the run after its end. Longer is left to status-of-jobs.
        RecordReport(
            "status", fetch_window, NOTIFICATION, normalise, CODES, shape=shape_record, overlap=timedelta(days=1)
        ),
    ),
    aggregates=(AggregateReport("calls", fetch_calls, differs),),
)


SETUP = """\
With every fax that you send (operation=sendfax), add one variable:
  url_notify={url}
  - Keep the token in the path as it is here: FAXAGE has been seen to cut off the query string.
  - To find your own record again, append "/r/" and your id of 1 to 128 characters of A-Z a-z 0-9 . _ ~ -
FAXAGE gives no proof of origin: the token in the address is the only one, keep it secret.
Set the endpoint's timezone to the one your FAXAGE account reports times in; FAXAGE does not state it.
"""

PROVIDER = Provider(
    name="faxage",
    title="FAXAGE",
    callback=Callback(
        kinds=frozenset({BodyKind.FORM}),
        schema=NOTIFICATION,
        normalise=normalise,
        simulate=simulate,
        setup=SETUP,
        shape=shape,
        once=frozenset({"jobid", "shortstatus"}),
    ),
    codes=CODES,
    reports=REPORTS,
    key=key,
    zoneless=True,
    timezone="America/Denver",  # where the company is; no document says which zone its times are in
    region="US",
    notes="Sends times without a zone and reasons as text only; documents no retry.",
    sources=("FAXAGE Internet Fax API Documentation", "https://www.faxage.com"),
)
