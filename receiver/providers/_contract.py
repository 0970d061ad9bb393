"""
What a provider is to the rest of the house: one ``PROVIDER`` object, made of plain functions and tables.

A provider module imports this, ``_decoding`` and ``_normalising``, and its schemas; nothing of the store, the web or
the settings. ``receiver/providers/README.md`` walks through writing one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from marshmallow import Schema

from schemas.event import FaxCompleted, Verdict
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

    kinds: what it sends; anything else is 415. shape: decoded data -> the mapping the schema reads (raises
    Undecodable or Unprocessable); ``{}`` says "genuine, but not about an outbound fax" and is ignored. once: names
    that may occur only once in a form, since they say which fax or which result is meant. normalise: loaded data -> one
    entry a recipient, in order: the event, or why that row is invalid; a recipient that is not final is left out.
    credentials: where the decoded data, before ``shape``, carries user and password (auth mode ``payload``); it may
    raise what shape raises. redact: the raw body without secrets, for storing; any bytes go in, also broken ones.
    """

    kinds: frozenset[BodyKind]
    schema: Schema
    normalise: Callable[[Mapping[str, Any], Source], Sequence[FaxCompleted | InvalidRow]]
    shape: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    once: frozenset[str] = frozenset()
    query: bool = False  # fields may come in the query string, also of a GET
    success: Success | None = None
    credentials: Callable[[Mapping[str, Any]], tuple[str, str] | None] | None = None
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
    A provider's status codes: made by ``_normalising.table``.

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


@dataclass(frozen=True, slots=True)
class Provider:
    """
    One provider, push and pull side by side.

    account_from_payload: the payload names the account, so the endpoint need not. zoneless: it sends times without a
    zone, so the endpoint must say which one they are in. simulate: a job -> the callbacks that announce it.
    setup: the lines to follow at the provider; ``{url}``, ``{user}``, ``{auth}`` are filled in.
    """

    name: str
    title: str
    callback: Callback
    codes: CodeTable
    simulate: Callable[[SimulatedJob], Sequence[RawCallback]]
    setup: str
    account_from_payload: bool = False
    zoneless: bool = False
    region: str | None = None  # how numbers without a country code are read, unless the endpoint says otherwise
    max_recipients: int | None = 1  # of one callback; None: any number
    auth_modes: tuple[str, ...] = ("none",)  # what it can do, best last
    notes: str = ""
    sources: tuple[str, ...] = ()
