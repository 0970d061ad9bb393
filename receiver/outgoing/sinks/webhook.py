"""
An HTTP endpoint: each event is a POST, signed as Standard Webhooks has it, and has arrived when the answer is 2xx.

An endpoint that takes some events and not another one is well: that one comes again later. One that takes nothing is
waited for, as long as it asks (Retry-After) or longer and longer. 410 says that it wants nothing more.
"""

import asyncio
import ipaddress
import ssl
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from receiver import __version__
from receiver.errors import BadValue, BrokerTrouble
from receiver.outgoing import formats, signing
from receiver.outgoing.broker_errors import diagnose, words
from receiver.outgoing.contract import GONE, Message, Result
from receiver.outgoing.formats import Packed
from receiver.outgoing.tls import client_context
from receiver.settings import Sink
from receiver.system.stopping import Stop

T = TypeVar("T")

ANSWER_SECONDS = 10.0  # for name, connection, TLS and the status
_CONNECT_SECONDS = 3.0  # to one of several addresses
_BODY_SECONDS = 1.0  # for the rest of an answer, of which nothing is needed
_AT_ONCE = 8  # requests, each of another fax
_LONGEST_ANSWER = 64 * 1024  # bytes that are read, so that the connection can be used again
_LONGEST_ASKED_SECONDS = 3600.0  # of Retry-After
_KEPT_SECONDS = 30.0  # an idle connection
_CLOSE_SECONDS = 1.0

# Status of an answer that is about the whole endpoint -> kind of the trouble; all other 5xx and 3xx are so as well.
_OF_THE_ENDPOINT = {
    401: "forbidden",
    403: "forbidden",
    404: "missing",
    405: "missing",
    407: "forbidden",
    408: "timeout",
}
_SLOW = frozenset({425, 429, 503})


def make(sink: Sink, _state_dir: Path) -> "Webhook":
    return Webhook(sink)


class Webhook:
    """See ``receiver.outgoing.contract``."""

    most = 64
    longest_delay = 300.0
    largest = None

    def __init__(self, sink: Sink) -> None:
        """Raises BadValue for a URL that cannot be one, and for certificates that cannot be used."""
        self._sink = sink
        self._host, self._port, self._place = _parts(sink)
        self._path = httpx.URL(sink.url).raw_path
        self._tls = _tls(sink)
        self._keys = [signing.key_of(secret) for secret in sink.secrets]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: httpx.AsyncClient | None = None

    def publish(self, messages: Sequence[Message]) -> Result:
        return self._run(_Batch(self).send(messages))

    def idle(self) -> None:
        """Nothing is needed: a connection that the other side has closed is opened again."""

    def close(self, stop: Stop) -> None:
        if self._loop is None:
            return
        if self._client is not None:
            with suppress(Exception):  # whatever it is: the connections are gone with the loop
                self._run(asyncio.wait_for(self._client.aclose(), _CLOSE_SECONDS))
        self._loop.close()
        self._loop = self._client = None

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(work)

    # --- one request -------------------------------------------------------------------------------------------------

    async def post(self, message: Message) -> httpx.Response:
        """The answer's status and headers. Raises BrokerTrouble."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._post(message)
        except BrokerTrouble:
            raise
        except (TimeoutError, httpx.TimeoutException) as error:
            raise self.trouble("timeout", error) from None
        except Exception as error:  # noqa: BLE001 - TLS, sockets and HTTP each have their own; none may hold the URL
            kind, said = diagnose(error, (httpx.TransportError,))
            raise BrokerTrouble(kind, error, f"{self._place}: {said}") from None
        await _drain(answer)
        return answer

    async def _post(self, message: Message) -> httpx.Response:
        if self._client is None:
            # No proxy of the environment's: it would resolve the name itself.
            limits = httpx.Limits(max_connections=_AT_ONCE, keepalive_expiry=_KEPT_SECONDS)
            verify: ssl.SSLContext | bool = self._tls or False
            timeout = httpx.Timeout(ANSWER_SECONDS, connect=_CONNECT_SECONDS)
            self._client = httpx.AsyncClient(verify=verify, timeout=timeout, limits=limits, trust_env=False)
        packed = formats.packed(message, self._sink.format)
        error: Exception | None = None
        for address in await self._addresses():
            url = httpx.URL(scheme=urlsplit(self._sink.url).scheme, host=address, port=self._port, raw_path=self._path)
            request = self._client.build_request(
                "POST",
                url,
                content=packed.body,
                headers=self._headers(message, packed),
                extensions={"sni_hostname": self._host},  # the certificate is to be for the name
            )
            try:
                return await self._client.send(request, stream=True, follow_redirects=False)
            except (httpx.ConnectError, httpx.ConnectTimeout) as failed:
                error = failed
        assert error is not None
        raise error

    async def _addresses(self) -> list[str]:
        """Where the name leads at this moment, and nowhere that it may not lead to."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=1)
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        if urlsplit(self._sink.url).scheme == "http":
            allowed = [one for one in addresses if not is_public(one)]
            said = "its address is a public one, to which nothing goes without TLS; expected https://"
        else:
            allowed = [one for one in addresses if self._sink.allow_private or is_public(one)]
            said = "its address is not a public one; `allow_private = true` allows that"
        if not allowed:
            raise BrokerTrouble("address", None, f"{self._place}: {said}")
        return allowed

    def _headers(self, message: Message, packed: Packed) -> dict[str, str]:
        default = {"https": 443, "http": 80}[urlsplit(self._sink.url).scheme]
        host = f"[{self._host}]" if ":" in self._host else self._host
        return {
            "Host": host if self._port == default else f"{host}:{self._port}",
            "Content-Type": packed.content_type,
            "User-Agent": f"faxhook/{__version__}",
            **signing.headers(self._keys, message.event_id, int(time.time()), packed.body),
            **{f"ce-{name}": value for name, value in packed.attributes.items()},
            **packed.headers,
        }

    def trouble(self, kind: str, error: BaseException | None = None, said: str | None = None) -> BrokerTrouble:
        return BrokerTrouble(kind, error, f"{self._place}: {said or words(kind)}")


