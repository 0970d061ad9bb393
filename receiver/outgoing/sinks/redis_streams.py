"""
Redis Streams: an event has arrived when XADD has given it an id and, where the server knows WAITAOF (7.2), its log of
commands is on the disk.

An older server answers from memory. So what it does to keep its data is asked, and said in ``queue_durability``.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import redis

from receiver.errors import BadValue, BrokerTrouble
from receiver.logs import log
from receiver.outgoing import formats
from receiver.outgoing.broker import KEPT, REDIS_SETTINGS
from receiver.outgoing.broker_errors import diagnose
from receiver.outgoing.contract import Message, Result
from receiver.outgoing.tls import client_context
from receiver.settings import Sink
from receiver.system.stopping import Stop

CONNECT_SECONDS = 3.0
SOCKET_SECONDS = 10.0
_SYNC_MS = 8000  # for the disk; below SOCKET_SECONDS, so that the answer comes


def make(sink: Sink, _state_dir: Path) -> "RedisStream":
    return RedisStream(sink)


class RedisStream:
    """See ``receiver.outgoing.contract``."""

    most = 200
    longest_delay = 30.0
    largest = None

    def __init__(self, sink: Sink) -> None:
        """Raises BadValue for a URL that cannot be one, and for certificates that cannot be used."""
        parts = urlsplit(sink.url)
        database, _, key = parts.path.removeprefix("/").partition("/")
        if not parts.hostname or not database.isdigit() or not key or parts.query:
            raise BadValue("expected redis-stream://host/0/key: the number of a database, and the stream's key")
        self._form = sink.format
        self._name = sink.name
        self._key = unquote(key)
        self._place = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}"
        self._options: dict[str, Any] = {
            "host": parts.hostname,
            "port": parts.port or 6379,
            "db": int(database),
            "username": unquote(parts.username) if parts.username else None,
            "password": unquote(parts.password) if parts.password else None,
            "client_name": "faxhook-relay",
            "protocol": 2,
        }
        if parts.scheme == "rediss-stream":
            client_context(sink)
            files = {"ssl_ca_certs": sink.ca_file, "ssl_certfile": sink.certificate, "ssl_keyfile": sink.key}
            self._options |= {"ssl": True, **{name: str(file) for name, file in files.items() if file is not None}}
        self._client: Any = None
        self._syncs = False  # the server knows WAITAOF, and has a log to wait for
        self._is_described = False

    def publish(self, messages: Sequence[Message]) -> Result:
        result = Result()
        try:
            if self._client is None:
                self._open()
            self._send(messages, result)
        except BrokerTrouble as trouble:
            result.confirmed.clear()
            result.trouble = trouble
            self._discard()
        except Exception as error:  # noqa: BLE001 - the library's, TLS's and the socket's
            kind, said = diagnose(error, (redis.RedisError,))
            result.confirmed.clear()
            result.trouble = BrokerTrouble(kind, error, f"{self._place}: {said}")
            self._discard()
        return result

    def idle(self) -> None:
        """Nothing is needed: a connection that is gone is noticed with the next batch."""

    def close(self, stop: Stop) -> None:
        self._discard()

    def _open(self) -> None:
        no_retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        self._client = redis.Redis(
            **self._options,
            socket_timeout=SOCKET_SECONDS,
            socket_connect_timeout=CONNECT_SECONDS,
            retry=no_retry,
            single_connection_client=True,
        )
        kept = self._kept()
        self._syncs = kept["appendonly"] != "no" and self._knows_waitaof()
        if not self._is_described:
            is_safe = self._syncs or kept == KEPT
            (log.info if is_safe else log.warning)("queue_durability", sink=self._name, **kept)
        self._is_described = True

    def _kept(self) -> dict[str, str]:
        """How it keeps what it takes; each "unknown" where we may not ask."""
        return {key: self._configured(name) for key, name in REDIS_SETTINGS.items()}

    def _configured(self, name: str) -> str:
        try:
            return str(self._client.config_get(name).get(name, "unknown"))
        except redis.ResponseError:
            return "unknown"

    def _knows_waitaof(self) -> bool:
        try:
            self._client.execute_command("WAITAOF", 1, 0, 1)  # nothing is written yet, so nothing is waited for
        except redis.ResponseError:  # an unknown command, one that the user may not give, or there is no log
            return False
        return True

    def _send(self, messages: Sequence[Message], result: Result) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for message in messages:
            pipeline.xadd(self._key, self._fields(message))
        if self._syncs:
            pipeline.execute_command("WAITAOF", 1, 0, _SYNC_MS)
        answers = pipeline.execute(raise_on_error=False)
        if self._syncs:
            synced = answers.pop()
            if isinstance(synced, Exception):
                raise synced
            if synced[0] < 1:
                raise BrokerTrouble("timeout", None, f"{self._place}: its disk is slow; the log is not written in time")
        failed = None
        for message, answer in zip(messages, answers, strict=True):
            if isinstance(answer, Exception):
                failed = answer
            else:
                result.confirmed.add(message.event_id)
        if failed is not None:
            kind, said = diagnose(failed, (redis.RedisError,))
            result.trouble = BrokerTrouble(kind, failed, f"{self._place}: {said}")
            self._discard()

    def _fields(self, message: Message) -> dict[str, str | bytes]:
        packed = formats.packed(message, self._form)
        beside = {f"ce_{name}": value for name, value in packed.attributes.items()} | dict(packed.headers)
        return {"id": message.event_id, "content_type": packed.content_type, "body": packed.body, **beside}

    def _discard(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):  # it is broken, and so may be what takes it down
                client.close()
