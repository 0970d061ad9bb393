"""
eFax Developer: an outbound disposition for every recipient, an XML document in the form field ``xml``.

All data are attributes of its root, user name and password among them, which are the only proof of origin. Sources:
what public code that receives dispositions reads; wording of the codes is ours.
"""

import hashlib
import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any
from urllib.parse import urlencode

import xmltodict

from receiver.errors import Undecodable, Unprocessable
from receiver.providers._contract import (
    BodyKind,
    Callback,
    Provider,
    RawCallback,
    SimulatedFax,
    SimulatedJob,
    Source,
    Success,
)
from receiver.providers._decoding import leaf, once, xml
from receiver.providers._normalising import DELIVERED, e164, failed, number_key, table, utc, whole_number
from schemas.efax import DISPOSITION
from schemas.event import Confidence, FailureReason, FaxCompleted, Pages, Recipient, Reference, Retryable

# 60xx is 6000 + the Q.850 cause, 41xx is 4100 + the hang-up code of the fax board.
CODES = table(
    "FaxStatus",
    [
        ("0", DELIVERED, "sent"),
        # the fax server, before and around dialing
        (
            "60 61 62 64 66 67 70 71 73 74 80 81 82 84",
            failed(FailureReason.PROVIDER_ERROR, Retryable.UNKNOWN, Confidence.MEDIUM),
            "server-side processing failure before or around dialing",
        ),
        (
            "63 77 78",
            failed(FailureReason.BAD_NUMBER, Retryable.NO, Confidence.HIGH),
            "number missing, too long or badly formed",
        ),
        ("65", failed(FailureReason.INVALID_REQUEST, Retryable.NO, Confidence.MEDIUM), "cover sheet not found"),
        ("68", failed(FailureReason.DOCUMENT_MISSING, Retryable.NO, Confidence.MEDIUM), "no files to send"),
        (
            "69 91 4012 4015 4017",
            failed(FailureReason.PROVIDER_ERROR, Retryable.UNKNOWN, Confidence.LOW),
            "receive-side code, not expected for outbound",
        ),
        (
            "72 83 122",
            failed(FailureReason.DOCUMENT_CONVERSION, Retryable.NO, Confidence.MEDIUM),
            "merge or conversion failed",
        ),
        (  # 75 has been seen for invalid numbers too
            "75 76",
            failed(FailureReason.BLOCKED, Retryable.NO, Confidence.MEDIUM),
            "number on a do-not-send list",
        ),
        ("79", failed(FailureReason.EXPIRED, Retryable.UNKNOWN, Confidence.LOW), "automatic launch timed out"),
        (
            "100 123 130 131 132",
            failed(FailureReason.PROVIDER_ERROR, Retryable.UNKNOWN, Confidence.MEDIUM),
            "server fault",
        ),
        (
            "101 102 103 104 105 110 119 120 121 124",
            failed(FailureReason.INVALID_REQUEST, Retryable.NO, Confidence.MEDIUM),
            "bad job command or parameter",
        ),
        ("108", failed(FailureReason.DOCUMENT_MISSING, Retryable.NO, Confidence.MEDIUM), "document file not found"),
        # the e-mail channel of the same server
        (
            "90 141 142 148 149 150 152 153 154 155 500 501 502 503 504 554",
            failed(FailureReason.PROVIDER_ERROR, Retryable.NO, Confidence.LOW),
            "e-mail channel, permanent; not expected for fax",
        ),
        (
            "143 144 145 146 147 421 450 451 452 550 551 552 553",
            failed(FailureReason.PROVIDER_ERROR, Retryable.UNKNOWN, Confidence.LOW),
            "e-mail channel; not expected for fax",
        ),
        # the line and the call
        (
            "258 259 260",
            failed(FailureReason.PROVIDER_ERROR, Retryable.YES, Confidence.MEDIUM),
            "no dial tone, no loop current, or local line in use",
        ),
        ("261 265", failed(FailureReason.CIRCUITS_BUSY, Retryable.YES, Confidence.MEDIUM), "trunk or time slot busy"),
        ("266 267", failed(FailureReason.NETWORK_ERROR, Retryable.YES, Confidence.MEDIUM), "glare or no wink"),
        ("268", failed(FailureReason.BAD_NUMBER, Retryable.UNKNOWN, Confidence.MEDIUM), "invalid ISDN dial string"),
        ("269", failed(FailureReason.NETWORK_ERROR, Retryable.UNKNOWN, Confidence.LOW), "redial failed (Japan)"),
        ("301 302", failed(FailureReason.BUSY, Retryable.YES, Confidence.HIGH), "busy"),
        ("303", failed(FailureReason.CIRCUITS_BUSY, Retryable.YES, Confidence.HIGH), "fast busy, trunks busy"),
        (
            "304 305",
            failed(FailureReason.PROVIDER_ERROR, Retryable.YES, Confidence.LOW),
            "odd call progress on the sending side",
        ),
        ("308 309 325", failed(FailureReason.NO_ANSWER, Retryable.YES, Confidence.HIGH), "rings, nobody answers"),
        (
            "316 317 324",
            failed(FailureReason.NOT_A_FAX, Retryable.YES, Confidence.HIGH),
            "a person answered, or silence",
        ),
        (
            "318",
            failed(FailureReason.PROVIDER_ERROR, Retryable.YES, Confidence.MEDIUM),
            "dial tone stays after dialing",
        ),
        ("326", failed(FailureReason.INCOMPATIBLE, Retryable.NO, Confidence.MEDIUM), "group 2 machine"),
        (
            "327 329",
            failed(FailureReason.BAD_NUMBER, Retryable.NO, Confidence.MEDIUM),
            "special information tone: invalid number or service",
        ),
        ("328", failed(FailureReason.NETWORK_ERROR, Retryable.YES, Confidence.MEDIUM), "possibly dead line"),
        (
            "330 331",
            failed(FailureReason.CIRCUITS_BUSY, Retryable.YES, Confidence.MEDIUM),
            "special information tone: reorder or no circuit",
        ),
        (
            "332 333 334 339 340",
            failed(FailureReason.UNKNOWN, Retryable.UNKNOWN, Confidence.LOW),
            "odd call-progress result",
        ),
        ("349", failed(FailureReason.CIRCUITS_BUSY, Retryable.YES, Confidence.MEDIUM), "ISDN call collision"),
        # the fax session (T.30)
        (
            "4007",
            failed(FailureReason.NETWORK_ERROR, Retryable.YES, Confidence.MEDIUM),
            "line not connected, unknown dial error",
        ),
        ("4009", failed(FailureReason.UNKNOWN, Retryable.YES, Confidence.MEDIUM), "unknown error"),
        ("4010 4016", failed(FailureReason.PROVIDER_ERROR, Retryable.YES, Confidence.MEDIUM), "server fault"),
        ("4011", failed(FailureReason.TRANSMISSION_ERROR, Retryable.YES, Confidence.MEDIUM), "not all pages sent"),
        (
            "4013 4014",
            failed(FailureReason.TRANSMISSION_ERROR, Retryable.YES, Confidence.MEDIUM),
            "no remote information, or training failed",
        ),
        ("4018", failed(FailureReason.NO_ANSWER, Retryable.YES, Confidence.LOW), "timeout waiting for the call"),
        (
            "4020 4021",
            failed(FailureReason.TRANSMISSION_ERROR, Retryable.YES, Confidence.MEDIUM),
            "pages rejected or not confirmed",
        ),
        ("4101", failed(FailureReason.TRANSMISSION_ERROR, Retryable.YES, Confidence.LOW), "ring without handshake"),
        ("4102", failed(FailureReason.DISCONNECTED, Retryable.YES, Confidence.LOW), "call aborted"),
        (
            "4103 4104 4129 4130 4160",
            failed(FailureReason.DISCONNECTED, Retryable.YES, Confidence.MEDIUM),
            "hang-up, ISDN disconnect or DCN received",
        ),
        ("4111", failed(FailureReason.NOT_A_FAX, Retryable.YES, Confidence.MEDIUM), "T.30 T1 timeout: no fax answers"),
        (
            """
            4120 4122 4123 4124 4125 4126 4127 4128 4140 4141 4142 4143 4144 4151 4152 4153 4154 4155 4156 4157
            4161 4162 4163 4164 4165 4166 4167 4168 4342 4343 4605
            """,
            failed(FailureReason.TRANSMISSION_ERROR, Retryable.YES, Confidence.MEDIUM),
            "T.30 protocol failure",
        ),
        (
            "4121 4133 4136",
            failed(FailureReason.INCOMPATIBLE, Retryable.NO, Confidence.MEDIUM),
            "remote cannot receive, or formats do not match",
        ),
        (
            "4134 4135",
            failed(FailureReason.PROVIDER_ERROR, Retryable.UNKNOWN, Confidence.LOW),
            "bad transmit set-up on the sending side",
        ),
        # the fax board
        (
            "4340 4341 4602 5004 5008",
            failed(FailureReason.PROVIDER_ERROR, Retryable.YES, Confidence.MEDIUM),
            "board or channel state",
        ),
        (
            "4600 4601 4603 4604 5000 5001 5003 5005 5006 5007",
            failed(FailureReason.PROVIDER_ERROR, Retryable.UNKNOWN, Confidence.MEDIUM),
            "board, driver or API fault",
        ),
        ("5002", failed(FailureReason.DOCUMENT_CONVERSION, Retryable.NO, Confidence.MEDIUM), "bad file format"),
        # the telephone network (Q.850)
        (
            "6000 6003 6030 6031",
            failed(FailureReason.UNKNOWN, Retryable.UNKNOWN, Confidence.MEDIUM),
            "no or unspecified network cause",
        ),
        ("6001", failed(FailureReason.BAD_NUMBER, Retryable.NO, Confidence.HIGH), "unassigned number"),
        (
            "6002 6006 6027 6029 6038 6041 6043 6045 6050 6058 6063 6065 6066 6127",
            failed(FailureReason.NETWORK_ERROR, Retryable.YES, Confidence.MEDIUM),
            "network or route fault",
        ),
        ("6016", failed(FailureReason.DISCONNECTED, Retryable.YES, Confidence.MEDIUM), "normal clearing (hung up)"),
        ("6017", failed(FailureReason.BUSY, Retryable.YES, Confidence.HIGH), "busy"),
        (
            "6018 6401 6402 6403",
            failed(FailureReason.NO_ANSWER, Retryable.YES, Confidence.HIGH),
            "no user responding, or timed out before connect",
        ),
        ("6021", failed(FailureReason.REJECTED, Retryable.UNKNOWN, Confidence.MEDIUM), "call rejected"),
        ("6022", failed(FailureReason.BAD_NUMBER, Retryable.NO, Confidence.MEDIUM), "number changed"),
        ("6028", failed(FailureReason.BAD_NUMBER, Retryable.NO, Confidence.MEDIUM), "invalid number format"),
        (
            "6034 6042 6044",
            failed(FailureReason.CIRCUITS_BUSY, Retryable.YES, Confidence.MEDIUM),
            "no circuit, congestion, or channel not available",
        ),
        (
            "6052 6054",
            failed(FailureReason.BLOCKED, Retryable.NO, Confidence.MEDIUM),
            "outgoing or incoming call barred",
        ),
        ("6069", failed(FailureReason.NETWORK_ERROR, Retryable.NO, Confidence.MEDIUM), "facility not implemented"),
        (
            "6081 6082 6095 6096 6097 6098 6099 6100 6101 6102 6103 6111 6404 6405 6407",
            failed(FailureReason.NETWORK_ERROR, Retryable.YES, Confidence.MEDIUM),
            "signalling protocol fault",
        ),
        ("6088", failed(FailureReason.INCOMPATIBLE, Retryable.NO, Confidence.MEDIUM), "incompatible destination"),
        ("6406", failed(FailureReason.DISCONNECTED, Retryable.YES, Confidence.MEDIUM), "disconnected after connect"),
        ("6408", failed(FailureReason.UNKNOWN, Retryable.UNKNOWN, Confidence.MEDIUM), "internal"),
    ],
    spelling=whole_number,
)

