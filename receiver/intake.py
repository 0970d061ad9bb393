"""
One callback, from the wire to the answer. Read this first.

``receive`` owns the order of the stations; each takes a plain value and returns a plain value, and none calls back. A
station that cannot let the request pass raises one of ``receiver.errors``, and its class is the answer.
"""

import re
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from receiver import body as request_body
from receiver import metrics, stations, tracing
from receiver.auth import Request
from receiver.errors import Inbound, InternalError, MethodNotAllowed, NotFound, Refusal, Undecodable, Unprocessable
from receiver.logs import error_class, log, place
from receiver.providers import RawCallback, Source, names_in, read
from receiver.runtime import Endpoint, Runtime, kept
from receiver.store import new_id, now_ms, rfc3339
from receiver.store.submissions import Recorded, Submission
from receiver.store.writer import Ticket
from receiver.system import collecting
from receiver.tracing import Trace
from schemas.encoding import compact_ascii
from schemas.event import FaxCompleted
from schemas.fields import InvalidRow
from schemas.repairing import Repair, noting_repairs

_PATH = re.compile(
    r"/callbacks/(?P<endpoint>[a-z0-9][a-z0-9-]{0,62})"
    r"(?:/(?P<token>[A-Za-z0-9._~-]{2,}))?"
    r"(?:/r/(?P<reference>[A-Za-z0-9._~-]{1,128}))?"
)
_NO_STORE = ("Cache-Control", "no-store")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = (_NO_STORE,)


@dataclass(frozen=True, slots=True)
class Arrival:
    """
    An authenticated callback, about to be read.

    data: decoded already, where the credentials were inside, and what had to be repaired for that. trace: that the
    caller has named.
    """

    endpoint: Endpoint
    raw: RawCallback
    receipt: str
    received_at_ms: int
    data: Mapping[str, Any] | None = None
    repaired: frozenset[Repair] = frozenset()
    trace: Trace | None = None
    replay: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """A genuine callback that was handed over to the store. refusal: what it is answered with once it is kept."""

    arrival: Arrival
    submission: Submission
    ticket: Ticket
    refusal: Refusal | None
    started: float  # on the performance counter


def receive(environ: Mapping[str, Any], runtime: Runtime) -> Answer | Taken:
    """
    Take one request through the stations, up to its hand-over to the store; when that has committed, ``settle`` it.

    An Answer where there is nothing to store. Raises a Refusal for what is not let in, and keeps nothing of it.
    """
    started = time.perf_counter()
    body = request_body.read(environ, runtime.settings.server.max_body, is_wanted=lambda: is_known(environ, runtime))
    endpoint, reference = find(environ, runtime.endpoints)
    if environ["REQUEST_METHOD"] == "HEAD":
        return Answer(200)  # portals look whether the URL is there
    endpoint.gate.check_caller(Request(environ, body))
    arrival = arrive(environ, body, endpoint, reference)
    return take(arrival, runtime, started)


def settle(taken: Taken) -> Answer:
    """The provider's success answer to what was committed. Raises a Refusal for every other one."""
    recorded = outcome(taken)
    endpoint = taken.arrival.endpoint
    log.info(
        "callback",
        receipt=recorded.receipt,
        endpoint=endpoint.name,
        provider=endpoint.provider.name,
        state=recorded.state,
        events=len(recorded.events),
        size=len(taken.arrival.raw.body),
        duration_ms=round((time.perf_counter() - taken.started) * 1000, 1),
        trace=taken.submission.trace_id,
    )
    return answer(endpoint, recorded)


# --- station 2: which endpoint -------------------------------------------------------------------------------------


def find(environ: Mapping[str, Any], endpoints: Mapping[str, Endpoint]) -> tuple[Endpoint, str | None]:
    """
    The endpoint the path names, and the reference in it. NotFound for a wrong token too, MethodNotAllowed.

    The path is taken as it was sent: one that needs decoding first is not one we gave out.
    """
    path = _raw_path(environ)
    found = _named(path, endpoints)
    if found is None:
        raise NotFound("there is nothing here", reason=_why_not(path, endpoints))  # the same as anywhere else
    endpoint, reference = found
    methods = ("GET", "HEAD", "POST") if endpoint.provider.push.query else ("HEAD", "POST")
    if environ["REQUEST_METHOD"] not in methods:
        raise MethodNotAllowed("expected " + " or ".join(methods), headers=[("Allow", ", ".join(methods))])
    return endpoint, reference


