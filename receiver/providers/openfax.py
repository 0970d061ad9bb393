"""
Openfax: a form post for every finished fax, and a report of all calls by their day.

The only description of the post is a PHP example that reads eight names from ``$_REQUEST``: method and kind of body
stay open, so query string, urlencoded and multipart are all read. Of the report there is no sample of an answer.
Source: Openfax Cloud Fax API, apidocs.openfax.com.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from receiver.errors import AccountMismatch, Inbound, ReportTrouble, Unprocessable
from receiver.providers._client import Client
from receiver.providers._contract import (
    Ask,
    BodyKind,
    Callback,
    Option,
    Page,
    Provider,
    RawCallback,
    RecordReport,
    Reports,
    SimulatedJob,
    Source,
)
from receiver.providers._decoding import comes_in, listed, says_inbound
from receiver.providers._normalising import CANCELED, DELIVERED, UNCONFIRMED, e164, failed, table, whole_number
from schemas.event import (
    Confidence,
    Cost,
    FailureReason,
    FaxCompleted,
    Outcome,
    Pages,
    Recipient,
    Reference,
    Retryable,
    Sender,
    Verdict,
)
from schemas.fields import Amount
from schemas.openfax import OUTBOUND_DETAIL, POSTBACK

# Openfax has used up its own redials when it posts; retryable is about the sender trying later.
CODES = table(
    "LastStatus",
    [
        ("-1", None, "Received, in processing"),
        ("0", DELIVERED, "Successful"),
        ("1", failed(FailureReason.NO_ANSWER, Retryable.YES, Confidence.HIGH), "No Answer"),
        ("2", failed(FailureReason.BUSY, Retryable.YES, Confidence.HIGH), "Busy"),
        ("3", failed(FailureReason.NOT_A_FAX, Retryable.NO, Confidence.HIGH), "Not Fax"),
        ("4", failed(FailureReason.CIRCUITS_BUSY, Retryable.YES, Confidence.HIGH), "All Circuits Busy"),
        ("5", failed(FailureReason.BAD_NUMBER, Retryable.NO, Confidence.HIGH), "Bad Number"),
        ("6", failed(FailureReason.DISCONNECTED, Retryable.YES, Confidence.HIGH), "Call Disconnected"),
        ("7", failed(FailureReason.UNKNOWN, Retryable.YES, Confidence.HIGH), "Unknown / Other"),
        ("8", failed(FailureReason.DOCUMENT_CONVERSION, Retryable.NO, Confidence.HIGH), "Doc Conversion Failed"),
        ("9", failed(FailureReason.INSUFFICIENT_CREDIT, Retryable.NO, Confidence.HIGH), "Credit Check Failed"),
    ],
    spelling=whole_number,
)


def normalise(postback: Mapping[str, Any], source: Source) -> Sequence[FaxCompleted]:
    """
    One event for one postback, none while the fax is in processing.

    No destination number and no time: Openfax sends neither, and its From and To are texts of the fax header.
    Raises AccountMismatch or Unprocessable where the account cannot be told.
    """
    account = _account(postback["account"], source.account)
    verdict = CODES.verdict(postback["status"])
    if verdict is None:
        return []
    return [
        FaxCompleted(
            account=account,
            key=(postback["job_id"],),
            outcome=verdict.outcome,
            failure=verdict.failure,
            status_code=postback["status"],
            provider_job_id=postback["job_id"],
            recipient=Recipient(name=postback["recipient_name"]),
            sender=Sender(name=postback["sender_name"]),
            pages=Pages(sent=postback["pages_sent"]),
            duration_seconds=postback["duration_seconds"],
            cost=None if postback["cost"] is None else Cost(postback["cost"]),
            reference=Reference(id=source.reference),
        )
    ]


def shape(form: Mapping[str, Any]) -> Mapping[str, Any]:
    """The form as it is. Raises Inbound for one that names no fax that was sent and says that one came in."""
    if not form.keys() & {"OutTransID", "LastStatus"} and says_inbound(form):
        raise Inbound
    return form


def _account(stated: str | None, configured: str | None) -> str:
    """The account the fax belongs to: the stated one, and the endpoint's where that is set; they must agree."""
    account = stated or configured
    if account is None:
        raise Unprocessable(
            "the postback names no account", fields={"AccountID": "missing; expected the account number"}
        )
    if configured is not None and account != configured:
        raise AccountMismatch(
            "the fax is another account's than this endpoint's",
            fields={"AccountID": "expected the account of this endpoint"},
        )
    return account


def key(job_id: str, _number: str | None, _occurrence: int) -> tuple[str, ...]:
    """A fax has an id of its own at Openfax."""
    return (job_id,)


