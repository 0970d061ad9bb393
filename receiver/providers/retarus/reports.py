"""
Retarus reports: by REST, of certain jobs or the oldest thousand there are; by SOAP, of certain jobs.

A job lives in one data center, so each is asked; the address that stands for several of them knows none for certain.
Sources: fax reports of the REST API (developers.retarus.com, docs.retarus.com), getFaxReports and deleteFaxReport of
the SOAP API (docs.retarus.com), Retarus's own Java SDK.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from random import sample
from typing import Any
from urllib.parse import quote, urlsplit

import xmltodict

from receiver.errors import Refusal, ReportTrouble
from receiver.providers.retarus.callback import normalise, shape
from receiver.providers.retarus.codes import CODES
from receiver.providers.shared.client import Client, Reply
from receiver.providers.shared.contract import Ask, Finding, Option, Page, RecordReport, Reports, Source
from receiver.providers.shared.decoding import listed, xml
from schemas.event import FaxCompleted
from schemas.retarus import STATUS_PUSH

_LONGEST_LIST = 1000
_GROUP = 100  # jobs of a request and of a page; a thousand are allowed
_RECIPIENTS = 500  # of a page, about: a job is never divided, since equal numbers are ranked within it
_MOST_ALONE = 50  # jobs that are asked one by one, at each data center and in one run

# What is left to say of the documented codes: 401, 500, 503 and 520 are the client's.
_TROUBLE = {
    400: ("refused", "Retarus misses the login in the request (400); check user, password and customer"),
    404: ("unreadable", "Retarus knows no such account or address (404); check customer and url"),
    409: ("unreadable", "Retarus took the request for one it had already (409); check the url"),
}


@dataclass(frozen=True, slots=True)
class _Center:
    """One data center. name: ``de1``, for operators."""

    name: str
    url: str  # without a slash at the end


# --- which data centers --------------------------------------------------------------------------------------------


def _at_each(ask: Ask, option: str, read: Callable[[_Center], Iterator[Page]]) -> Iterator[Page]:
    """The pages of all data centers; trouble at one of them is raised when the others have been read."""
    troubles = []
    for center in _centers(ask, option):
        try:
            yield from read(center)
        except ReportTrouble as trouble:
            if trouble.kind in ("budget", "interrupted"):
                raise
            troubles.append(ReportTrouble(trouble.kind, f"{center.name}: {trouble.detail}"))
    if troubles:
        raise ReportTrouble(troubles[0].kind, "; ".join(trouble.detail for trouble in troubles))


def _centers(ask: Ask, option: str) -> Sequence[_Center]:
    centers = []
    for url in dict.fromkeys(url.rstrip("/") for url in ask.options[option].split()):
        parts = urlsplit(url)
        labels = (parts.hostname or "").split(".")
        if labels[0].startswith("faxws-ha"):
            detail = (
                f"the {option} of the endpoint's reports is a high availability address, where a job may be missing"
            )
            raise ReportTrouble("refused", f"{detail}; give those of the data centers, with a space between")
        name = labels[1] if labels[0] == "faxws" and len(labels) > 2 else parts.netloc
        centers.append(_Center(name, url))
    return centers


# --- REST ----------------------------------------------------------------------------------------------------------


def fetch_jobs(ask: Ask, client: Client) -> Iterator[Page]:
    """The reports of the jobs asked for; those that are not there, or not yet, are in no page."""
    left = dict.fromkeys(ask.jobs)
    return _at_each(ask, "url", partial(_jobs_at, ask, client, left))


def _jobs_at(ask: Ask, client: Client, left: dict[str, None], center: _Center) -> Iterator[Page]:
    """What one data center knows of these jobs, which are then no longer left."""
    may_be_alone = _MOST_ALONE
    jobs = list(left)
    for group in (jobs[at : at + _GROUP] for at in range(0, len(jobs), _GROUP)):
        reports = _of_group(ask, client, center, group) if len(group) > 1 else None
        if reports is None:
            # Drawn, so that those at the end of a long list have their turn in another run.
            alone = sample(group, min(len(group), may_be_alone))
            may_be_alone -= len(alone)
            reports = [report for job in alone for report in _of_one(ask, client, center, job)]
        for page in _pages(reports):
            yield Page([_row(report) for report in page])
        for report in reports:
            left.pop(_job_id(report) or "", None)


def _of_group(ask: Ask, client: Client, center: _Center, jobs: Sequence[str]) -> list[Any] | None:
    """The reports of those that are there; None where the whole request fails, as it may because of unknown jobs."""
    reply = _rest(ask, client, center, "POST", json={"action": "GET", "jobIds": list(jobs)})
    if reply.status in (400, 404):
        return None
    # The layout has room for a reason instead of a report: that job is left for another time.
    return [report for report in _listed(_document(reply)) if not _is_only_a_reason(report)]


def _is_only_a_reason(report: Any) -> bool:
    return isinstance(report, dict) and "reason" in report and not report.get("recipientStatus")


def _of_one(ask: Ask, client: Client, center: _Center, job: str) -> list[Any]:
    reply = _rest(ask, client, center, "GET", f"/{quote(job, safe='')}")
    if reply.status == 404:
        return []
    report = _document(reply)
    return [report] if isinstance(report, dict) and report and "reports" not in report else _listed(report)


def fetch_list(ask: Ask, client: Client) -> Iterator[Page]:
    """
    The reports of finished jobs: at each data center the oldest thousand, since there is no other paging.

    With the option ``delete`` those of a page are deleted once it and all else of their jobs is stored, and the list is
    asked for again until it is short. Without, or where they cannot be deleted, a full list is a finding: newer ones
    are not in it.
    """
    if ask.options["delete"] not in ("true", "false"):
        raise ReportTrouble("refused", 'the delete of the endpoint\'s reports is neither "true" nor "false"')
    return _at_each(ask, "url", partial(_list_at, ask, client))


def _list_at(ask: Ask, client: Client, center: _Center) -> Iterator[Page]:
    deletes = ask.is_stored and ask.options["delete"] == "true"
    seen: set[str | None] = set()
    while True:
        reports = _listed(_document(_rest(ask, client, center, "GET")))
        fresh = [report for report in reports if _job_id(report) not in seen]
        unstored = Counter(map(_job_id, fresh))  # a job may be in the list more than once, and is deleted as a whole
        needed: set[str | None] = set()
        gone = 0
        for page in _pages(fresh):
            yield Page([_row(report) for report in page])
            # Somebody asks for what follows: the page is stored.
            if deletes:
                unstored.subtract(map(_job_id, page))
                needed.update(_job_id(report) for report in page if not _is_settled(report, ask))
                of_page = dict.fromkeys(job for report in page if (job := _job_id(report)))
                jobs = [job for job in of_page if not unstored[job] and job not in needed]
                gone += _delete(ask, client, center, jobs) if jobs else 0
        if len(reports) < _LONGEST_LIST:
            return
        if not gone:
            yield Page((), findings=[Finding("full_list", center.name, {"reports": len(reports)})])
            return
        seen.update(map(_job_id, reports))  # what could not be deleted comes again, and is no reason to go on


def _is_settled(report: Any, ask: Ask) -> bool:
    """Whether nothing is lost with the report: each of its recipients was read, is final, and is told."""
    try:
        push = STATUS_PUSH.load(shape(_row(report)))
        entries = normalise(push, Source(ask.account, ask.zone, None))
    except Exception:  # noqa: BLE001 - storing the page has failed and said why: the report is needed again
        return False
    recipients = sum(len(job["recipients"]) for job in push["jobs"])
    return len(entries) == recipients and all(
        isinstance(entry, FaxCompleted) and (entry.completed_at is None or entry.completed_at >= ask.oldest)
        for entry in entries
    )


def _delete(ask: Ask, client: Client, center: _Center, jobs: Sequence[str]) -> int:
    """Delete the reports of these jobs; how many are gone."""
    reply = _rest(ask, client, center, "POST", json={"action": "DELETE", "jobIds": list(jobs)})
    if reply.status in (400, 404):
        return 0  # perhaps because one of them is unknown: somebody else has deleted it
    answers = [one for one in _listed(_document(reply)) if isinstance(one, dict)]
    return sum(one.get("deleted") is True or one.get("reason") == "NOT_FOUND" for one in answers)


def _rest(ask: Ask, client: Client, center: _Center, method: str, path: str = "", **sent: Any) -> Reply:
    customer = quote(ask.options["customer"] or ask.account, safe="")
    url = f"{center.url}/{customer}/fax/reports{path}"
    login = (ask.options["user"], ask.options["password"])
    return client.send(method, url, auth=login, headers={"Accept": "application/json"}, **sent)


def _document(reply: Reply) -> Any:
    """The answer as JSON; None where it is nothing."""
    if reply.status not in (200, 204):
        kind, detail = _TROUBLE.get(reply.status, ("", ""))
        raise ReportTrouble(kind or "unreadable", detail or f"Retarus answered {reply.status}; check the url")
    return reply.json("Retarus")


def _listed(document: Any) -> list[Any]:
    """The reports; none of an answer that is empty in whatever way, as its status says that all is well."""
    reports = listed(document)
    if isinstance(reports, dict) and "reports" in reports:
        reports = listed(reports["reports"])
    if isinstance(reports, dict) and "jobId" in reports:
        reports = [reports]
    if reports and not isinstance(reports, list):
        raise ReportTrouble("unreadable", "Retarus answered JSON without a list of reports; check the url")
    return [report for report in reports or () if report is not None]


def _pages(reports: Sequence[Any]) -> Iterator[list[Any]]:
    page: list[Any] = []
    recipients = 0
    for report in reports:
        rows = report.get("recipientStatus") if isinstance(report, dict) else None
        page.append(report)
        recipients += len(rows) if isinstance(rows, list) else 1
        if len(page) >= _GROUP or recipients >= _RECIPIENTS:
            yield page
            page, recipients = [], 0
    if page:
        yield page


def _row(report: Any) -> dict[str, Any]:
    """One job report as a callback with one job."""
    return {"reports": [report]}


def _job_id(report: Any) -> str | None:
    job = report.get("jobId") if isinstance(report, dict) else None
    return job if isinstance(job, str) else None


# --- SOAP ----------------------------------------------------------------------------------------------------------

_NAMESPACE = "http://retarus.com/fax4ba/faxws/3/0"
_ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"
_CHECK = "check user, password and soap_url"


def fetch_by_soap(ask: Ask, client: Client) -> Iterator[Page]:
    """The reports of the jobs asked for by getFaxReports, for accounts that say where it is."""
    return _at_each(ask, "soap_url", partial(_soap_at, ask, client))


def _soap_at(ask: Ask, client: Client, center: _Center) -> Iterator[Page]:
    for at in range(0, len(ask.jobs), _GROUP):
        reports = _called(ask, client, center, ask.jobs[at : at + _GROUP])
        for page in (reports[at : at + _GROUP] for at in range(0, len(reports), _GROUP)):
            yield Page([{"faxJobReport": [report]} for report in page])


def _called(ask: Ask, client: Client, center: _Center, jobs: Sequence[str]) -> list[Any]:
    """
    One call. The WSDL is not public, and one call needs none.

    The documents show requests as they are written: only the outermost element in the namespace, the login inside.
    """
    wanted = {"username": ask.options["user"], "password": ask.options["password"], "jobId": list(jobs)}
    request = {"soap:Body": {"ns2:ReportRequest": {"@xmlns:ns2": _NAMESPACE, **wanted}}}
    envelope = xmltodict.unparse({"soap:Envelope": {"@xmlns:soap": _ENVELOPE, **request}})
    headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '""'}
    try:
        reply = client.post(center.url, content=envelope.encode(), headers=headers)
    except ReportTrouble as trouble:
        if trouble.kind != "failed":
            raise
        # SOAP says everything with a 500, also what is wrong with the login.
        raise ReportTrouble("failed", f"{trouble.detail}; if it stays so, {_CHECK}") from None
    if reply.status != 200:
        raise ReportTrouble("unreadable", f"Retarus answered {reply.status} by SOAP; {_CHECK}")
    try:
        document = xml(reply.body)
    except Refusal:
        detail = f"Retarus answered something by SOAP that is not XML, or far too much of it; {_CHECK}"
        raise ReportTrouble("unreadable", detail) from None
    body = _child(_child(document, "Envelope"), "Body")
    if "Fault" in body:
        raise ReportTrouble("failed", f"Retarus answered with a SOAP fault; {_CHECK}")
    if "ReportResponse" not in body:
        raise ReportTrouble("unreadable", f"Retarus answered XML by SOAP without a ReportResponse; {_CHECK}")
    reports = _child(body, "ReportResponse").get("faxJobReport", [])
    return [report for report in (reports if isinstance(reports, list) else [reports]) if report is not None]


def _child(element: Any, name: str) -> dict[str, Any]:
    child = element.get(name) if isinstance(element, dict) else None
    return child if isinstance(child, dict) else {}


REPORTS = Reports(
    options=(
        Option("user", "the login ID of the Retarus web service; it sees the jobs that were sent with it only"),
        Option("password", "the password of that login ID"),
        Option("customer", "the customer number, where it is not the endpoint's account", ""),
        Option(
            "url",
            "the data centers of the account, with a space between",
            "https://faxws.de1.retarus.com/rest/v1 https://faxws.de2.retarus.com/rest/v1",
            is_url=True,
        ),
        Option("delete", '"true" to delete at Retarus what is stored here', "false"),
        Option("soap_url", "where getFaxReports is, for accounts with SOAP only", "", is_url=True),
    ),
    records=(
        RecordReport("report-of-jobs", fetch_jobs, STATUS_PUSH, normalise, CODES, shape=shape, of_jobs=True),
        RecordReport("soap-reports-of-jobs", fetch_by_soap, STATUS_PUSH, normalise, CODES, shape=shape, of_jobs=True),
        RecordReport("reports", fetch_list, STATUS_PUSH, normalise, CODES, shape=shape),
    ),
)
