"""
The reports: OutboundStatus, which has the recipients of one DOCID, and the Reporting API, which only counts.

Sources: requests and replies of a public client of OutboundStatus and its tests; README and examples of the eFax
Reporting API. Neither documents its errors, its limits, or where a day begins and when it is complete.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from http import HTTPStatus
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import xmltodict

from receiver.errors import Refusal, ReportTrouble, Undecodable
from receiver.providers._client import Client, Reply
from receiver.providers._contract import (
    MOST_ROWS,
    AggregateReport,
    Ask,
    Finding,
    Option,
    Page,
    RecordReport,
    Reports,
    Source,
    Tally,
)
from receiver.providers._decoding import document, json_object, json_value, leaf, once, xml
from receiver.providers._normalising import e164, number_key, utc
from receiver.providers.efax.codes import OUTCOMES
from schemas.efax import STATUS
from schemas.event import FaxCompleted, Pages, Recipient, Reference
from schemas.fields import Count, InvalidRow
from schemas.repairing import Mended

_ROWS_OF_A_PAGE = 500

# --- OutboundStatus: fetch -----------------------------------------------------------------------------------------

_STATUSES = "OutboundStatusResponse"
_ACCEPTED = "1"  # StatusCode; 2 is an error
_OF_THE_LOGIN = re.compile(r"pass ?word|user ?name|log[io]n|authenti|authori[sz]|credential", re.IGNORECASE)


def fetch_statuses(ask: Ask, client: Client) -> Iterator[Page]:
    """
    The recipients of each overdue job, one request a job; none of a job that eFax does not know, which stays missing.

    One answer of no use must not keep the jobs behind it waiting for ever: the first such trouble is raised when all
    jobs have been asked for. Any other is raised at once, or it would be met at every job.
    """
    troubles: list[ReportTrouble] = []
    for job_id in ask.jobs:
        try:
            recipients = _recipients(client, client.post(ask.options["url"], data=_question(ask, job_id)))
        except ReportTrouble as trouble:
            if trouble.kind not in ("unreadable", "failed"):
                raise
            troubles.append(trouble)
            continue
        for start in range(0, len(recipients), _ROWS_OF_A_PAGE):
            yield Page(recipients[start : start + _ROWS_OF_A_PAGE])
    if troubles:
        first = troubles[0]
        raise ReportTrouble(first.kind, f"{first.detail} (so for {len(troubles)} of {len(ask.jobs)} jobs)")


def _question(ask: Ask, job_id: str) -> dict[str, str]:
    options = ask.options
    document = {
        "OutboundStatus": {
            "AccessControl": {"UserName": options["user"], "Password": options["password"]},
            "Transmission": {"TransmissionControl": {"DOCID": job_id}},
        }
    }
    return {"id": options["id"] or ask.account, "xml": xmltodict.unparse(document), "respond": "XML"}


def _recipients(client: Client, reply: Reply) -> list[dict[str, Any]]:
    """
    Each Recipient, with the TransmissionID above it; none where eFax does not know the job.

    How it says so is not documented: no recipients, or an error that names the DOCID. Any other answer raises
    ReportTrouble.
    """
    if reply.status != HTTPStatus.OK:
        raise client.trouble(reply.status)
    try:
        ((root, element),) = xml(reply.body).items()
    except Refusal:
        raise ReportTrouble("unreadable", "eFax answered something that is not XML; check the url") from None
    transmissions = _all(element, "Transmission")
    recipients: list[dict[str, Any]] = []
    for transmission in transmissions:
        references = _below([transmission], "TransmissionControl", "TransmissionID")
        above = {"TransmissionID": references}
        for recipient in _below([transmission], "Recipients", "Recipient"):
            # One without content stays: it is counted as unreadable.
            recipients.append({**above, **(recipient if isinstance(recipient, dict) else {})})
    if root == _STATUSES and recipients:
        return recipients
    for place in (element, *transmissions, *_below(transmissions, "Response"), *_all(element, "Response")):
        if _is_error(place):
            if (trouble := _refusal(place)) is not None:
                raise trouble
            return []
    if root != _STATUSES:
        raise ReportTrouble("unreadable", f"eFax answered another document than an {_STATUSES}; check the url")
    return []


def _is_error(place: Any) -> bool:
    code, *said = _texts(place, "StatusCode", "ErrorLevel", "ErrorMessage")
    return code not in ("", _ACCEPTED) or any(said)


def _refusal(place: Any) -> ReportTrouble | None:
    """What an error means; None: the job is unknown. Its text is read, as nothing else tells, and never passed on."""
    level, message = _texts(place, "ErrorLevel", "ErrorMessage")
    if level.lower() == "system":
        return ReportTrouble("failed", "eFax failed on a job (an error of its own system); the next run tries again")
    if "docid" in message.lower():
        return None
    if _OF_THE_LOGIN.search(message):
        return ReportTrouble("refused", "eFax refused the login; check user, password and id of the endpoint's reports")
    return ReportTrouble(
        "unreadable",
        "eFax refused to answer; check user, password and id of the endpoint's reports, and that jobs are registered "
        "with the DOCID eFax gave them",
    )


def _all(element: Any, name: str) -> list[Any]:
    """The children of that name, however many there are."""
    if not isinstance(element, dict) or name not in element:
        return []
    value = element[name]
    return value if isinstance(value, list) else [value]


def _below(elements: Iterable[Any], *names: str) -> list[Any]:
    """The children of that name of the children of the names before it."""
    found = list(elements)
    for name in names:
        found = [child for element in found for child in _all(element, name)]
    return found


def _texts(element: Any, *names: str) -> list[str]:
    """The texts of the first children of these names, "" where there is none."""
    values = [leaf(next(iter(_all(element, name)), None)) for name in names]
    return [value.strip() if isinstance(value, str) else "" for value in values]


# --- OutboundStatus: one recipient ---------------------------------------------------------------------------------


def shape(recipient: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    A Recipient laid flat, its values without quotation marks; of a name that occurs more than once, their list.

    Raises Undecodable where fax or result is repeated, or the next attempt, which says whether the result is final.
    """
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for name in recipient:
        for content in map(leaf, _all(recipient, name)):
            for inner, value in content.items() if isinstance(content, dict) else [(name, content)]:
                found[inner] += [_plain(leaf(one)) for one in (value if isinstance(value, list) else [value])]
    flat = {name: values[0] if len(values) == 1 else values for name, values in found.items()}
    once(flat, ("DOCID", "Fax", "Status", "Message", "Classification", "Outcome", "NextDate"))
    day, clock = (flat.get(name) or "" for name in ("LastDate", "LastTime"))
    return {**flat, "LastAttempt": f"{day} {clock}" if isinstance(day, str) else day}


