"""The web side: routes, the one place where a refusal becomes an answer, and the operator's three URLs."""

import hmac
import ipaddress
import json
import threading
import time
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule

from receiver import body, intake, metrics
from receiver.errors import InternalError, MethodNotAllowed, NotFound, Refusal, Unavailable
from receiver.logs import error_class, log, place
from receiver.runtime import Runtime
from receiver.store.browsing import touch

_READY_SECONDS = 1.0  # how long one look at the store is good for


def create_app(runtime: Runtime) -> Flask:
    """A WSGI application on this runtime."""
    app = Flask("receiver", static_folder=None)
    app.url_map.merge_slashes = False  # a redirect would show the path, and the token in it, to proxies' logs
    ready = _Readiness(runtime)

    def callbacks(_path: str) -> Response:
        started = time.perf_counter()
        answer = intake.receive(request.environ, runtime)
        _count(runtime, answer.status, started)
        response = Response(answer.body, answer.status, list(answer.headers), content_type=answer.content_type)
        if not answer.content_type:
            del response.headers["Content-Type"]
        return response

    def healthz() -> Response:
        return _bare(200)

    def readyz() -> Response:
        status, report = ready.report()
        return _json(status, report) if _may_see_details(runtime) else _bare(status)

    def prometheus() -> Response:
        if not _may_see_details(runtime):
            raise NotFound("there is nothing here")
        text, content_type = metrics.render()
        return Response(text, 200, content_type=content_type)

    # Without methods of its own, so that the intake answers all of them: only it knows the endpoint's.
    app.url_map.add(Rule("/callbacks/<path:_path>", endpoint="callbacks"))
    app.endpoint("callbacks")(callbacks)
    app.add_url_rule("/healthz", "healthz", healthz)
    app.add_url_rule("/readyz", "readyz", readyz)
    app.add_url_rule("/metrics", "metrics", prometheus)

    @app.errorhandler(Refusal)
    def refused(refusal: Refusal) -> Response:
        _count(runtime, refusal.status, None)
        if refusal.status in (401, 403) or refusal.status >= 500 or refusal.receipt:
            log.warning(
                "callback_refused",
                status=refusal.status,
                code=refusal.code,
                receipt=refusal.receipt,
                endpoint=_endpoint(runtime),
                error=getattr(refusal, "error", None),
            )
        return _problem(refusal)

    @app.errorhandler(HTTPException)
    def not_routed(error: HTTPException) -> Response:
        body.read(request.environ, runtime.settings.server.max_body)
        if error.code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ["GET"]))
            return refused(MethodNotAllowed(f"expected {allowed}", headers=[("Allow", allowed)]))
        return refused(NotFound("there is nothing here"))

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        log.error("request_failed", error=error_class(error), where=place(error.__traceback__))
        return refused(InternalError("faxhook failed on this request"))

    return app


class _Readiness:
    """Whether a 2xx can be promised now: tried with a real write, at most once a second."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._mutex = threading.Lock()
        self._looked_at = float("-inf")
        self._report: tuple[int, dict[str, Any]] = (503, {"ready": False})

    def report(self) -> tuple[int, dict[str, Any]]:
        with self._mutex:
            if time.monotonic() - self._looked_at > _READY_SECONDS:
                self._report = self._look()
                self._looked_at = time.monotonic()
            return self._report

    def _look(self) -> tuple[int, dict[str, Any]]:
        store = self._runtime.store
        try:
            with store.writing() as connection:
                touch(connection, store.tables)
            return 200, {"ready": True, "store": store.durability()}
        except Unavailable as error:
            return 503, {"ready": False, "error": getattr(error, "error", error.code)}


def _may_see_details(runtime: Runtime) -> bool:
    token = runtime.settings.server.ops_token
    given = request.headers.get("Authorization", "")
    if token and hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        return True
    # A proxy on this machine calls from loopback too, but says for whom.
    return _is_loopback(request.remote_addr) and "X-Forwarded-For" not in request.headers


def _is_loopback(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False


def _count(runtime: Runtime, status: int, started: float | None) -> None:
    metrics.requests.labels(_endpoint(runtime), str(status)).inc()
    if started is not None:
        metrics.request_seconds.observe(time.perf_counter() - started)


def _endpoint(runtime: Runtime) -> str:
    """The endpoint in the path, if there is one of that name; never a word of the request's own."""
    name = request.path.removeprefix("/callbacks/").partition("/")[0]
    return name if name in runtime.endpoints else "-"


def _problem(refusal: Refusal) -> Response:
    """RFC 9457."""
    problem: dict[str, Any] = {
        "title": HTTPStatus(refusal.status).phrase,
        "status": refusal.status,
        "code": refusal.code,
        "detail": refusal.detail,
    }
    if refusal.fields:
        problem["fields"] = refusal.fields
    if refusal.receipt:
        problem["receipt"] = refusal.receipt
    response = _json(refusal.status, problem)
    response.content_type = "application/problem+json"
    for name, value in refusal.headers:
        response.headers.add(name, value)
    return response


def _json(status: int, document: dict[str, Any]) -> Response:
    return Response(json.dumps(document), status, [("Cache-Control", "no-store")], content_type="application/json")


def _bare(status: int) -> Response:
    return Response(b"", status, [("Cache-Control", "no-store")], content_type="text/plain")
