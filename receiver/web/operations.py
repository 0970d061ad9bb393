"""The operator's URLs: /healthz, /readyz and /metrics."""

import hmac
import json
import re
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from flask import Blueprint, Response, request

from receiver import hosting, metrics
from receiver.auth.addresses import parse as parse_address
from receiver.errors import NotFound, Unavailable
from receiver.runtime import Runtime
from receiver.store import figures
from receiver.store.browsing import iso
from receiver.store.discrepancies import KINDS
from receiver.store.figures import Figures
from receiver.store.probing import probe

T = TypeVar("T")

_READY_SECONDS = 1.0  # how long one try to write is good for
_FIGURES_SECONDS = 5.0  # how long figures from the store are
_QUANTILES = (0.5, 0.99)
# A proxy on this machine calls from loopback too, but says for whom or what, or that it is one. Whole names of headers.
_SAID_BY_PROXIES = re.compile(
    r"(x-)?(original-)?forwarded(-.+)?|via|x-real-ip|.+-?(client|connecting|user)-?ip(v6)?|x-envoy-.+|x-amzn-trace-id|cdn-loop",
    re.IGNORECASE,
)


def blueprint(runtime: Runtime) -> Blueprint:
    """/healthz: the process answers. /readyz: a 2xx can be promised. /metrics: what Prometheus reads."""
    made = Blueprint("operations", __name__)
    ready = _Kept(_READY_SECONDS, lambda: _readiness(runtime))
    known = _Kept(_FIGURES_SECONDS, lambda: _figures(runtime))

    def healthz() -> Response:
        return _bare(200)

    def readyz() -> Response:
        status, report = ready.get()
        if not _may_see_details(runtime):
            return _bare(status)
        found = known.get() if status == HTTPStatus.OK else None
        return _json(status, report | _warnings(runtime) | (described(found) if found else {}))

    def prometheus() -> Response:
        if not _may_see_details(runtime):
            raise NotFound("there is nothing here", reason="not_for_strangers")
        found = known.get()
        gauges = {"faxhook_ready": int(ready.get()[0] == HTTPStatus.OK), **_gauges(runtime, found)}
        text, content_type = metrics.render(gauges, _reported(runtime, found))
        return Response(text, 200, content_type=content_type)

    made.add_url_rule("/healthz", "healthz", healthz)
    made.add_url_rule("/readyz", "readyz", readyz)
    made.add_url_rule("/metrics", "metrics", prometheus)
    return made


class _Kept(Generic[T]):
    """The last look's result, for so many seconds. One thread looks and the others wait for it."""

    def __init__(self, seconds: float, look: Callable[[], T]) -> None:
        self._seconds = seconds
        self._look = look
        self._mutex = threading.Lock()
        self._result: tuple[float, T] | None = None

    def get(self) -> T:
        with self._mutex:
            if self._result is None or time.monotonic() - self._result[0] > self._seconds:
                found = self._look()
                self._result = time.monotonic(), found
            return self._result[1]


def _readiness(runtime: Runtime) -> tuple[int, dict[str, Any]]:
    """Whether a 2xx can be promised now: tried with a real write, on the way of a callback."""
    store = runtime.store
    try:
        probe(store)
        return 200, {"ready": True, "store": store.durability()}
    except Unavailable as error:
        return 503, {"ready": False, "error": error.error}


def _figures(runtime: Runtime) -> Figures | None:
    """None while the store is away."""
    store = runtime.store
    try:
        with store.reading() as connection:
            return figures.read(connection, store.tables)
    except Unavailable:
        return None


def _gauges(runtime: Runtime, found: Figures | None) -> metrics.Gauges:
    if found is None:
        return {"faxhook_store_up": 0}
    relay = found.relay
    discrepancies = found.discrepancies
    return {
        "faxhook_discrepancies": {kind: discrepancies.get(kind, (0, 0))[0] for kind in KINDS},
        "faxhook_discrepancies_oldest_seconds": {
            kind: max(0, found.at_ms - at_ms) / 1000 for kind, (_, at_ms) in discrepancies.items()
        },
        "faxhook_degraded": {name: int(name in found.degraded) for name in runtime.accounts},
        "faxhook_available_credit": {
            name: credit
            for name, account in runtime.accounts.items()
            if (credit := found.credits.get((account.provider.name, account.source.account or ""))) is not None
        },
        "faxhook_store_up": 1,
        "faxhook_backlog_events": found.backlog,
        "faxhook_unprojected_events": found.unprojected,
        "faxhook_backlog_oldest_seconds": found.oldest_seconds,
        "faxhook_dead_letters": found.dead,
        "faxhook_relay_last_seen_timestamp_seconds": relay.seen_at_ms / 1000 if relay else 0,
        "faxhook_relay_trouble": int(relay is not None and relay.trouble is not None),
        **_sinks(found),
        "faxhook_commit_to_consumer_seconds": {
            str(share): delay for share in _QUANTILES if (delay := found.delay(share)) is not None
        },
    }


