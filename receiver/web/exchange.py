"""One request that is completely there, run through the application; its answer as bytes, now or after its commit."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from gunicorn.http import errors as http
from gunicorn.http import wsgi
from gunicorn.http.wsgi import Response

from receiver.logs import error_class, log
from receiver.web.deferring import DEFER, Settled

if TYPE_CHECKING:
    from receiver.store.writer import Ticket, Writer

_STATUS_OF = {
    http.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    http.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    http.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    http.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
}

# Parse errors by class, but of our own answer or set-up.
_OURS = (http.InvalidResponseHeader, http.InvalidResponseHeaderName, http.ConfigurationProblem)


@dataclass(frozen=True, slots=True)
class Deferral:
    """An answer that waits for a commit."""

    writer: "Writer"
    ticket: "Ticket"
    settled: Settled


class Exchange:
    """
    The request, whose ``body`` has arrived, and its answer. client, server: the two addresses of its connection.

    After ``run``, and after ``settle`` where it was deferred, ``answer`` is what is to be sent, and ``closes`` whether
    the connection ends with it.
    """

    def __init__(self, cfg: Any, request: Any, client: Any, server: Any) -> None:
        self._sink = _Sink()
        # PEP 3333: gunicorn's environ and response, whose bytes are sent later
        self._response, self.environ = wsgi.create(request, self._sink, client, server, cfg, response_class=_Response)
        self.environ["wsgi.multithread"] = True
        self.environ[DEFER] = self._defer
        del self.environ["gunicorn.socket"]
        self.deferral: Deferral | None = None
        self.answer = b""
        self.closes = True

    def run(self, application: Any, *, is_last: bool) -> None:
        """is_last: the connection is closed after the answer. Raises WouldWait."""
        try:
            if is_last:
                self._response.force_close()
            self._write(application(self.environ, self._response.start_response))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is answered
            self._fail(error)

    def settle(self, *, is_last: bool) -> None:
        """The commit has happened, or is not waited for any longer."""
        assert self.deferral is not None
        settled, self.deferral = self.deferral.settled, None
        try:
            if is_last:
                self._response.force_close()
            self._write(settled()(self.environ, self._response.start_response))
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)

    def _defer(self, writer: "Writer", ticket: "Ticket", settled: Settled) -> Iterable[bytes]:
        self.deferral = Deferral(writer, ticket, settled)
        return ()

    def _write(self, content: Iterable[bytes]) -> None:
        try:
            if self.deferral is not None:
                return
            del self.environ[DEFER]  # which holds this, and this the environ: a body would stay until it is collected
            for piece in content:
                self._response.write(piece)
            self._response.close()
            self.answer = b"".join(self._sink.pieces)
            self.closes = self._response.should_close()
        finally:
            if hasattr(content, "close"):
                content.close()

    def _fail(self, error: Exception) -> None:
        self.deferral = None
        self.answer = refusal(error)
        self.closes = True


class Failed:
    """In the place of an exchange that could not even begin."""

    closes = True

    def __init__(self, error: Exception) -> None:
        self.answer = refusal(error)


class _Sink:
    """In the place of a socket."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.pieces.append(data)


class _Response(Response):  # type: ignore[misc]  # gunicorn has no types
    def should_close(self) -> bool:
        return bool(self.req.body.failed or super().should_close())


def status_of(error: Exception) -> HTTPStatus:
    if isinstance(error, http.ParseException) and not isinstance(error, _OURS):
        return _STATUS_OF.get(type(error), HTTPStatus.BAD_REQUEST)
    return HTTPStatus.INTERNAL_SERVER_ERROR


def refusal(error: Exception) -> bytes:
    """The answer to what never reached the application, or failed in it; told and counted. It ends the connection."""
    status = status_of(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request_failed", status=status.value, error=error_class(error))
    else:
        log.warning("request_refused", status=status.value, error=error_class(error))
    from receiver import metrics  # not with the module: gunicorn loads it before the variable for metrics is set

    metrics.count_request("-", status.value)
    code = "internal_error" if status == HTTPStatus.INTERNAL_SERVER_ERROR else "bad_request"
    problem = {"title": status.phrase, "status": status.value, "code": code, "detail": f"{status.phrase}."}
    body = json.dumps(problem).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nCache-Control: no-store\r\n"
        f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