def simulate(job: SimulatedJob) -> Sequence[RawCallback]:
    """One urlencoded post a fax; as an Openfax job is one fax, the following faxes have the following ids."""
    return [_postback(str(int(job.job_id) + index), job.account, fax.status) for index, fax in enumerate(job.faxes)]


def _postback(job_id: str, account: str, status: str) -> RawCallback:
    delivered = CODES.verdict(status) is DELIVERED
    fields = {
        "OutTransID": job_id,
        "AccountID": account,
        "From": "Example Sender",
        "To": "Example",
        "PagesSent": "1" if delivered else "0",
        "CallDuration": "31" if delivered else "0",
        "LastStatus": status,
        "RealCost": "0.0147" if delivered else "0",
    }
    return RawCallback(urlencode(fields).encode(), "application/x-www-form-urlencoded")


SETUP = """\
In the Openfax portal, once for the account:
  1. Log in and open Settings.
  2. Turn on "Enable Post Back for Outbound Faxes".
  3. Enter this address and save:
     {url}
The address holds the endpoint's token, which is the only proof of origin Openfax can give: keep it secret.
"""

# --- the report by date, and the credit ------------------------------------------------------------------------------

# Which of them are final is documented for 8, 9, 10 and 13 alone. A state nobody listed is refused, not taken for one.
STATES = table(
    "CurrentState",
    [
        ("0", None, "Received"),
        ("1", None, "Document Rendering"),
        ("2", None, "Checking Credit"),
        ("3", None, "On Outbound Table / Waiting for queue space"),
        ("4", None, "In Outbound Queue / In queue for node"),
        ("5", None, "At Fax Node / Fax dialing"),
        ("6", None, "Reporting Engine"),
        ("7", None, "Waiting for Redial"),
        ("8", DELIVERED, "Finalized / Fax Successful"),
        ("9", failed(FailureReason.UNKNOWN, Retryable.UNKNOWN, Confidence.HIGH), "Finalized / Fax Failed"),
        (
            "10",
            failed(FailureReason.DOCUMENT_CONVERSION, Retryable.NO, Confidence.HIGH),
            "Finalized / Fax Failed due to document conversion",
        ),
        ("11", None, "Credit Hold"),
        ("12", None, "Retry Eligible"),
        ("13", CANCELED, "Canceled"),
    ],
    unknown=None,
    spelling=whole_number,
)

_DAY = timedelta(days=1)
_LIMIT = 1000  # rows asked for at once; the document's "max 1,0000" is ambiguous, so that fewer may be answered
_LARGEST_PAGE = 500
_MOST_READ_AGAIN = 20_000  # rows behind a fax that is not final
# Calls before the highest id that are read in every run: nothing says that calls become visible in the order of their
# ids, and one that is shown late would be passed by. They fit into one answer; what is known already changes nothing.
_SHOWN_LATE = 300

_Row = Mapping[str, Any]

# What Openfax answers in place of rows. Those of reports are not documented; these are the ones of sending.
_REFUSALS = {
    "InvalidAuthentication": (
        "refused",
        "Openfax refused the account or its key; copy the API key from the portal's account settings into api_key",
    ),
    "AccountInactive": (
        "refused",
        "Openfax says that the account is out of funds or deactivated; check its balance in the portal",
    ),
    "Failed": ("failed", "Openfax says that the request has failed; the next run tries again"),
} | {
    name: (
        "unreadable",
        f"Openfax answered {name}, which is about sending a fax; check the url of the endpoint's reports",
    )
    for name in (
        *("RestrictedFaxNumber", "Restricted Number", "InvalidFaxNumberLength", "InvalidFaxResolution"),
        *("InvalidPapersize", "InvalidPaperSize", "InvalidPriority"),
    )
}


def fetch(ask: Ask, client: Client) -> Iterator[Page]:
    """
    The records of the window's days, and of one day more on both sides, since the zone of the days is not documented.

    Behind a cursor, a HistoryOutboundFaxID, every call is read (DetailType 1), for that shows which faxes are not final
    yet. Reading goes on with the highest id, but the cursor stays 300 calls behind it, since calls may be shown in
    another order than that of their ids. And it stays before the first call whose fax is not final and has no later
    call, since that record may change in its place: while the days that are asked for have that call, which is two days
    at least, and until 20,000 calls came behind it. What changes later is known by its postback, or by a window that
    somebody asks for.

    Without a cursor, which is such a window or the first run, the finalized records are read (DetailType 0). The run
    after the first begins with the first call of its own days.
    """
    if ask.cursor is None:
        for rows in _records(ask, client, "0", after=0):
            yield Page(_last_of_each(rows))
        yield Page((), cursor="0")
        return
    begin, count = int(ask.cursor), 0
    latest = deque([begin], maxlen=1 + _SHOWN_LATE)  # ascending; the first is the one before those to be read again
    not_final: dict[str, tuple[int, int]] = {}  # fax -> its last call, and how many rows were read up to it; in order
    for rows in _records(ask, client, "1", begin):
        for row in rows:
            count += 1
            if (call := _history_id(row)) is None:
                continue
            latest.append(call)
            not_final.pop(_fax(row), None)
            if not _is_final(row):
                not_final[_fax(row)] = call, count
        while not_final and count - next(iter(not_final.values()))[1] > _MOST_READ_AGAIN:
            del not_final[next(iter(not_final))]
        first, _ = next(iter(not_final.values()), (latest[0] + 1, 0))
        yield Page(_last_of_each(rows), cursor=str(min(first - 1, latest[0])))


