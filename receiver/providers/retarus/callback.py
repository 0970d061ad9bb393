"""
Retarus: one push for a whole job, XML or JSON, with all its recipients.

Layouts differ between customers, who may order their own template: everything is found by local name, wherever in the
document it stands. Sources: Retarus status push API (developers.retarus.com), HTTP status push, getFaxReports and
transmission status codes (docs.retarus.com); code lists in public clients.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import xmltodict

from receiver.errors import Inbound, Undecodable
from receiver.providers.retarus.codes import CODES
from receiver.providers.shared.contract import RawCallback, SimulatedFax, SimulatedJob, Source
from receiver.providers.shared.decoding import comes_in, leaf, listed, once, place_in, says_inbound
from receiver.providers.shared.normalising import DELIVERED, e164, number_key, utc
from receiver.providers.shared.redacting import redacting
from schemas.event import FaxCompleted, Outcome, Pages, Recipient, Reference, Verdict
from schemas.fields import InvalidRow
from schemas.times import iso_time

# A recipient list by layout: XML push and SOAP, JSON push, REST, SOAP of 2012.
_RECIPIENT_LISTS = ("faxRecipient", "faxRecipients", "recipientStatus", "faxNumbers")
_OF_A_JOB = frozenset({"jobId", *_RECIPIENT_LISTS})
_OF_A_RECIPIENT = frozenset({"number", "numId", "status", "reason", "sentToNumber"})
_PARTS = ("reference", "options")
# What may hold no job at all and be genuine.
_WRAPPERS = frozenset({"ReportResponse", "getFaxReportsResponse", "reports"})


# --- shape: every layout as {"faxJobReport": [{"jobId": ..., "faxRecipient": [...]}]} ------------------------------


def shape(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The jobs of a push, whatever wraps them; ``{}`` for a reply that says it has none. Raises Inbound."""
    jobs = [_job(job) for job in _jobs(document)]
    if not jobs and (says_inbound(document) or any(map(comes_in, _reports(document)))):
        raise Inbound
    if not jobs and _says_none(document):
        return {}
    return {"faxJobReport": jobs}


_SHAPED = re.compile(r"faxJobReport\.(?P<job>[0-9]+)(?:\.faxRecipient\.(?P<recipient>[0-9]+))?(?:\.(?P<rest>.+))?")


def sent(document: Mapping[str, Any], path: str) -> str:
    """
    A dotted path of what ``shape`` makes of the document -> the same as it was sent.

    ``faxJobReport.0.faxRecipient.3.status`` may be ``reports.0.recipientStatus.3.status``.
    """
    match = _SHAPED.fullmatch(path)
    nodes: list[Any] = list(_jobs(document))[int(match["job"]) :] if match else []
    if match and match["recipient"] and nodes and isinstance(nodes[0], dict):
        rows = [row for name in _RECIPIENT_LISTS for row in _recipients(nodes[0].get(name))]
        nodes = rows[int(match["recipient"]) :]
    place = place_in(document, nodes[0]) if nodes else None
    if match is None or place is None:
        return path
    return ".".join((*place, *filter(None, [match["rest"]])))


def _jobs(node: Any) -> Iterator[Any]:
    """The jobs, in order, but for those that say outright that they came in."""
    return (job for job in _reports(node) if not comes_in(job))


def _reports(node: Any) -> Iterator[Any]:
    """What calls itself a job report or looks like one, in order. A job's own data is not searched."""
    if isinstance(node, list):
        for child in node:
            yield from _reports(child)
    elif isinstance(node, dict) and _stated(node) & _OF_A_JOB:
        yield node
    elif isinstance(node, dict):
        for name, child in node.items():
            rows = listed(child)
            if name in ("faxJobReport", "reports") and isinstance(rows, list):
                for row in rows:
                    yield from [*_reports(row)] or [row]
            elif name == "faxJobReport" and rows is not None:
                yield rows
            elif not comes_in(rows):
                yield from _reports(rows)


def _stated(node: Mapping[str, Any]) -> set[str]:
    """The names of what is not null: null says as much as nothing."""
    return {name for name, value in node.items() if value is not None}


def _says_none(node: Any) -> bool:
    """Whether an empty wrapper stands somewhere; one with unknown content is no reason to answer 2xx."""
    if not isinstance(node, dict):
        return False
    return any((name in _WRAPPERS and _is_empty(child)) or _says_none(child) for name, child in node.items())


def _is_empty(element: Any) -> bool:
    if isinstance(element, list):
        return all(one is None for one in element)
    return not element or (isinstance(element, dict) and all(name.startswith("@") for name in element))


