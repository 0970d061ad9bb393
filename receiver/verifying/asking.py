"""Requests to a consumer, as the webhook sink makes them, and its answers."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

import httpx

from receiver import __version__
from receiver.outgoing import signing
from schemas.encoding import compact
from schemas.envelope import CONTENT_TYPE

AT_ONCE = 8  # requests, as a sink makes them
_LONGEST_ANSWER = 64 * 1024  # bytes that are read
_PATIENCE = 3  # so many times the time that an answer may take is waited for it
_NOT_OUR_FAULT = frozenset({408, 425, 429})  # these mean: later; and 410: never again


@dataclass(frozen=True, slots=True)
class Request:
    """name: what it is, for people."""

    name: str
    body: bytes
    headers: dict[str, str]

    def with_headers(self, name: str, **changed: str | None) -> "Request":
        """Other values of some headers, underscores for hyphens; None: without it."""
        named = {key.replace("_", "-"): value for key, value in changed.items()}
        headers = {key: value for key, value in {**self.headers, **named}.items() if value is not None}
        return replace(self, name=name, headers=headers)


@dataclass(frozen=True, slots=True)
class Answer:
    """status: None where none came, and trouble says why."""

    request: Request
    status: int | None
    seconds: float
    trouble: str | None = None

    @property
    def said(self) -> str:
        return f"{self.request.name}: " + (f"answered {self.status}" if self.status else str(self.trouble))


class Consumer:
    """limit: seconds in which it should answer."""

    def __init__(self, url: str, secret: str, limit: float) -> None:
        self.limit = limit
        self._url = url
        self._key = signing.key_of(secret)
        waits = httpx.Timeout(_PATIENCE * limit)
        limits = httpx.Limits(max_connections=AT_ONCE)
        self._client = httpx.Client(timeout=waits, limits=limits, trust_env=False, follow_redirects=False)

    def close(self) -> None:
        self._client.close()

    def request(self, event: dict[str, Any], name: str = "the event", *, age: int = 0, key: bytes = b"") -> Request:
        """Signed so many seconds ago; key: another one than the consumer's."""
        body = compact(event).encode()
        signed = signing.headers([key or self._key], event["id"], int(time.time()) - age, body)
        return Request(name, body, {"Content-Type": CONTENT_TYPE, "User-Agent": f"faxhook/{__version__}", **signed})

    def ask(self, *requests: Request) -> list[Answer]:
        """One after the other."""
        return [self._ask(request) for request in requests]

    def ask_at_once(self, requests: Sequence[Request]) -> list[Answer]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self._ask, requests))

    def _ask(self, request: Request) -> Answer:
        started = time.monotonic()
        status, trouble = None, None
        try:
            # Nothing but the status matters, and the rest may be endless.
            with self._client.stream("POST", self._url, content=request.body, headers=request.headers) as answer:
                status = answer.status_code
                length = answer.headers.get("Content-Length", "")
                if length.isdecimal() and int(length) <= _LONGEST_ANSWER:
                    answer.read()  # so that the connection is used again
        except httpx.TimeoutException:
            trouble = f"no answer within {_PATIENCE * self.limit:g} s"
        except httpx.HTTPError as error:
            trouble = f"no answer ({error or type(error).__name__})"
        return Answer(request, status, time.monotonic() - started, trouble)


def taken(answers: Sequence[Answer]) -> str | None:
    """The first that is not 2xx, in words; None: all are."""
    wrong = (one for one in answers if one.status is None or not HTTPStatus(200) <= one.status < 300)
    return next((f"{one.said}; expected 2xx" for one in wrong), None)


def refused(answers: Sequence[Answer]) -> str | None:
    """The first that is no refusal for good."""
    for one in answers:
        if one.status == HTTPStatus.GONE:
            return f"{one.said}, which stops the sink for good; expected 401 or another 4xx"
        if one.status is None or not 400 <= one.status < 500 or one.status in _NOT_OUR_FAULT:
            return f"{one.said}; expected 401 or another 4xx"
    return None


def in_time(answers: Sequence[Answer], limit: float) -> str | None:
    """The first that was too slow."""
    slow = (one for one in answers if one.seconds > limit)
    return next((f"{one.request.name}: took {one.seconds:.1f} s; expected {limit:g} s at most" for one in slow), None)