def _named(path: str, endpoints: Mapping[str, Endpoint]) -> tuple[Endpoint, str | None] | None:
    match = _PATH.fullmatch(path)
    endpoint = endpoints.get(match["endpoint"]) if match else None
    return (endpoint, match["reference"]) if match and endpoint and endpoint.gate.admits(match["token"]) else None


def _why_not(path: str, endpoints: Mapping[str, Endpoint]) -> str:
    if path.endswith("/") and _named(path.rstrip("/"), endpoints):
        return "trailing_slash"
    _, is_callback, rest = path.partition("/callbacks/")
    return "wrong_token" if is_callback and rest.partition("/")[0] in endpoints else "no_endpoint"


def _raw_path(environ: Mapping[str, Any]) -> str:
    target = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ["PATH_INFO"])
    if not target.startswith("/"):
        target = "/" + target.partition("://")[2].partition("/")[2]  # absolute-form
    return target.partition("?")[0]


def is_known(environ: Mapping[str, Any], runtime: Runtime) -> bool:
    """Whether path, token and address are right: of a stranger's large body nothing is kept while it is read."""
    try:
        endpoint, _ = find(environ, runtime.endpoints)
        endpoint.gate.check_address(Request(environ, b""))
    except Refusal:
        return False
    return True


# --- station 3: who is calling; nothing is stored for those who may not ----------------------------------------------


def arrive(environ: Mapping[str, Any], body: bytes, endpoint: Endpoint, reference: str | None) -> Arrival:
    """The request as a plain value. Where the credentials are inside the body, it is decoded and they are checked."""
    callback = endpoint.provider.push
    query = environ.get("QUERY_STRING", "").encode("latin-1") if callback.query else b""
    raw = RawCallback(body, environ.get("CONTENT_TYPE", ""), query, reference)
    if environ["REQUEST_METHOD"] == "GET" and not query:
        raise Undecodable("expected the fields in the query string")
    data = None
    with noting_repairs() as repaired:
        if endpoint.gate.reads_payload:
            data = read(raw, callback)
            endpoint.gate.check_payload(callback.credentials(data) if callback.credentials else None)
    at = now_ms()
    trace = tracing.read(environ.get("HTTP_TRACEPARENT"))
    return Arrival(endpoint, raw, new_id(at), at, data, frozenset(repaired), trace)


# --- stations 4 to 7 -----------------------------------------------------------------------------------------------


def process(arrival: Arrival, runtime: Runtime) -> Recorded:
    """
    Decode, check, normalise and store one genuine callback, and wait for the commit; the way of a replay.

    What is refused here is kept as a rejected receipt, whose id the Refusal then carries.
    """
    taken = take(arrival, runtime)
    runtime.writer.settle(taken.ticket)
    return outcome(taken)


def take(arrival: Arrival, runtime: Runtime, started: float = 0.0) -> Taken:
    """Decode, check and normalise, and hand over what is to be stored; that it is refused as well."""
    if len(arrival.raw.body) <= request_body.LARGE:
        return _take(arrival, runtime, started)
    with collecting.paused():
        return _take(arrival, runtime, started)


def _take(arrival: Arrival, runtime: Runtime, started: float) -> Taken:
    submission, refusal = prepare(arrival, runtime)
    return Taken(arrival, submission, runtime.writer.hand_over(submission), refusal, started)


def prepare(arrival: Arrival, runtime: Runtime) -> tuple[Submission, Refusal | None]:
    """What is to be stored of it, and what it is refused with."""
    refusal: Refusal | None = None
    ignored: str | None = None
    entries: Sequence[stations.Entry] = ()
    unreadable: Sequence[str] = ()
    with noting_repairs() as repaired:
        try:
            entries, unreadable = understand(arrival)
        except Inbound:
            ignored = "inbound"
        except Refusal as error:
            refusal = error
        except Exception as error:  # noqa: BLE001 - our bug: the body is kept, and can be replayed once it is mended
            log.error(
                "callback_failed", receipt=arrival.receipt, error=error_class(error), where=place(error.__traceback__)
            )
            refusal = InternalError("faxhook failed on this callback; it is kept and can be replayed")
    return submit(arrival, runtime, entries, unreadable, arrival.repaired | repaired, refusal, ignored), refusal