def _records(ask: Ask, client: Client, detail_type: str, after: int) -> Iterator[Sequence[_Row]]:
    """
    The rows behind a HistoryOutboundFaxID by their ids, at most 500 at once. Raises ReportTrouble.

    Asks until an answer has no higher id: one with fewer rows than Limit may be cut by a smaller limit of Openfax's.
    """
    sent = {
        "FromDate": (ask.begin - _DAY).date().isoformat(),
        "ToDate": (ask.end + _DAY).date().isoformat(),
        "DetailType": detail_type,
        "Limit": str(_LIMIT),
    }
    while True:
        rows = _rows(_answer(ask, client, "outboundDetailsbyDate.php", {**sent, "LastHistoryID": str(after)}))
        ids = [number for row in rows if (number := _history_id(row)) is not None]
        highest = max(ids, default=after)
        if len(rows) >= _LIMIT and (ids != sorted(ids) or highest <= after):
            # Order and LastHistoryID are hardly documented: were they otherwise, the rest could not be asked for.
            detail = "Openfax did not list its records by id, behind LastHistoryID; ask for short windows with --since"
            raise ReportTrouble("unreadable", f"{detail} and --until")
        new = [row for row in rows if (_history_id(row) or after + 1) > after]
        new.sort(key=lambda row: _history_id(row) or 0)
        for start in range(0, len(new), _LARGEST_PAGE):
            yield new[start : start + _LARGEST_PAGE]
        if highest <= after:
            return
        after = highest


def _rows(answer: Any) -> list[_Row]:
    """
    The rows of an answer, none of one that is empty in any way PHP writes that: status and words say that all is well.

    One that is no object stays among others, to be named. Raises ReportTrouble where nothing is a record.
    """
    if answer is None or answer in ("", {}):
        return []
    rows = [answer] if isinstance(answer, dict) and "OutTransID" in answer else answer
    if isinstance(rows, list):
        there = [row for row in rows if row is not None]
        if not there or any(isinstance(row, dict) for row in there):
            return [row if isinstance(row, dict) else {"record": row} for row in there]
    raise ReportTrouble("unreadable", "Openfax answered something that is no list of records")


def _answer(ask: Ask, client: Client, page: str, sent: Mapping[str, str]) -> Any:
    """
    What Openfax answers, as JSON, None where that is nothing. Raises ReportTrouble, also for what it says in place of
    an answer.

    Posted as multipart, as in the document's sample: its heading says GET, which would put the key into the URL.
    """
    fields = {"AccountID": ask.account, "APIKey": ask.options["api_key"], **sent}
    url = f"{ask.options['url'].rstrip('/')}/{page}"
    reply = client.post(url, files={name: (None, value) for name, value in fields.items()})
    if reply.status not in (200, 204):
        raise client.trouble(reply.status)
    answer = listed(reply.json(client.provider))
    first = answer[0] if isinstance(answer, list) and answer else answer
    if isinstance(first, dict) and "Response" in first:
        unknown = "unreadable", "Openfax refused the request in words that it does not document"
        raise ReportTrouble(*_REFUSALS.get(str(first["Response"]), unknown))
    return answer


