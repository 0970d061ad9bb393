"""
Callbacks as the providers would send them, over real HTTP, at a server that runs.

A plan of jobs is made from the configured endpoints, each provider's ``simulate`` and its code table; no provider is
known here by name. The callbacks carry the endpoint's own credentials, so that they take the whole way.
"""

import base64
import http.client
import json
import secrets
import select
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

from receiver import settings as configuration
from receiver.errors import ConfigurationError
from receiver.providers import Provider, RawCallback
from receiver.providers._contract import CodeTable, SimulatedFax, SimulatedJob
from receiver.settings import Settings
from schemas.event import FailureReason, Outcome

SUCCESS = "success"
MIXED = "mixed"  # one job to several recipients, with all kinds of results

_TIMEOUT_SECONDS = 30.0
_SEEDED_START = datetime(2026, 1, 1, 12, tzinfo=UTC)
_CALL = timedelta(seconds=40)
_MIXED_RECIPIENTS = 4
_ACCOUNT = "123456789"  # where the payload names it and the endpoint takes any
_HASHES = ("sha256:", "scrypt:", "pbkdf2:", "ha1:")


# --- where to, and as whom -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint to call. account, timezone, user and password go into the payloads of providers that need them."""

    endpoint: str
    provider: Provider
    https: bool
    host: str
    port: int
    path: str = field(repr=False)  # holds the token
    account: str
    timezone: ZoneInfo | None
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    authorization: str | None = field(default=None, repr=False)


def targets(
    settings: Settings | None,
    known: Mapping[str, Provider],
    *,
    provider: str | None = None,
    endpoint: str | None = None,
    to: str | None = None,
) -> list[Target]:
    """
    The endpoints to call: all, those of one provider, or one.

    to: the address of one, where it is not this machine's; its path also tells which endpoint is meant. With it and a
    provider, there need be no settings. Raises ConfigurationError where nothing can be called, or where the secrets
    are known here only as a hash.
    """
    if provider is not None and provider not in known:
        raise ConfigurationError(f"there is no provider {provider}; expected one of {_listed(known)}")
    if settings is None:
        if provider is None or to is None:
            raise ConfigurationError("without a configuration, a provider and --to are needed")
        return [_target_at(to, None, known[provider])]
    chosen = [
        one
        for name, one in settings.endpoints.items()
        if (provider is None or one.provider == provider) and (endpoint is None or name == endpoint)
    ]
    if not chosen:
        raise ConfigurationError("there is no such endpoint; configured are: " + _listed(settings.endpoints))
    if to is None:
        host, port = _own_address(settings)
        return [_target(one, known[one.provider], host, port) for one in chosen]
    if len(chosen) > 1:
        chosen = [one for one in chosen if one.name == _endpoint_in(to)]
    if len(chosen) != 1:
        raise ConfigurationError("--to is the address of one endpoint; say which one with --endpoint")
    return [_target_at(to, chosen[0], known[chosen[0].provider])]


def _endpoint_in(url: str) -> str:
    return urlsplit(url).path.partition("/callbacks/")[2].partition("/")[0]


def _own_address(settings: Settings) -> tuple[str, int]:
    bind = settings.server.bind
    host, _, port = bind.rpartition(":")
    if not port.isdecimal() or port == "0" or bind.startswith(("unix:", "fd:")):
        raise ConfigurationError(
            f"server.bind is {bind}, which cannot be called; give the address of one URL with --to"
        )
    return {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]")), int(port)  # noqa: S104


def _target(endpoint: configuration.Endpoint, provider: Provider, host: str, port: int) -> Target:
    plain = [token.plain for token in endpoint.tokens if token.plain is not None]
    if endpoint.tokens and not plain:
        raise ConfigurationError(
            f"endpoints.{endpoint.name}.tokens: only a sha256 is configured, so the token itself is not known here; "
            "give the whole address with --to"
        )
    user, password = _credentials(endpoint)
    return Target(
        endpoint=endpoint.name,
        provider=provider,
        https=False,
        host=host,
        port=port,
        path="/".join(["/callbacks", endpoint.name, *plain[:1]]),
        account=endpoint.account or _ACCOUNT,
        timezone=endpoint.timezone,
        user=user,
        password=password,
        authorization=_basic(user, password) if endpoint.auth.mode == "basic" else None,
    )


