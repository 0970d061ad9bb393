"""What comes out of the configuration: frozen values, each checked as far as one table can tell."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias
from zoneinfo import ZoneInfo

from receiver import transports
from receiver.advice import Override
from receiver.destinations import QUEUE
from receiver.settings.document import Document

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
CLIENT_CERTIFICATE = "Client-Cert"  # RFC 9440


@dataclass(frozen=True, slots=True)
class Server:
    """
    trusted_proxies: peers that may set X-Forwarded-For, and client_certificate_header.

    secret_keys: the first signs, all verify; may be empty. keep_alive: how long an idle connection is kept open.
    """

    bind: str
    public_url: str | None  # without a slash at its end
    trusted_proxies: tuple[Network, ...]
    client_certificate_header: str
    max_body: int  # bytes
    secret_keys: tuple[str, ...] = field(repr=False)
    state_dir: Path
    ops_token: str | None = field(repr=False)
    keep_alive: timedelta
    workers: int


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """url: ``sqlite:///`` with an absolute path, or ``postgresql+psycopg://``."""

    url: str = field(repr=False)
    identity_salt: str | None = field(repr=False)
    ephemeral_ok: bool


@dataclass(frozen=True, slots=True)
class Queue:
    """url: ``embedded:`` or a broker's. queue: the one that ``exchange`` feeds. declare: whether both may be made."""

    url: str = field(repr=False)
    exchange: str
    queue: str
    declare: bool

    @property
    def is_embedded(self) -> bool:
        return self.url == transports.EMBEDDED


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events a sink gets: of each key those that are named, or all where none is. type: as CloudEvents has it."""

    outcome: tuple[str, ...] = ()
    provider: tuple[str, ...] = ()
    endpoint: tuple[str, ...] = ()
    type: tuple[str, ...] = ()

    def passes(self, outcome: str, provider: str, endpoint: str, event_type: str) -> bool:
        return (
            outcome in (self.outcome or (outcome,))
            and provider in (self.provider or (provider,))
            and endpoint in (self.endpoint or (endpoint,))
            and event_type in (self.type or (event_type,))
        )


EVERYTHING = Filter()
FORMATS = ("structured", "binary", "thin")


@dataclass(frozen=True, slots=True)
class Sink:
    """
    Where events go beside the queue. url: of a scheme of ``destinations.KINDS``. format: one of FORMATS.

    from_oldest: a new one begins with the oldest event that is still there, else with what is committed from then on.
    secrets: of a webhook; the first signs, and so do the others, while they are exchanged. allow_private: a webhook
    may be at an address that is not public. ca_file, certificate, key: PEM files. queue: of RabbitMQ.
    """

    name: str
    url: str = field(repr=False)
    format: str = FORMATS[0]
    filter: Filter = EVERYTHING
    from_oldest: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)
    allow_private: bool = False
    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    queue: Queue | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """How long: raw receipts and published payloads, rejected receipts, identities (the longest of the three)."""

    bodies: timedelta
    rejected: timedelta
    ids: timedelta


@dataclass(frozen=True, slots=True)
class Token:
    """A path token: its SHA-256, and itself unless only the digest is configured."""

    digest: bytes = field(repr=False)
    plain: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credential:
    """
    Valid from not_before on and until just before not_after, both aware UTC.

    A bare date is the start of that day, a time without zone is UTC. password: plain, or ``sha256:``, ``scrypt:``,
    ``pbkdf2:``; for Digest plain, or ``ha1:`` with the hex HA1 of one or both algorithms. Checked to be so.
    """

    id: str | None
    user: str
    password: str = field(repr=False)
    not_before: datetime | None
    not_after: datetime | None


@dataclass(frozen=True, slots=True)
class Auth:
    """mode: a key of AUTH_MODES. The modes that need more have a class of their own."""

    mode: str
    realm: str
    credentials: tuple[Credential, ...]


@dataclass(frozen=True, slots=True)
class Digest(Auth):
    """algorithms: as offered, in this order. prefix: of the path, taken off by a proxy in front of us."""

    algorithms: tuple[str, ...]
    nonce_lifetime: timedelta
    ignore_query: bool
    prefix: str


@dataclass(frozen=True, slots=True)
class Introspection:
    """RFC 7662: where tokens are asked about, and who we are there."""

    url: str
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class OAuth2(Auth):
    """
    issuer: "self", a URL, or None where tokens are only asked about. audience: None for the endpoint's own name.

    scope: all of them are needed. required_claims: name -> value, or one of a list's. allowed_clients: empty for all.
    """

    issuer: str | None
    audience: str | None
    scope: tuple[str, ...]
    jwks_uri: str | None
    algorithms: tuple[str, ...]
    at_jwt_only: bool
    leeway: timedelta
    required_claims: Mapping[str, str]
    allowed_clients: tuple[str, ...]
    introspection: Introspection | None


@dataclass(frozen=True, slots=True)
class Signature(Auth):
    """HMAC-SHA256. header: None for Standard Webhooks; else where it is, written as encoding and prefix say."""

    secrets: tuple[str, ...] = field(repr=False)
    header: str | None
    encoding: str
    prefix: str
    timestamp_header: str | None
    tolerance: timedelta


@dataclass(frozen=True, slots=True)
class Client:
    """Who may fetch tokens from our own token endpoint. secret: plain, or ``sha256:`` and 64 hex digits."""

    id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reports:
    """
    What an account's reports are fetched with. every: the pause between two runs of ``reconcile --loop``.

    requests: at most so many to the provider in one run. options: the provider's own keys, credentials among them, as
    text; which they are is checked where providers are known.
    """

    every: timedelta
    requests: int
    options: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    answer: the success status. allow: empty for no restriction.

    client_certificates: SHA-256 of the DER certificates, of which a trusted proxy must have seen one; empty: no need.
    takes_callbacks: False for an account that is only asked for reports. job_keys: bearer keys of those who may
    register sent faxes.
    """

    name: str
    provider: str
    account: str | None
    timezone: ZoneInfo | None
    region: str | None
    auth: Auth
    tokens: tuple[Token, ...]
    allow: tuple[Network, ...]
    client_certificates: tuple[bytes, ...]
    answer: int
    insecure: bool
    takes_callbacks: bool = True
    reports: Reports | None = None
    job_keys: tuple[Token, ...] = ()


