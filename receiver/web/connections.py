"""The connections of a worker: who sends, who waits, until when; each costs an entry in the poller, and no thread."""

import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import IntEnum
from typing import Any

from receiver.body import Arrived, Expected, most_drained
from receiver.web import arriving
from receiver.web.arriving import Arriving, Room
from receiver.web.exchange import Exchange, refusal

_READ = selectors.EVENT_READ
_WRITE = selectors.EVENT_WRITE
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PIECE = 64 * 1024  # bytes received at a time
_FIRST_PIECE = 16 * 1024  # while it is not known what comes
_CHUNKED_PIECE = 4096  # whose chunks may be of one byte each: 5 ms of work
_SENDING_SECONDS = 10.0  # for a client to take its answer
_LINGERING_SECONDS = 2.0  # for a client to read its answer and close: RFC 9112, 9.6
_EVER_SECONDS = 1e9
_STOP_SECONDS = 2.0  # a worker that stops waits for what may be on its way already
_BUSY_SECONDS = 0.25  # how long a connection counts as busy after it was opened or answered

# Well below the usual 1024 descriptors. Beyond the first, the one is closed that has been silent longest; beyond the
# second, answers announce that they close the connection; beyond the third, one is closed that nothing is lost with.
_MOST_SILENT = 200
_MOST_IDLE = 500
_MOST = 800


class Phase(IntEnum):
    """What a connection waits for."""

    SILENT = 0  # its first byte
    IDLE = 1  # the next request
    HEAD = 2
    BODY = 3
    IN_HAND = 4  # the answer, from us
    SENDING = 5  # that its client takes the answer
    LINGERING = 6  # that its client closes


class Connection:
    """buffer: bytes that were received and belong to no request yet."""

    __slots__ = ("arriving", "buffer", "client", "closes", "count", "outgoing", "phase", "server", "sock", "watched")

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any) -> None:
        self.sock = sock
        self.client = client
        self.server = server
        self.buffer = bytearray()
        self.count = 1
        self.arriving = Arriving(cfg, client, 1, self.buffer)
        self.phase = Phase.SILENT
        self.watched = 0
        self.outgoing = b""
        self.closes = False

    @property
    def piece(self) -> int:
        """How many bytes to receive at once: as many as can be read on without keeping others waiting."""
        if self.phase != Phase.BODY:
            return _FIRST_PIECE
        return _PIECE if self.arriving.is_plain else _CHUNKED_PIECE

    def begin_next(self, cfg: Any) -> None:
        self.count += 1
        self.arriving = Arriving(cfg, self.client, self.count, self.buffer)


