"""
What a provider is to the rest of the house: one ``PROVIDER`` object, made of plain functions and tables.

A provider module imports this, ``decoding`` and ``normalising``, and its schemas; nothing of the store, the web or
the settings. ``receiver/providers/README.md`` walks through writing one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from marshmallow import Schema

from receiver.providers.shared.client import Client
from schemas.advice import Step
from schemas.event import FailureReason, FaxCompleted, Verdict
from schemas.fields import InvalidRow


class BodyKind(StrEnum):
    """How a callback's data is written, told by its first non-blank byte."""

    FORM = "form"  # urlencoded or multipart
    JSON = "json"
    XML = "xml"


@dataclass(frozen=True, slots=True)
class RawCallback:
    """One request as it came, and all of it that is kept: no framework's object travels past the intake."""

    body: bytes
    content_type: str = ""
    query: bytes = b""
    reference: str | None = None  # from .../r/<reference> in the URL


@dataclass(frozen=True, slots=True)
class Source:
    """What a provider's ``normalise`` may know of the endpoint its data came in at."""

    account: str | None
    timezone: ZoneInfo | None
    region: str | None
    reference: str | None = None  # from the callback's URL, for payloads without one

    def with_reference(self, reference: str) -> "Source":
        return replace(self, reference=reference)


@dataclass(frozen=True, slots=True)
class Success:
    """The body of a provider's 2xx, where it looks for a certain text; None: our JSON."""

    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Callback:
    """
    A provider's push: how its request becomes canonical events.

    kinds: what it sends; anything else is 415. shape: decoded data -> the mapping the schema reads (raises Undecodable
    or Unprocessable); ``{}`` says "genuine, but about no fax" and is ignored, as is Inbound. once: names that may occur
    only once in a form, since they say which fax or which result is meant. normalise: loaded data -> one entry a
    recipient, in order: the event, or why that row is invalid; a recipient that is not final is left out. credentials:
    where the decoded data, before ``shape``, carries user and password (auth mode ``payload``); it may raise what shape
    raises. sent: where shape brings several layouts to one, the decoded data and a dotted path of what it makes of them
    -> the path as it was sent, for refusals. within: the field of a form whose text is an XML document with the data.
    batch: the name shape gets a JSON array of several under; None: one is refused. redact: the raw body without
    secrets, for storing; any bytes go in, also broken ones. simulate: a job -> the callbacks that announce it. setup:
    the lines to follow at the provider; ``{url}``, ``{user}``, ``{auth}`` are filled in.
    """

    kinds: frozenset[BodyKind]
    schema: Schema
    normalise: Callable[[Mapping[str, Any], Source], Sequence[FaxCompleted | InvalidRow]]
    simulate: "Callable[[SimulatedJob], Sequence[RawCallback]]"
    setup: str
    auth_modes: tuple[str, ...] = ("none",)  # what the provider can do, best last
    shape: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    once: frozenset[str] = frozenset()
    batch: str | None = None
    query: bool = False  # fields may come in the query string, also of a GET
    success: Success | None = None
    credentials: Callable[[Mapping[str, Any]], tuple[str, str] | None] | None = None
    sent: Callable[[Mapping[str, Any], str], str] | None = None
    within: str | None = None
    redact: Callable[[bytes], bytes] | None = None


@dataclass(frozen=True, slots=True)
class SimulatedFax:
    """One recipient of a simulated job."""

    number: str  # E.164
    status: str  # a code of the provider
    fax_id: str  # unique text, for providers that give each recipient an id


@dataclass(frozen=True, slots=True)
class SimulatedJob:
    """One job as the simulator wants it announced."""

    job_id: str  # decimal digits
    account: str
    faxes: tuple[SimulatedFax, ...]
    submitted_at: datetime
    completed_at: datetime
    timezone: ZoneInfo | None = None
    user: str = ""
    password: str = ""


@dataclass(frozen=True, slots=True)
class CodeTable:
    """
    A provider's status codes: made by ``normalising.table``.

    field: the wire name they come in. verdicts: code -> meaning; None: not final. texts: code -> the provider's name
    for it. unknown: what an unlisted code means; None: there is none, since the schema refuses it. spelling: a code as
    it may be sent -> as the table has it.
    """

    field: str
    verdicts: Mapping[str, Verdict | None]
    texts: Mapping[str, str]
    unknown: Verdict | None = None
    spelling: Callable[[str], str] = str

    def verdict(self, code: str) -> Verdict | None:
        """What the code means; None: not final, nothing to announce."""
        return self.verdicts.get(self.spelling(code), self.unknown)

    def lists(self, code: str) -> bool:
        """Whether the code is a known one; the others are counted, so that somebody looks them up."""
        return self.spelling(code) in self.verdicts


# --- pull ------------------------------------------------------------------------------------------------------------


_EVER = datetime(1, 1, 1, tzinfo=UTC)
MOST_ROWS = 100  # of a finding


@dataclass(frozen=True, slots=True)
class Option:
    """
    One key of ``[endpoints.<name>.reports]``. default: None where it must be given; "" where it may be left out.

    is_url: it must be https, or http to this machine; several have a space between. is_amount: a number.
    """

    name: str
    meaning: str
    default: str | None = None
    is_url: bool = False
    is_amount: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """
    What a report is asked for.

    begin, end: aware, in UTC. cursor: the one of the last page that was stored, in the provider's own words; None at
    the first time, and whenever somebody asks for a window of his own. jobs: ids of jobs whose end is overdue, those
    that wait longest first. zone: of the endpoint, for providers whose times have none. options: of the endpoint's
    ``reports``, complete. is_stored: each page is stored before the next one is asked for; only then may anything be
    deleted at the provider. oldest: a fax that ended before is not told, so that its report must stay.
    """

    account: str
    begin: datetime
    end: datetime
    cursor: str | None
    jobs: Sequence[str]
    zone: ZoneInfo | None
    options: Mapping[str, str] = field(repr=False)
    is_stored: bool = False
    oldest: datetime = _EVER