_DISPOSITIONS = frozenset({"OutboundDisposition", "WebFaxAPIDisposition"})  # the second: a sample of 2005
_INBOUND = "InboundPostRequest"
_CREDENTIALS = ("UserName", "Password")


# --- shape ---------------------------------------------------------------------------------------------------------


def shape(form: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    The data of the disposition, without the credentials, and the digest of them as ``#sha256``.

    ``{}`` for an InboundPostRequest, a fax that came in. Raises Undecodable without readable XML, Unprocessable for
    any other document.
    """
    root, element = _document(form)
    if root == _INBOUND:
        return {}
    if root not in _DISPOSITIONS:
        raise Unprocessable("the XML is no disposition", fields={"xml": "expected an OutboundDisposition"})
    fields = {name: value for name, value in _fields(element).items() if name not in _CREDENTIALS}
    once(fields, ("DOCID", "FaxNumber", "FaxStatus"))
    return {**fields, "#sha256": _digest(fields)}


def credentials(form: Mapping[str, Any]) -> tuple[str, str] | None:
    """
    User name and password: of a disposition itself, of an inbound fax's AccessControl.

    Raises Undecodable without readable XML.
    """
    root, element = _document(form)
    if root == _INBOUND and isinstance(element, dict):
        element = element.get("AccessControl")
    fields = _fields(element)
    once(fields, _CREDENTIALS)
    user, password = (fields.get(name) for name in _CREDENTIALS)
    return (user, password) if isinstance(user, str) and isinstance(password, str) else None


def _document(form: Mapping[str, Any]) -> tuple[str, Any]:
    """The XML's root: its name and its content."""
    if not isinstance(text := form.get("xml"), str) or not text.strip():
        raise Undecodable("the form has no field xml", fields={"xml": "expected an XML document"})
    ((root, element),) = xml(text).items()
    return root, element


def _fields(element: Any) -> dict[str, Any]:
    """An element's attributes and children by name, empty ones as ``""``; a name that occurs twice has a list."""
    fields: dict[str, Any] = {}
    for key, value in element.items() if isinstance(element, dict) else ():
        name = key.removeprefix("@")
        if not name.startswith(("xmlns", "#")):
            text = "" if (text := leaf(value)) is None else text
            fields[name] = [fields[name], text] if name in fields else text
    return fields


def _digest(fields: Mapping[str, Any]) -> str:
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


# --- normalise -----------------------------------------------------------------------------------------------------


def normalise(disposition: Mapping[str, Any], source: Source) -> Sequence[FaxCompleted]:
    """
    One event for one disposition: one recipient of a request. Times are in the endpoint's zone (eFax's is Pacific).

    A withheld number (blank, ``Unknown``, a label) is no identity: the digest of the disposition stands in for it.
    """
    assert source.account is not None, "the settings require it"
    verdict = CODES.verdict(disposition["status"])
    assert verdict is not None, "every disposition is final"
    completed_at, time_quality = utc(disposition["completed_at"], source.timezone)
    return [
        FaxCompleted(
            account=source.account,
            key=(disposition["job_id"], number_key(disposition["number"]) or disposition["digest"]),
            outcome=verdict.outcome,
            failure=verdict.failure,
            status_code=disposition["status"],
            provider_job_id=disposition["job_id"],
            recipient=Recipient(
                number=e164(disposition["number"], source.region),
                number_raw=disposition["number"],
                station_id=disposition["station_id"],
            ),
            pages=Pages(sent=disposition["pages_sent"]),
            duration_seconds=disposition["duration_seconds"],
            attempts=disposition["attempts"],
            completed_at=completed_at,
            time_quality=time_quality,
            reference=Reference(id=disposition["reference_id"] or source.reference),
        )
    ]


def key(job_id: str, number: str | None, _occurrence: int) -> tuple[str, ...] | None:
    """None without a number, as nothing else tells the recipients of a request apart."""
    return (job_id, number_key(number)) if number_key(number) else None


# --- redact --------------------------------------------------------------------------------------------------------

# The value of a credential, as attribute (between quotes, backslashed ones too, or without any) or as element; where
# the end is missing, all that follows. Blanks may be written + in a form.
_SECRET = re.compile(
    r"""
    \b(?:UserName|Password)[\s+]*=[\s+]*(?:\\?"(?P<double>[^"]*)|\\?'(?P<single>[^']*)|(?P<bare>[^\s"'<>&]+))
    |
    <(?:[^\s<>/:]*:)?(?P<name>UserName|Password)(?:[\s+][^<>]*)?(?<!/)>
    (?P<content>(?:[^<]++|<!\[CDATA\[.*?(?:\]\]>|\Z)|<!--.*?(?:-->|\Z)|<(?!/(?:[^\s<>/:]*:)?(?P=name)\b))*+)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_LEVELS = 4  # of percent-encoding within percent-encoding


def redact(body: bytes) -> bytes:
    """
    The body with every user name and password blanked, every other byte as it was.

    Works on the bytes rather than on the decoded form, since a broken body is kept too: the credentials are found in
    the body and in what it says once unquoted, at every level of quoting, and cut out of the body itself.
    """
    text = body.decode("latin-1")
    kept, end = [], 0
    for start, stop in sorted(_secrets(text, _LEVELS)):
        kept.append(text[end:start])
        end = max(end, stop)
    kept.append(text[end:])
    return "".join(kept).encode("latin-1")


def _secrets(text: str, levels: int) -> Iterator[tuple[int, int]]:
    """Where credentials start and end in the text."""
    for match in _SECRET.finditer(text):
        yield match.span(next(name for name in ("double", "single", "bare", "content") if match[name] is not None))
    escapes = [match.start() for match in _ESCAPE.finditer(text)]
    if levels and escapes:
        unquoted = _ESCAPE.sub(lambda escape: chr(int(escape[0][1:], 16)), text)
        # An escape is two characters longer than what it stands for.
        places = [start - 2 * count for count, start in enumerate(escapes)]
        for start, stop in _secrets(unquoted, levels - 1):
            yield start + 2 * bisect_left(places, start), stop + 2 * bisect_left(places, stop)


# --- simulate ------------------------------------------------------------------------------------------------------


def simulate(job: SimulatedJob) -> Sequence[RawCallback]:
    """One post a recipient, all with the same DOCID."""
    return [_disposition(job, fax) for fax in job.faxes]


def _disposition(job: SimulatedJob, fax: SimulatedFax) -> RawCallback:
    delivered = CODES.verdict(fax.status) is DELIVERED
    number = fax.number.removeprefix("+")
    attributes = {
        "UserName": job.user,
        "Password": job.password,
        "TransmissionID": fax.fax_id,
        "DOCID": job.job_id,
        "FaxNumber": number,
        "CompletionDate": f"{job.completed_at.astimezone(job.timezone or UTC):%Y-%m-%d %H:%M:%S}",
        "FaxStatus": fax.status,
        "RecipientCSID": number if delivered else "",
        "Duration": "0.5" if delivered else "0",
        "PagesSent": "1" if delivered else "0",
        "NumberOfRetries": "1",
    }
    document = xmltodict.unparse(
        {"OutboundDisposition": {f"@{name}": value for name, value in attributes.items()}}, short_empty_elements=True
    )
    return RawCallback(urlencode({"xml": document}).encode(), "application/x-www-form-urlencoded")


SETUP = """\
Add this to the Transmission of every OutboundRequest:
  <DispositionControl>
    <DispositionURL>{url}</DispositionURL>
    <DispositionLevel>BOTH</DispositionLevel>
    <DispositionMethod>POST</DispositionMethod>
  </DispositionControl>
  - BOTH, or eFax reports failures or successes only. The address must be https with a certificate eFax can verify.
  - eFax sends the user name and password you agreed on for dispositions, user {user}, inside the XML: give them to this
    endpoint as auth mode payload.
  - Give each request a TransmissionID to find your own record again.
Set the endpoint's timezone to America/Los_Angeles unless your account says otherwise: eFax sends Pacific time.
"""

PROVIDER = Provider(
    name="efax",
    title="eFax Developer",
    callback=Callback(
        kinds=frozenset({BodyKind.FORM}),
        schema=DISPOSITION,
        normalise=normalise,
        simulate=simulate,
        setup=SETUP,
        auth_modes=("none", "payload"),
        shape=shape,
        once=frozenset({"xml"}),
        success=Success("text/plain; charset=utf-8", b"Post Successful"),
        credentials=credentials,
        redact=redact,
    ),
    codes=CODES,
    key=key,
    zoneless=True,
    region="US",
    notes="Looks for Post Successful in the answer; where it fails, eFax mails the account holder and does not retry.",
    sources=("https://github.com/szimek/efax", "https://github.com/J2Global-Fax/efax-reporting-api"),
)