ROLES = ("viewer", "operator", "privacy")  # of the console; each sees its pages, without what is personal


@dataclass(frozen=True, slots=True)
class ConsoleUser:
    """password: as a Credential's. roles: some of ROLES."""

    user: str
    password: str = field(repr=False)
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Console:
    """
    auth: ``basic``, by users and passwords of ours, or ``proxy``, by what a trusted proxy says in two headers.

    groups: role -> the proxy's groups whose members have it.
    """

    auth: str
    users: tuple[ConsoleUser, ...]
    groups: Mapping[str, tuple[str, ...]]
    user_header: str
    groups_header: str


@dataclass(frozen=True, slots=True)
class Settings:
    """
    What a document says. path: its file; None when the text came from FAXHOOK_CONFIG_TOML.

    advice: by failure reason, or outcome. console: None where it is not enabled.
    """

    document: Document
    server: Server
    store: StoreSettings
    queue: Queue
    retention: Retention
    endpoints: Mapping[str, Endpoint]
    clients: Mapping[str, Client]
    advice: Mapping[str, Override]
    sinks: Mapping[str, Sink]
    console: Console | None

    @property
    def path(self) -> Path | None:
        return self.document.path

    @property
    def every_sink(self) -> Mapping[str, Sink | None]:
        """By their names; the queue with None."""
        return {QUEUE: None, **self.sinks}

    @property
    def filters(self) -> Mapping[str, Filter]:
        """Name of each sink beside the queue, which takes all -> what goes there."""
        return {name: sink.filter for name, sink in self.sinks.items()}