@dataclass(frozen=True, slots=True)
class Finding:
    """
    Something in a report that an operator must look at, such as a list that was cut.

    kind: ``full_list``, ``tally``, ``unreadable``. subject: what it is about, the same at every run. detail: counts and
    words for the operator; never a number or a name of a person. rows: at most ``MOST_ROWS`` of those it is about, as
    the provider has them: they may be personal, and are shown to who asks for it.
    """

    kind: str
    subject: str
    detail: Mapping[str, int | str] = field(default_factory=dict)
    rows: Sequence[Mapping[str, int | str]] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Page:
    """
    A bounded part of a report: at most some hundred rows, each what the report's ``shape`` reads.

    cursor: once this page is stored, the next run begins behind it; None: it begins where this one did.
    """

    rows: Sequence[Mapping[str, Any]]
    cursor: str | None = None
    findings: Sequence[Finding] = ()


@dataclass(frozen=True, slots=True)
class RecordReport:
    """
    A report that names individual faxes: its rows enter the line where a callback's data does.

    fetch: the only input and output a provider performs; yields pages as they come and raises ReportTrouble. shape,
    schema, normalise: as a callback's, for one row; ``{}`` of shape and an empty list of normalise say "not final".
    lists: whether a table has the code of an event; None: it is one of ``codes``. of_jobs: asks about ``Ask.jobs`` and
    nothing else. overlap: how long before the end of the last window the next one
    begins, since a result may appear behind it.
    """

    name: str
    fetch: Callable[[Ask, Client], Iterator[Page]]
    schema: Schema
    normalise: Callable[[Mapping[str, Any], Source], Sequence[FaxCompleted | InvalidRow]]
    codes: CodeTable
    shape: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    lists: Callable[[FaxCompleted], bool] | None = None
    of_jobs: bool = False
    overlap: timedelta = timedelta(days=1)

    def is_listed(self, event: FaxCompleted) -> bool:
        """Whether somebody knows what the event's code means; the others are counted."""
        return self.lists(event) if self.lists else self.codes.lists(event.status_code)


@dataclass(frozen=True, slots=True)
class Tally:
    """
    What a provider has counted on one day. number: of one recipient, as the provider writes it; None: all of them.

    counts: ``delivered``, ``failed``, ``total`` (both), ``pages_sent``, ``calls``, ``seconds``; ``unreadable``: so many
    parts could not be read, so that the other counts are what it is at least. rows: as a finding's.
    """

    day: date
    counts: Mapping[str, int]
    number: str | None = None
    rows: Sequence[Mapping[str, int | str]] = field(default=(), repr=False)


def differs(theirs: Mapping[str, int], ours: Mapping[str, int]) -> bool:
    """Whether any count is another one than ours; of those that are not complete, whether one is higher."""
    pairs = [(count, ours.get(name, 0)) for name, count in theirs.items() if name != "unreadable"]
    return any(their > our or (their < our and "unreadable" not in theirs) for their, our in pairs)


@dataclass(frozen=True, slots=True)
class AggregateReport:
    """
    A report of counts: it can prove that something is missing, and never becomes an event.

    fetch: asks for the whole days of the window; a part of an answer that cannot be read is a finding, and the others
    are counted. differs: their counts and ours of the same day -> a discrepancy.
    """

    name: str
    fetch: Callable[[Ask, Client], Iterator[Tally | Finding]]
    differs: Callable[[Mapping[str, int], Mapping[str, int]], bool] = differs


@dataclass(frozen=True, slots=True)
class Reports:
    """A provider's pull. credit: what is left of a prepaid account, in its own unit."""

    options: tuple[Option, ...]
    records: tuple[RecordReport, ...] = ()
    aggregates: tuple[AggregateReport, ...] = ()
    credit: Callable[[Ask, Client], Decimal] | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """
    One provider, push and pull side by side; callback: None where it has only reports.

    account_from_payload: the payload names the account, so the endpoint need not. zoneless: it sends times without a
    zone, so the endpoint must say which one they are in; timezone: the likely one, for a first configuration. key: the
    identity of a fax as it is known when it is sent, from the job's id and the number (None: of a provider that needs
    none); None where it is not known then. For equal numbers of one job the third argument counts from 0. advice: by
    failure reason, where something else than the rule in ``receiver.advice`` holds for its faxes.
    """

    name: str
    title: str
    callback: Callback | None
    codes: CodeTable
    reports: Reports | None = None
    key: Callable[[str, str | None, int], tuple[str, ...] | None] | None = None
    account_from_payload: bool = False
    zoneless: bool = False
    timezone: str | None = None
    advice: Mapping[FailureReason, Step] = field(default_factory=dict)
    region: str | None = None  # how numbers without a country code are read, unless the endpoint says otherwise
    notes: str = ""
    sources: tuple[str, ...] = ()

    @property
    def push(self) -> Callback:
        """The callback, for callers that know that there is one."""
        assert self.callback is not None
        return self.callback