_QUOTED = re.compile(r"[\"“”„«»](.*)[\"“”„«»]", re.DOTALL)  # a word processor makes others of the plain ones


def _plain(value: Any) -> Any:
    """Text without the literal quotation marks around it; "-" says "nothing"."""
    if not isinstance(value, str):
        return value
    bare = value.strip()
    if match := _QUOTED.fullmatch(bare):
        bare = match[1].strip()
    if bare == "-":
        return ""
    return Mended(bare) if isinstance(value, Mended) else bare


def normalise(status: Mapping[str, Any], source: Source) -> Sequence[FaxCompleted | InvalidRow]:
    """
    The event of one recipient; none while the fax waits. Times are in the endpoint's zone (eFax's is Pacific).

    A recipient whose number is withheld is invalid: the callback's identity is made of what only the callback has.
    """
    assert source.account is not None, "the settings require it"
    classification, outcome = status["classification"] or "", status["outcome"] or ""
    are_success = {word.lower() == "success" for word in (classification, outcome)}
    if True not in are_success and _waits(status):
        return []
    if len(are_success) > 1:
        return [InvalidRow(0, {"Outcome": "expected Success here and in Classification, or in neither"})]
    if not number_key(status["number"]):
        return [InvalidRow(0, {"Fax": "expected a number"})]
    said = outcome or classification
    verdict = OUTCOMES.verdict(said)
    assert verdict is not None, "every text is a final one"
    completed_at, time_quality = utc(status["completed_at"], source.timezone)
    return [
        FaxCompleted(
            account=source.account,
            key=(status["job_id"], number_key(status["number"])),
            outcome=verdict.outcome,
            failure=verdict.failure,
            status_code=said,
            status_text=classification or None,
            provider_job_id=status["job_id"],
            recipient=Recipient(
                number=e164(status["number"], source.region),
                number_raw=status["number"],
                name=status["recipient_name"],
                station_id=status["station_id"],
            ),
            pages=Pages(total=status["pages_total"], sent=status["pages_sent"]),
            duration_seconds=status["duration_seconds"],
            attempts=status["attempts"],
            completed_at=completed_at,
            time_quality=time_quality,
            reference=Reference(id=status["reference_id"] or source.reference),
        )
    ]


def _waits(status: Mapping[str, Any]) -> bool:
    """
    Whether another attempt will be made: nothing is said yet, or it says so beside the result of the last attempt.

    Busy has been seen on faxes that wait for their next attempt; it is final only where the message says otherwise.
    """
    message = (status["message"] or "").lower()
    if not status["classification"] and not status["outcome"]:
        return True
    is_busy = (status["classification"] or "").lower() == "busy"
    return "waiting" in message or status["next_attempt"] is not None or (is_busy and not message)


# --- Reporting API -------------------------------------------------------------------------------------------------

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


REPORTS = Reports(
    options=(
        Option("user", "user name for eFax Developer's requests"),
        Option("password", "its password"),
        Option("id", "eFax's account id, where it is not the endpoint's account", ""),
        Option("url", "of OutboundStatus", "https://secure.efaxdeveloper.com/EFax_WebFax.serv", is_url=True),
        Option("api_key", "key of the Reporting API; without it no counts are compared", ""),
        Option("reporting_user", "user name for the Reporting API", ""),
        Option("reporting_password", "its password", ""),
        Option("reporting_url", "of the Reporting API", "https://api.secure.efaxdeveloper.com/v1", is_url=True),
    ),
    records=(
        RecordReport(
            name="outbound-status",
            fetch=fetch_statuses,
            schema=STATUS,
            normalise=normalise,
            codes=OUTCOMES,
            shape=shape,
            of_jobs=True,
        ),
    ),
    aggregates=(
        AggregateReport("account-overview", _of_days("account-overview", _of_the_account)),
        AggregateReport("number-overview", _of_days("number-overview", _of_numbers), lacks_deliveries),
        AggregateReport("failures", _of_days("failures", _of_failures), lacks_failures),
        AggregateReport("billable-pages", _of_days("billable-pages", _of_pages), lacks_pages),
    ),
)
