"""The plan's callbacks over real HTTP, and what became of them."""

import http.client
import json
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message

from receiver.simulator.authenticating import NoToken, Session
from receiver.simulator.faults import Manner
from receiver.simulator.plan import Delivery, Plan
from receiver.simulator.targets import Target
from receiver.simulator.unanswered import why

_TIMEOUT_SECONDS = 30.0
_ATTEMPTS = 3  # without credentials, with them, and with another nonce


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What became of one callback. status: 0 where no answer came, and word then says why.

    word: what the answer says became of the callback, or the code of a refusal. expected: the status of the refusal
    that a fault must get, None for a 2xx. is_good: as expected, and a repetition was taken for one.
    """

    delivery: Delivery
    is_copy: bool
    status: int
    word: str
    expected: int | None
    is_good: bool
    milliseconds: float


@dataclass(slots=True)
class Report:
    """
    sent: callbacks, repetitions among them. answers: by status and word. is_cut: stopped by Ctrl-C.

    good: answered as expected. missed: repetitions that got a 2xx, and were taken for something new.
    """

    sent: int = 0
    good: int = 0
    missed: int = 0
    is_cut: bool = False
    seconds: float = 0.0
    answers: Counter[tuple[int, str]] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)

    def add(self, reply: Reply) -> None:
        self.sent += 1
        self.good += reply.is_good
        self.missed += reply.is_copy and reply.expected is None and 200 <= reply.status < 300 and not reply.is_good
        self.answers[reply.status, reply.word] += 1
        self.milliseconds.append(reply.milliseconds)

    def accepted(self) -> int:
        """The number of 2xx."""
        return sum(count for (status, _), count in self.answers.items() if 200 <= status < 300)

    def percentile(self, share: float) -> float:
        """In milliseconds; 0 where nothing was sent."""
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def send(
    plan: Plan, *, rate: float | None = None, parallel: int = 1, told: Callable[[Reply], object] = lambda _: None
) -> Report:
    """
    Send a plan's callbacks; told is given each reply, one at a time.

    rate: callbacks a second, repetitions among them; None: as fast as the server answers. parallel: how many at once,
    each over a connection of its own that is kept alive. A callback that is repeated is sent again when it has been
    answered.
    """
    report = Report()
    queue = _Queue(plan.deliveries(), rate)
    mutex = threading.Lock()
    failures: list[BaseException] = []

    def work() -> None:
        line = _Line()
        try:
            while (delivery := queue.next()) is not None:
                reply = line.post(delivery)
                replies = [reply]
                if delivery.is_repeated and reply.is_good and queue.wait():
                    replies.append(line.post(delivery, after=reply))
                with mutex:
                    for one in replies:
                        report.add(one)
                        told(one)
        except BaseException as error:  # noqa: BLE001 - raised again below, where it is seen
            failures.append(error)
            queue.stop()
        finally:
            line.close()

    started = time.monotonic()
    threads = [threading.Thread(target=work, name=f"simulate-{index}", daemon=True) for index in range(parallel)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        report.is_cut = True
        queue.stop()  # what is under way ends, nothing new begins
        for thread in threads:
            thread.join()
    report.seconds = time.monotonic() - started
    if failures:
        raise failures[0]
    return report


class _Queue:
    """Hands out the callbacks, each when it is due."""

    def __init__(self, deliveries: Iterator[Delivery], rate: float | None) -> None:
        self._deliveries = deliveries
        self._interval = 1 / rate if rate else 0.0
        self._due = time.monotonic()
        self._mutex = threading.Lock()
        self._stopped = threading.Event()

    def next(self) -> Delivery | None:
        if not self.wait():
            return None
        with self._mutex:
            return next(self._deliveries, None)

    def wait(self) -> bool:
        """Return when the next callback is due; False: there shall be none."""
        with self._mutex:
            due, self._due = self._due, self._due + self._interval
        return not self._stopped.wait(max(0.0, due - time.monotonic()))

    def stop(self) -> None:
        self._stopped.set()


@dataclass(frozen=True, slots=True)
class _Request:
    """One callback as it goes out, but for what shows who calls."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def of(cls, delivery: Delivery) -> "_Request":
        raw, fault = delivery.raw, delivery.fault
        path = delivery.target.path + (f"/r/{raw.reference}" if raw.reference else "")
        path += ("&" if "?" in path else "?") + raw.query.decode("latin-1") if raw.query else ""
        headers = {"User-Agent": "faxhook-simulate"}
        if raw.content_type:
            headers["Content-Type"] = raw.content_type
        method = "GET" if raw.query and not raw.body else "POST"
        if fault is not None:
            method = fault.method or method
            headers |= fault.headers
        return cls(method, path, headers, raw.body)


