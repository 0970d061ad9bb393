"""
The reporting service by SOAP.

Its WSDL was never seen, so that it is fetched, and says how an operation is called. Answers are read by the documented
names of their elements alone, since nothing says which types they have. Source: Broadcast Fax Reporting API
Documentation, support.openfax.com.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

from receiver.errors import ReportTrouble
from receiver.providers.shared.client import Client, Reply
from receiver.providers.shared.contract import Ask
from receiver.providers.shared.decoding import readable, restored

if TYPE_CHECKING:
    from zeep.proxy import ServiceProxy

JOBS_RUNNING, JOBS_COMPLETED, TRANSMISSIONS_OF_JOB = "getRealtime", "getRecentHistory", "getCDRByJobID"
_ROWS = {JOBS_RUNNING: "RealtimeJob", JOBS_COMPLETED: "HistoryJob", TRANSMISSIONS_OF_JOB: "FaxTransmission"}

Row = Mapping[str, Any]


class Service:
    """The reporting service as its WSDL describes it. Everything raises ReportTrouble."""

    def __init__(self, ask: Ask, client: Client) -> None:
        self._key = ask.options["api_key"]
        self._client = client
        self._proxy, parameters = _described(ask.options["url"], client)
        self._arguments = {name: _arguments(parameters[name], with_job=name == TRANSMISSIONS_OF_JOB) for name in _ROWS}

    def rows(self, operation: str) -> Iterator[Row]:
        return self.read(self.answer(operation), operation)

    def answer(self, operation: str, job_id: str | None = None) -> bytes:
        """The envelope that an operation is answered with, or a fault."""
        key, job = self._arguments[operation]
        given = {key: self._key} | ({job: job_id} if job else {})
        try:
            reply = cast("Reply", self._proxy[operation](**given))
        except ReportTrouble:
            raise
        except Exception:  # noqa: BLE001 - zeep's exceptions are of every kind, and hold what was sent
            raise ReportTrouble("unreadable", "Openfax Broadcast's WSDL takes other arguments than expected") from None
        if reply.status != 200 and b"Fault" not in reply.body:
            raise self._client.trouble(reply.status)
        return readable(reply.body)

    def read(self, answer: bytes, operation: str) -> Iterator[Row]:
        """
        The rows of an answer: local name -> text, None where it is empty; the list of them where it is repeated.

        zeep itself would give up an answer for one element too many, and log a value that has another type.
        """
        from lxml import etree

        is_answer = False
        try:
            for event, node in etree.iterparse(
                BytesIO(answer),
                events=("start", "end"),
                remove_comments=True,
                remove_pis=True,
                resolve_entities=False,
                no_network=True,
                load_dtd=False,
            ):
                name = etree.QName(node).localname
                if event == "start":
                    if node.getparent() is None and node.getroottree().docinfo.doctype:
                        raise ReportTrouble("unreadable", "Openfax Broadcast answered XML with a DOCTYPE")
                    is_answer = is_answer or name == f"{operation}Response"
                elif name == "Fault":
                    raise ReportTrouble("refused", _FAULT)
                elif name == _ROWS[operation]:
                    row: defaultdict[str, list[Any]] = defaultdict(list)
                    for child in node:
                        # What has elements of its own is no value, which no field reads.
                        value = restored(child.text) if len(child) == 0 else {}
                        row[etree.QName(child).localname].append(value)
                    yield {name: values[0] if len(values) == 1 else values for name, values in row.items()}
                    node.clear()
        except (etree.XMLSyntaxError, ValueError):  # QName of a prefix that is not declared
            is_answer = False
        if not is_answer:
            detail = f"Openfax Broadcast answered {operation} with something else; check the url of its reports"
            raise ReportTrouble("unreadable", detail)


# What a fault means is not documented; that the key changes is, and it is the likeliest.
_FAULT = (
    "Openfax Broadcast answered with a fault; if it stays so, retrieve the API key in Web Launch again and put it into"
    " api_key, since it changes with the account's password"
)


def _described(url: str, client: Client) -> "tuple[ServiceProxy, Mapping[str, Sequence[str]]]":
    """The service by its WSDL, and the names of each operation's parameters."""
    try:
        import zeep
        from zeep.transports import Transport
        from zeep.wsdl.bindings import Soap11Binding, Soap12Binding
    except ImportError:
        detail = "the reports of Openfax Broadcast need a library more: pip install 'faxhook[reports]'"
        raise ReportTrouble("not_installed", detail) from None

    class OverClient(Transport):
        """Only to the configured URL, whatever the WSDL says of other documents and addresses: the key goes there."""

        def load(self, wanted: str) -> bytes:
            if wanted != wsdl:
                raise ReportTrouble("unreadable", "Openfax Broadcast's WSDL refers to other documents; check the url")
            reply = client.get(wsdl)
            if reply.status != 200:
                raise client.trouble(reply.status)
            return reply.body

        def post(self, _address: str, message: bytes, headers: Mapping[str, str]) -> Reply:
            return client.post(url, content=message, headers=dict(headers), explained=frozenset({500}))

    wsdl = f"{url}?WSDL"
    strict = zeep.Settings(
        raw_response=True, forbid_dtd=True, forbid_entities=True, forbid_external=True, force_https=False
    )
    try:
        described: Any = zeep.Client(wsdl, transport=cast("Any", OverClient)(), settings=strict)
        service, port = next(
            (service, port)
            for service in described.wsdl.services.values()
            for port in service.ports.values()
            if isinstance(port.binding, Soap11Binding | Soap12Binding)
        )
        takes = {name: port.binding.get(name).input.body.type.elements for name in _ROWS}
        parameters = {name: [parameter for parameter, _ in elements] for name, elements in takes.items()}
        return described.bind(service.name, port.name), parameters
    except ReportTrouble:
        raise
    except Exception:  # noqa: BLE001 - zeep's exceptions are of every kind, and hold the document
        detail = "Openfax Broadcast's WSDL cannot be used; check the url of its reports"
        raise ReportTrouble("unreadable", detail) from None


def _arguments(parameters: Sequence[str], *, with_job: bool) -> tuple[str, str | None]:
    """Which parameter is the key and which the job: what its name says, or the one that is left."""
    names = list(parameters)
    jobs = [name for name in names if "job" in name.lower()] if with_job else []
    keys = [name for name in names if "key" in name.lower() and name not in jobs]
    if not keys and len(rest := [name for name in names if name not in jobs]) == 1:
        keys = rest
    if with_job and not jobs and len(rest := [name for name in names if name not in keys]) == 1:
        jobs = rest
    if len(keys) != 1 or len(jobs) != with_job or len(names) != 1 + with_job:
        raise ReportTrouble("unreadable", "Openfax Broadcast's WSDL takes other arguments than a key and a job")
    return keys[0], jobs[0] if jobs else None
