"""
Openfax Broadcast Fax Reporting API: an ASP.NET look-alike at ``/api/reporting.asmx``, SOAP 1.1.

Source: Broadcast Fax Reporting API documentation (section 2.5 of the collected facts on the providers) for methods and
fields. Its WSDL was never seen: namespace, types, order of the elements and the parameters ``APIKey`` and ``JobID``
are guesses in the manner of ASP.NET. A fax's job_id is the JobID, its fax_id the TransactionID, its status the
ErrorCode; the world is one of openfax, as that is whose codes these are.
"""

from collections.abc import Callable
from datetime import timedelta
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import phonenumbers
from flask import Response, request

from standins.world import SentFax, Service, World

PATH = "/api/reporting.asmx"
NAMESPACE = "http://tempuri.org/"
KEPT = timedelta(days=30)  # what getRecentHistory covers
XML = "text/xml; charset=utf-8"

_JOB = (
    ("JobID", "int", ""),
    ("BillCode", "string", ""),
    ("TotalDestinations", "int", ""),
    ("TotalSuccessful", "int", ""),
    ("TotalFailed", "int", ""),
)
# Type -> (element, type, "" | "nillable"), in order; strings may be missing, as a null of ASP.NET is.
TYPES = {
    "FaxTransmission": (
        ("TransactionID", "string", ""),
        ("CompletedDate", "dateTime", "nillable"),
        ("Phone", "string", ""),
        ("Reference", "string", ""),
        ("Country", "string", ""),
        ("ErrorCode", "int", ""),
        ("Pages", "int", ""),
        ("Duration", "decimal", "nillable"),
    ),
    "RealtimeJob": _JOB,
    "HistoryJob": _JOB,
}
# Operation -> (parameters, type of its rows)
OPERATIONS = {
    "getCDRByJobID": (("APIKey", "JobID"), "FaxTransmission"),
    "getRealtime": (("APIKey",), "RealtimeJob"),
    "getRecentHistory": (("APIKey",), "HistoryJob"),
}

# A row: element -> text; None: nil, or left out where the element is not nillable.
Row = dict[str, str | None]


def application(world: World, *, api_key: str = "broadcast-key") -> Service:
    app = Service(world)

    @app.operation(PATH, "WSDL", "GET")
    def wsdl() -> Response:
        if "wsdl" not in {name.lower() for name in request.args}:
            return Response("<html><body><h1>reporting</h1></body></html>")
        return Response(_wsdl(request.base_url), content_type=XML)

    @app.operation(PATH, lambda: _operation() or "none", "POST")
    def call() -> Response:
        operation = _operation()
        if operation not in OPERATIONS:
            action = request.headers.get("SOAPAction", "")
            return _fault("soap:Client", f"Server did not recognize the value of HTTP Header SOAPAction: {action}.")
        try:
            document = ElementTree.fromstring(request.get_data())
        except ElementTree.ParseError:
            return _fault("soap:Client", "Server was unable to read request. ---> There is an error in XML document.")
        given = {name: document.findtext(f".//{{{NAMESPACE}}}{name}", "") for name in OPERATIONS[operation][0]}
        if given["APIKey"] != api_key:
            return _fault("soap:Server", "Invalid API key")
        if operation == "getCDRByJobID" and not given["JobID"].isdigit():
            return _fault("soap:Client", "Server was unable to read request. ---> JobID is not a number.")
        return _answer(operation, _rows(world, operation, given.get("JobID", "")))

    return app


def _operation() -> str:
    """The one that the request's SOAPAction names, in the quotes SOAP 1.1 asks for or without."""
    return request.headers.get("SOAPAction", "").strip('"').removeprefix(NAMESPACE)


def _rows(world: World, operation: str, job_id: str) -> list[Row]:
    if operation == "getCDRByJobID":
        # An unknown job has no rows, a running one those of the calls that are over: not documented.
        return [_transmission(world, fax) for fax in world.faxes(job_id) if not fax.is_pending]
    is_running = operation == "getRealtime"
    found = []
    for job, faxes in world.jobs().items():
        ends = [fax.completed_at for fax in faxes if fax.completed_at is not None]
        if is_running == (len(ends) < len(faxes)) and (is_running or max(ends) > world.now() - KEPT):
            found.append(_job(world, job, faxes))
    return found


def _transmission(world: World, fax: SentFax) -> Row:
    assert fax.completed_at is not None
    was_dialed = fax.attempts > 0
    return {
        "TransactionID": fax.fax_id,
        # The zone is not documented: written without one, as ASP.NET writes a time of unspecified kind.
        "CompletedDate": f"{world.local(fax.completed_at):%Y-%m-%dT%H:%M:%S}" if was_dialed else None,
        "Phone": fax.digits,
        "Reference": fax.recipient_name,
        "Country": phonenumbers.region_code_for_number(phonenumbers.parse(fax.number)),
        "ErrorCode": fax.status,
        "Pages": str(fax.pages if world.is_delivered(fax) else 0),
        "Duration": _minutes(world.seconds(fax)) if was_dialed else None,
    }


def _job(world: World, job_id: str, faxes: list[SentFax]) -> Row:
    over = [fax for fax in faxes if not fax.is_pending]
    delivered = sum(world.is_delivered(fax) for fax in over)
    return {
        "JobID": job_id,
        "BillCode": faxes[0].bill_code,
        "TotalDestinations": str(len(over)),
        "TotalSuccessful": str(delivered),
        "TotalFailed": str(len(over) - delivered),
    }


