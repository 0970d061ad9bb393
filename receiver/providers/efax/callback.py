"""
The callback: an outbound disposition for every recipient, an XML document in the form field ``xml``.

All data are attributes of its root, user name and password among them, which are the only proof of origin. Sources:
what public code that receives dispositions reads.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any
from urllib.parse import urlencode

import xmltodict

from receiver.errors import Inbound, Undecodable, Unprocessable
from receiver.providers.efax.codes import CODES
from receiver.providers.shared.contract import RawCallback, SimulatedFax, SimulatedJob, Source
from receiver.providers.shared.decoding import comes_in, leaf, names_in, once, says_inbound, xml
from receiver.providers.shared.normalising import DELIVERED, e164, number_key, utc
from receiver.providers.shared.redacting import redacting
from schemas.event import FaxCompleted, Pages, Recipient, Reference

_DISPOSITIONS = frozenset({"OutboundDisposition", "WebFaxAPIDisposition"})  # the second: a sample of 2005
_INBOUND = "InboundPostRequest"
_CREDENTIALS = ("UserName", "Password")


# --- shape ---------------------------------------------------------------------------------------------------------


def shape(form: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    The data of the disposition, without the credentials, and the digest of them as ``#sha256``.

    Raises Inbound for an InboundPostRequest and its kin, Undecodable without readable XML, Unprocessable for any other
    document.
    """
    root, element = _document(form)
    if root == _INBOUND or comes_in(_fields(element)) or (root not in _DISPOSITIONS and says_inbound({root: element})):
        raise Inbound
    if root not in _DISPOSITIONS:
        expected = {"xml": "expected an OutboundDisposition"}
        raise Unprocessable("the XML is no disposition", fields=expected, received=names_in({root: element}))
    fields = {name: value for name, value in _fields(element).items() if name not in _CREDENTIALS}
    once(fields, ("DOCID", "FaxNumber", "FaxStatus"))
    return {**fields, "#sha256": _digest(fields)}


def credentials(form: Mapping[str, Any]) -> tuple[str, str] | None:
    """
    User name and password: of a disposition itself, of an inbound fax's AccessControl.

    Raises Undecodable without readable XML.
    """
    root, element = _document(form)
    if root not in _DISPOSITIONS and isinstance(element, dict):
        element = element.get("AccessControl", element)
    fields = _fields(element)
    once(fields, _CREDENTIALS)
    user, password = (fields.get(name) for name in _CREDENTIALS)
    return (user, password) if isinstance(user, str) and isinstance(password, str) else None


def _document(form: Mapping[str, Any]) -> tuple[str, Any]:
    """The XML's root: its name and its content."""
    if not isinstance(text := form.get("xml"), str) or not text.strip():
        raise Undecodable(
            "the form has no field xml", fields={"xml": "missing; expected an XML document"}, received=names_in(form)
        )
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

redact = redacting(*_CREDENTIALS)

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
