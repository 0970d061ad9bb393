"""
The faxes a provider has sent, as its callbacks and its reports see them, and what goes wrong on the way.

One ``World`` is one account. Callbacks come from the provider's own ``simulate``, so that a report which agrees with
the world agrees with them; what ``simulate`` fixes (1 page, 31 seconds, texts) is the default of ``SentFax``.
"""

import random
import socket
import ssl
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import httpx
from flask import Flask, Response, request
from house import serving
from ports import listener

from receiver import providers
from receiver.providers import RawCallback
from receiver.providers.shared.contract import SimulatedFax, SimulatedJob
from schemas.event import Outcome

MAINTENANCE = b"<html><body><h1>We are down for maintenance</h1></body></html>"


@cache
def tls() -> ssl.SSLContext:
    """Made once: reading the certificates takes longer than a test."""
    return httpx.create_ssl_context()


@dataclass(frozen=True, slots=True)
class SentFax:
    """
    One recipient of one job.

    status: a code of the provider's callback table; ignored while pending, that is without completed_at. pages: of the
    document. Callbacks always say 1 page and 31 seconds: other values here are known to the report alone.
    """

    job_id: str  # decimal digits, except for Retarus
    number: str  # E.164
    status: str
    submitted_at: datetime
    completed_at: datetime | None = None
    fax_id: str = ""  # Retarus numId, eFax TransmissionID, Openfax Broadcast TransactionID
    pages: int = 1
    duration_seconds: int = 31  # if delivered
    attempts: int = 1
    sender_name: str = "Example Sender"
    recipient_name: str = "Example"
    sender_number: str = "+13035550110"
    login: str = ""  # who sent it; "": the login that asks
    is_fine: bool = False  # resolution
    customer_id: str = ""  # Retarus customerDefinedId
    bill_code: str = ""
    bill_info: str = ""
    data_center: str = "de1"  # of Retarus
    stage: str = ""  # in the provider's words, where a pending fax is: CurrentState, longstatus, Classification

    def __post_init__(self) -> None:
        assert self.submitted_at.tzinfo is not None
        assert self.completed_at is None or self.completed_at.tzinfo is not None

    @property
    def is_pending(self) -> bool:
        return self.completed_at is None

    @property
    def digits(self) -> str:
        return self.number.removeprefix("+")


@dataclass(frozen=True, slots=True)
class Announcement:
    """One callback and the faxes it is about."""

    faxes: tuple[SentFax, ...]
    callback: RawCallback


@dataclass
class _Fault:
    times: int
    operation: str | None
    after: int  # requests that are answered well first
    before: Callable[[], Response | None]  # instead of the answer
    instead: Callable[[Response], Response] = lambda response: response


