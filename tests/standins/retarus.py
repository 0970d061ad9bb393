"""
Retarus report APIs: REST below ``/rest/v1/<customer>/fax/reports``, and SOAP ``getFaxReports``.

Sources: Fax reports of the REST API (developers.retarus.com), getFaxReports (docs.retarus.com); sections 4.1, 4.2
(layouts C and D) and 4.6 of the collected facts on the providers. One application is one data center: it knows the
jobs that live there and no others. Reports that were deleted are gone for everybody. The WSDL of the SOAP service was
never seen: its own holds getFaxReports and nothing else.
"""

import json
import random
import threading
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import xmltodict
from flask import Response, request

from standins.world import SentFax, Service, World

NAMESPACE = "http://retarus.com/fax4ba/faxws/3/0"
ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"
SOAP_PATH = "/Faxolution-v3.0"  # not documented
HIGHEST_COUNT = 1000  # reports in a list, jobs in a request
CODES = {400: "BAD_REQUEST", 401: "UNAUTHORIZED", 404: "NOT_FOUND"}  # 520 by World.fail


def spaced(number: str) -> str:
    """``+498912345678900`` as ``+49 89 1234567-8900``, as in an example of the documents."""
    return f"{number[:3]} {number[3:5]} {number[5:-4]}-{number[-4:]}"


def with_trunk_zero(number: str) -> str:
    """``+498912345678900`` as ``+49 (0)89 1234567-8900``."""
    return f"{number[:3]} (0){number[3:5]} {number[5:-4]}-{number[-4:]}"


def dialed(number: str) -> str:
    """``+498912345678900`` as ``00498912345678900``."""
    return "00" + number.removeprefix("+")


def application(
    world: World,
    *,
    user: str = "exampleuser",
    password: str = "example-password",
    data_center: str = "de1",
    spelling: Callable[[str], str] = str,
    shuffle: int | None = None,
) -> Service:
    """
    The customer number is the world's account.

    spelling: how ``number`` is written, which is as submitted; callbacks have it in E.164. shuffle: a seed to put the
    recipients of each job into another order than the callback has.
    """
    app = Service(world)
    reports = _Reports(world, data_center)
    base = "/rest/v1/<customer>/fax/reports"

    def is_known(customer: str) -> bool:
        given = request.authorization
        login = (given.username, given.password) if given is not None and given.type == "basic" else None
        return login == (user, password) and customer == world.account  # another one's number: 401 is a guess

    def report(job_id: str, faxes: list[SentFax]) -> dict[str, Any]:
        return _report(world, job_id, _in_order(job_id, faxes, shuffle), spelling)

    @app.operation(base, "list", "GET")
    def get_all(customer: str) -> Response:
        if not is_known(customer):
            return _error(401)
        return _json({"reports": [report(*job) for job in reports.oldest()]})

    @app.operation(f"{base}/<job_id>", "get", "GET")
    def get_one(customer: str, job_id: str) -> Response:
        if not is_known(customer):
            return _error(401)
        found = reports.jobs([job_id])
        return _json(report(*found[0])) if found else _error(404)

    @app.operation(f"{base}/<job_id>", "delete", "DELETE")
    def delete_one(customer: str, job_id: str) -> Response:
        if not is_known(customer):
            return _error(401)
        return _json({"reports": reports.delete([job_id])})

    @app.operation(base, _bulk_operation, "POST")
    def bulk(customer: str) -> Response:
        if not is_known(customer):
            return _error(401)
        document = request.get_json(silent=True)
        job_ids = document.get("jobIds") if isinstance(document, dict) else None
        if not isinstance(job_ids, list) or len(job_ids) > HIGHEST_COUNT:
            return _error(400)
        if not all(isinstance(job_id, str) for job_id in job_ids):
            return _error(400)
        match _bulk_operation():
            case "bulk GET":  # a job that is not here is left out: not documented
                return _json({"reports": [report(*job) for job in reports.jobs(job_ids)]})
            case "bulk DELETE":
                return _json({"reports": reports.delete(job_ids)})
            case _:
                return _error(400)

    @app.operation(SOAP_PATH, "WSDL", "GET")
    def wsdl() -> Response:
        return Response(_wsdl(request.base_url), content_type="text/xml; charset=utf-8")

    @app.operation(SOAP_PATH, "getFaxReports", "POST")
    def get_fax_reports() -> Response:
        try:
            document = ElementTree.fromstring(request.get_data())
        except ElementTree.ParseError:
            return _soap_fault("the request cannot be read")
        given: dict[str, list[str]] = {}
        for element in document.iter():
            given.setdefault(element.tag.rpartition("}")[2].lower(), []).append((element.text or "").strip())
        if (given.get("username"), given.get("password")) != ([user], [password]):
            return _soap_fault("Authentication failed")
        job_ids = given.get("jobid", [])
        if not 1 <= len(job_ids) <= HIGHEST_COUNT:
            return _soap_fault("expected 1 to 1000 jobId")
        found = [
            _job_report(world, job_id, _in_order(job_id, faxes, shuffle), spelling)
            for job_id, faxes in reports.jobs(job_ids)
        ]
        return _soap({"ReportResponse": {"@xmlns": NAMESPACE, "faxJobReport": found}})

    return app