class Connections:
    """
    complete: is called with each connection whose request is completely there, and ``answer`` once with it then.

    Nothing is read of a connection meanwhile, and a client that has gone changes nothing.
    """

    def __init__(self, cfg: Any, poller: Any, expected: Expected, complete: Callable[[Connection], None]) -> None:
        self._cfg = cfg
        self._poller = poller
        self._expected = expected
        self._complete = complete
        self._room = Room(most_drained(expected.max_body))
        self._seconds = {
            Phase.SILENT: float(cfg.keepalive),
            Phase.IDLE: float(cfg.keepalive),
            Phase.HEAD: arriving.HEAD_SECONDS,
            Phase.BODY: arriving.BODY_SECONDS,
            Phase.IN_HAND: _EVER_SECONDS,
            Phase.SENDING: _SENDING_SECONDS,
            Phase.LINGERING: _LINGERING_SECONDS,
        }
        # Each in the order in which their time ends.
        self._waiting: dict[Phase, dict[Connection, float]] = {phase: {} for phase in Phase}
        self._stop_at = float("inf")

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def are_many_idle(self) -> bool:
        return len(self._waiting[Phase.IDLE]) >= _MOST_IDLE

    def are_fewer_busy(self, than: int) -> bool:
        """
        Whether fewer connections than that were opened, answered or begun to send just now, or are answered since then.

        What takes longer, such as a store that is held, is no reason not to serve others.
        """
        if len(self) < than:
            return True
        since = time.monotonic() - _BUSY_SECONDS
        busy = 0
        for phase in (Phase.IN_HAND, Phase.SENDING, Phase.SILENT, Phase.IDLE, Phase.HEAD, Phase.BODY):
            young = since + self._seconds[phase]
            for deadline in reversed(self._waiting[phase].values()):
                if busy >= than or deadline < young:
                    break
                busy += 1
        return busy < than

    def add(self, sock: socket.socket, client: Any, server: Any) -> None:
        """Others are closed for it where there are too many."""
        if len(self._waiting[Phase.SILENT]) >= _MOST_SILENT:
            self._close(next(iter(self._waiting[Phase.SILENT])))
        elif len(self) >= _MOST:
            self.close_one()
        sock.setblocking(False)
        connection = Connection(self._cfg, sock, client, server)
        self._waiting[Phase.SILENT][connection] = time.monotonic() + self._seconds[Phase.SILENT]
        self._watch(connection, _READ)

    def close_one(self) -> None:
        """The one with which least is lost: a head comes at once, unless its sender is slow."""
        for phase in (Phase.LINGERING, Phase.HEAD, Phase.SILENT, Phase.IDLE, Phase.BODY):
            for connection in self._waiting[phase]:
                self._close(connection)
                return

    def stop(self) -> None:
        """Close what is silent or idle soon, and everything else once it is answered."""
        self._stop_at = time.monotonic() + _STOP_SECONDS

    # --- what happens to them ----------------------------------------------------------------------------------------

    def ready(self, connection: Connection) -> None:
        """The poller says that its client has sent something, or takes something."""
        phase = connection.phase
        if connection not in self._waiting[phase]:
            return  # closed in the same round
        if phase == Phase.IN_HAND:
            self._watch(connection, 0)  # looked at again when it is answered
        elif phase == Phase.SENDING:
            self._send(connection)
        else:
            try:
                data = connection.sock.recv(connection.piece)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if phase == Phase.LINGERING:
                if not data:
                    self._close(connection)
            elif data:
                connection.buffer += data
                self._read_on(connection)
            elif phase == Phase.BODY:
                self._end(connection, Arrived.CUT)
            else:
                self._close(connection)

    def _read_on(self, connection: Connection) -> None:
        arriving = connection.arriving
        try:
            if arriving.request is None:
                if not arriving.read_head():
                    self._enter(connection, Phase.HEAD)
                    return
                self._let_continue(connection)
            is_complete = arriving.read_body(self._expected.max_body, self._is_wanted(connection), self._room)
        except Exception as error:  # noqa: BLE001 - gunicorn's, of the head
            self._enter(connection, Phase.IN_HAND)
            self.answer(connection, refusal(error), closes=True)
            return
        if is_complete:
            self._enter(connection, Phase.IN_HAND)
            self._complete(connection)
        else:
            self._enter(connection, Phase.BODY)

    def _let_continue(self, connection: Connection) -> None:
        request = connection.arriving.request
        if request._expected_100_continue:
            request._expected_100_continue = False  # or gunicorn would say it again
            with suppress(OSError):  # found again when it is read
                connection.sock.send(_CONTINUE)

    def _is_wanted(self, connection: Connection) -> Callable[[Any], bool]:
        def ask(request: Any) -> bool:
            exchange = Exchange(self._cfg, request, connection.client, connection.server)
            return self._expected.is_wanted(exchange.environ)

        return ask

    def _end(self, connection: Connection, trouble: str) -> None:
        connection.arriving.end(trouble)
        self._enter(connection, Phase.IN_HAND)
        self._complete(connection)

    def answer(self, connection: Connection, data: bytes, *, closes: bool) -> None:
        """Send it, as fast as its client takes it; then the next request."""
        connection.arriving.release(self._room)
        connection.arriving.body.close()
        connection.outgoing = data
        connection.closes = closes
        self._send(connection)

    def _send(self, connection: Connection) -> None:
        try:
            sent = connection.sock.send(connection.outgoing)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(connection)
            return
        connection.outgoing = connection.outgoing[sent:]
        if connection.outgoing:
            self._enter(connection, Phase.SENDING)
            self._watch(connection, _WRITE)
        elif connection.closes:
            self._linger(connection)
        else:
            connection.begin_next(self._cfg)
            self._enter(connection, Phase.IDLE)
            self._watch(connection, _READ)
            if connection.buffer:
                self._read_on(connection)

    def _linger(self, connection: Connection) -> None:
        """Closed at once while its client sends, it would lose the answer."""
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)
            return
        self._enter(connection, Phase.LINGERING)
        self._watch(connection, _READ)

    # --- their time --------------------------------------------------------------------------------------------------

    def _enter(self, connection: Connection, phase: Phase) -> None:
        """Its time in a phase counts from when it entered it."""
        if connection.phase != phase:
            del self._waiting[connection.phase][connection]
            self._waiting[phase][connection] = time.monotonic() + self._seconds[phase]
            connection.phase = phase

    def next_deadline(self) -> float:
        return min(self._deadlines(), default=float("inf"))

    def _deadlines(self) -> Iterator[float]:
        for phase, waiting in self._waiting.items():
            for deadline in waiting.values():
                yield min(deadline, self._stop_at) if phase <= Phase.IDLE else deadline
                break

    def end_overdue(self) -> None:
        """Close those whose time is over; a request that was too slow is answered."""
        now = time.monotonic()
        for phase, waiting in self._waiting.items():
            while waiting:
                connection, deadline = next(iter(waiting.items()))
                if (min(deadline, self._stop_at) if phase <= Phase.IDLE else deadline) > now:
                    break
                if phase == Phase.BODY:
                    self._end(connection, Arrived.SLOW)
                else:
                    self._close(connection)

    def _watch(self, connection: Connection, events: int) -> None:
        if connection.watched == events:
            return
        if not events:
            self._poller.unregister(connection.sock)
        elif connection.watched:
            self._poller.modify(connection.sock, events, connection)
        else:
            self._poller.register(connection.sock, events, connection)
        connection.watched = events

    def _close(self, connection: Connection) -> None:
        self._watch(connection, 0)
        del self._waiting[connection.phase][connection]
        connection.arriving.release(self._room)
        connection.sock.close()