class World:
    """
    Everything a stand-in knows of one account; any thread may ask or change it.

    timezone: what the provider writes times in that it sends without a zone. user, password: those in the callbacks
    of eFax, not those of a report API.
    """

    def __init__(
        self,
        provider: str,
        account: str,
        *faxes: SentFax,
        timezone: ZoneInfo | None = None,
        user: str = "",
        password: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.provider = providers.load()[provider]
        self.account = account
        self.timezone = timezone or ZoneInfo("UTC")
        self.user, self.password = user, password
        self.now = now
        self._lock = threading.Lock()
        self._faxes = list(faxes)
        self._announced: set[tuple[SentFax, ...]] = set()
        self._asked: Counter[str] = Counter()
        self._faults: deque[_Fault] = deque()
        self._over = threading.Event()

    # --- faxes ---

    def faxes(self, job_id: str | None = None) -> list[SentFax]:
        """All of them, or those of one job, in the order they were added."""
        with self._lock:
            return [fax for fax in self._faxes if job_id in (None, fax.job_id)]

    def jobs(self) -> dict[str, list[SentFax]]:
        """The faxes by job."""
        found: dict[str, list[SentFax]] = {}
        for fax in self.faxes():
            found.setdefault(fax.job_id, []).append(fax)
        return found

    def add(self, *faxes: SentFax) -> None:
        with self._lock:
            self._faxes.extend(faxes)

    def change(self, fax: SentFax, **changes: Any) -> SentFax:
        """The fax is now otherwise, for example finished: ``change(fax, status="0", completed_at=...)``."""
        changed = replace(fax, **changes)
        with self._lock:
            self._faxes[self._faxes.index(fax)] = changed
        return changed

    def is_delivered(self, fax: SentFax) -> bool:
        verdict = self.provider.codes.verdict(fax.status) if not fax.is_pending else None
        return verdict is not None and verdict.outcome is Outcome.DELIVERED

    def seconds(self, fax: SentFax) -> int:
        """Transmission time: what a callback says of a fax that was not delivered is 0."""
        return fax.duration_seconds if self.is_delivered(fax) else 0

    def local(self, time: datetime) -> datetime:
        return time.astimezone(self.timezone)

    # --- callbacks ---

    def callbacks(self) -> list[Announcement]:
        """Those of all finished faxes, in order of completion; a Retarus job has one, when all of it is finished."""
        if self.provider.name == "retarus":
            groups = [tuple(faxes) for faxes in self.jobs().values() if not any(fax.is_pending for fax in faxes)]
        else:
            groups = [(fax,) for fax in self.faxes() if not fax.is_pending]
        found = [Announcement(group, self._callback(group)) for group in groups]
        return sorted(found, key=lambda one: max(fax.completed_at for fax in one.faxes if fax.completed_at))

    def _callback(self, faxes: Sequence[SentFax]) -> RawCallback:
        completed_at = faxes[0].completed_at
        assert completed_at is not None
        assert {fax.completed_at for fax in faxes} == {completed_at}, "one push of simulate says one time for all"
        job = SimulatedJob(
            job_id=faxes[0].job_id,
            account=self.account,
            faxes=tuple(SimulatedFax(fax.number, fax.status, fax.fax_id) for fax in faxes),
            submitted_at=faxes[0].submitted_at,
            completed_at=completed_at,
            timezone=self.timezone,
            user=self.user,
            password=self.password,
        )
        (callback,) = self.provider.push.simulate(job)
        return callback

    def announce(self, url: str, *, lose: Collection[str] = (), share: float = 0, seed: int = 0) -> list[Announcement]:
        """
        Post the callbacks that were not due before; the lost ones are the result, to be posted late by ``deliver``.

        A finished fax that has changed since, as when FAXAGE sends a job again, is announced again.
        lose: ids of jobs or faxes whose callbacks are lost. share: of the others that are lost too, drawn by seed.
        """
        chance = random.Random(seed)
        lost: list[Announcement] = []
        sent: list[Announcement] = []
        for one in self.callbacks():
            with self._lock:
                if one.faxes in self._announced:
                    continue
                self._announced.add(one.faxes)
            named = any(fax.job_id in lose or (fax.fax_id and fax.fax_id in lose) for fax in one.faxes)
            (lost if named or chance.random() < share else sent).append(one)
        self.deliver(url, sent)
        return lost

    def deliver(self, url: str, announcements: Sequence[Announcement]) -> None:
        """Post these callbacks; fails where one is not taken as the provider expects it."""
        with httpx.Client(timeout=60, trust_env=False, verify=tls()) as client:
            for one in announcements:
                callback = one.callback
                answer = client.post(url, content=callback.body, headers={"Content-Type": callback.content_type})
                assert answer.is_success, f"the callback was answered {answer.status_code}"
                if success := self.provider.push.success:
                    assert success.body in answer.content, "the answer lacks the text the provider looks for"

    # --- requests ---

    @property
    def asked(self) -> "Counter[str]":
        """Requests so far by operation, refused and spoilt ones too."""
        with self._lock:
            return Counter(self._asked)

    def fail(
        self, times: int = 1, status: int = 503, *, operation: str | None = None, after: int = 0, **headers: str
    ) -> None:
        """Answer so many requests with this status; headers: underscores for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._plan(times, operation, after, lambda: Response(MAINTENANCE, status, named, content_type="text/html"))

    def garble(
        self, times: int = 1, body: bytes = MAINTENANCE, *, operation: str | None = None, after: int = 0
    ) -> None:
        """Answer 200 with something else."""
        self._plan(times, operation, after, lambda: Response(body, content_type="text/html"))

    def hang(self, seconds: float, times: int = 1, *, operation: str | None = None, after: int = 0) -> None:
        """Answer late; a server that ends does not wait for it."""

        def wait() -> None:
            self._over.wait(seconds)

        self._plan(times, operation, after, wait)

    def drop(self, times: int = 1, *, operation: str | None = None, after: int = 0) -> None:
        """Close the connection without an answer."""

        def close() -> None:
            request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError

        self._plan(times, operation, after, close)

    def cut(self, times: int = 1, *, operation: str | None = None, after: int = 0) -> None:
        """Send half of the body and close the connection."""

        def half(response: Response) -> Response:
            body = response.get_data()
            response.response = iter([body[: len(body) // 2]])
            response.headers["Content-Length"] = str(len(body))
            return response

        self._plan(times, operation, after, lambda: None, half)

    def mend(self) -> None:
        """Nothing that was planned goes wrong any more."""
        with self._lock:
            self._faults.clear()

    def _plan(
        self,
        times: int,
        operation: str | None,
        after: int,
        before: Callable[[], Response | None],
        instead: Callable[[Response], Response] = lambda response: response,
    ) -> None:
        with self._lock:
            self._faults.append(_Fault(times, operation, after, before, instead))

    def _take_fault(self, operation: str) -> _Fault | None:
        """Count the request; the first fault that is planned for it."""
        with self._lock:
            self._asked[operation] += 1
            for fault in self._faults:
                if fault.times and fault.operation in (None, operation):
                    if fault.after:
                        fault.after -= 1
                        return None
                    fault.times -= 1
                    return fault
        return None

    def answer(self, operation: str, view: Callable[[], Response]) -> Response:
        """The answer to the request now being served, or what a fault makes of it."""
        fault = self._take_fault(operation)
        if fault is None:
            return view()
        spoilt = fault.before()
        return fault.instead(view()) if spoilt is None else spoilt

    def end(self) -> None:
        self._over.set()


class Service(Flask):
    """An application whose views count and fail as the world says; a view's operation is its name or is computed."""

    def __init__(self, world: World) -> None:
        super().__init__(__name__)
        self.world = world
        self.config["PROPAGATE_EXCEPTIONS"] = True  # so that a dropped connection comes to the server as one

    def operation(
        self, rule: str, name: str | Callable[[], str], *methods: str
    ) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
        """Serve a view at the path, counted under the name."""

        def add(view: Callable[..., Response]) -> Callable[..., Response]:
            def answer(**arguments: str) -> Response:
                counted = name if isinstance(name, str) else name()
                return self.world.answer(counted, lambda: view(**arguments))

            endpoint = f"{view.__name__}-{len(self.view_functions)}"  # a view may be served at two paths
            self.add_url_rule(rule, endpoint, answer, methods=list(methods))
            return view

        return add


@contextmanager
def standing(application: Service) -> Iterator[str]:
    """The stand-in served until the block ends; the URL it is at, without a final slash."""
    with listener() as sock, serving(application, sock) as port:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            application.world.end()


def text(name: str) -> str:
    """A form field, "" where it is missing."""
    return request.form.get(name, "")


def some_faxes(provider: str, count: int, end: datetime, *, seed: int = 0) -> list[SentFax]:
    """Faxes of the day before ``end``: three quarters delivered, the others failed in any way the provider knows."""
    chance = random.Random(seed)
    verdicts = providers.load()[provider].codes.verdicts
    delivered = [code for code, verdict in verdicts.items() if verdict and verdict.outcome is Outcome.DELIVERED]
    others = [code for code, verdict in verdicts.items() if verdict and verdict.outcome is not Outcome.DELIVERED]
    found = []
    for index in range(count):
        submitted_at = (end - timedelta(days=1) + timedelta(days=1) * index / count).replace(microsecond=0)
        found.append(
            SentFax(
                job_id=str(779029 + index),
                number=f"+1208555{index % 10000:04}",
                status=chance.choice(delivered if chance.random() < 0.75 else others),
                submitted_at=submitted_at,
                completed_at=submitted_at + timedelta(seconds=53),
                fax_id=f"FN{index:06}",
            )
        )
    return found
