"""What became of a request, as an answer, a count and a log line: at once, or when its commit has happened."""

import json
import time
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from flask import Response

from receiver import intake, metrics
from receiver.errors import InternalError, Refusal
from receiver.intake import Answer, Taken
from receiver.logs import error_class, log, place
from receiver.store.writer import Writer
from receiver.web.deferring import DEFER, Defer


class Deferred(Response):
    """
    The answer to a callback that was handed over; its status is settled when its commit has happened.

    A server that has said how to defer goes on with other requests meanwhile. For any other one, calling it waits.
    """

    def __init__(self, taken: Taken, writer: Writer) -> None:
        super().__init__()
        self._taken = taken
        self._writer = writer

    def __call__(self, environ: Mapping[str, Any], start_response: Any) -> Iterable[bytes]:
        defer: Defer | None = environ.get(DEFER)
        if defer is not None:
            return defer(self._writer, self._taken.ticket, self.settled)
        if not self._taken.ticket.is_done:
            self._writer.settle(self._taken.ticket)
        return self.settled()(environ, start_response)  # type: ignore[arg-type]

    def settled(self) -> "Response | _Settled":
        """What the commit has decided. Called once, when the ticket is done."""
        endpoint = self._taken.arrival.endpoint.name
        try:
            answer = intake.settle(self._taken)
        except Refusal as refusal:
            return refused("callback_refused", endpoint, refusal, self._taken.submission.trace_id)
        except Exception as error:  # noqa: BLE001 - our bug, and still an answer
            return failed("callback_refused", endpoint, error)
        metrics.request_seconds.observe(time.perf_counter() - self._taken.started)
        count(endpoint, answer.status)
        return _Settled(answer)


class _Settled:
    """A success answer as WSGI has it: a Response costs as much as all that is logged and counted of a callback."""

    def __init__(self, answer: Answer) -> None:
        self.status_code = answer.status
        self._answer = answer

    def __call__(self, _environ: Any, start_response: Any) -> Iterable[bytes]:
        answer = self._answer
        headers = list(answer.headers)
        if answer.content_type:
            headers += [("Content-Type", answer.content_type), ("Content-Length", str(len(answer.body)))]
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", headers)
        return (answer.body,) if answer.body else ()


def success(endpoint: str, answer: Answer) -> Response:
    """The provider's success answer, counted."""
    count(endpoint, answer.status)
    response = Response(answer.body, answer.status, list(answer.headers), content_type=answer.content_type)
    if not answer.content_type:
        del response.headers["Content-Type"]
    return response


def refused(event: str, endpoint: str, refusal: Refusal, trace: str | None = None) -> Response:
    """The problem document of a refusal, counted; logged where it is our trouble or where a receipt is kept."""
    count(endpoint, refusal.status)
    if refusal.status >= 500 or refusal.receipt:
        log.warning(
            event,
            status=refusal.status,
            code=refusal.code,
            receipt=refusal.receipt,
            endpoint=endpoint,
            error=getattr(refusal, "error", None),
            trace=trace,
        )
    return _problem(refusal)


def failed(event: str, endpoint: str, error: Exception) -> Response:
    """Our bug."""
    log.error("request_failed", error=error_class(error), where=place(error.__traceback__))
    return refused(event, endpoint, InternalError("faxhook failed on this request"))


def count(endpoint: str, status: int) -> None:
    metrics.count_request(endpoint, status)


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
    if refusal.received:
        problem["received"] = refusal.received
    if refusal.receipt:
        problem["receipt"] = refusal.receipt
    headers = [("Cache-Control", "no-store"), *refusal.headers]
    return Response(json.dumps(problem), refusal.status, headers, content_type="application/problem+json")