def _sinks(found: Figures) -> dict[str, dict[str, float]]:
    """Of each sink beside the queue."""
    return {
        "faxhook_sink_backlog_events": {name: one.backlog for name, one in found.sinks.items()},
        "faxhook_sink_backlog_oldest_seconds": {
            name: found.seconds_since(one.oldest_at_ms) for name, one in found.sinks.items()
        },
        "faxhook_sink_dead_letters": {name: one.dead for name, one in found.sinks.items()},
        "faxhook_sink_trouble": {name: int(one.standing.trouble is not None) for name, one in found.sinks.items()},
        "faxhook_sink_stopped": {
            name: int(one.standing.stopped_at_ms is not None) for name, one in found.sinks.items()
        },
    }


def _described_sinks(found: Figures) -> dict[str, Any]:
    return {
        name: {
            "backlog": {"events": one.backlog, "oldest_seconds": found.seconds_since(one.oldest_at_ms)},
            "dead_letters": one.dead,
            "trouble": one.standing.trouble,
            "trouble_since": iso(one.standing.trouble_since_ms),
            "stopped": one.standing.stopped_for,
            "stopped_at": iso(one.standing.stopped_at_ms),
        }
        for name, one in found.sinks.items()
    }


def _reported(runtime: Runtime, found: Figures | None) -> metrics.Counts:
    """What reports told, with the alarms of all accounts that have reports; nothing while the store is away."""
    if found is None:
        return {}
    asked = {name: account.provider.name for name, account in runtime.accounts.items() if account.reports is not None}
    return dict.fromkeys(metrics.alarms(asked, asked.values()), 0) | found.reported


def described(found: Figures) -> dict[str, Any]:
    """The figures for a person. None of them turns the web side red: callbacks are safe whatever the relay does."""
    relay = found.relay
    others = {"sinks": _described_sinks(found)} if found.sinks else {}
    return {
        **others,
        "backlog": {"events": found.backlog, "oldest_seconds": found.oldest_seconds},
        "dead_letters": found.dead,
        "discrepancies": {kind: count for kind, (count, _) in sorted(found.discrepancies.items())},
        "relay": {
            "alive": found.relay_is_alive,
            "seen_at": iso(relay.seen_at_ms) if relay else None,
            "trouble": relay.trouble if relay else None,
            "trouble_since": iso(relay.trouble_since_ms) if relay else None,
        },
    }


def _warnings(runtime: Runtime) -> dict[str, Any]:
    found = hosting.doubts(runtime.settings)
    return {"warnings": found} if found else {}


def _may_see_details(runtime: Runtime) -> bool:
    token = runtime.settings.server.ops_token
    given = request.headers.get("Authorization", "")
    if token and hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        return True
    peer = parse_address(request.remote_addr or "")
    return peer is not None and peer.is_loopback and not _came_through_a_proxy(runtime)


def _came_through_a_proxy(runtime: Runtime) -> bool:
    """One that adds no header at least passes the public name on."""
    public = urlsplit(runtime.settings.server.public_url or "").hostname
    asked = re.sub(":[0-9]*$", "", request.host).strip("[]").lower()
    if public is not None and public == asked and not _is_loopback(public):
        return True
    return any(_SAID_BY_PROXIES.fullmatch(name) for name, _ in request.headers)


def _is_loopback(host: str) -> bool:
    address = parse_address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _json(status: int, document: dict[str, Any]) -> Response:
    return Response(json.dumps(document), status, [("Cache-Control", "no-store")], content_type="application/json")


def _bare(status: int) -> Response:
    return Response(b"", status, [("Cache-Control", "no-store")], content_type="text/plain")