def _history_id(row: _Row) -> int | None:
    """None: unreadable, which the schema says of the row."""
    value = row.get("HistoryOutboundFaxID")
    return int(value) if isinstance(value, int | str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", str(value)) else None


def _fax(row: _Row) -> str:
    return str(row.get("OutTransID")).strip()


def _is_final(row: _Row) -> bool:
    """A state that cannot be read, or that nobody listed, is not: the row is read again once that is mended."""
    if comes_in(row):
        return True  # nothing will come of it
    try:
        return STATES.verdict(str(row.get("CurrentState"))) is not None
    except ValueError:
        return False


def _last_of_each(rows: Sequence[_Row]) -> list[_Row]:
    """The last call of each fax alone: of those before it, each might count as another result."""
    return list({_fax(row): row for row in rows}.values())


def normalise_detail(row: Mapping[str, Any], source: Source) -> Sequence[FaxCompleted]:
    """
    The event of one row, none while the fax is not final. A row has no time.

    CurrentState says whether the fax is final, and ``_end`` how it ended. Raises AccountMismatch for another account's
    row, and Unprocessable for a state nobody listed.
    """
    account = _account(row["account"], source.account)
    if not STATES.lists(row["state"]):
        expected = "expected a documented state"
        raise Unprocessable("the state of a fax is not a known one", fields={STATES.field: expected})
    if STATES.verdict(row["state"]) is None:
        return []
    verdict, code, text = _end(row["state"], row["status"])
    return [
        FaxCompleted(
            account=account,
            key=(row["job_id"],),
            outcome=verdict.outcome,
            failure=verdict.failure,
            status_code=code,
            provider_call_id=row["call_id"],
            status_text=text,
            provider_job_id=row["job_id"],
            recipient=Recipient(number=_number(row["number"]), number_raw=row["number"], name=row["recipient_name"]),
            sender=Sender(name=row["sender_name"], number=_number(row["caller_id"])),
            pages=Pages(
                total=row["pages_total"], sent=row["pages_total"] if verdict.outcome is Outcome.DELIVERED else None
            ),
            attempts=row["attempts"],
            reference=Reference(id=source.reference),
        )
    ]


def _end(state: str, last: str | None) -> tuple[Verdict, str, str | None]:
    """
    How a final fax ended, the code that says so, and a text that tells a CurrentState 9 from a LastStatus 9.

    A LastStatus, where the row has one, says why the fax failed. But it is the result of one call, and CurrentState
    that of the fax: where only one of them says that it was delivered, nobody can tell; and a fax that was canceled
    after a busy call was canceled. A LastStatus that nobody listed is passed on, and CurrentState says how it ended.
    """
    by_state = STATES.verdict(state)
    assert by_state is not None, "the caller has asked"
    if last is None:
        return by_state, state, STATES.field
    if not CODES.lists(last):
        return by_state, last, None
    result = CODES.verdict(last)
    if result is None:  # "in processing", which a final state knows better
        return by_state, state, STATES.field
    if (by_state is DELIVERED) != (result is DELIVERED):
        return UNCONFIRMED, state, f"{STATES.field}; {CODES.field} {last}"
    if by_state is CANCELED:
        return CANCELED, state, f"{STATES.field}; {CODES.field} {last}"
    return result, last, None


def _lists(event: FaxCompleted) -> bool:
    """Whether the event's code is a known one; a CurrentState always is."""
    return (event.status_text or "").startswith(STATES.field) or CODES.lists(event.status_code)


def _number(digits: str | None) -> str | None:
    """In E.164. Openfax takes numbers with their country code and without + alone, 1 being North America's."""
    return e164(digits and f"+{digits}", None)


def credit(ask: Ask, client: Client) -> Decimal:
    """What is left of the prepaid account; the sample and the table of the document name it differently."""
    answer = _answer(ask, client, "getAvailableCredit.php", {})
    found = answer[0] if isinstance(answer, list) and len(answer) == 1 else answer
    if isinstance(found, dict):
        stated = [found[name] for name in ("AvailableCredit", "AccountBalance") if found.get(name) not in (None, "")]
        if stated and isinstance(amount := Amount().deserialize(stated[0]), Decimal):
            return amount
    raise ReportTrouble("unreadable", "Openfax answered no AvailableCredit and no AccountBalance that is a number")


PROVIDER = Provider(
    name="openfax",
    title="Openfax",
    callback=Callback(
        kinds=frozenset({BodyKind.FORM}),
        schema=POSTBACK,
        normalise=normalise,
        simulate=simulate,
        setup=SETUP,
        shape=shape,
        once=frozenset({"OutTransID", "AccountID", "LastStatus"}),
        query=True,
    ),
    codes=CODES,
    reports=Reports(
        options=(
            Option("api_key", "the API key from the account settings of the portal"),
            Option("url", "the host of the API", "https://api.openfax.com", is_url=True),
            Option("low_credit", "warn where the prepaid credit is below this number", "", is_amount=True),
        ),
        records=(
            RecordReport(
                name="outbound-by-date",
                fetch=fetch,
                schema=OUTBOUND_DETAIL,
                normalise=normalise_detail,
                codes=STATES,
                lists=_lists,
            ),
        ),
        credit=credit,
    ),
    key=key,
    account_from_payload=True,
    region="US",
    notes="Sends no destination number and no time; documents no retry, so a missed postback must be fetched.",
    sources=("https://apidocs.openfax.com",),
)