def _target_at(url: str, endpoint: configuration.Endpoint | None, provider: Provider) -> Target:
    """``https://user:password@host/...`` gives credentials that the configuration here does not have."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path.startswith("/"):
        raise ConfigurationError(
            "--to: expected a whole address such as https://hooks.example.com/callbacks/name/token"
        )
    user = password = ""
    if parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
    elif endpoint is not None:
        user, password = _credentials(endpoint)
    by_header = user != "" if endpoint is None else endpoint.auth.mode == "basic"
    https = parts.scheme == "https"
    return Target(
        endpoint=endpoint.name if endpoint else _endpoint_in(url) or parts.hostname,
        provider=provider,
        https=https,
        host=parts.hostname,
        port=port or (443 if https else 80),
        path=parts.path + (f"?{parts.query}" if parts.query else ""),
        account=(endpoint and endpoint.account) or _ACCOUNT,
        timezone=endpoint.timezone if endpoint else None,
        user=user,
        password=password,
        authorization=_basic(user, password) if by_header else None,
    )


def _credentials(endpoint: configuration.Endpoint) -> tuple[str, str]:
    """A user and password valid now; blank where the mode has none."""
    where = f"endpoints.{endpoint.name}.auth"
    if endpoint.auth.mode == "none":
        return "", ""
    if endpoint.auth.mode not in ("basic", "payload"):
        raise ConfigurationError(f'{where}.mode: callbacks with "{endpoint.auth.mode}" cannot be simulated yet')
    now = datetime.now(UTC)
    valid = [
        one
        for one in endpoint.auth.credentials
        if (one.not_before is None or one.not_before <= now) and (one.not_after is None or now < one.not_after)
    ]
    if not valid:
        raise ConfigurationError(f"{where}.credentials: none of them is valid now")
    for one in valid:
        if not one.password.startswith(_HASHES):
            return one.user, one.password
    raise ConfigurationError(
        f"{where}.credentials: only hashed passwords are configured, and a callback needs the plain one; "
        "give it with --to https://<user>:<password>@<host>/<path>"
    )


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# --- what to say ----------------------------------------------------------------------------------------------------


def cases(codes: CodeTable) -> dict[str, tuple[str, ...]]:
    """
    The cases of a code table: case -> the codes its recipients get in turn.

    ``success``, ``failed`` and ``mixed``, each outcome and failure reason the table has, ``pending`` where it has a
    state that is not final, and every code by its own name.
    """
    kinds: dict[str, str] = {}
    for code, verdict in codes.verdicts.items():
        kinds.setdefault("pending" if verdict is None else verdict.outcome.value, code)
        if verdict is not None and verdict.failure is not None:
            kinds.setdefault(verdict.failure.reason.value, code)
    found: dict[str, tuple[str, ...]] = {code: (code,) for code in codes.verdicts}
    found |= {kind: (code,) for kind, code in kinds.items()}
    found[SUCCESS] = found[Outcome.DELIVERED.value]
    found[MIXED] = (*found[SUCCESS], *(kinds[kind] for kind in kinds if _is_result(kind) and kind != "delivered"))
    return found


def every_kind(codes: CodeTable) -> list[str]:
    """What ``--all`` sends: success, every reason to fail, the other outcomes, and a job to several recipients."""
    known = cases(codes)
    reasons = [reason.value for reason in FailureReason if reason.value in known]
    others = [outcome.value for outcome in (Outcome.CANCELED, Outcome.UNCONFIRMED) if outcome.value in known]
    return [SUCCESS, *reasons, *others, MIXED]


def _is_result(kind: str) -> bool:
    return kind not in ("pending", Outcome.FAILED.value)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One callback to send; is_repeated: once more when it has been answered."""

    target: Target
    case: str
    raw: RawCallback
    is_repeated: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What to send. count: jobs of each case. repeated: a share of the callbacks (float) or their number (int).

    seed: with one, each run sends the same bytes; without, new faxes.
    """

    targets: Sequence[Target]
    cases: Sequence[str] | None  # None: every kind
    count: int = 1
    recipients: int = 1
    repeated: float | int = 0
    seed: int | None = None

    def jobs(self) -> list[tuple[Target, str]]:
        """One round: each case at every target whose provider has it. ConfigurationError for one that none has."""
        known = {target.provider.name: cases(target.provider.codes) for target in self.targets}
        for case in self.cases or ():
            if not any(case in of_provider for of_provider in known.values()):
                kinds = {kind for of_provider in known.values() for kind in of_provider if kind.islower()}
                raise ConfigurationError(f"there is no case {case}; expected a provider's code, or {_listed(kinds)}")
        return [
            (target, case)
            for target in self.targets
            for case in (every_kind(target.provider.codes) if self.cases is None else self.cases)
            if case in known[target.provider.name]
        ]

    def deliveries(self) -> Iterator[Delivery]:
        """The callbacks of all rounds, made as they are asked for."""
        random = Random(secrets.randbits(64) if self.seed is None else self.seed)  # noqa: S311 - nothing secret
        number = random.randrange(10**13, 9 * 10**13)
        line = random.randrange(_LINES)
        start = datetime.now(UTC).replace(microsecond=0) if self.seed is None else _SEEDED_START
        jobs = self.jobs()
        sent = 0
        for _ in range(self.count):
            if isinstance(self.repeated, float):
                random.shuffle(jobs)  # or every second callback would always be one for the same endpoint
            for target, case in jobs:
                recipients = max(self.recipients, _MIXED_RECIPIENTS) if case == MIXED else self.recipients
                completed_at = start if self.seed is None else start + timedelta(seconds=number % 86_400)
                job = _job(target, case, recipients, number, line, completed_at)
                number += recipients
                line += recipients
                for raw in target.provider.simulate(job):
                    sent += 1
                    yield Delivery(target, case, raw, self._repeats(sent))

    def _repeats(self, sent: int) -> bool:
        if isinstance(self.repeated, int):
            return sent <= self.repeated
        return int(sent * self.repeated) > int((sent - 1) * self.repeated)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


# 555-0100 to 555-0199 are reserved for fiction, in every area code.
_AREAS, _LINES = 800, 800 * 100


def _number(line: int) -> str:
    return f"+1{200 + line // 100 % _AREAS}55501{line % 100:02d}"


def _job(target: Target, case: str, recipients: int, number: int, line: int, completed_at: datetime) -> SimulatedJob:
    codes = cases(target.provider.codes)[case]
    return SimulatedJob(
        job_id=str(number),
        account=target.account,
        faxes=tuple(
            SimulatedFax(_number(line + index), codes[index % len(codes)], f"SIM{number + index}")
            for index in range(recipients)
        ),
        submitted_at=completed_at - _CALL,
        completed_at=completed_at,
        timezone=target.timezone,
        user=target.user,
        password=target.password,
    )


# --- sending --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What became of one callback. status: 0 where no answer came, and word then says why.

    word: what the answer says became of the callback, or the code of a refusal. is_good: 2xx, and a repetition was
    taken for one.
    """

    delivery: Delivery
    is_copy: bool
    status: int
    word: str
    is_good: bool
    milliseconds: float