def _minutes(seconds: int) -> str:
    """With one decimal, which is a guess; 0 as it is."""
    return f"{seconds / 60:.1f}" if seconds else "0"


def _answer(operation: str, rows: list[Row]) -> Response:
    _, kind = OPERATIONS[operation]
    nillable = {name for name, _, mark in TYPES[kind] if mark}
    body = "".join(
        f"<{kind}>{''.join(_element(name, value, name in nillable) for name, value in row.items())}</{kind}>"
        for row in rows
    )
    result = f"<{operation}Result>{body}</{operation}Result>" if body else f"<{operation}Result />"
    return _envelope(f'<{operation}Response xmlns="{NAMESPACE}">{result}</{operation}Response>')


def _element(name: str, value: str | None, is_nillable: bool) -> str:
    if value is None:
        return f'<{name} xsi:nil="true" />' if is_nillable else ""
    return f"<{name}>{escape(value)}</{name}>"


def _fault(code: str, text: str) -> Response:
    """HTTP 500, as SOAP 1.1 has it."""
    body = f"<soap:Fault><faultcode>{code}</faultcode><faultstring>{escape(text)}</faultstring><detail /></soap:Fault>"
    return _envelope(body, 500)


def _envelope(body: str, status: int = 200) -> Response:
    document = (
        '<?xml version="1.0" encoding="utf-8"?>'
        '<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema">'
        f"<soap:Body>{body}</soap:Body></soap:Envelope>"
    )
    return Response(document, status, content_type=XML)


# --- WSDL ----------------------------------------------------------------------------------------------------------


def _wsdl(address: str) -> str:
    def each(part: Callable[[str], str]) -> str:
        return "".join(map(part, OPERATIONS))

    return f"""<?xml version="1.0" encoding="utf-8"?>
<wsdl:definitions xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/" xmlns:tns="{NAMESPACE}"
    xmlns:s="http://www.w3.org/2001/XMLSchema" xmlns:wsdl="http://schemas.xmlsoap.org/wsdl/"
    targetNamespace="{NAMESPACE}">
  <wsdl:types>
    <s:schema elementFormDefault="qualified" targetNamespace="{NAMESPACE}">
{each(_elements)}{"".join(map(_type, TYPES))}    </s:schema>
  </wsdl:types>
{each(_messages)}  <wsdl:portType name="reportingSoap">
{each(_port_operation)}  </wsdl:portType>
  <wsdl:binding name="reportingSoap" type="tns:reportingSoap">
    <soap:binding transport="http://schemas.xmlsoap.org/soap/http" />
{each(_bound_operation)}  </wsdl:binding>
  <wsdl:service name="reporting">
    <wsdl:port name="reportingSoap" binding="tns:reportingSoap">
      <soap:address location={quoteattr(address)} />
    </wsdl:port>
  </wsdl:service>
</wsdl:definitions>
"""


def _elements(operation: str) -> str:
    parameters, kind = OPERATIONS[operation]
    given = "".join(_field(name, "int" if name == "JobID" else "string", "") for name in parameters)
    result = f'<s:element minOccurs="0" maxOccurs="1" name="{operation}Result" type="tns:ArrayOf{kind}" />\n'
    return _holder(f'element name="{operation}"', given) + _holder(f'element name="{operation}Response"', result)


def _type(kind: str) -> str:
    rows = f'<s:element minOccurs="0" maxOccurs="unbounded" name="{kind}" nillable="true" type="tns:{kind}" />\n'
    fields = "".join(_field(*field) for field in TYPES[kind])
    return _sequence(f'complexType name="ArrayOf{kind}"', rows) + _sequence(f'complexType name="{kind}"', fields)


def _field(name: str, kind: str, mark: str) -> str:
    least = 0 if kind == "string" else 1
    nillable = ' nillable="true"' if mark else ""
    return f'<s:element minOccurs="{least}" maxOccurs="1" name="{name}"{nillable} type="s:{kind}" />\n'


def _holder(head: str, content: str) -> str:
    return f"<s:{head}>\n{_sequence('complexType', content)}</s:element>\n"


def _sequence(head: str, content: str) -> str:
    return f"<s:{head}>\n<s:sequence>\n{content}</s:sequence>\n</s:complexType>\n"


def _messages(operation: str) -> str:
    return "".join(
        f'  <wsdl:message name="{operation}Soap{way}">\n'
        f'    <wsdl:part name="parameters" element="tns:{operation}{suffix}" />\n'
        "  </wsdl:message>\n"
        for way, suffix in (("In", ""), ("Out", "Response"))
    )


def _port_operation(operation: str) -> str:
    return (
        f'    <wsdl:operation name="{operation}">\n'
        f'      <wsdl:input message="tns:{operation}SoapIn" />\n'
        f'      <wsdl:output message="tns:{operation}SoapOut" />\n'
        "    </wsdl:operation>\n"
    )


def _bound_operation(operation: str) -> str:
    return (
        f'    <wsdl:operation name="{operation}">\n'
        f'      <soap:operation soapAction="{NAMESPACE}{operation}" style="document" />\n'
        '      <wsdl:input><soap:body use="literal" /></wsdl:input>\n'
        '      <wsdl:output><soap:body use="literal" /></wsdl:output>\n'
        "    </wsdl:operation>\n"
    )
