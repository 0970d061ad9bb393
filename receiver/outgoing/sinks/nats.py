"""
NATS JetStream: an event has arrived when the stream's PubAck says so; ``Nats-Msg-Id`` lets the stream drop repetitions.

The stream is the operator's: nothing is made here, and where none has the subject that is trouble, not a loss.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js.errors import APIError, NoStreamResponseError

from receiver.errors import BadValue, BrokerTrouble
from receiver.outgoing import formats
from receiver.outgoing.broker_errors import diagnose, words
from receiver.outgoing.contract import Message, Result
from receiver.outgoing.tls import client_context
from receiver.settings import Sink
from receiver.system.stopping import Stop

T = TypeVar("T")

ACK_SECONDS = 10.0
_CONNECT_SECONDS = 3.0
_OPEN_SECONDS = 10.0  # name, connection, TLS and greeting together
_CLOSE_SECONDS = 1.0
_NO_ROOM = frozenset({10023, 10047, 10077})  # resources, storage, full
_TOO_LARGE = 10054  # for the stream

# What the server says when it does not let us in, or not there.
_FORBIDDEN = ("authorization violation", "user authentication", "permissions violation")


def make(sink: Sink, _state_dir: Path) -> "Nats":
    return Nats(sink)


class Nats:
    """See ``receiver.outgoing.contract``."""

    most = 200
    longest_delay = 30.0
    largest = None  # the server's limit is known when it is connected

    def __init__(self, sink: Sink) -> None:
        """Raises BadValue for a URL that cannot be one, and for certificates that cannot be used."""
        parts = urlsplit(sink.url)
        self._form = sink.format
        self._subject = unquote(parts.path.removeprefix("/"))
        if not parts.hostname or not self._subject or any(one in self._subject for one in " */>?") or parts.query:
            raise BadValue("expected nats://host/subject, with one subject and no wildcards")
        self._place = f"{parts.scheme}://{parts.hostname}:{parts.port or 4222}"
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        self._options: dict[str, Any] = {"token": user} if user and not parts.password else {}
        if parts.password is not None:
            self._options = {"user": user, "password": password}
        if parts.scheme == "nats+tls":
            self._options |= {"tls": client_context(sink), "tls_hostname": parts.hostname}
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._server = f"{'tls' if parts.scheme == 'nats+tls' else 'nats'}://{host}:{parts.port or 4222}"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Any = None
        self._lost = asyncio.Event()
        self._said: BaseException | None = None  # what the server says beside answers

    def publish(self, messages: Sequence[Message]) -> Result:
        result = Result()
        try:
            self._run(self._publish(messages, result))
        except BrokerTrouble as trouble:
            result.trouble = trouble
            self._discard()
        return result

    def idle(self) -> None:
        if self._connection is None:
            return
        self._run(asyncio.sleep(0.001))  # its pings are answered meanwhile
        if self._lost.is_set():
            self._discard()
            raise self._trouble("connection")

    def close(self, stop: Stop) -> None:
        self._discard()
        if self._loop is not None:
            self._loop.close()
        self._loop = None

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(work)

    def _discard(self) -> None:
        if self._connection is not None:
            self._run(self._leave())

    async def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with suppress(Exception):  # it is broken, and so may be what takes it down
            async with asyncio.timeout(_CLOSE_SECONDS):
                await connection.close()
        with suppress(Exception):
            connection._transport.close()  # which close() forgets of a connection that failed or was lost
        await asyncio.sleep(0.01)  # the socket goes in the loop's next rounds

    async def _publish(self, messages: Sequence[Message], result: Result) -> None:
        await asyncio.sleep(0.001)  # what came meanwhile is looked at, such as the end of the connection
        if self._connection is None or self._lost.is_set():
            await self._leave()
            await self._open()
        stream = self._connection.jetstream()
        sent = asyncio.gather(*(self._one(stream, message, result) for message in messages))
        lost = asyncio.ensure_future(self._lost.wait())
        await asyncio.wait((sent, lost), return_when=asyncio.FIRST_COMPLETED)
        lost.cancel()
        if not sent.done():
            sent.cancel()
            with suppress(asyncio.CancelledError):
                await sent
            raise self._trouble("connection", self._said)
        for trouble in filter(None, sent.result()):
            raise trouble

    async def _open(self) -> None:
        self._said, self._lost = None, asyncio.Event()
        self._connection = Client()  # before it is connected: of one that fails, the library leaves the socket open
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await self._connection.connect(
                    self._server,
                    name="faxhook relay",
                    connect_timeout=_CONNECT_SECONDS,
                    allow_reconnect=False,
                    error_cb=self._note,
                    disconnected_cb=self._end,
                    closed_cb=self._end,
                    **self._options,
                )
        except Exception as error:  # noqa: BLE001 - the library's, TLS's and the socket's
            raise self._diagnosed(self._said or error) from None

    async def _note(self, error: Exception) -> None:
        self._said = error

    async def _end(self) -> None:
        self._lost.set()

    async def _one(self, stream: Any, message: Message, result: Result) -> BrokerTrouble | None:
        packed = formats.packed(message, self._form)
        headers = {
            "Nats-Msg-Id": message.event_id,
            "Content-Type": packed.content_type,
            **{f"ce-{name}": value for name, value in packed.attributes.items()},
            **packed.headers,
        }
        try:
            await stream.publish(self._subject, packed.body, timeout=ACK_SECONDS, headers=headers)
        except MaxPayloadError:
            result.refused.add(message.event_id)
        except NoStreamResponseError as error:
            return self._trouble("unroutable", error, f"no stream has the subject {self._subject}")
        except APIError as error:
            if error.err_code == _TOO_LARGE:
                result.refused.add(message.event_id)
                return None
            kind = "full" if error.err_code in _NO_ROOM else "failing"
            return self._trouble(kind, error)
        except Exception as error:  # noqa: BLE001 - the library's and the socket's
            return self._diagnosed(self._said or error)
        else:
            result.confirmed.add(message.event_id)
        return None

    def _diagnosed(self, error: BaseException) -> BrokerTrouble:
        if any(words_of in str(error).lower() for words_of in _FORBIDDEN):
            return self._trouble("forbidden", error)
        if isinstance(error, TimeoutError):
            return self._trouble("timeout", error)
        kind, said = diagnose(error, (NatsError,))
        return self._trouble(kind, error, said)

    def _trouble(self, kind: str, error: BaseException | None = None, said: str | None = None) -> BrokerTrouble:
        return BrokerTrouble(kind, error, f"{self._place}: {said or words(kind)}")
