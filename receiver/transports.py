"""
Which message brokers there are, and what each of them promises.

Found by reading kombu 5.7's transports and by killing what they talk to: a publish that returns is not everywhere a
message that is kept.
"""

import importlib.util
import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from receiver.errors import BadValue

EMBEDDED = "embedded:"
# Schemes whose URLs name hosts -> the port where a URL names none.
_PORTS = {"amqp": 5672, "pyamqp": 5672, "amqps": 5671, "redis": 6379, "rediss": 6379}
_WITH_TLS = ("amqps", "rediss")


@dataclass(frozen=True, slots=True)
class Transport:
    """
    One of kombu's transports. guarantee: ``durable``, ``best effort`` or ``demo``; note: the reason, for operators.

    extra: of this distribution, that installs its client library. modules: what that library is imported as.
    largest: bytes of an event that it takes, where it is known to be little.
    """

    guarantee: str
    note: str
    extra: str | None = None
    modules: tuple[str, ...] = ()
    largest: int | None = None

    @property
    def is_installed(self) -> bool:
        try:
            return all(importlib.util.find_spec(module) for module in self.modules)
        except ModuleNotFoundError:  # of the package around it
            return False

    @property
    def speaks_amqp(self) -> bool:
        return self is _RABBITMQ


def _in_base64(limit: int) -> int:
    """What fits into a message of so many bytes the way kombu packs it, with 2 kB for its properties."""
    return (limit - 2048) * 3 // 4


_RABBITMQ = Transport("durable", "each event is confirmed by the broker before it counts as published")
_REDIS = Transport("best effort", "Redis confirms from memory, and may forget when it restarts", "redis", ("redis",))
_DEMO = "for trying out: events can be lost without any error"

# Scheme of queue.url -> what is behind it.
TRANSPORTS: Mapping[str, Transport] = {
    "amqp": _RABBITMQ,
    "amqps": _RABBITMQ,
    "pyamqp": _RABBITMQ,
    "sqs": Transport(
        "durable", "SQS answers when it has stored an event", "sqs", ("boto3", "pycurl"), _in_base64(256 * 1024)
    ),
    "azureservicebus": Transport(
        "durable", "Service Bus answers when it has an event", "azure", ("azure.servicebus",), _in_base64(256 * 1024)
    ),
    "azurestoragequeues": Transport(
        "durable",
        "the storage queue answers when it has an event",
        "azure",
        ("azure.storage.queue",),
        _in_base64(48 * 1024),
    ),
    "redis": _REDIS,
    "rediss": _REDIS,
    "filesystem": Transport("demo", _DEMO),
    "sqlalchemy": Transport("demo", _DEMO),
    "sqla": Transport("demo", _DEMO),
    "memory": Transport("demo", "events stay in the relay's memory, where nobody reads them"),
}

_KAFKA = "its publish returns before the broker has the event, and a broker that is away loses it without an error"
REFUSED: Mapping[str, str] = {
    "confluentkafka": _KAFKA,
    "kafka": _KAFKA,
    "gcpubsub": "it reports an event as published before the server has it, and forgets when that fails",
}


def scheme(url: str) -> str:
    """The scheme of the first of the URLs, which ``;`` may separate; kombu also takes ``sqla+postgresql://``."""
    return urlsplit(url.partition(";")[0]).scheme.lower().partition("+")[0]


def place(url: str) -> str:
    """The scheme and, where they are hosts, the hosts with their ports: what may be shown of a broker's URL."""
    name = scheme(url)
    if url == EMBEDDED or name not in _PORTS:
        return url if url == EMBEDDED else name
    return f"{name}://" + ", ".join(
        f"{_shown_host(one)}:{one.port or _PORTS[name]}" for one in map(urlsplit, _each(url))
    )


def _shown_host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    return f"[{host}]" if ":" in host else host


def _each(url: str) -> list[str]:
    """A broker with several hosts has a URL for each, with ``;`` between them."""
    return url.split(";")


def find(url: str) -> Transport:
    """The transport of a broker's URL. Raises KeyError where there is none we can vouch for."""
    return TRANSPORTS[scheme(url)]


def is_plain_http(url: str) -> bool:
    """Whether a URL of SQS names an endpoint without TLS, as substitutes for trying out are; never Amazon's own."""
    return scheme(url) == "sqs" and urlsplit(url).port not in (None, 443)


# --- hosts, and how their certificates are checked -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tls:
    """
    How the broker's certificate is checked, and which certificate is shown to it.

    ca_file: PEM; None for the system's authorities. certificate, key: PEM files of ours, for a broker that asks.
    """

    is_checked: bool = True
    is_host_checked: bool = True
    ca_file: str | None = None
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """One host of a broker. url: without parameters. tls: None where the connection is in the clear."""

    url: str
    host: str
    tls: Tls | None


