"""
Which message brokers there are, and what each of them promises.

Found by reading kombu 5.7's transports and by killing what they talk to: a publish that returns is not everywhere a
message that is kept.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

EMBEDDED = "embedded:"
_WITH_HOSTS = ("amqp", "amqps", "pyamqp", "redis", "rediss")


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
    if url == EMBEDDED:
        return url
    name = scheme(url)
    if name not in _WITH_HOSTS:
        return name
    parts = map(urlsplit, url.split(";"))
    return f"{name}://" + ", ".join(f"{one.hostname}:{one.port}" if one.port else f"{one.hostname}" for one in parts)


def check_hosts(url: str) -> None:
    """Raise ValueError where host or port cannot be read, as with a password whose slashes are not encoded."""
    for one in map(urlsplit, url.split(";")) if scheme(url) in _WITH_HOSTS else ():
        if one.port == 0 or not one.hostname:
            raise ValueError


def find(url: str) -> Transport:
    """The transport of a broker's URL. Raises KeyError where there is none we can vouch for."""
    return TRANSPORTS[scheme(url)]


def is_plain_http(url: str) -> bool:
    """Whether a URL of SQS names an endpoint without TLS, as substitutes for trying out are; never Amazon's own."""
    return scheme(url) == "sqs" and urlsplit(url).port not in (None, 443)
