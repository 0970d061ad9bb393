"""
Kafka and what speaks its protocol: an event has arrived when its delivery report says so, from all in-sync replicas.

The fax is the key, so that its events are in one partition, in order. A producer that has met trouble is thrown away.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from confluent_kafka import KafkaError, KafkaException, Producer

from receiver.errors import BadValue, BrokerTrouble
from receiver.outgoing import formats
from receiver.outgoing.broker_errors import words
from receiver.outgoing.contract import Message, Result
from receiver.outgoing.tls import client_context
from receiver.settings import Sink
from receiver.system.stopping import Stop

_SILENT = logging.getLogger("faxhook.kafka")  # its lines hold hosts and names; what they say comes to error_cb as well
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False

REPORT_SECONDS = 10.0  # for a delivery report
_SLICE_SECONDS = 0.1
_ASKED_SECONDS = 1.0
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_URL = "expected kafka://host:9092,host:9092/topic"

_TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE, KafkaError.RECORD_LIST_TOO_LARGE})
_KINDS = {
    KafkaError._AUTHENTICATION: "forbidden",
    KafkaError.SASL_AUTHENTICATION_FAILED: "forbidden",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "forbidden",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "forbidden",
    KafkaError._SSL: "tls",
    KafkaError._TRANSPORT: "connection",
    KafkaError._ALL_BROKERS_DOWN: "connection",
    KafkaError._RESOLVE: "connection",
    KafkaError._TIMED_OUT: "timeout",
    KafkaError._MSG_TIMED_OUT: "timeout",
    KafkaError.REQUEST_TIMED_OUT: "timeout",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "missing",
    KafkaError._UNKNOWN_TOPIC: "missing",
    **dict.fromkeys(_TOO_LARGE, "refused"),
    KafkaError.NOT_ENOUGH_REPLICAS: "full",
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND: "full",
}


def make(sink: Sink, _state_dir: Path) -> "Kafka":
    return Kafka(sink)


class Kafka:
    """See ``receiver.outgoing.contract``."""

    most = 200
    longest_delay = 30.0
    largest = None  # the library knows its own limit, and the broker its own

    def __init__(self, sink: Sink) -> None:
        """Raises BadValue for a URL that cannot be one, and for certificates that cannot be used."""
        parts = urlsplit(sink.url)
        login, _, hosts = parts.netloc.rpartition("@")
        self._topic = unquote(parts.path.removeprefix("/"))
        self._form = sink.format
        self._place = f"{parts.scheme}://{hosts}"
        if not hosts or not self._topic or "/" in self._topic:
            raise BadValue(_URL)
        is_tls = parts.scheme == "kafka+tls"
        self._options: dict[str, Any] = {
            "bootstrap.servers": hosts,
            "client.id": "faxhook relay",
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 1,
            "socket.keepalive.enable": True,
            "security.protocol": f"{'SASL_' if login else ''}{'SSL' if is_tls else 'PLAINTEXT'}",
            **(_login(login, parts.query) if login else {}),
            **(_tls(sink) if is_tls else {}),
        }
        if parts.query and not login:
            raise BadValue("sasl= is expected beside user and password alone")
        self._producer: Any = None
        self._said: KafkaError | None = None  # what the client says beside reports

    def publish(self, messages: Sequence[Message]) -> Result:
        result = Result()
        reports = _Reports(result, len(messages))
        try:
            producer = self._opened()
            for message in messages:
                self._produce(producer, message, reports)
            deadline = time.monotonic() + REPORT_SECONDS
            while reports.left and time.monotonic() < deadline:
                producer.poll(_SLICE_SECONDS)
        except KafkaException as error:
            result.trouble = self._trouble(error.args[0], error)
        if result.trouble is None and (reports.error is not None or reports.left):
            result.trouble = self._trouble(reports.error or self._of_topic())
        if result.trouble is not None:
            self._discard()
        return result

    def idle(self) -> None:
        if self._producer is not None:
            self._producer.poll(0)

    def close(self, stop: Stop) -> None:
        self._discard()

    def _opened(self) -> Any:
        if self._producer is None:
            self._said = None
            milliseconds = round(REPORT_SECONDS * 1000)
            limits = {"message.timeout.ms": milliseconds, "socket.timeout.ms": milliseconds}
            self._producer = Producer({**self._options, **limits, "error_cb": self._note}, logger=_SILENT)
        return self._producer

    def _note(self, error: KafkaError) -> None:
        self._said = error

    def _produce(self, producer: Any, message: Message, reports: "_Reports") -> None:
        packed = formats.packed(message, self._form)
        headers = [("content-type", packed.content_type)]
        headers += [(f"ce_{name}", value) for name, value in packed.attributes.items()]
        headers += packed.headers.items()
        try:
            producer.produce(
                self._topic,
                packed.body,
                key=message.fax_id,
                headers=headers,
                on_delivery=lambda error, _: reports.note(message, error),
            )
        except KafkaException as error:
            if error.args[0].code() in _TOO_LARGE:  # the library says it of this message alone
                reports.refuse(message)
            else:
                reports.note(message, error.args[0])

    def _of_topic(self) -> KafkaError | None:
        """What is the matter with the topic, which is not said of a message for half a minute."""
        try:
            found = self._producer.list_topics(self._topic, timeout=_ASKED_SECONDS).topics.get(self._topic)
        except KafkaException:
            return None
        error: KafkaError | None = found.error if found is not None else None
        return error

    def _discard(self) -> None:
        """What is under way may still arrive, and comes once more then."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()

    def _trouble(self, error: KafkaError | None, raised: BaseException | None = None) -> BrokerTrouble:
        """A message that is not taken in time says nothing of why; what the client has said does."""
        kind = _KINDS.get(error.code(), "failing") if error is not None else "timeout"
        if kind == "timeout" and self._said is not None:
            kind = _KINDS.get(self._said.code(), kind)
        return BrokerTrouble(kind, raised, f"{self._place}: {words(kind)}")


class _Reports:
    """What became of each message of a batch."""

    def __init__(self, result: Result, count: int) -> None:
        self.left = count
        self.error: KafkaError | None = None
        self._result = result

    def note(self, message: Message, error: KafkaError | None) -> None:
        self.left -= 1
        if error is None:
            self._result.confirmed.add(message.event_id)
        else:
            # A broker says so of all that came in one piece, which may be too large though each of them is not.
            self._result.is_about_message |= error.code() in _TOO_LARGE
            self.error = error

    def refuse(self, message: Message) -> None:
        self.left -= 1
        self._result.refused.add(message.event_id)


def _login(login: str, query: str) -> dict[str, str]:
    user, _, password = login.partition(":")
    parameters = dict(parse_qsl(query))
    mechanism = parameters.pop("sasl", "PLAIN")
    if parameters or mechanism not in _MECHANISMS:
        raise BadValue(f"{_URL}?sasl= with one of {', '.join(_MECHANISMS)}")
    return {"sasl.mechanism": mechanism, "sasl.username": unquote(user), "sasl.password": unquote(password)}


def _tls(sink: Sink) -> dict[str, str]:
    client_context(sink)
    files = {
        "ssl.ca.location": sink.ca_file,
        "ssl.certificate.location": sink.certificate,
        "ssl.key.location": sink.key or sink.certificate,
    }
    return {name: str(file) for name, file in files.items() if file is not None}
