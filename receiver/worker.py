"""gunicorn's threaded worker, with a deadline for the request's head and errors that quote nothing."""

import json
import time
import weakref
from http import HTTPStatus
from typing import Any

from gunicorn import util
from gunicorn.http import errors as http
from gunicorn.workers.gthread import ThreadWorker

from receiver.deadline import watchdog
from receiver.logs import error_class, log

# gunicorn waits up to 5 s of these for the first byte and then takes the connection off the thread; what remains is
# for the rest of the head. Without it, as many silent clients as there are threads stop the worker for good.
_HEAD_SECONDS = 10.0

_STATUS_OF = {
    http.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    http.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    http.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    http.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
}

# Parse errors by class, but of our own answer or set-up.
_OURS = (http.InvalidResponseHeader, http.InvalidResponseHeaderName, http.ConfigurationProblem)


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Serves one process' requests; ``request_begins`` is its counterpart in gunicorn's ``pre_request`` hook."""

    def handle(self, conn: Any) -> Any:
        watchdog.guard(conn.sock, time.monotonic() + _HEAD_SECONDS)
        try:
            return super().handle(conn)
        finally:
            watchdog.release()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answer what gunicorn itself refuses. Its own version repeats the request in log and answer."""
        if isinstance(exc, http.ParseException) and not isinstance(exc, _OURS):
            status = _STATUS_OF.get(type(exc), HTTPStatus.BAD_REQUEST)
            log.warning("request_refused", status=status.value, error=error_class(exc))
        else:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            log.error("request_failed", status=status.value, error=error_class(exc))
        from receiver import metrics  # not with the module, which the master loads too: its files are for workers

        metrics.requests.labels("-", str(status.value)).inc()
        code = "internal_error" if status == HTTPStatus.INTERNAL_SERVER_ERROR else "bad_request"
        problem = {"status": status.value, "code": code, "detail": f"{status.phrase}."}
        body = json.dumps(problem).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nCache-Control: no-store\r\n"
            f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            util.write_nonblock(client, head.encode() + body)
        except OSError:
            return  # the client has gone


def request_begins(_worker: Any, req: Any) -> None:
    """The head has been read; from here the body's own deadline counts. Lets ``receiver.body`` close the connection."""
    watchdog.release()
    # Weak, or each request and its body would be a cycle for the garbage collector.
    req.body.request = weakref.ref(req)
