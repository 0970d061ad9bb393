"""The web side: what senders call, and the views that take it to where it belongs."""

from contextlib import suppress
from functools import partial
from http import HTTPStatus

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule

from receiver import body, intake, registration
from receiver.auth import Request
from receiver.auth.addresses import Proxies
from receiver.errors import Challenged, MethodNotAllowed, NotFound, Refusal
from receiver.logs import log
from receiver.runtime import Runtime
from receiver.web import answers, contracts, operations, references

_LONGEST_TOKEN_REQUEST = 16 * 1024  # bytes


def create_app(runtime: Runtime) -> Flask:
    """A WSGI application on this runtime."""
    app = Flask("receiver", static_folder=None)
    app.url_map.merge_slashes = False  # a redirect would show the path, and the token in it, to proxies' logs
    is_known = partial(intake.is_known, runtime=runtime)
    app.extensions[body.EXPECTED] = body.Expected(runtime.settings.server.max_body, is_known)
    _take_requests(app, runtime)
    app.register_blueprint(operations.blueprint(runtime))
    app.register_blueprint(contracts.blueprint())
    if runtime.settings.console is not None:
        from receiver.web import console  # and Jinja: only where it is wanted

        app.register_blueprint(console.blueprint(runtime, runtime.settings.console))
    _answer_errors(app, runtime)
    return app


def _take_requests(app: Flask, runtime: Runtime) -> None:
    """Callbacks; requests for tokens, jobs and references where they are configured."""

    def callbacks(_path: str) -> Response:
        taken = intake.receive(request.environ, runtime)
        if isinstance(taken, intake.Taken):
            return answers.Deferred(taken, runtime.writer)
        return answers.success(_endpoint(runtime), taken)

    def tokens() -> Response:
        assert runtime.token_endpoint is not None
        given = Request(request.environ, body.read(request.environ, _LONGEST_TOKEN_REQUEST))
        answer = runtime.token_endpoint.answer(given)
        answers.count("-", answer.status)
        if answer.code:
            log.warning("token_refused", status=answer.status, code=answer.code)
        return Response(answer.body, answer.status, list(answer.headers), content_type="application/json")

    def jobs() -> Response:
        admitted = registration.admit(request.environ, runtime.accounts)
        g.endpoint = admitted.account.endpoint
        status, document = registration.register(admitted, runtime)
        answers.count(g.endpoint, status)
        return Response(document, status, [("Cache-Control", "no-store")], content_type="application/json")

    def of_reference(reference: str) -> Response:
        try:
            document = references.answer(request.environ, reference, runtime)
        except NotFound as unknown:  # the usual answer before the first fax of it: no refusal that operators look for
            return answers.refused("reference_refused", "-", unknown)
        answers.count("-", 200)
        return Response(document, 200, [("Cache-Control", "no-store")], content_type="application/json")

    # Without methods of its own, so that the intake answers all of them: only it knows the endpoint's.
    app.url_map.add(Rule("/callbacks/<path:_path>", endpoint="callbacks"))
    app.endpoint("callbacks")(callbacks)
    if runtime.token_endpoint is not None:
        app.add_url_rule("/oauth2/token", "tokens", tokens, methods=["POST"], provide_automatic_options=False)
    if any(account.job_keys for account in runtime.accounts.values()):
        app.add_url_rule("/jobs", "jobs", jobs, methods=["POST"], provide_automatic_options=False)
        rule = "/references/<path:reference>"
        app.add_url_rule(rule, "references", of_reference, methods=["GET"], provide_automatic_options=False)


def _answer_errors(app: Flask, runtime: Runtime) -> None:
    """Whatever is raised while a request is worked on becomes a problem document."""

    @app.errorhandler(Refusal)
    def refused(refusal: Refusal) -> Response:
        endpoint = _endpoint(runtime)
        if refusal.status < 500 and not refusal.receipt and not isinstance(refusal, Challenged):
            runtime.refusals.note(_event(), endpoint, refusal, _client(runtime))
        return answers.refused(_event(), endpoint, refusal)

    @app.errorhandler(HTTPException)
    def not_routed(error: HTTPException) -> Response:
        with suppress(Refusal):  # whatever is wrong with it: there is nobody here to read it
            body.read(request.environ, runtime.settings.server.max_body)
        if error.code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ["GET"]))
            return refused(MethodNotAllowed(f"expected {allowed}", headers=[("Allow", allowed)]))
        return refused(NotFound("there is nothing here", reason="no_endpoint"))

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        return answers.failed(_event(), _endpoint(runtime), error)


def _client(runtime: Runtime) -> str | None:
    """The caller's address, as far as trusted proxies vouch for it; None where it cannot be known."""
    proxies = Proxies(runtime.settings.server.trusted_proxies)
    address = proxies.client(request.remote_addr or "", request.headers.get("X-Forwarded-For"))
    return None if address is None else str(address)


def _event() -> str:
    """What the log calls a refusal."""
    return {"jobs": "job_refused", "references": "reference_refused"}.get(request.endpoint or "", "callback_refused")


def _endpoint(runtime: Runtime) -> str:
    """The endpoint in the path or of a job, if there is one of that name; never a word of the request's own."""
    if "endpoint" in g:
        return str(g.endpoint)
    name = request.path.removeprefix("/callbacks/").partition("/")[0]
    return name if name in runtime.endpoints else "-"
