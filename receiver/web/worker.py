"""gunicorn's threaded worker, with a deadline for the request's head and errors that quote nothing."""

import json
import selectors
import time
import weakref
from collections import deque
from functools import partial
from http import HTTPStatus
from typing import Any

from gunicorn import util
from gunicorn.http import errors as http
from gunicorn.workers.gthread import ThreadWorker

from receiver.logs import error_class, log
from receiver.system.deadline import watchdog

# For a request's head, from its first byte on. Without it, as many stalled clients as there are threads stop the worker
# for good.
_HEAD_SECONDS = 10.0

# A connection that has sent nothing yet, or waits for its next request, is in the poller: it costs a file descriptor,
# and no thread. The limits stay well below the usual 1024 descriptors. Beyond the first, answers announce that they
# close the connection; beyond the second, the connection is closed that has been silent longest.
_IDLE_CONNECTIONS = 500
_SILENT_CONNECTIONS = 200
_BUSY_SECONDS = 0.25  # how long a connection counts as busy after it was opened or answered

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

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.max_keepalived = _IDLE_CONNECTIONS

    @property
    def worker_connections(self) -> int:
        """
        The number of open connections below which gunicorn accepts another one: the configured one is of busy ones.

        gunicorn counts idle ones too, and as many as the limit would stop the worker for as long as they are kept.
        """
        if self.nr_conns < self._busy_limit:
            return self._busy_limit
        busy_since = time.monotonic() + self.cfg.keepalive - _BUSY_SECONDS  # compared with when they are to be closed
        waiting = (self.keepalived_conns, self.pending_conns)
        return self._busy_limit + sum(len(conns) - _younger(conns, busy_since, self._busy_limit) for conns in waiting)

    @worker_connections.setter
    def worker_connections(self, busy_limit: int) -> None:
        self._busy_limit = busy_limit

    def enqueue_req(self, conn: Any) -> None:
        """Give the connection to a thread, but not before its first byte is there, as gunicorn would for 5 s."""
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        conn.set_timeout()
        conn.sock.setblocking(False)
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))
        if len(self.pending_conns) > _SILENT_CONNECTIONS:
            self.pending_conns[0].timeout = 0.0

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if (
            not enabled and not self.alive
        ):  # or who connects to a service that stops would wait until its last worker has gone
            for listener in self.sockets:
                listener.close()

    def _cap_keepalive(self, deadline: float) -> None:
        """A worker that stops closes silent connections as early as idle ones."""
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

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
        from receiver import metrics  # not with the module: gunicorn loads it before the variable for metrics is set

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


def _younger(conns: "deque[Any]", than: float, most: int) -> int:
    """How many of them time out after ``than``, ``most`` at most. The newest are at the right."""
    count = 0
    for conn in reversed(conns):
        if count == most or conn.timeout < than:
            break
        count += 1
    return count


def request_begins(_worker: Any, req: Any) -> None:
    """The head has been read; from here the body's own deadline counts. Lets ``receiver.body`` close the connection."""
    watchdog.release()
    # Weak, or each request and its body would be a cycle for the garbage collector.
    req.body.request = weakref.ref(req)