def _job(job: Any) -> dict[str, Any]:
    """One job, its recipients under one name and its parts' fields beside its own, by dotted names."""
    if not isinstance(job, dict):
        return {}
    lists = [name for name in _RECIPIENT_LISTS if name in job]
    lists = [name for name in lists if not _is_empty(job[name])] or lists[:1]
    if len(lists) > 1:
        raise Undecodable("a job lists its recipients twice", fields=dict.fromkeys(lists, "expected one of these"))
    fields = _leaves(job)
    once(fields, ("jobId",))
    for part in _PARTS:
        fields.update({f"{part}.{name}": value for name, value in _part(job.get(part)).items()})
    if lists:
        fields["faxRecipient"] = [_recipient(recipient) for recipient in _recipients(job[lists[0]])]
    return fields


def _part(value: Any) -> Mapping[str, Any]:
    """The fields of a part of a job; of one that is repeated, each field with the list of its values."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for inner in value if isinstance(value, list) else [value]:
        for name, one in _leaves(inner).items() if isinstance(inner, dict) else ():
            found[name] += one if isinstance(one, list) else [one]
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _recipients(value: Any) -> list[Any]:
    """The recipients of a list, of a single one (XML cannot tell), or of an element around them."""
    value = listed(value)
    if isinstance(value, dict) and not _stated(value) & _OF_A_RECIPIENT:
        rows = [child for child in value.values() if isinstance(child, dict | list)]
        value = listed(rows[0]) if len(rows) == 1 else value
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, dict) else []


def _recipient(recipient: Any) -> Any:
    if not isinstance(recipient, dict):
        return recipient
    fields = _leaves(recipient)
    once(fields, ("number", "status"))
    fields["#sent"] = [fields.get(name) for name in ("sentTS", "sentTs")]
    return fields


_PLAIN_VALUES = frozenset({str, int, type(None)})


def _leaves(element: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an element, each without the attributes that XML may hang on its text."""
    if _PLAIN_VALUES.issuperset(map(type, element.values())):
        return dict(element)
    children = [value for name, value in element.items() if name not in _RECIPIENT_LISTS and value is not None]
    # What makes JSON of XML may write every child as a list; a single list among other fields is no value.
    are_lists = all(isinstance(child, list) for child in children)
    return {name: leaf(_only(value) if are_lists else value) for name, value in element.items()}


