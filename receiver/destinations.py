"""
Which kinds of sinks there are: one line for each, and its file in ``receiver.outgoing``.

Sinks are what ``[sinks.<name>]`` names. What is behind ``[queue]`` is in ``receiver.transports``.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

QUEUE = "queue"  # the sink that [queue] is
COMMON = ("url", "format", "filter", "from")  # keys that every sink has
TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_QUEUE = ("exchange", "queue", "declare")


@dataclass(frozen=True, slots=True)
class Kind:
    """
    module: its file, which has a function ``make``. url: what one looks like. takes: its keys beside the common ones.

    extra: of this distribution, that installs its client library. needs: what that library is imported as.
    """

    module: str
    url: str
    takes: tuple[str, ...] = ()
    extra: str | None = None
    needs: str | None = None

    @property
    def is_installed(self) -> bool:
        return self.needs is None or importlib.util.find_spec(self.needs) is not None


_HTTP = Kind("receiver.outgoing.sinks.webhook", "https://host/path", ("secrets", "allow_private", *TLS))
_NATS = Kind("receiver.outgoing.sinks.nats", "nats://host/subject", TLS, "nats", "nats")
_REDIS = Kind("receiver.outgoing.sinks.redis_streams", "redis-stream://host/0/key", TLS, "redis", "redis")
_KAFKA = Kind("receiver.outgoing.sinks.kafka", "kafka://host:9092/topic", TLS, "kafka", "confluent_kafka")
_SQS = Kind("receiver.outgoing.sinks.aws", "sqs:https://sqs.region.amazonaws.com/account/name.fifo", (), "aws", "boto3")
_SNS = Kind("receiver.outgoing.sinks.aws", "sns:arn:aws:sns:region:account:name.fifo", (), "aws", "boto3")
_RABBITMQ = Kind("receiver.outgoing.publisher", "amqp://user:password@host/vhost", _QUEUE)

# Scheme of the url -> what it is.
KINDS: Mapping[str, Kind] = {
    "amqp": _RABBITMQ,
    "amqps": _RABBITMQ,
    "https": _HTTP,
    "http": _HTTP,  # to a private address alone
    "nats": _NATS,
    "nats+tls": _NATS,
    "kafka": _KAFKA,
    "kafka+tls": _KAFKA,
    "sqs": _SQS,
    "sns": _SNS,
    "redis-stream": _REDIS,
    "rediss-stream": _REDIS,
}

_NOT_TRIED = "nobody has tried that yet; a sink needs an acknowledgement that was seen to hold"
REFUSED: Mapping[str, str] = {"gcpubsub": _NOT_TRIED, "azureservicebus": _NOT_TRIED, "azurestoragequeues": _NOT_TRIED}


def scheme(url: str) -> str:
    return url.partition(":")[0].lower()
