"""
eFax Developer: the OutboundStatus request at ``/EFax_WebFax.serv``, and the Reporting API below ``/v1``.

Sources: the requests and replies of a public Ruby client and its tests for OutboundStatus; README and examples of the
eFax Reporting API (sections 5.4 and 5.5 of the collected facts on the providers). OutboundStatus gives all recipients
of one DOCID; the Reporting API gives counts of one day and names no fax.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Literal
from xml.etree import ElementTree

import xmltodict
from flask import Response, request

from schemas.event import FailureReason
from standins.world import SentFax, Service, World, text

CATEGORIES = (
    "Busy",
    "Call placement error",
    "Fax transmission failed",
    "No answer",
    "No dial tone",
    "Unspecified failure",
)
# Which code counts under which name is not documented; by what the code means.
_CATEGORY_OF = {
    FailureReason.BUSY: "Busy",
    FailureReason.NO_ANSWER: "No answer",
    FailureReason.BAD_NUMBER: "Call placement error",
    FailureReason.CIRCUITS_BUSY: "Call placement error",
    FailureReason.NETWORK_ERROR: "Call placement error",
    FailureReason.REJECTED: "Call placement error",
    FailureReason.DISCONNECTED: "Fax transmission failed",
    FailureReason.INCOMPATIBLE: "Fax transmission failed",
    FailureReason.NOT_A_FAX: "Fax transmission failed",
    FailureReason.TRANSMISSION_ERROR: "Fax transmission failed",
}
BUSY = "Normal busy: remote end busy (off hook)"
_NO_DIAL_TONE = "258"

# How the bodies of the Reporting API are written: a JSON string that holds JSON, JSON, or JSON one brace short.
Coding = Literal["double", "plain", "malformed"]


def application(
    world: World,
    *,
    user: str = "exampleuser",
    password: str = "example-password",
    api_key: str = "example-api-key",
    coding: Coding = "double",
    failures_have_times: bool = False,
) -> Service:
    """
    The account ID is the world's account; both APIs take the same user and password.

    failures_have_times: the only failure ever seen had no LastDate and no Duration, so that this is the default.
    """
    app = Service(world)

    @app.operation("/EFax_WebFax.serv", "OutboundStatus", "POST")
    def outbound_status() -> Response:
        try:
            document = ElementTree.fromstring(text("xml"))
        except ElementTree.ParseError:
            return _refusal("System", "The XML cannot be parsed")
        login = (document.findtext("AccessControl/UserName"), document.findtext("AccessControl/Password"))
        if text("id") != world.account or login != (user, password):
            return _refusal("User", "Invalid account or user name or password")
        doc_id = document.findtext("Transmission/TransmissionControl/DOCID", "")
        if document.tag != "OutboundStatus" or text("respond") != "XML" or not doc_id:
            return _refusal("User", "Expected an OutboundStatus request with a DOCID, respond XML")
        faxes = world.faxes(doc_id)  # an unknown DOCID has no recipients: not documented
        references = {fax.fax_id for fax in faxes}
        transmission = {
            "TransmissionControl": {"TransmissionID": references.pop() if len(references) == 1 else ""},
            "Recipients": {"Recipient": [_recipient(world, fax, failures_have_times) for fax in faxes]},
        }
        return _xml({"OutboundStatusResponse": {"Transmission": transmission}})

    def report(name: str, make: Callable[[World, list[SentFax]], dict[str, Any]]) -> None:
        # The shell samples have a slash at the end.
        @app.operation(f"/v1/{name}/<day>/", name, "GET")
        @app.operation(f"/v1/{name}/<day>", name, "GET")
        def answer(day: str) -> Response:
            headers = [request.headers.get(name) for name in ("x-api-key", "efax-username", "efax-password")]
            if headers[0] != api_key:
                return Response('{"message":"Forbidden"}', 403, content_type="application/json")  # not documented
            if headers[1:] != [user, password]:
                return Response('{"message":"Unauthorized"}', 401, content_type="application/json")  # likewise
            if not re.fullmatch(r"\d{4}-\d\d-\d\d", day):
                return Response('{"message":"Bad Request"}', 400, content_type="application/json")  # likewise
            return Response(_written(make(world, _of_day(world, day)), coding), content_type="application/json")

    report("account-overview", _account_overview)
    report("number-overview", _number_overview)
    report("failures", _failures)
    report("billable-pages", _billable_pages)
    return app


# --- OutboundStatus ------------------------------------------------------------------------------------------------


def _recipient(world: World, fax: SentFax, failures_have_times: bool) -> dict[str, Any]:
    """Elements, their order and what is between literal quotes as in the replies that were seen."""
    message, classification, outcome = _status(world, fax)
    delivered = world.is_delivered(fax)
    has_time = delivered or (failures_have_times and not fax.is_pending)
    ended = world.local(fax.completed_at) if fax.completed_at is not None and has_time else None
    # A fax that waits has been seen with all pages sent, a speed and a duration.
    was_sent = delivered or (fax.is_pending and not fax.stage)
    seconds = fax.duration_seconds if was_sent else 0
    return {
        "DOCID": fax.job_id,
        "Name": fax.recipient_name,
        "Company": "",
        "Fax": fax.digits,
        "Status": {"Message": message, "Classification": classification, "Outcome": outcome},
        "LastAttempt": {
            "LastDate": f"{ended:%m/%d/%Y}" if ended else "",
            "LastTime": f"{ended:%H:%M:%S}" if ended else "",
        },
        "NextAttempt": {"NextDate": "", "NextTime": ""},
        "Pages": {"Scheduled": str(fax.pages), "Sent": str(fax.pages if was_sent else 0)},
        "BaudRate": "14400" if was_sent else "",
        "Duration": f"{seconds / 60:.1f}" if was_sent or has_time else "",
        "Retries": str(fax.attempts),
        "RemoteCSID": f'"{fax.digits}"' if delivered else '"-"',
    }


def _status(world: World, fax: SentFax) -> tuple[str, str, str]:
    """Message, Classification, Outcome; a fax with the stage Busy waits for its next try."""
    if fax.is_pending and fax.stage:
        return "Your transmission is waiting to be sent.", fax.stage, BUSY
    if fax.is_pending:
        return "Your fax is waiting to be send", "", ""  # sic
    if world.is_delivered(fax):
        return "Your transmission has completed.", '"Success"', '"Success"'
    category = _category(world, fax)
    # Classification Busy has been seen on faxes that wait, so a final one says what the seen failure says.
    outcome = {"Busy": BUSY, "No answer": "No answer"}.get(category)
    if outcome is not None:
        return "Your transmission has failed.", "Call placement error", outcome
    return "Your transmission has failed.", category, world.provider.codes.texts.get(fax.status, fax.status)


def _refusal(level: str, message: str) -> Response:
    """The reply to a submission that fails; what a status request gets is not documented."""
    response = {
        "StatusCode": "2",
        "StatusDescription": "Failure",
        "ErrorLevel": level,
        "ErrorMessage": message,
    }
    control = {"TransmissionControl": {"TransmissionID": "", "DOCID": ""}}
    return _xml({"OutboundResponse": {"Transmission": control | {"Response": response}}})


def _xml(document: dict[str, Any]) -> Response:
    body = xmltodict.unparse(document, pretty=True, indent="  ").replace(
        '<?xml version="1.0" encoding="utf-8"?>', '<?xml version="1.0"?>', 1
    )
    return Response(body, content_type="text/xml")


# --- Reporting API -------------------------------------------------------------------------------------------------


def _of_day(world: World, day: str) -> list[SentFax]:
    """Faxes that ended on the day; its zone is not documented: that of the world."""
    return [
        fax
        for fax in world.faxes()
        if fax.completed_at is not None and world.local(fax.completed_at).date().isoformat() == day
    ]


def _account_overview(world: World, faxes: list[SentFax]) -> dict[str, Any]:
    return {
        did: {user: _counts(world, sent) for user, sent in _grouped(group, _user).items()}
        for did, group in _grouped(faxes, _did).items()
    }


def _number_overview(world: World, faxes: list[SentFax]) -> dict[str, Any]:
    """Only what has a failure."""
    return _by_number(faxes, lambda sent: _counts(world, sent) if _failed(world, sent) else None)


def _failures(world: World, faxes: list[SentFax]) -> dict[str, Any]:
    """Only what has nothing but failures; without the key Failures."""

    def counts(sent: list[SentFax]) -> dict[str, int] | None:
        if len(_failed(world, sent)) < len(sent):
            return None
        found = _counts(world, sent)
        del found["Failures"]
        return found

    return _by_number(faxes, counts)


def _billable_pages(world: World, faxes: list[SentFax]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for did, group in _grouped(faxes, _did).items():
        outbound: dict[str, int] = {}
        for fax in group:
            if world.is_delivered(fax):
                name = "FINE" if fax.is_fine else "STANDARD"
                outbound[name] = outbound.get(name, 0) + fax.pages
        found[did] = {"outbound": outbound, "inbound": 0}
    return found


def _by_number(faxes: list[SentFax], counts: Callable[[list[SentFax]], dict[str, int] | None]) -> dict[str, Any]:
    """{DID: {user: {recipient: counts}}} without empty levels."""
    found: dict[str, Any] = {}
    for did, of_did in _grouped(faxes, _did).items():
        for user, of_user in _grouped(of_did, _user).items():
            for number, sent in _grouped(of_user, _recipient_number).items():
                if (row := counts(sent)) is not None:
                    found.setdefault(did, {}).setdefault(user, {})[number] = row
    return found


def _counts(world: World, faxes: list[SentFax]) -> dict[str, int]:
    """A fax counts once, whatever its tries: not documented."""
    failed = _failed(world, faxes)
    categories = [_category(world, fax) for fax in failed]
    found = {name: categories.count(name) for name in CATEGORIES}
    return found | {"Success": len(faxes) - len(failed), "Total": len(faxes), "Failures": len(failed)}


def _failed(world: World, faxes: list[SentFax]) -> list[SentFax]:
    return [fax for fax in faxes if not world.is_delivered(fax)]


def _category(world: World, fax: SentFax) -> str:
    if fax.status == _NO_DIAL_TONE:
        return "No dial tone"
    verdict = world.provider.codes.verdict(fax.status)
    reason = verdict.failure.reason if verdict is not None and verdict.failure is not None else None
    return _CATEGORY_OF.get(reason, "Unspecified failure") if reason is not None else "Unspecified failure"


def _grouped(faxes: list[SentFax], name: Callable[[SentFax], str]) -> dict[str, list[SentFax]]:
    found: dict[str, list[SentFax]] = {}
    for fax in faxes:
        found.setdefault(name(fax), []).append(fax)
    return found


def _did(fax: SentFax) -> str:
    return _ten_digits(fax.sender_number)


def _user(fax: SentFax) -> str:
    return fax.login or "user_1"


def _recipient_number(fax: SentFax) -> str:
    return _ten_digits(fax.number)


def _ten_digits(number: str) -> str:
    digits = number.removeprefix("+")
    return digits[1:] if len(digits) == 11 and digits.startswith("1") else digits


def _written(document: dict[str, Any], coding: Coding) -> str:
    plain = json.dumps(document)
    match coding:
        case "double":
            return json.dumps(plain)
        case "plain":
            return plain
        case "malformed":
            return plain[:-1]