async def _drain(answer: httpx.Response) -> None:
    """Read the rest of it, so that the connection can be used again; the status is all that matters."""
    read = 0
    try:
        with suppress(httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(_BODY_SECONDS):
                async for part in answer.aiter_raw():
                    read += len(part)
                    if read > _LONGEST_ANSWER:
                        break
    finally:
        with suppress(httpx.HTTPError):
            await answer.aclose()


class _Batch:
    """Some requests at a time, until the endpoint shows that it takes nothing."""

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook
        self._result = Result()
        self._failed: dict[str, BrokerTrouble] = {}  # event id -> what is the matter with the endpoint
        self._is_over = False
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def send(self, messages: Sequence[Message]) -> Result:
        await asyncio.gather(*map(self._one, messages))
        result = self._result
        if result.trouble is None and self._failed:
            if result.confirmed and result.wait_seconds is None:
                result.returned.update(self._failed)  # it is well, and something is the matter with these
            else:
                result.trouble = next(iter(self._failed.values()))
        if result.trouble is None and not result.confirmed and len(result.returned) > 1:
            result.trouble = self._webhook.trouble("failing", said="it answered 4xx to every event")
        return result

    async def _one(self, message: Message) -> None:
        async with self._slots:
            if self._is_over or (self._failed and not self._result.confirmed):
                return
            try:
                answer = await self._webhook.post(message)
            except BrokerTrouble as trouble:
                self._failed[message.event_id] = trouble
            else:
                self._judge(message, answer)

    def _judge(self, message: Message, answer: httpx.Response) -> None:
        status, result = answer.status_code, self._result
        if answer.is_success:
            result.confirmed.add(message.event_id)
        elif status == HTTPStatus.GONE:
            result.trouble = self._webhook.trouble(GONE, said="it answered 410: it wants no more events")
            self._is_over = True
        elif status in _SLOW:
            result.wait_seconds = max(result.wait_seconds or 0.0, retry_after(answer.headers.get("Retry-After", "")))
            self._failed[message.event_id] = self._webhook.trouble("slow", said=f"it answered {status}: not so fast")
            self._is_over = True
        elif status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            result.refused.add(message.event_id)
        elif status in _OF_THE_ENDPOINT or not 400 <= status < 500:
            kind = _OF_THE_ENDPOINT.get(status, "failing" if status >= 500 else "redirected")
            self._failed[message.event_id] = self._webhook.trouble(kind, said=f"it answered {status}")
        else:
            result.returned.add(message.event_id)


def retry_after(text: str) -> float:
    """Seconds, an hour at most; 0 where it cannot be read."""
    if text.isascii() and text.strip().isdigit():
        seconds = float(text.strip()[:9])
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), _LONGEST_ASKED_SECONDS)


def is_public(address: str) -> bool:
    """Also of an IPv4 address that stands inside one of IPv6."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None and not is_public(str(inner)):
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in one for one in _PRIVATE if one.version == ip.version)


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# What Python's table, which differs between its versions, takes for public: translation to private addresses, former
# forms of them, and the host agent of one cloud.
_PRIVATE = tuple(
    map(ipaddress.ip_network, ("64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96", "fec0::/10", "168.63.129.16/32"))
)


def _parts(sink: Sink) -> tuple[str, int, str]:
    """Host, port, and what may be shown of the URL: its path may be a secret."""
    parts = urlsplit(sink.url)
    try:
        port = parts.port or {"https": 443, "http": 80}[parts.scheme]
        httpx.URL(sink.url)
    except (ValueError, KeyError, httpx.InvalidURL):
        raise BadValue("expected a URL such as https://host/path") from None
    if not parts.hostname or "@" in parts.netloc or parts.fragment:
        raise BadValue("expected a URL such as https://host/path, without user and fragment")
    if parts.scheme == "http" and not sink.allow_private:
        raise BadValue("expected https://; http:// only beside allow_private = true")
    return httpx.URL(sink.url).raw_host.decode(), port, f"{parts.scheme}://{parts.netloc}"


def _tls(sink: Sink) -> ssl.SSLContext | None:
    return client_context(sink) if urlsplit(sink.url).scheme == "https" else None