class _Reports:
    """Those of one data center."""

    def __init__(self, world: World, data_center: str) -> None:
        self._world = world
        self._data_center = data_center
        self._deleted: set[str] = set()
        self._lock = threading.Lock()

    def _here(self) -> dict[str, list[SentFax]]:
        with self._lock:
            return {
                job_id: faxes
                for job_id, faxes in self._world.jobs().items()
                if faxes[0].data_center == self._data_center and job_id not in self._deleted
            }

    def oldest(self) -> list[tuple[str, list[SentFax]]]:
        """The oldest thousand completed jobs."""
        done = [(job, faxes) for job, faxes in self._here().items() if not any(fax.is_pending for fax in faxes)]
        done.sort(key=lambda job: max(fax.completed_at for fax in job[1] if fax.completed_at))
        return done[:HIGHEST_COUNT]

    def jobs(self, job_ids: list[str]) -> list[tuple[str, list[SentFax]]]:
        """Those that are here, also those still in work."""
        here = self._here()
        return [(job_id, here[job_id]) for job_id in job_ids if job_id in here]

    def delete(self, job_ids: list[str]) -> list[dict[str, Any]]:
        """What becomes of each; the report of a job in work stays, which is not documented."""
        done = {job for job, faxes in self._here().items() if not any(fax.is_pending for fax in faxes)}
        found: list[dict[str, Any]] = []
        for job_id in job_ids:
            if job_id in done:
                found.append({"jobId": job_id, "deleted": True})
                done.discard(job_id)
                with self._lock:
                    self._deleted.add(job_id)
            else:
                found.append({"jobId": job_id, "deleted": False, "reason": "NOT_FOUND"})
        return found


def _bulk_operation() -> str:
    """GET and DELETE in any case."""
    document = request.get_json(silent=True)
    return f"bulk {document.get('action', '') if isinstance(document, dict) else ''}".upper().replace("BULK", "bulk")


def _in_order(job_id: str, faxes: list[SentFax], shuffle: int | None) -> list[SentFax]:
    return faxes if shuffle is None else random.Random(f"{shuffle} {job_id}").sample(faxes, len(faxes))


def _report(world: World, job_id: str, faxes: list[SentFax], spelling: Callable[[str], str]) -> dict[str, Any]:
    """Layout D."""
    recipients = []
    for fax in faxes:
        recipient: dict[str, Any] = {"number": spelling(fax.number), "properties": None}
        recipient |= _status(world, fax, "sentTs") | {"durationInSecs": world.seconds(fax)}
        recipients.append(recipient | _remote(world, fax))
    first = faxes[0]
    return {
        "jobId": job_id,
        "recipientStatus": recipients,
        "pages": first.pages if any(world.is_delivered(fax) for fax in faxes) else None,
        "reference": {
            "customerDefinedId": first.customer_id,
            "billingCode": first.bill_code,
            "billingInfo": first.bill_info,
        },
    }


def _job_report(world: World, job_id: str, faxes: list[SentFax], spelling: Callable[[str], str]) -> dict[str, Any]:
    """Layout A, as in a callback."""
    delivered = any(world.is_delivered(fax) for fax in faxes)
    return {
        "jobId": job_id,
        "faxRecipient": [
            {"number": spelling(fax.number), "numId": fax.fax_id}
            | _status(world, fax, "sentTS")
            | {"durationInSecs": str(world.seconds(fax))}
            | _remote(world, fax)
            for fax in faxes
        ],
        "document": {"name": "document.pdf", "isText": "false"},
        **({"options": {"jobReference": faxes[0].customer_id}} if faxes[0].customer_id else {}),
        **({"pages": str(faxes[0].pages)} if delivered else {}),
    }


