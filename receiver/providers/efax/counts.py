"""
The eFax Reporting API, which only counts: by day, DID, user and number.

Sources: its README and examples. Neither says what its errors are, where a day begins or when it is complete.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from http import HTTPStatus
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from receiver.errors import Refusal, ReportTrouble, Undecodable
from receiver.providers.shared.client import Client
from receiver.providers.shared.contract import MOST_ROWS, AggregateReport, Ask, Finding, Tally
from receiver.providers.shared.decoding import document, json_object, json_value
from schemas.fields import Count

_PACIFIC = ZoneInfo("America/Los_Angeles")
_MOST_MISSING_BRACES = 2  # as many as the README's sample lacks
_COUNT = Count()


class _Counted:
    """
    What a document counts, for each recipient's number, or for None where it is about all of them.

    rows: what the counts are made of, by DID, user and number. odd: the parts that cannot be read. has_layout: whether
    any part is what it should be.
    """

    def __init__(self) -> None:
        self.counts: dict[str | None, Counter[str]] = {}
        self.rows: dict[str | None, list[Mapping[str, int | str]]] = {}
        self.odd: list[Mapping[str, int | str]] = []
        self.has_layout = False

    def parts(
        self, names: Sequence[str], document: Mapping[str, Any], above: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator[tuple[dict[str, str], Mapping[str, Any]]]:
        """The objects below so many levels, and what they are called there; what is no object is odd."""
        for key, value in document.items():
            here = {**above, names[0]: key}
            if value is None or value in ([], {}):  # PHP's ways to say nothing
                continue
            if not isinstance(value, dict):
                self.odd.append({**here, "expected": "an object"})
            elif len(names) == 1:
                yield here, value
            else:
                yield from self.parts(names[1:], value, here)

    def add(
        self, name: str, wanted: Collection[str], counts: Mapping[str, Any], names: Mapping[str, str], *, by: str = ""
    ) -> None:
        """Add up the wanted ones of these counts under the name. by: the one of the names to count for."""
        number = names.get(by)
        read = {key: count for key, value in counts.items() if (count := _COUNT.deserialize(value)) is not None}
        unreadable = [key for key in wanted if key not in read]
        self.has_layout = self.has_layout or not wanted or any(key in counts for key in wanted)
        found = self.counts.setdefault(number, Counter({name: 0}))
        found[name] += sum(read[key] for key in wanted if key in read)
        self.rows.setdefault(number, []).append({**names, **read})
        if unreadable:
            found["unreadable"] += 1
            self.odd.append({**names, **read, "expected": f"whole numbers as {', '.join(unreadable)}"})

    def told(self, report: str, day: date) -> Iterator[Tally | Finding]:
        """Raises Undecodable where nothing is what it should be."""
        if self.odd and not self.has_layout:
            raise Undecodable("expected another layout")
        for number, counts in self.counts.items():
            yield Tally(day, dict(counts), number, tuple(self.rows[number][:MOST_ROWS]))
        if self.odd:
            detail: dict[str, int | str] = {
                "rows": len(self.odd),
                "counts": "expected whole numbers by DID, user and number",
            }
            yield Finding("unreadable", f"{report} {day}", detail, tuple(self.odd[:MOST_ROWS]))


def _of_days(
    name: str, counted: Callable[[Mapping[str, Any]], _Counted]
) -> Callable[[Ask, Client], Iterator[Tally | Finding]]:
    """
    The fetch of one report: a request for every whole day of the window, its answer given to ``counted``.

    Without the options of the Reporting API nothing is asked.
    """

    def fetch(ask: Ask, client: Client) -> Iterator[Tally | Finding]:
        options = ask.options
        sent = {
            "x-api-key": options["api_key"],
            "efax-username": options["reporting_user"],
            "efax-password": options["reporting_password"],
        }
        if not any(sent.values()):
            return
        if not all(sent.values()):
            detail = "the Reporting API needs all of api_key, reporting_user and reporting_password; complete them"
            raise ReportTrouble("refused", detail)
        # as bytes: httpx would take no letter outside ASCII
        headers = {header: value.encode() for header, value in sent.items()}
        for day in _whole_days(ask):
            reply = client.get(f"{options['reporting_url'].rstrip('/')}/{name}/{day}", headers=headers)
            if reply.status != HTTPStatus.OK:
                raise client.trouble(reply.status)
            try:
                told = list(counted(_object(reply.body)).told(name, day))
            except Refusal:
                detail = f"eFax's {name} is no JSON in a layout that is known; check reporting_url"
                raise ReportTrouble("unreadable", detail) from None
            yield from told

    return fetch


def _whole_days(ask: Ask) -> Iterator[date]:
    zone = ask.zone or _PACIFIC

    def midnight(day: date) -> datetime:
        return datetime.combine(day, time(), zone).astimezone(UTC)

    day = ask.begin.astimezone(zone).date()
    while midnight(day + timedelta(days=1)) <= ask.end:
        if midnight(day) >= ask.begin:
            yield day
        day += timedelta(days=1)


def _object(body: bytes) -> dict[str, Any]:
    """
    The JSON object that a body is, or that is written in the JSON string the body is.

    Nothing, in whatever way it is written, is an empty object: the status says that all is well. Closing braces may be
    missing at the end, as they are in the samples; an answer that was cut on the way does not get here. Raises
    Undecodable and TooComplex.
    """
    written = document(body).strip()
    if written.startswith('"'):
        written = str(json_value(written)).strip()
    if written in ("", "null", "[]"):
        return {}
    for missing in range(_MOST_MISSING_BRACES):
        try:
            return json_object(written + "}" * missing)
        except Undecodable:
            if not written.endswith("}"):
                raise
    return json_object(written + "}" * _MOST_MISSING_BRACES)


def _of_the_account(document: Mapping[str, Any]) -> _Counted:
    """All DIDs and users. Only Success compares: all else counts attempts, of which a fax may have many."""
    found = _Counted()
    for names, counts in found.parts(("did", "user"), document):
        found.add("delivered", ("Success",), counts, names)
    found.counts.setdefault(None, Counter(delivered=0))
    found.rows.setdefault(None, [])
    return found


def _of_numbers(document: Mapping[str, Any]) -> _Counted:
    found = _Counted()
    for names, counts in found.parts(("did", "user", "number"), document):
        found.add("delivered", ("Success",), counts, names, by="number")
    return found


def _of_failures(document: Mapping[str, Any]) -> _Counted:
    """None was delivered of those that are named."""
    found = _Counted()
    for names, counts in found.parts(("did", "user", "number"), document):
        found.add("delivered", (), counts, names, by="number")
    return found


def _of_pages(document: Mapping[str, Any]) -> _Counted:
    """Outbound pages of all resolutions: below ``outbound``, in an older layout below every user."""
    found = _Counted()
    for of_did, parts in found.parts(("did",), document):
        sent = {name: part for name, part in parts.items() if name != "inbound"}
        for names, counts in found.parts(("user",), sent, of_did):
            found.add("pages_sent", counts.keys(), counts, of_did if names["user"] == "outbound" else names)
    found.counts.setdefault(None, Counter(pages_sent=0))
    found.rows.setdefault(None, [])
    return found


def lacks_deliveries(theirs: Mapping[str, int], ours: Mapping[str, int]) -> bool:
    """They know of more: users without a failure are left out of number-overview, so that fewer say nothing."""
    return theirs["delivered"] > ours.get("delivered", 0)


def lacks_failures(_theirs: Mapping[str, int], ours: Mapping[str, int]) -> bool:
    """
    We know of no fax that did not arrive, where every attempt of a user failed.

    One that did arrive says nothing: another user may have reached the number, or the same one after midnight.
    """
    return ours.get("failed", 0) == 0


def lacks_pages(theirs: Mapping[str, int], ours: Mapping[str, int]) -> bool:
    """
    We know of none of the pages they bill, or of more than they do.

    Fewer are no sign: cover pages and repeated attempts may be billed too.
    """
    sent = ours.get("pages_sent", 0)
    is_all = "unreadable" not in theirs
    return (sent > theirs["pages_sent"] and is_all) or (sent == 0 and theirs["pages_sent"] > 0)


AGGREGATES = (
    AggregateReport("account-overview", _of_days("account-overview", _of_the_account)),
    AggregateReport("number-overview", _of_days("number-overview", _of_numbers), lacks_deliveries),
    AggregateReport("failures", _of_days("failures", _of_failures), lacks_failures),
    AggregateReport("billable-pages", _of_days("billable-pages", _of_pages), lacks_pages),
)
