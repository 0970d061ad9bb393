"""What is legal but probably not meant."""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from receiver import transports
from receiver.advice import Override
from receiver.settings.authentication import SELF
from receiver.settings.model import Console, Digest, Endpoint, OAuth2, Queue, Retention, Server, Settings, Signature
from schemas.advice import RESENDS
from schemas.envelope import AMENDED
from schemas.event import Outcome

_GOOD_TOKEN_LENGTH = 22  # 128 bits in base 64
_SHORT_IDS = timedelta(days=30)
_SHORT_NONCES, _LONG_NONCES = timedelta(seconds=30), timedelta(hours=1)
_LONG_TOLERANCE = timedelta(hours=1)
_KEPT_BY_PROXIES = timedelta(seconds=60)  # idle connections, by nginx and AWS's ALB unless they are told otherwise
_PLACEHOLDER = re.compile(
    r".*(?:change-?_?me|placeholder|your-?_?(?:password|secret|token)|<[^>]*>).*"
    r"|\.+|…+|x{3,}|\*+|(?:password|passwort|secret|test|admin|letmein|qwerty)[0-9]*|(?:0123|1234)[0-9]*",
    re.IGNORECASE,
)


def doubts(settings: Settings) -> list[str]:
    """Settings that are legal but probably not meant, one sentence each, without secrets."""
    now = datetime.now(UTC)
    found = [
        *_server_doubts(settings.server),
        *_proxy_doubts(settings),
        *_queue_doubts(settings.queue),
        *_sink_doubts(settings),
        *_retention_doubts(settings.retention),
        *_advice_doubts(settings.advice),
        *_console_doubts(settings.console),
    ]
    for endpoint in settings.endpoints.values():
        found += (f"endpoints.{endpoint.name}: {doubt}" for doubt in _endpoint_doubts(endpoint, now))
    return [
        *found,
        *_account_doubts(settings.endpoints.values()),
        *_realm_doubts(settings.endpoints.values()),
        *_client_doubts(settings),
    ]


def _sink_doubts(settings: Settings) -> Iterator[str]:
    if settings.sinks and settings.queue.is_embedded:
        yield (
            "queue.url: the embedded queue gets every event as well as the sinks, and keeps it until `faxhook consume`"
            " has taken it"
        )
    for sink in settings.sinks.values():
        if sink.filter.type == (AMENDED,):
            yield f"sinks.{sink.name}.filter.type: only corrections go there, and no first announcement"


def _server_doubts(server: Server) -> Iterator[str]:
    if server.public_url and server.public_url.startswith("http://") and not _loopback(server.public_url):
        yield "server.public_url: http:// sends tokens and passwords in the clear"
    if server.bind.startswith(("0.0.0.0:", "[::]:")) and not server.ops_token:
        yield f"server.bind: {server.bind} without ops_token: /metrics and /readyz show details only to loopback"

    if server.keep_alive <= _KEPT_BY_PROXIES:
        yield (
            "server.keep_alive: proxies keep idle connections for 60s unless told otherwise; one that sends a callback"
            " into a connection that faxhook is closing answers 502"
        )


def _proxy_doubts(settings: Settings) -> Iterator[str]:
    certified = any(endpoint.client_certificates for endpoint in settings.endpoints.values())
    for network in settings.server.trusted_proxies:
        if network.prefixlen == 0:
            then = ", and show any client certificate" if certified else ""
            yield f"server.trusted_proxies: {network} is everybody: any caller may say where he calls from{then}"


def _queue_doubts(queue: Queue) -> Iterator[str]:
    if queue.is_embedded:
        return
    transport = transports.find(queue.url)
    if transport.guarantee != "durable":
        yield f"queue.url: {transport.guarantee}: {transport.note}"
    if transports.scheme(queue.url) == "sqs" and not queue.queue.endswith(".fifo"):
        yield "queue.queue: only a name that ends in .fifo keeps a fax's events in order and drops repetitions"
    for address in transports.addresses(queue.url):
        url, tls, place = urlsplit(address.url), address.tls, transports.place(address.url)
        if url.scheme in ("amqp", "pyamqp", "redis") and not _loopback(url.geturl()):
            yield f"queue.url: {url.scheme}:// sends events and the password in the clear; see {url.scheme.removeprefix('py')}s://"
        if transports.is_plain_http(url.geturl()) and not _loopback(url.geturl()):
            yield "queue.url: sqs:// with a port other than 443 sends events in the clear"
        if tls is not None and not tls.is_checked:
            yield f"queue.url: ssl_cert_reqs=none: {place} may be anybody, who then has the password and the events"
        elif tls is not None and not tls.is_host_checked:
            yield f"queue.url: ssl_check_hostname=false: any server with a trusted certificate can pose as {place}"
        if transport.speaks_amqp and url.username in (None, "guest") and not _loopback(url.geturl()):
            yield "queue.url: the user guest is for trying out"


def _loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _retention_doubts(retention: Retention) -> Iterator[str]:
    if retention.ids < _SHORT_IDS:
        yield "retention.ids: below 30d a late repetition is published again as a new fax"


def _advice_doubts(overrides: Mapping[str, Override]) -> Iterator[str]:
    unconfirmed = overrides.get(Outcome.UNCONFIRMED)
    if unconfirmed is not None and unconfirmed.action in RESENDS:
        yield "advice.unconfirmed.action: such a fax has often arrived; who sends it again often delivers it twice"


