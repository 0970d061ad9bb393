"""
The HTTP client that reports are fetched with: a budget of requests, deadlines, bounded answers, and a few more tries.

Nothing it raises or logs holds a URL, a header or a body: credentials are in all three, and one provider echoes them.
"""

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from receiver.errors import ReportTrouble, Undecodable
from receiver.providers.shared.json_bodies import json_value
from receiver.system.backoff import Backoff
from schemas.repairing import Repair, repaired

# Imported where something is fetched: it brings rich and pygments, and every process imports the providers.
if TYPE_CHECKING:
    import httpx

LONGEST = 32 * 1024**2  # bytes of one answer that is read as a whole
_LONGEST_LINE = 64 * 1024
_TRIES = 3
_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_SILENT_SECONDS = 30.0  # between two pieces of what is sent or read
_DEADLINE_SECONDS = 300.0  # for all of an answer, however slowly it comes
_COME_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 520})


@dataclass(frozen=True, slots=True)
class Reply:
    """A provider's answer, whatever its status. body: at most 32 MiB."""

    status: int
    body: bytes = field(repr=False)
    content_type: str = ""

    def json(self, provider: str) -> Any:
        """
        The body as JSON, read as a callback's is, whatever its length; a repeated key has the list of its values.

        None of an empty body. ReportTrouble where it is none.
        """
        if not self.body.removeprefix(b"\xef\xbb\xbf").strip(b"\0 \t\r\n"):
            return None
        try:
            return json_value(self.body)
        except Undecodable as error:
            raise ReportTrouble(
                "unreadable", f"{provider} answered something that is not JSON: {error.detail}"
            ) from None


