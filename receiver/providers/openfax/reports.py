"""
The report of all calls by their day, and the credit.

Of the report there is no sample of an answer. Source: Openfax Cloud Fax API, apidocs.openfax.com.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from receiver.errors import ReportTrouble
from receiver.providers.openfax.codes import STATES
from receiver.providers.openfax.details import lists, normalise_detail
from receiver.providers.shared.client import Client
from receiver.providers.shared.contract import Ask, Option, Page, RecordReport, Reports
from receiver.providers.shared.decoding import comes_in, listed
from schemas.fields import Amount
from schemas.openfax import OUTBOUND_DETAIL

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


def credit(ask: Ask, client: Client) -> Decimal:
    """What is left of the prepaid account; the sample and the table of the document name it differently."""
    answer = _answer(ask, client, "getAvailableCredit.php", {})
    found = answer[0] if isinstance(answer, list) and len(answer) == 1 else answer
    if isinstance(found, dict):
        stated = [found[name] for name in ("AvailableCredit", "AccountBalance") if found.get(name) not in (None, "")]
        if stated and isinstance(amount := Amount().deserialize(stated[0]), Decimal):
            return amount
    raise ReportTrouble("unreadable", "Openfax answered no AvailableCredit and no AccountBalance that is a number")


REPORTS = Reports(
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
            lists=lists,
        ),
    ),
    credit=credit,
)