def _endpoint_doubts(endpoint: Endpoint, now: datetime) -> Iterator[str]:
    if endpoint.insecure:
        yield "insecure = true"
    if _strength(endpoint) == 0 and endpoint.allow:
        yield "allow is the only protection: faxhook believes every request from these addresses"
    for index, token in enumerate(endpoint.tokens):
        if token.plain is not None and len(token.plain) < _GOOD_TOKEN_LENGTH:
            yield f"tokens[{index}]: shorter than {_GOOD_TOKEN_LENGTH} characters; see `faxhook secrets new`"
        if token.plain is not None and _PLACEHOLDER.fullmatch(token.plain):
            yield f"tokens[{index}]: looks like a placeholder; see `faxhook secrets new`"
    match endpoint.auth:
        case Digest():
            yield from _digest_doubts(endpoint.auth)
        case Signature():
            yield from _signature_doubts(endpoint.auth)
    for index, credential in enumerate(endpoint.auth.credentials):
        if _PLACEHOLDER.fullmatch(credential.password):
            yield f"auth.credentials[{index}].password: looks like a placeholder; see `faxhook secrets new`"
        if credential.not_after is not None and credential.not_after <= now:
            yield f"auth.credentials[{index}]: expired at {credential.not_after:%Y-%m-%d %H:%M} UTC"
        if credential.not_before is not None and credential.not_before > now:
            yield f"auth.credentials[{index}]: not valid before {credential.not_before:%Y-%m-%d %H:%M} UTC"
    for name, value in endpoint.reports.options.items() if endpoint.reports else ():
        if _PLACEHOLDER.fullmatch(value):
            yield f"reports.{name}: looks like a placeholder"


def _digest_doubts(auth: Digest) -> Iterator[str]:
    if auth.nonce_lifetime < _SHORT_NONCES:
        yield "auth.nonce_lifetime: below 30s slow clients are challenged again and again"
    if auth.nonce_lifetime > _LONG_NONCES:
        yield "auth.nonce_lifetime: above 1h; what has been used is remembered that long, and clients need minutes only"


def _signature_doubts(auth: Signature) -> Iterator[str]:
    if auth.header is not None and auth.timestamp_header is None:
        yield "auth.timestamp_header: without it, a callback that somebody has seen can be sent again for ever"
    if auth.tolerance > _LONG_TOLERANCE:
        yield "auth.tolerance: above 1h; a callback that somebody has seen can be sent again that long"
    for index, secret in enumerate(auth.secrets):
        if _PLACEHOLDER.fullmatch(secret):
            yield f"auth.secrets[{index}]: looks like a placeholder; see `faxhook secrets new --kind hmac`"


def _console_doubts(console: Console | None) -> Iterator[str]:
    for user in console.users if console else ():
        if _PLACEHOLDER.fullmatch(user.password):
            yield f"console.users: the password of {user.user} looks like a placeholder"
        elif not user.password.startswith(("scrypt:", "pbkdf2:")):
            yield (
                f"console.users: the password of {user.user} is quick to guess for who has this file; see"
                " `faxhook secrets hash --scrypt`"
            )


def _realm_doubts(endpoints: Iterable[Endpoint]) -> Iterator[str]:
    """Clients remember credentials by host and realm. Different providers are different clients."""
    first: dict[tuple[str, str], Endpoint] = {}
    for endpoint in endpoints:
        if endpoint.auth.mode not in ("basic", "digest"):
            continue
        earlier = first.setdefault((endpoint.provider, endpoint.auth.realm), endpoint)
        if {(one.user, one.password) for one in earlier.auth.credentials} != {
            (one.user, one.password) for one in endpoint.auth.credentials
        }:
            yield (
                f"endpoints.{endpoint.name}: auth.realm is that of endpoints.{earlier.name}, but the credentials are"
                " not; clients remember them by realm and may send the wrong ones"
            )


def _client_doubts(settings: Settings) -> Iterator[str]:
    own = [one.auth for one in settings.endpoints.values() if isinstance(one.auth, OAuth2) and one.auth.issuer == SELF]
    if settings.clients and not own:
        yield f'oauth2.clients: without an endpoint whose auth.issuer is "{SELF}" there are no tokens for them'
        return
    for name in settings.clients:
        if not any(name in (auth.allowed_clients or settings.clients) for auth in own):
            yield f"oauth2.clients.{name}: no endpoint allows this client"


def _account_doubts(endpoints: Iterable[Endpoint]) -> Iterator[str]:
    """An account is as safe as the weakest of its endpoints."""
    shared: dict[tuple[str, str | None], list[Endpoint]] = {}
    for endpoint in filter(_takes_callbacks, endpoints):
        shared.setdefault((endpoint.provider, endpoint.account), []).append(endpoint)
    for members in shared.values():
        strongest = max(members, key=_strength)
        for member in members:
            if _strength(member) < _strength(strongest):
                yield (
                    f"endpoints.{member.name}: weaker protection than endpoints.{strongest.name},"
                    " which shares its provider and account"
                )


def _takes_callbacks(endpoint: Endpoint) -> bool:
    return endpoint.takes_callbacks


def _strength(endpoint: Endpoint) -> int:
    if endpoint.auth.mode != "none" or endpoint.client_certificates:
        return 2
    return 1 if endpoint.tokens else 0