def _only(value: Any) -> Any:
    """The one value of a list; else the value."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


# --- normalise -----------------------------------------------------------------------------------------------------


def normalise(push: Mapping[str, Any], source: Source) -> Sequence[FaxCompleted | InvalidRow]:
    """
    One entry a recipient, in order, for all jobs of the push; a job that cannot be trusted is one InvalidRow.

    No entry for a pending recipient, nor for those of the same number in its job: which occurrence they are is known
    when all of them are final. An InvalidRow's index counts all entries of the push, these too.
    """
    entries: list[FaxCompleted | InvalidRow] = []
    index = 0
    for job in push["jobs"]:
        if isinstance(job, InvalidRow):
            entries.append(InvalidRow(index, job.expected))
            index += 1
            continue
        of_job = _OfJob.of(job, source)
        rows = job["recipients"]
        for row, occurrence in zip(rows, _occurrences(rows), strict=True):
            if isinstance(row, InvalidRow):
                entries.append(InvalidRow(index, row.expected))
            elif occurrence is not None and (verdict := CODES.verdict(row["status"])):
                entries.append(_event(row, verdict, occurrence, of_job, source))
            index += 1
    return entries


class _OfJob(NamedTuple):
    """What is the same for all recipients of a job. delivered, not_delivered: pages of those who are or not."""

    id: str
    delivered: Pages
    not_delivered: Pages
    reference: Reference

    @classmethod
    def of(cls, job: Mapping[str, Any], source: Source) -> "_OfJob":
        pages = job["pages"]
        reference = Reference(
            id=job["customer_id"] or job["job_reference"] or source.reference,
            billing_code=job["billing_code"],
            billing_info=job["billing_info"],
        )
        return cls(job["job_id"], Pages(total=pages, sent=pages), Pages(total=pages), reference)


def _event(row: Mapping[str, Any], verdict: Verdict, occurrence: int, job: _OfJob, source: Source) -> FaxCompleted:
    assert source.account is not None, "the settings require it"
    completed_at, time_quality = utc(row["sent_at"] or row["sent_at_rest"], source.timezone)
    return FaxCompleted(
        account=source.account,
        key=(job.id, _number_key(row), str(occurrence)),
        outcome=verdict.outcome,
        failure=verdict.failure,
        status_code=row["status"],
        status_text=row["status_text"],
        provider_job_id=job.id,
        provider_fax_id=row["fax_id"],
        recipient=Recipient(
            number=_number(row, source.region),
            number_raw=row["number"] or row["number_dialed"],
            station_id=row["station_id"],
        ),
        pages=job.delivered if verdict.outcome is Outcome.DELIVERED else job.not_delivered,
        duration_seconds=row["duration_seconds"],
        completed_at=completed_at,
        time_quality=time_quality,
        reference=job.reference,
        test=(row["status_text"] or "").strip().lower() == "simulated",  # test accounts say so in the reason
    )


def _number(row: Mapping[str, Any], region: str | None) -> str | None:
    """In E.164; where it cannot be read alone, as it was dialed, if that is the same number with its country code."""
    number, dialed = row["number"], row["number_dialed"]
    if found := e164(number, region):
        return found
    significant = number_key(number).lstrip("0")
    is_same = not number or (len(significant) > 4 and number_key(dialed).endswith(significant))
    return e164(dialed, region) if is_same else None


def key(job_id: str, number: str | None, occurrence: int) -> tuple[str, ...] | None:
    """None without a number, as nothing else tells the recipients of a job apart."""
    return (job_id, number_key(number), str(occurrence)) if number_key(number) else None


def _occurrences(rows: Sequence[Mapping[str, Any] | InvalidRow]) -> Sequence[int | None]:
    """
    For each row, which one it is among those of its job with the same number: 0, 1, ...; None while that may change.

    It may as long as one of them is pending, which will have a time, and so a rank, of its own. Ranked by what push
    and report both have (time, status, duration), never by position, so that a report in another order gives the same
    ids. ``numId`` only settles what all of these leave equal.
    """
    ranks: list[int | None] = [0] * len(rows)
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        if not isinstance(row, InvalidRow):
            positions[_number_key(row)].append(position)
    for same in positions.values():
        if len(same) > 1:
            is_final = all(_is_final(rows[position]) for position in same)
            for rank, position in enumerate(sorted(same, key=lambda position: _rank(rows[position]))):
                ranks[position] = rank if is_final else None
    return ranks


def _is_final(row: Any) -> bool:
    return CODES.verdict(row["status"]) is not None


def _rank(row: Any) -> tuple[Any, ...]:
    time, _ = utc(_ranking_time(row["sent"]), None)
    duration, fax_id = row["duration_seconds"], row["fax_id"]
    return (
        (time is None, time and time.timestamp()),
        CODES.spelling(row["status"]),
        (duration is None, duration),
        (fax_id is None, fax_id),
    )


def _ranking_time(written: Sequence[Any]) -> datetime | None:
    """
    The first time in ISO 8601, which is Retarus's form.

    Others are read too, but not for this: ids that were given before they were read stay as they are.
    """
    for text in written:
        with suppress(ValueError):
            if isinstance(text, str) and (time := iso_time(text.strip())).year in range(1970, 3000):
                return time
    return None


def _number_key(row: Mapping[str, Any]) -> str:
    return number_key(row["number"]) or number_key(row["number_dialed"])


# --- redact --------------------------------------------------------------------------------------------------------

# Retarus echoes what it was told about the push: our URL with its token, and in some layouts the login.
redact = redacting("httpStatusPush", keep="authMethod")

# --- simulate ------------------------------------------------------------------------------------------------------


def simulate(job: SimulatedJob) -> Sequence[RawCallback]:
    """One XML push with all recipients, as the default layout has it."""
    delivered = any(CODES.verdict(fax.status) is DELIVERED for fax in job.faxes)
    report = {
        "@xmlns": "http://retarus.com/fax4ba/faxws/3/0",
        "jobId": job.job_id,
        "faxRecipient": [_simulated(fax, job) for fax in job.faxes],
        "document": {"name": "document.pdf", "isText": "false"},
        **({"pages": "1"} if delivered else {}),
    }
    return [RawCallback(xmltodict.unparse({"faxJobReport": report}).encode(), "text/xml; charset=utf-8")]


def _simulated(fax: SimulatedFax, job: SimulatedJob) -> dict[str, str]:
    verdict = CODES.verdict(fax.status)
    return {
        "number": fax.number,
        "numId": fax.fax_id,
        "status": fax.status,
        "reason": CODES.texts.get(fax.status, fax.status),
        "sentTS": f"{job.completed_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if verdict else "",
        "durationInSecs": "31" if verdict is DELIVERED else "0",
        "sentToNumber": "00" + fax.number.removeprefix("+"),
        "remoteCsid": fax.number if verdict is DELIVERED else "",
    }


SETUP = """\
Add this to every send request, or ask Retarus to set it for the account.
REST:
  "statusReportOptions": {
    "httpStatusPush": {
      "targetUrl": "{url}",
      "principal": "{user}",
      "credentials": "<the password of this endpoint>",
      "authMethod": "{auth}"
    }
  }
SOAP (compare the element names with the WSDL of your account):
  <httpStatusPush>
    <targetUrl>{url}</targetUrl>
    <principal>{user}</principal>
    <credentials>(the password of this endpoint)</credentials>
    <authMethod>{auth}</authMethod>
  </httpStatusPush>
With authMethod NONE leave out principal and credentials. With OAUTH2 they are the client id and the client secret, and
Retarus has to set the token server for your account.
Keep the default layout of the push. A customerDefinedId or a jobReference comes back as the event's reference.
"""
