"""
OutboundStatus: the recipients of one DOCID.

Source: requests and replies of a public client and its tests. Errors and limits are not documented.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import xmltodict

from receiver.errors import Refusal, ReportTrouble
from receiver.providers.efax.codes import OUTCOMES
from receiver.providers.shared.client import Client, Reply
from receiver.providers.shared.contract import Ask, Page, Source
from receiver.providers.shared.decoding import leaf, once, xml
from receiver.providers.shared.normalising import e164, number_key, utc
from schemas.event import FaxCompleted, Pages, Recipient, Reference
from schemas.fields import InvalidRow
from schemas.repairing import Mended

_ROWS_OF_A_PAGE = 500
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


# --- one recipient -------------------------------------------------------------------------------------------------


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
