"""
Openfax Broadcast: one document to many recipients. No callbacks; its jobs are read by SOAP once they are completed.

Its WSDL was never seen, so that it is fetched, and says how an operation is called. Answers are read by the documented
names of their elements alone, since nothing says which types they have. Source: Broadcast Fax Reporting API
Documentation, support.openfax.com; result codes from openfax.com/reports.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

from marshmallow import ValidationError

from receiver.errors import ReportTrouble
from receiver.providers._client import Client, Reply
from receiver.providers._contract import (
    Ask,
    Finding,
    Option,
    Page,
    Provider,
    RecordReport,
    Reports,
    Source,
)
from receiver.providers._decoding import readable, restored
from receiver.providers._normalising import DELIVERED, e164, failed, is_too_long, table, utc, whole_number
from schemas.event import Confidence, FailureReason, FaxCompleted, Pages, Recipient, Reference, Retryable
from schemas.openfax_broadcast import HISTORY_JOB, TRANSMISSION

if TYPE_CHECKING:
    from zeep.proxy import ServiceProxy

# The result of the last try; the list could not be read beyond 5.
CODES = table(
    "ErrorCode",
    [
        ("0", DELIVERED, "Success"),
        ("1", failed(FailureReason.NO_ANSWER, Retryable.YES, Confidence.HIGH), "No Answer"),
        ("2", failed(FailureReason.BUSY, Retryable.YES, Confidence.HIGH), "Busy"),
        ("3", failed(FailureReason.NOT_A_FAX, Retryable.NO, Confidence.HIGH), "Not a Fax Machine"),
        ("4", failed(FailureReason.CIRCUITS_BUSY, Retryable.YES, Confidence.HIGH), "All Circuits Busy"),
        ("5", failed(FailureReason.BAD_NUMBER, Retryable.NO, Confidence.HIGH), "Bad Fax Number"),
    ],
    spelling=whole_number,
)

_LARGEST_PAGE = 500
_JOBS_RUNNING, _JOBS_COMPLETED, _TRANSMISSIONS = "getRealtime", "getRecentHistory", "getCDRByJobID"
_ROWS = {_JOBS_RUNNING: "RealtimeJob", _JOBS_COMPLETED: "HistoryJob", _TRANSMISSIONS: "FaxTransmission"}

_Row = Mapping[str, Any]


# --- which jobs are read ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cursor:
    """
    since: jobs that ended before are not told, for so far back the first window has gone. done: those read in full, of
    the 30 days that the history goes back. asked: those of these days that were asked for and are not done, the last
    one last.
    """

    since: datetime
    done: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()

    @classmethod
    def of(cls, ask: Ask) -> "_Cursor":
        if ask.cursor is None:
            return cls(ask.begin)
        kept = json.loads(ask.cursor)
        return cls(datetime.fromisoformat(kept["since"]), tuple(kept["done"]), tuple(kept.get("asked", ())))

    def text(self) -> str:
        kept = {"since": self.since.isoformat(), "done": self.done, "asked": self.asked}
        return json.dumps(kept, separators=(",", ":"))

    def listed(self, jobs: Collection[str]) -> "_Cursor":
        """Without the jobs that the history has forgotten."""
        done, asked = (tuple(job_id for job_id in kept if job_id in jobs) for kept in (self.done, self.asked))
        return replace(self, done=done, asked=asked)

    def in_turn(self, jobs: Collection[str]) -> list[str]:
        """Those of these jobs that are not done: newest first the ones never asked for, then the longest not asked."""
        never = sorted(set(jobs) - set(self.done) - set(self.asked), key=lambda one: (len(one), one), reverse=True)
        return [*never, *(job_id for job_id in self.asked if job_id in jobs)]

    def behind(self, job_id: str, *, is_done: bool) -> "_Cursor":
        asked = tuple(one for one in self.asked if one != job_id)
        if is_done:
            return replace(self, done=(*self.done, job_id), asked=asked)
        return replace(self, asked=(*asked, job_id))


def fetch(ask: Ask, client: Client) -> Iterator[Page]:
    """
    The transmissions of every completed job that has not been read in full yet.

    A job that getRealtime shows as running is left for the next run, whatever the history says of it. One whose
    transmissions are not as many as the history counts is read again in every run, one request each, until they are or
    the history forgets it; so is one with a transmission that cannot be read. Jobs that were never asked for come
    first, the newer before the older, so that those do not keep them waiting where the requests of a run do not
    suffice. Where one job cannot be read the others are, and then the trouble is raised.
    """
    service = _Service(ask, client)
    running = {str(row.get("JobID") or "").strip() for row in service.rows(_JOBS_RUNNING)}
    jobs, trouble = _history(service.rows(_JOBS_COMPLETED))
    cursor = _Cursor.of(ask).listed(jobs)
    for job_id in cursor.in_turn(jobs.keys() - running):
        try:
            job = _Job(jobs[job_id], service.answer(_TRANSMISSIONS, job_id), ask, service)
        except ReportTrouble as found:
            if found.kind not in ("refused", "unreadable"):
                raise
            trouble = found
            cursor = cursor.behind(job_id, is_done=False)
            yield Page((), cursor.text())
            continue
        is_earlier = job.is_earlier(cursor.since)
        cursor = cursor.behind(job_id, is_done=is_earlier or (job.adds_up and not job.unreadable and not job.is_later))
        if is_earlier or job.is_later:
            yield Page((), cursor.text())
            continue
        page: list[_Row] = []
        for row in job.rows():
            if len(page) == _LARGEST_PAGE:
                yield Page(page)
                page = []
            page.append(row)
        yield Page(page, cursor.text(), () if job.adds_up else (job.finding(),))
    if trouble:
        raise trouble


def _history(rows: Iterator[_Row]) -> tuple[dict[str, Mapping[str, Any]], ReportTrouble | None]:
    """The completed jobs by id; trouble where one has none that can be read."""
    jobs: dict[str, Mapping[str, Any]] = {}
    trouble = None
    for row in rows:
        try:
            job = HISTORY_JOB.load(row)
        except ValidationError:
            trouble = ReportTrouble("unreadable", "Openfax Broadcast lists a job without a JobID; ask its support")
        else:
            jobs[job["job_id"]] = job
    return jobs, trouble


class _Job:
    """
    One completed job and the answer with its transmissions, which is gone through twice: to count, and to tell.

    adds_up: there are as many as the history counts, and as many delivered. unreadable: so many cannot be read.
    """

    def __init__(self, listed: Mapping[str, Any], answer: bytes, ask: Ask, service: "_Service") -> None:
        self._listed = listed
        self._answer = answer
        self._service = service
        self._theirs = {name: listed[name] for name in ("total", "delivered")}
        self._ours = {"total": 0, "delivered": 0}
        self.unreadable = 0
        times = []
        for row in self.rows():
            self._ours["total"] += 1
            try:
                read = TRANSMISSION.load(row)
            except ValidationError:
                self.unreadable += 1
                continue
            self._ours["delivered"] += CODES.verdict(read["status"]) is DELIVERED
            if (time := utc(read["completed_at"], ask.zone)[0]) is not None:
                times.append(time)
        self._last = max(times, default=None)
        self.adds_up = self._theirs == self._ours
        self.is_later = bool(times) and min(times) > ask.end

    def is_earlier(self, since: datetime) -> bool:
        """Whether it ended before; not where none of its transmissions has a time."""
        return self._last is not None and self._last < since

    def rows(self) -> Iterator[_Row]:
        of_the_job = {"JobID": self._listed["job_id"], "BillCode": self._listed["billing_code"]}
        for row in self._service.read(self._answer, _TRANSMISSIONS):
            yield {**row, **of_the_job}

    def finding(self) -> Finding:
        """What does not add up; or that it cannot be said, where a count of the history cannot be read."""
        subject = f"job {self._listed['job_id']}"
        fields = {"total": "TotalDestinations", "delivered": "TotalSuccessful"}
        unknown = {field: "expected a whole number" for name, field in fields.items() if self._theirs[name] is None}
        if unknown:
            return Finding("unreadable", subject, unknown)
        counts = {name: count for name, count in self._theirs.items() if count is not None}
        listed = {f"listed_{name}": count for name, count in self._ours.items()}
        return Finding("tally", subject, {**counts, **listed})


# --- SOAP ------------------------------------------------------------------------------------------------------------


class _Service:
    """The reporting service as its WSDL describes it. Everything raises ReportTrouble."""

    def __init__(self, ask: Ask, client: Client) -> None:
        self._key = ask.options["api_key"]
        self._client = client
        self._proxy, parameters = _described(ask.options["url"], client)
        self._arguments = {name: _arguments(parameters[name], with_job=name == _TRANSMISSIONS) for name in _ROWS}

    def rows(self, operation: str) -> Iterator[_Row]:
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

    def read(self, answer: bytes, operation: str) -> Iterator[_Row]:
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


# --- normalise -------------------------------------------------------------------------------------------------------


def normalise(row: Mapping[str, Any], source: Source) -> Sequence[FaxCompleted]:
    """The event of one transmission, which is always final. Its time is in the endpoint's zone."""
    assert source.account is not None, "the settings require it"
    verdict = CODES.verdict(row["status"])
    assert verdict is not None
    completed_at, time_quality = utc(row["completed_at"], source.timezone)
    return [
        FaxCompleted(
            account=source.account,
            key=(row["job_id"], row["fax_id"]),
            outcome=verdict.outcome,
            failure=verdict.failure,
            status_code=row["status"],
            provider_job_id=row["job_id"],
            provider_fax_id=row["fax_id"],
            recipient=Recipient(
                number=_number(row["number"], source.region),
                number_raw=row["number"],
                name=row["recipient_name"],
                country=row["country"],
            ),
            pages=Pages(sent=row["pages_sent"]),
            duration_seconds=row["duration_seconds"],
            completed_at=completed_at,
            time_quality=time_quality,
            reference=Reference(billing_code=row["billing_code"]),
        )
    ]


def _number(written: str | None, region: str | None) -> str | None:
    """In E.164: how numbers are written is not documented, and one too long for the region has a country code."""
    return e164(written, region) or (e164(f"+{written}", None) if is_too_long(written, region) else None)


PROVIDER = Provider(
    name="openfax-broadcast",
    title="Openfax Broadcast",
    callback=None,
    codes=CODES,
    reports=Reports(
        options=(
            Option("api_key", "the API key from Web Launch; it changes with the account's password"),
            Option("url", "the service", "https://templaunch.openfax.com/api/reporting.asmx", is_url=True),
        ),
        records=(
            RecordReport(
                name="transmissions",
                fetch=fetch,
                schema=TRANSMISSION,
                normalise=normalise,
                codes=CODES,
            ),
        ),
    ),
    zoneless=True,
    region="US",
    notes="Sends no callbacks: completed jobs are read by SOAP, which needs the extra `reports`.",
    sources=("Openfax Broadcast Fax Reporting API Documentation", "https://www.openfax.com/reports/"),
)
