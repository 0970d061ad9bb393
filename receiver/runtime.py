"""What a process needs to serve callbacks: made once by ``receiver.bootstrap``, and handed to the stations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from receiver.advice import Advisor
from receiver.auth import Gate
from receiver.providers import Provider, RawCallback, Source
from receiver.refusals import Refusals
from receiver.settings import Reports, Settings, Token
from receiver.store import Store
from receiver.store.nonces import Nonces
from receiver.store.projection import Keys
from receiver.store.submissions import KeptBody
from receiver.store.writer import Writer

if TYPE_CHECKING:
    from receiver.auth.token_endpoint import TokenEndpoint


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One configured URL: a provider, whose account it is, who may call it, and how it is answered."""

    name: str
    provider: Provider
    source: Source
    gate: Gate
    auth: str  # the mode
    answer: int


@dataclass(frozen=True, slots=True)
class Account:
    """One configured endpoint as an account at a provider: whose reports are read, and whose faxes are expected."""

    endpoint: str
    provider: Provider
    source: Source
    reports: Reports | None  # complete
    job_keys: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Runtime:
    """
    endpoints: those that take callbacks. accounts: of all endpoints, by their names.

    reader: the same store for the console, which must not be felt; None where it is not enabled.
    """

    settings: Settings
    endpoints: Mapping[str, Endpoint]
    accounts: Mapping[str, Account]
    store: Store
    reader: Store | None
    writer: Writer
    advisor: Advisor
    fingerprint_key: bytes
    find_keys: Keys
    identity_salt: bytes | None
    nonces: Nonces
    refusals: Refusals
    token_endpoint: "TokenEndpoint | None"

    def close(self) -> None:
        self.refusals.tell()
        self.nonces.close()
        if self.reader is not None:
            self.reader.close()
        self.store.close()


def kept(raw: RawCallback, endpoint: Endpoint) -> KeptBody:
    """The callback as it may be stored: without its secrets."""
    redact = endpoint.provider.push.redact
    return KeptBody(redact(raw.body) if redact else raw.body, raw.query, raw.content_type, raw.reference)
