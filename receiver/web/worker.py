"""
gunicorn's worker: one loop that reads, answers and commits callbacks, and threads for what may take longer.

A round: what the poller says is read; requests that are completely there run through the Flask application, callbacks
to their hand-over to the store; one commit for all of these; then all answers. What may have to wait, what is large,
and all other paths run in the thread pool, once they are completely there: no thread ever waits for a sender, or for
one who is slow to take the answer.
"""

import errno
import os
import selectors
import sys
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gunicorn.workers.base import Worker as BaseWorker
from gunicorn.workers.gthread import PollableMethodQueue

from receiver.body import EXPECTED, LARGE, Expected
from receiver.logs import error_class, log, stderr
from receiver.system.waiting import WouldWait, without_waiting
from receiver.web.committing import Committing
from receiver.web.connections import Connection, Connections
from receiver.web.exchange import Exchange, Failed

_MOST_IN_A_ROUND = 64  # requests
_ROUND_SECONDS = 0.005
_NOT_PLAIN = frozenset({"TRANSFER-ENCODING", "EXPECT", "UPGRADE", "CONTENT-ENCODING"})
_TICK_SECONDS = 1.0
_NO_MORE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Worker(BaseWorker):  # type: ignore[misc]  # gunicorn has no types
    """Serves one process' requests."""

    @classmethod
    def check_config(cls, cfg: Any, _log: Any) -> None:
        """Called by gunicorn before it forks."""
        if cfg.is_ssl:
            sys.exit("faxhook speaks HTTP only: TLS ends in front of it")

    def init_process(self) -> None:
        self._poller = selectors.DefaultSelector()
        self._calls = PollableMethodQueue()  # from other threads
        self._calls.init()
        self._threads = ThreadPoolExecutor(self.cfg.threads, "request")
        self._committing = Committing(self._calls.defer)
        self._ready: deque[Connection] = deque()
        self._unread: list[Connection] = []
        self._answered: list[tuple[Connection, Exchange | Failed]] = []  # in this round
        self._is_accepting = False
        self._notified = 0.0
        super().init_process()

    def handle_exit(self, _signal: int, _frame: Any) -> None:
        self.alive = False
        self._calls.defer(lambda: None)  # wakes the poller

    def handle_quit(self, signal: int, frame: Any) -> None:
        self._threads.shutdown(wait=False)
        super().handle_quit(signal, frame)

    def run(self) -> None:
        from receiver import metrics  # not with the module: gunicorn loads it before the variable for metrics is set

        self._counting_together = metrics.together
        expected = getattr(self.wsgi, "extensions", {}).get(EXPECTED, Expected())
        self._connections = Connections(self.cfg, self._poller, expected, self._ready.append)
        self._poller.register(self._calls.fileno(), selectors.EVENT_READ, self._calls)
        while self.alive and os.getppid() == self.ppid:
            self._accept_while(self._connections.are_fewer_busy(self.cfg.worker_connections))
            self._round()
        self._stop()

    def _stop(self) -> None:
        """Answer what is there; the address is given up at once, or who connects would wait for nobody."""
        self.alive = False
        self._accept_while(False)
        for listener in self.sockets:
            listener.close()
        self._connections.stop()
        until = time.monotonic() + self.cfg.graceful_timeout
        while len(self._connections) and time.monotonic() < until:
            self._round()
        self._threads.shutdown(wait=False)
        self._committing.close()

    def _accept_while(self, is_wanted: bool) -> None:
        if is_wanted == self._is_accepting:
            return
        for listener in self.sockets:
            if is_wanted:
                listener.setblocking(False)
                self._poller.register(listener, selectors.EVENT_READ, None)
            else:
                self._poller.unregister(listener)
        self._is_accepting = is_wanted

    def _accept(self, listener: Any) -> None:
        """One a round, so that workers share what comes at once."""
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno in _NO_MORE:
                self._connections.close_one()  # or it would be tried again at once, and in vain
                log.error("connections_exhausted", error=error_class(error))
            return  # another worker has it, or its client has gone
        self._connections.add(sock, client, listener.getsockname())

    # --- a round -----------------------------------------------------------------------------------------------------

    def _round(self) -> None:
        if time.monotonic() - self._notified >= _TICK_SECONDS:
            self._notified = time.monotonic()
            self.notify()
        found = self._unread
        for key, _ in self._poller.select(self._pause()):
            if isinstance(key.data, Connection):
                found.append(key.data)
            elif key.data is self._calls:
                self._calls.run_callbacks(None)
            else:
                self._accept(key.fileobj)
        self._unread = self._read(dict.fromkeys(found))
        with stderr.together():
            with self._counting_together():  # and before anybody has an answer
                self._work()
            answered, self._answered = self._answered, []
            for connection, exchange in answered:
                self._connections.answer(connection, exchange.answer, closes=exchange.closes)
        self._connections.end_overdue()

    def _read(self, found: Iterable[Connection]) -> list[Connection]:
        """Those for which there was no time: they come first in the next round."""
        ends = time.monotonic() + _ROUND_SECONDS
        for_each = iter(found)
        for connection in for_each:
            self._connections.ready(connection)
            if time.monotonic() > ends:
                break
        return list(for_each)

    def _work(self) -> None:
        ends = time.monotonic() + _ROUND_SECONDS
        for _ in range(_MOST_IN_A_ROUND):
            if not self._ready or time.monotonic() > ends:
                break
            self._begin(self._ready.popleft())
        self._committing.commit()
        for connection, exchange in self._committing.finished():
            exchange.settle(is_last=self._is_last)
            self._answered.append((connection, exchange))

    def _pause(self) -> float:
        """How long the poller may wait, in seconds."""
        if self._ready or self._unread:
            return 0
        deadline = min(self._connections.next_deadline(), self._committing.next_deadline())
        longest = _TICK_SECONDS if self._is_accepting else _TICK_SECONDS / 10
        return min(max(deadline - time.monotonic(), 0), longest)

    @property
    def _is_last(self) -> bool:
        """Whether connections are closed after their answers."""
        return not self.alive or self._connections.are_many_idle

    def _begin(self, connection: Connection) -> None:
        self.nr += 1
        if self.nr >= self.max_requests:
            self.alive = False
        if _is_plain(connection):
            try:
                with without_waiting():
                    exchange = self._run(connection)
            except WouldWait:
                connection.arriving.body.seek(0)
            else:
                self._go_on(connection, exchange)
                return
        try:
            self._threads.submit(self._run_in_thread, connection)
        except RuntimeError as error:  # the system has no more threads
            self._go_on(connection, Failed(error))

    def _run(self, connection: Connection) -> Exchange | Failed:
        try:
            exchange = Exchange(self.cfg, connection.arriving.request, connection.client, connection.server)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are served on
            return Failed(error)
        exchange.run(self.wsgi, is_last=self._is_last)
        return exchange

    def _run_in_thread(self, connection: Connection) -> None:
        self._calls.defer(self._go_on, connection, self._run(connection))

    def _go_on(self, connection: Connection, exchange: Exchange | Failed) -> None:
        if isinstance(exchange, Exchange) and exchange.deferral is not None:
            self._committing.add(connection, exchange)
        else:
            self._answered.append((connection, exchange))


def _is_plain(connection: Connection) -> bool:
    """Whether it may run in the loop: a small callback, as providers send them, or the question whether we live."""
    arriving = connection.arriving
    request = arriving.request
    is_known = request.path.startswith("/callbacks/") if request.method == "POST" else request.path == "/healthz"
    return (
        is_known
        and arriving.is_plain
        and arriving.body.size <= LARGE
        and not arriving.body.trouble
        and _NOT_PLAIN.isdisjoint(name for name, _ in request.headers)
    )