def addresses(url: str) -> tuple[Address, ...]:
    """
    The hosts of a broker's URL in their order; where a URL names none, one address with the URL as it is.

    Raises ValueError where the URL cannot be read, and BadValue for parameters, which names the one that is wrong.
    """
    if scheme(url) in _PORTS:
        return tuple(map(_address, _each(url)))
    # After the last "@", since a key of Azure's may hold anything.
    dict(_parameters(scheme(url), url.rpartition("@")[2].partition("?")[2]))
    return (Address(url, "", None),)


def _address(url: str) -> Address:
    name = scheme(url)
    parts = urlsplit(url)
    # A "?" or "#" in a password that is not percent-encoded makes a host of the user's name.
    if parts.scheme != name or not parts.hostname or parts.port == 0 or parts.fragment or "@" in parts.query:
        raise ValueError
    if "redis" in name and not re.fullmatch("/?[0-9]*", parts.path):
        raise BadValue("expected the number of a database as the path, such as /0")
    tls = _tls(name, dict(_parameters(name, parts.query)))
    return Address(url.partition("?")[0], parts.hostname, tls)


def _parameters(name: str, query: str) -> Iterator[tuple[str, str]]:
    known = {one: PARAMETERS[one] for one in PARAMETERS if name in _WITH_TLS}
    seen = set()
    for pair in filter(None, query.split("&")):
        key, _, text = pair.partition("=")
        if key not in known:
            offered = f"{name}:// takes {', '.join(known)}" if known else f"{name}:// takes none"
            raise BadValue(f"unknown parameter {key if key.isidentifier() else 'in the URL'}; {offered}")
        expected, is_good = known[key]
        value = unquote(text)
        if key in seen or not is_good(value):
            why = _unreadable(value) if "PEM" in expected and key not in seen else ""
            raise BadValue(f"{key}: expected {expected}, once{why and f'; {why}'}")
        seen.add(key)
        yield key, value


def _tls(name: str, given: Mapping[str, str]) -> Tls | None:
    if name not in _WITH_TLS:
        return None
    certificate, key = given.get("ssl_certfile"), given.get("ssl_keyfile")
    if key and not certificate:
        raise BadValue("ssl_keyfile: expected ssl_certfile with it")
    if certificate and not _loads(lambda context: context.load_cert_chain(certificate, key, password=lambda: "")):
        raise BadValue("ssl_certfile: expected a certificate and, there or in ssl_keyfile, its key without a password")
    return Tls(
        is_checked=given.get("ssl_cert_reqs", "required").lower().removeprefix("cert_") == "required",
        is_host_checked=given.get("ssl_check_hostname", "true").lower() == "true",
        ca_file=given.get("ssl_ca_certs"),
        certificate=certificate,
        key=key,
    )


def _loads(load: Callable[[ssl.SSLContext], object]) -> bool:
    try:
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except (OSError, ValueError):  # an ssl.SSLError is an OSError
        return False
    return True


def _unreadable(path: str) -> str:
    """Why a PEM file cannot be used, as far as that can be seen from outside."""
    try:
        if not path.startswith("/"):
            return "it does not begin with /"
        if not Path(path).exists():
            return f"there is no file {path}"
        if not Path(path).is_file():
            return f"{path} is a folder" if Path(path).is_dir() else f"{path} is no file"
    except (OSError, ValueError):
        return "it cannot be looked at"
    if not os.access(path, os.R_OK):
        return f"this user may not read {path}"
    return f"{path} holds no certificate in PEM"


def _is_file(text: str) -> bool:
    try:
        return text.startswith("/") and Path(text).is_file()
    except (OSError, ValueError):
        return False


def _is_authority(text: str) -> bool:
    return _is_file(text) and _loads(lambda context: context.load_verify_locations(text))


# Parameter of amqps:// and rediss:// -> what it holds, and whether a value does. kombu's names for Redis.
PARAMETERS: Mapping[str, tuple[str, Callable[[str], bool]]] = {
    "ssl_ca_certs": ("the absolute path of a PEM file with the certificates of authorities", _is_authority),
    "ssl_certfile": ("the absolute path of a PEM file", _is_file),
    "ssl_keyfile": ("the absolute path of a PEM file", _is_file),
    "ssl_cert_reqs": (
        "required or none",
        lambda text: text.lower().removeprefix("cert_") in ("required", "none"),
    ),
    "ssl_check_hostname": ("true or false", lambda text: text.lower() in ("true", "false")),
}