class Client:
    """
    For one account and one run. ``requests`` counts what was sent, further tries among it.

    wait: sleeps so many seconds, and says whether we are asked to end.
    """

    def __init__(self, provider: str, budget: int, wait: Callable[[float], bool]) -> None:
        import httpx

        self.provider = provider
        self.requests = 0
        self._budget = budget
        self._wait = wait
        # What goes without TLS goes to this machine only, and to no proxy.
        direct = {"http://": None}
        timeout = httpx.Timeout(_SILENT_SECONDS, connect=_CONNECT_SECONDS)
        self._http = httpx.Client(verify=_tls(), timeout=timeout, follow_redirects=False, mounts=direct)

    def close(self) -> None:
        self._http.close()

    def get(self, url: str, **sent: Any) -> Reply:
        """``send`` of a GET."""
        return self.send("GET", url, **sent)

    def post(self, url: str, **sent: Any) -> Reply:
        """``send`` of a POST."""
        return self.send("POST", url, **sent)

    def send(self, method: str, url: str, **sent: Any) -> Reply:
        """
        One request, tried again where the provider may be better in a moment.

        sent: headers, params, data, files, json or content as httpx takes them, auth: user and password for Basic, and
        explained: statuses of failures that the provider explains in the body, which are answers then.

        Answers that say the credentials are wrong (401, 403), that the provider is in trouble, or that lead elsewhere
        raise ReportTrouble; others are returned.
        """
        with self._answered(method, url, sent) as (answer, deadline):
            body = bytearray()
            for part in self._parts(answer, deadline):
                body += part
                if len(body) > LONGEST:
                    raise ReportTrouble(
                        "unreadable",
                        f"{self.provider}'s answer is longer than {LONGEST >> 20} MiB, and not read; tell the project",
                    )
            return Reply(answer.status_code, bytes(body), answer.headers.get("content-type", ""))

    def lines(self, url: str, **sent: Any) -> Iterator[bytes]:
        """
        The lines of the answer to a POST as they come, without their ends: for answers of any length.

        They end in LF or CR LF; in CR where nothing ends in LF, since one may stand within a line. A NUL is no part of
        a line: it is where a C string was sent with its end.
        """
        with self._answered("POST", url, sent) as (answer, deadline):
            if answer.status_code != HTTPStatus.OK:
                raise self.trouble(answer.status_code)
            end, rest = b"", b""
            for part in self._parts(answer, deadline):
                rest += part
                if not end and b"\n" in rest:
                    end = b"\n"
                elif not end and len(rest) > _LONGEST_LINE:
                    end = b"\r"
                if end:
                    *whole, rest = rest.split(end)
                    yield from map(_line, whole)
                if len(rest) > _LONGEST_LINE:
                    raise ReportTrouble("unreadable", f"{self.provider} answered a line of more than 64 KiB")
            yield from map(_line, filter(None, rest.split(b"\r" if end != b"\n" else b"\n")))

    def trouble(self, status: int) -> ReportTrouble:
        """What a status that nobody expected means."""
        name = self.provider
        if status in (401, 403):
            return ReportTrouble("refused", f"{name} refused the credentials ({status}); check the endpoint's reports")
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return ReportTrouble("overloaded", f"{name} asked for fewer requests ({status}); the next run goes on")
        if status >= 500:
            return ReportTrouble("failed", f"{name} failed ({status}); the next run tries again")
        return ReportTrouble("unreadable", f"{name} answered {status}; check the url of the endpoint's reports")

    # --- one answer, after some tries --------------------------------------------------------------------------------

    @contextmanager
    def _answered(self, method: str, url: str, sent: Mapping[str, Any]) -> Iterator[tuple["httpx.Response", float]]:
        """The answer, its body not yet read, and when reading must end."""
        answer = self._ask(method, url, sent)
        try:
            yield answer, time.monotonic() + _DEADLINE_SECONDS
        finally:
            answer.close()

    def _ask(self, method: str, url: str, sent: Mapping[str, Any]) -> "httpx.Response":
        import httpx

        backoff = Backoff(_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS, factor=4)
        content = dict(sent)
        auth = content.pop("auth", None)
        explained = content.pop("explained", frozenset())
        for attempt in range(1, _TRIES + 1):
            if self.requests >= self._budget:
                detail = f"the {self._budget} requests to {self.provider} for one run are used up; the next run goes on"
                raise ReportTrouble("budget", detail)
            self.requests += 1
            asked_for = 0.0
            try:
                request = self._http.build_request(method, url, **content)
                answer = self._http.send(request, auth=auth and httpx.BasicAuth(*auth), stream=True)
            except httpx.TimeoutException:
                trouble = ReportTrouble("timeout", f"{self.provider} did not answer in time; the next run tries again")
            except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeError):
                detail = (
                    f"the request to {self.provider} cannot be built; check the endpoint's reports for stray characters"
                )
                raise ReportTrouble("refused", detail) from None
            except httpx.HTTPError as error:
                detail = f"{self.provider} cannot be reached ({type(error).__name__}); check the network and the url"
                trouble = ReportTrouble("unreachable", detail)
            else:
                status = answer.status_code
                if status < 300 or (400 <= status < 500 and status not in _ALWAYS) or status in explained:
                    return answer
                trouble = self.trouble(answer.status_code)
                asked_for = _retry_after(answer.headers.get("retry-after", ""))
                answer.close()
                if answer.status_code not in _COME_AGAIN:
                    raise trouble
            if attempt == _TRIES or asked_for > _LONGEST_DELAY_SECONDS:
                raise trouble
            if self._wait(max(backoff.next(), asked_for)):
                raise ReportTrouble("interrupted", "stopped; the next run goes on")
        raise AssertionError  # the last try returns or raises

    def _parts(self, answer: "httpx.Response", deadline: float) -> Iterator[bytes]:
        import httpx

        late = ReportTrouble("timeout", f"{self.provider}'s answer took too long; ask for a shorter window")
        try:
            for part in answer.iter_bytes():
                if time.monotonic() > deadline:
                    raise late
                yield part
        except httpx.TimeoutException:
            raise late from None
        except httpx.HTTPError as error:
            detail = f"{self.provider}'s answer was cut off ({type(error).__name__}); the next run tries again"
            raise ReportTrouble("unreachable", detail) from None


def _line(line: bytes) -> bytes:
    """Without its end, be it that of a C string."""
    bare = line.rstrip(b"\x00\r")
    if b"\x00" in line[len(bare) :]:
        repaired(Repair.TRAILING_NUL)
    return bare


_ALWAYS = frozenset({401, 403, 408, 425, 429})  # never an answer that a report could read


def _retry_after(text: str) -> float:
    """Seconds that the provider asks us to wait; 0 where it does not say."""
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the certificates takes longer than most requests."""
    import httpx

    return httpx.create_ssl_context()
