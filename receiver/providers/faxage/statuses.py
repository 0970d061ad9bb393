"""
Status records: of the jobs asked for, or of a window.

Source: FAXAGE Internet Fax API documentation, and what was seen in public code that asks.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from receiver.errors import ReportTrouble, Unprocessable
from receiver.providers.faxage.asking import MARGIN, lines_of
from receiver.providers.faxage.callback import local
from receiver.providers.faxage.codes import CODES
from receiver.providers.shared.client import Client
from receiver.providers.shared.contract import Ask, Page
from schemas.repairing import Repair, repaired

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
_EXPECTED = f"{len(_COLUMNS)} columns, {len(_DOCUMENTED)} or {len(_NEED_NO_OPTION)}"


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
    begin, end = local(ask.begin - MARGIN, ask.zone), local(ask.end + MARGIN, ask.zone)
    return _pages(ask, client, {"begin": begin, "end": end})


def _pages(ask: Ask, client: Client, which: Mapping[str, Any]) -> Iterator[Page]:
    """The records of one request as they come; they are in no documented order, so there is no cursor."""
    lines = lines_of(ask, client, "url", {"operation": "status", **_ALL_COLUMNS, **which})
    are_records = False
    while rows := [{"record": line} for line in islice(lines, _ROWS)]:
        # One odd record is left to ``shape_record``; where all are odd they are none, or of another version.
        are_records = are_records or any(_columns(row["record"]) for row in rows)
        if not are_records:
            detail = f"FAXAGE did not answer status records ({_EXPECTED}); check the url of the reports"
            raise ReportTrouble("unreadable", detail)
        yield Page(rows)


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
