"""What a request hands to the store, and what the store tells it: the values of station 7."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from receiver import facts as fax_facts
from receiver import tracing
from receiver.facts import Facts
from receiver.tracing import Trace

CALLBACK, REPORT = "callback", "report"  # how a fax was observed


@dataclass(frozen=True, slots=True)
class KeptBody:
    """A raw callback as it is kept: without secrets."""

    body: bytes
    query: bytes
    content_type: str
    reference: str | None


@dataclass(frozen=True, slots=True)
class Announcement:
    """
    One fax's end as one request states it.

    unlisted: its status code, where no table of the provider lists it. unreadable: optional fields of its message that
    could not be read. Both are for operators. subject: the id as text. digest: of the facts. Both are made here, once,
    where no lock of the store is held.
    """

    fax_id: uuid.UUID
    facts: Facts
    unlisted: str | None = None
    unreadable: Sequence[str] = ()
    subject: str = field(init=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "subject", str(self.fax_id))
        object.__setattr__(self, "digest", fax_facts.digest(self.facts))


@dataclass(frozen=True, slots=True)
class Position:
    """How far a report has been read when the submission is committed; the text is its reader's."""

    provider: str
    account: str
    report: str
    text: str


@dataclass(frozen=True, slots=True)
class Submission:
    """
    One request, or a part of a report, ready to be recorded.

    auth: how the caller was authenticated, ``report`` where nobody called. answer: the HTTP status, None for a report.
    refused: the code of the refusal, for a receipt that is ``rejected``. ignored: why another is about no fax that was
    sent, such as ``inbound``. invalid: recipients that could not be used; their fields are in ``detail``. replay: the
    receipt is there already, and its new state is added to it. position: of a report, which leaves a receipt only
    where it says something new. trace: that the caller has named.
    """

    receipt: str
    endpoint: str
    provider: str
    received_at_ms: int
    size: int
    body: KeptBody | None
    observed_at: str
    auth: str
    answer: int | None = None
    observed_via: str = CALLBACK
    announcements: tuple[Announcement, ...] = ()
    invalid: int = 0
    refused: str | None = None
    ignored: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    replay: bool = False
    position: Position | None = None
    trace: Trace | None = None

    @property
    def trace_id(self) -> str:
        return (self.trace or tracing.begun(self.receipt)).id

    @property
    def traceparent(self) -> str:
        return tracing.traceparent(self.trace or tracing.begun(self.receipt), self.receipt)

    @property
    def is_report(self) -> bool:
        return self.observed_via == REPORT


@dataclass(frozen=True, slots=True)
class Told:
    """
    One event this submission added to the outbox.

    reason: of a failure, else empty. conflict: it contradicts the outcome that was told before.
    """

    event_id: str
    fax_id: str
    type: str
    outcome: str
    reason: str
    conflict: bool


@dataclass(slots=True)
class Recorded:
    """
    What became of a submission.

    state: accepted, partial, duplicate, ignored or rejected. events: the current event id of each of its faxes, in
    order. told: the events that are new. news: the announcements that were not heard before. filled: of these faxes
    nothing was known. by_callback: so many were first heard of by a callback. conflicts, flips and differing: for the
    operator's counters.
    """

    receipt: str
    state: str
    events: list[str] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    news: list[Announcement] = field(default_factory=list)
    filled: int = 0
    by_callback: int = 0
    conflicts: int = 0
    flips: int = 0
    differing: list[str] = field(default_factory=list)


def checksum(event_id: str, body: bytes) -> str:
    """What a payload is verified by before it is published: SQLite has no page checksums of its own."""
    return sha256(event_id.encode() + b"\0" + body).hexdigest()