def outcome(taken: Taken) -> Recorded:
    """What the commit came to, told to operators. Raises what prevented it, or the Refusal that it keeps."""
    recorded = taken.ticket.recorded()
    stations.tell(taken.submission, recorded, metrics.add)
    if taken.refusal is not None:
        taken.refusal.receipt = taken.arrival.receipt
        raise taken.refusal
    return recorded


def understand(arrival: Arrival) -> tuple[Sequence[stations.Entry], Sequence[str]]:
    """Stations 4 to 6: what each recipient comes to, and the names of optional fields nobody could read."""
    callback = arrival.endpoint.provider.push
    data = arrival.data if arrival.data is not None else read(arrival.raw, callback)
    try:
        return stations.understand(callback, data, source_of(arrival))
    except Unprocessable as refusal:
        if callback.sent is not None and refusal.received:  # in the words of the layout that was sent
            refusal.fields = {callback.sent(data, name): expected for name, expected in refusal.fields.items()}
            refusal.received = tuple(names_in(data))
        raise


def source_of(arrival: Arrival) -> Source:
    """The endpoint as normalising may know it, with the reference of this callback's URL."""
    source = arrival.endpoint.source
    reference = arrival.raw.reference
    return source if reference is None else source.with_reference(reference)


def submit(
    arrival: Arrival,
    runtime: Runtime,
    entries: Sequence[stations.Entry],
    unreadable: Sequence[str],
    repaired: Set[Repair],
    refusal: Refusal | None,
    ignored: str | None,
) -> Submission:
    """What station 7 stores: the kept body, and each fax's identity and facts."""
    endpoint = arrival.endpoint
    invalid = [entry for entry in entries if isinstance(entry, InvalidRow)]
    detail: dict[str, Any] = {}
    if refusal is not None and refusal.fields:
        detail["fields"] = dict(list(refusal.fields.items())[:20])
    if refusal is not None and refusal.received:
        detail["received"] = list(refusal.received)
    if invalid:
        detail["invalid"] = {str(row.index): dict(row.expected) for row in invalid[:20]}
        detail["invalid_count"] = len(invalid)
    announcements = tuple(
        stations.announce(endpoint.provider, entry, unreadable, runtime.identity_salt)
        for entry in entries
        if isinstance(entry, FaxCompleted)
    )
    if unreadable:
        detail["unreadable"] = sorted(set(unreadable))
    detail |= stations.odd(announcements)
    if repaired:
        detail["repaired"] = sorted(repaired)
    return Submission(
        receipt=arrival.receipt,
        endpoint=endpoint.name,
        provider=endpoint.provider.name,
        # A replay adds to the store now, or retention would take its payloads back at once.
        received_at_ms=now_ms() if arrival.replay else arrival.received_at_ms,
        size=len(arrival.raw.body) or len(arrival.raw.query),
        body=None if arrival.replay or ignored else kept(arrival.raw, endpoint),
        observed_at=rfc3339(arrival.received_at_ms),
        auth=endpoint.auth,
        answer=refusal.status if refusal else _success(endpoint),
        announcements=announcements,
        invalid=len(invalid),
        refused=refusal.code if refusal else None,
        ignored=ignored,
        detail=detail,
        replay=arrival.replay,
        trace=arrival.trace,
    )


# --- station 8: the answer -----------------------------------------------------------------------------------------


def _success(endpoint: Endpoint) -> int:
    return 200 if endpoint.provider.push.success else endpoint.answer


def answer(endpoint: Endpoint, recorded: Recorded) -> Answer:
    """The provider's success answer."""
    success = endpoint.provider.push.success
    if success is not None:
        return Answer(200, success.body, success.content_type)
    if endpoint.answer == 204:
        return Answer(204, content_type="")
    body = {"status": recorded.state, "receipt": recorded.receipt, "events": recorded.events}
    return Answer(endpoint.answer, compact_ascii(body).encode())