class _Line:
    """The connections of one thread, one for each server, and what each endpoint has told it to show."""

    def __init__(self) -> None:
        self._connections: dict[tuple[bool, str, int], http.client.HTTPConnection] = {}
        self._sessions: dict[str, Session] = {}
        self._last: Mapping[str, str] = {}  # what was shown

    def post(self, delivery: Delivery, *, after: Reply | None = None) -> Reply:
        """after: the reply to the same callback, where this one repeats it."""
        started = time.perf_counter()
        try:
            status, body = self._ask(delivery, is_replay=after is not None and _manner(delivery) is Manner.TWICE)
            word = _word(status, body)
        except NoToken as error:
            status, word = 0, str(error)
            self.close()
        except (OSError, http.client.HTTPException) as error:
            hint = "; start `faxhook serve`" if isinstance(error, ConnectionRefusedError) else ""
            status, word = 0, why(error, delivery.target.host, delivery.target.port) + hint
            self.close()
        expected = _refusal(delivery, is_copy=after is not None)
        is_known = after is None or word == _repeated(after.word)
        return Reply(
            delivery=delivery,
            is_copy=after is not None,
            status=status,
            word=word,
            expected=expected,
            is_good=200 <= status < 300 and is_known if expected is None else status == expected,
            milliseconds=(time.perf_counter() - started) * 1000,
        )

    def _ask(self, delivery: Delivery, *, is_replay: bool) -> tuple[int, bytes]:
        """The last answer: after a 401 that says what to show, the callback is sent again with that."""
        target, request, manner = delivery.target, _Request.of(delivery), _manner(delivery)
        if is_replay:
            return self._exchange(target, request, self._last, manner)[:2]
        session = self._sessions.setdefault(target.endpoint, target.identity.proof.session())
        for _ in range(_ATTEMPTS):
            self._last = session.headers(request.method, request.path, request.body)
            status, body, headers = self._exchange(target, request, self._last, manner)
            if status != 401 or not session.learn(headers):
                break
        return status, body

    def _exchange(
        self, target: Target, request: _Request, shown: Mapping[str, str], manner: Manner
    ) -> tuple[int, bytes, Message]:
        connection = self._connection(target)
        connection.putrequest(request.method, request.path, skip_accept_encoding=True)
        for name, value in {**request.headers, **shown}.items():
            connection.putheader(name, value)
        if request.method != "GET":
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders()
        is_whole = manner in (Manner.WHOLE, Manner.TWICE)
        with suppress(ConnectionError):  # refused before it was read: the answer may be there
            connection.send(request.body if is_whole else request.body[: len(request.body) // 2])
            if manner is Manner.CUT:
                connection.sock.shutdown(socket.SHUT_WR)
        response = connection.getresponse()
        answer = response.status, response.read(), response.headers
        if not is_whole:
            connection.close()
        return answer

    def _connection(self, target: Target) -> http.client.HTTPConnection:
        key = (target.https, target.host, target.port)
        connection = self._connections.get(key)
        if connection is None:
            kind = http.client.HTTPSConnection if target.https else http.client.HTTPConnection
            connection = self._connections[key] = kind(target.host, target.port, timeout=_TIMEOUT_SECONDS)
        # Servers close what idles; then it can be read from, and there is nothing.
        if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
            connection.close()
        return connection

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()


def _manner(delivery: Delivery) -> Manner:
    return delivery.fault.manner if delivery.fault else Manner.WHOLE


def _refusal(delivery: Delivery, *, is_copy: bool) -> int | None:
    """The status that a fault must get; None where nothing is wrong, as with the first of a replay."""
    is_right = delivery.fault is None or (delivery.fault.manner is Manner.TWICE and not is_copy)
    return None if is_right or delivery.fault is None else delivery.fault.status


def _word(status: int, body: bytes) -> str:
    """What an answer says, of the words that are known to be ours; "" for one that says nothing."""
    try:
        document = json.loads(body)
        word = document["status"] if 200 <= status < 300 else document["code"]
    except (ValueError, KeyError, TypeError):
        return ""
    return word if isinstance(word, str) and word.replace("_", "").isalpha() and len(word) < 40 else ""


def _repeated(word: str) -> str:
    """What the second answer must say."""
    return "duplicate" if word == "accepted" else word