def _status(world: World, fax: SentFax, time_name: str) -> dict[str, str | None]:
    if fax.completed_at is None:
        return {"status": "PENDING", "reason": "PENDING", time_name: None}
    return {
        "status": fax.status,
        "reason": world.provider.codes.texts.get(fax.status, fax.status),
        time_name: f"{fax.completed_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }


def _remote(world: World, fax: SentFax) -> dict[str, str]:
    """Nothing while the recipient has not been dialed."""
    if fax.is_pending:
        return {}
    return {"sentToNumber": dialed(fax.number), "remoteCsid": fax.number if world.is_delivered(fax) else ""}


def _json(document: Any, status: int = 200) -> Response:
    return Response(json.dumps(document), status, content_type="application/json")


def _error(status: int) -> Response:
    """The codes are documented, the body is not."""
    response = _json({"error": CODES[status]}, status)
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="faxws"'
    return response


def _soap_fault(text: str) -> Response:
    """SOAP 1.1; what Retarus writes is not documented."""
    return _soap({"soap:Fault": {"faultcode": "soap:Server", "faultstring": text}}, 500)


def _soap(body: Mapping[str, Any], status: int = 200) -> Response:
    document = {"soap:Envelope": {"@xmlns:soap": ENVELOPE, "soap:Body": body}}
    return Response(xmltodict.unparse(document), status, content_type="text/xml; charset=utf-8")


def _wsdl(address: str) -> str:
    recipient = _fields(
        *("number:string", "numId:string", "status:string", "reason:string", "sentTS:dateTime"),
        *("durationInSecs:int", "sentToNumber:string", "remoteCsid:string"),
    )
    return f"""<?xml version="1.0" encoding="utf-8"?>
<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/"
    xmlns:s="http://www.w3.org/2001/XMLSchema" xmlns:tns="{NAMESPACE}" targetNamespace="{NAMESPACE}">
  <types>
    <s:schema elementFormDefault="qualified" targetNamespace="{NAMESPACE}">
      <s:complexType name="FaxRecipientWithStatus"><s:sequence>{recipient}</s:sequence></s:complexType>
      <s:complexType name="Document"><s:sequence>{_fields("name:string", "isText:boolean")}</s:sequence></s:complexType>
      <s:complexType name="Options"><s:sequence>{_fields("jobReference:string")}</s:sequence></s:complexType>
      <s:complexType name="FaxJobReport"><s:sequence>
        <s:element name="jobId" type="s:string" />
        <s:element name="faxRecipient" type="tns:FaxRecipientWithStatus" maxOccurs="unbounded" />
        <s:element name="document" type="tns:Document" minOccurs="0" maxOccurs="unbounded" />
        <s:element name="options" type="tns:Options" minOccurs="0" />
        <s:element name="pages" type="s:int" minOccurs="0" />
      </s:sequence></s:complexType>
      <s:element name="ReportRequest"><s:complexType><s:sequence>
        <s:element name="username" type="s:string" />
        <s:element name="password" type="s:string" />
        <s:element name="jobId" type="s:string" maxOccurs="unbounded" />
      </s:sequence></s:complexType></s:element>
      <s:element name="ReportResponse"><s:complexType><s:sequence>
        <s:element name="faxJobReport" type="tns:FaxJobReport" minOccurs="0" maxOccurs="unbounded" />
      </s:sequence></s:complexType></s:element>
    </s:schema>
  </types>
  <message name="ReportRequest"><part name="parameters" element="tns:ReportRequest" /></message>
  <message name="ReportResponse"><part name="parameters" element="tns:ReportResponse" /></message>
  <portType name="FaxService">
    <operation name="getFaxReports">
      <input message="tns:ReportRequest" />
      <output message="tns:ReportResponse" />
    </operation>
  </portType>
  <binding name="FaxService" type="tns:FaxService">
    <soap:binding transport="http://schemas.xmlsoap.org/soap/http" style="document" />
    <operation name="getFaxReports">
      <soap:operation soapAction="" style="document" />
      <input><soap:body use="literal" /></input>
      <output><soap:body use="literal" /></output>
    </operation>
  </binding>
  <service name="FaxService">
    <port name="FaxService" binding="tns:FaxService"><soap:address location={quoteattr(address)} /></port>
  </service>
</definitions>
"""


def _fields(*fields: str) -> str:
    """Elements that may be missing or empty, each given as name:type."""
    pairs = (field.split(":") for field in fields)
    return "".join(f'<s:element name="{name}" type="s:{kind}" minOccurs="0" nillable="true" />' for name, kind in pairs)