@dataclass(slots=True)
class Report:
    """sent: callbacks, repetitions among them. answers: by status and word. is_cut: stopped by Ctrl-C."""

    sent: int = 0
    good: int = 0
    is_cut: bool = False
    seconds: float = 0.0
    answers: Counter[tuple[int, str]] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)

    def add(self, reply: Reply) -> None:
        self.sent += 1
        self.good += reply.is_good
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


class _Line:
    """The connections of one thread, one for each server."""

    def __init__(self) -> None:
        self._connections: dict[tuple[bool, str, int], http.client.HTTPConnection] = {}

    def post(self, delivery: Delivery, *, after: Reply | None = None) -> Reply:
        """after: the reply to the same callback, where this one repeats it."""
        started = time.perf_counter()
        try:
            status, body = self._ask(delivery)
            word = _word(status, body)
        except (OSError, http.client.HTTPException) as error:
            status, word = 0, type(error).__name__
            self.close()
        return Reply(
            delivery=delivery,
            is_copy=after is not None,
            status=status,
            word=word,
            is_good=200 <= status < 300 and (after is None or word == _repeated(after.word)),
            milliseconds=(time.perf_counter() - started) * 1000,
        )

    def _ask(self, delivery: Delivery) -> tuple[int, bytes]:
        target, raw = delivery.target, delivery.raw
        connection = self._connection(target)
        path = target.path + (f"/r/{raw.reference}" if raw.reference else "")
        path += ("&" if "?" in path else "?") + raw.query.decode("latin-1") if raw.query else ""
        headers = {"User-Agent": "faxhook-simulate"}
        if raw.content_type:
            headers["Content-Type"] = raw.content_type
        if target.authorization is not None:
            headers["Authorization"] = target.authorization
        by_get = raw.query and not raw.body
        connection.request("GET" if by_get else "POST", path, body=None if by_get else raw.body, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()

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
