"""From a request to its answer: who asks, whether he may, what other sites must not do, and how much at once."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from flask import Response, request

from receiver.auth.addresses import Proxies
from receiver.errors import Forbidden, NotFound, Refusal, Unavailable, Unprocessable
from receiver.logs import error_class, log, place
from receiver.runtime import Runtime
from receiver.settings import Console, secret_keys
from receiver.store import browsing
from receiver.store.trouble import StoreUnavailable
from receiver.web import answers
from receiver.web.console import guarding, rendering
from receiver.web.console.pages import Action, Page
from receiver.web.console.persons import Attempts, ByProxy, Passwords
from receiver.web.console.sessions import COOKIE, Session, Sessions, ended
from receiver.web.console.visiting import HOME, Download, Elsewhere, Person, Shown, Visit, link

_AT_ONCE = 2  # pages that read, in each process: as many connections as there are
_WAIT_SECONDS = 2.0
_LARGEST = 2**63 - 1
_MOST_WAITING = 4  # callbacks need threads too
_LATER = [("Retry-After", "60")]
_SIGN_IN = "/console/sign-in"
_HTML, _JSON, _CSV = "text/html; charset=utf-8", "application/json", "text/csv; charset=utf-8"


class Dispatcher:
    """The views of the blueprint."""

    def __init__(self, runtime: Runtime, console: Console) -> None:
        self._runtime = runtime
        keys = secret_keys(runtime.settings)
        self._passwords = Passwords(console, keys[0]) if console.auth == "basic" else None
        self._attempts = Attempts()
        self._by_proxy = ByProxy(console, runtime.settings)
        self._proxies = Proxies(runtime.settings.server.trusted_proxies)
        self._sessions = Sessions(keys)
        self._signing_in = threading.BoundedSemaphore(_AT_ONCE)
        self._reading = threading.BoundedSemaphore(_AT_ONCE)
        self._waiting = threading.BoundedSemaphore(_AT_ONCE + _MOST_WAITING)
        self._slow = threading.Lock()

    # --- pages and actions ------------------------------------------------------------------------------------------

    def begin(self) -> Response:
        return self._redirected(HOME)

    def show(self, page: Page, **named: str) -> Response:
        session, person = self._signed_in()
        if person is None or session is None:
            return self._not_signed_in()
        visit = self._visit(session, person)
        _refuse_others(person, page.role)
        _refuse_impossible(named)
        with self._alone() if page.is_slow else self._turn():
            found = page.show(visit, **named)
        return self._answered(found, visit, session)

    def act(self, action: Action, **named: str) -> Response:
        """A GET shows what would happen, a POST does it."""
        posted = guarding.form(request.environ) if request.method == "POST" else {}
        session, person = self._signed_in()
        if person is None or session is None:
            return self._not_signed_in()
        _refuse_others(person, action.role)
        _refuse_impossible(named)
        if request.method == "POST":
            guarding.refuse_other_sites(request.environ, self._runtime.settings.server.public_url)
            guarding.refuse_wrong_token(posted, self._sessions.token(session))
        visit = self._visit(session, person, posted)
        do: Callable[..., Shown | Elsewhere | Download]
        do = action.perform if request.method == "POST" else action.confirm
        with self._turn():
            found = do(visit, **named)
        return self._answered(found, visit, session)

    def _visit(self, session: Session, person: Person, posted: Mapping[str, str] | None = None) -> Visit:
        args = request.args.to_dict()
        for name, value in (*args.items(), *(posted or {}).items()):
            if any(character < " " or character == "\x7f" for character in name + value):
                raise Unprocessable("expected no control characters")
        wants_csv = args.get("format") == "csv"
        token = self._sessions.token(session)
        return Visit(self._runtime, person, request.path, args, token, wants_csv, posted or {})

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Few pages at once: all of them together must leave threads to callbacks. Raises Unavailable."""
        busy = _busy("too many pages of the console are asked for at once; try again")
        if not self._waiting.acquire(blocking=False):
            raise busy
        try:
            if not self._reading.acquire(timeout=_WAIT_SECONDS):
                raise busy
            try:
                yield
            finally:
                self._reading.release()
        finally:
            self._waiting.release()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._slow.acquire(blocking=False):
            raise _busy("somebody else has just asked for this, which takes some seconds; try again")
        try:
            yield
        finally:
            self._slow.release()

    def _answered(self, found: Shown | Elsewhere | Download, visit: Visit, session: Session) -> Response:
        if isinstance(found, Elsewhere):
            response = self._redirected(found.path)
        elif isinstance(found, Download):
            response = Response(found.content, 200, content_type=found.content_type)
            response.headers["Content-Disposition"] = f'attachment; filename="{found.name}"'
        elif visit.wants_csv and found.rows is not None:
            response = Response(rendering.as_csv(found.columns, found.rows), 200, content_type=_CSV)
            name = request.path.rpartition("/")[2]
            response.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
        elif _wants_json():
            text = json.dumps(found.document, ensure_ascii=False, indent=2, default=lambda _: "damaged")
            response = Response(text.encode("utf-8", "backslashreplace"), found.status, content_type=_JSON)
        else:
            response = Response(rendering.shown(found, visit), found.status, content_type=_HTML)
        response.headers.add("Set-Cookie", self._sessions.cookie(session))
        answers.count("-", response.status_code)
        return response

    # --- who it is --------------------------------------------------------------------------------------------------

    def _signed_in(self) -> tuple[Session | None, Person | None]:
        session = self._sessions.read(request.cookies.get(COOKIE))
        if self._passwords is None:
            person = self._by_proxy.person(request.environ)
            if person is not None and (session is None or session.user != person.name):
                session = self._sessions.begun(person.name, "")
            return session, person
        if session is None or not self._passwords.still_holds(session.user, session.proof):
            return None, None
        return session, self._passwords.person(session.user)

    def _not_signed_in(self) -> Response:
        if self._passwords is None:
            return self._problem(401, "you are not signed in: this page is reached through the proxy that signs you in")
        if _wants_json() or request.method == "POST":
            return self._problem(401, "you are not signed in, or it was more than 15 minutes ago")
        after = request.full_path.rstrip("?")
        return self._redirected(link(_SIGN_IN, next=after if after != HOME else None))

    def sign_in(self) -> Response:
        if self._passwords is None:
            raise NotFound("who you are is said by the proxy in front of this console")
        after = _ours(request.args.get("next", ""))
        if request.method == "GET":
            return self._sign_in_page(200, after)
        posted = guarding.form(request.environ)
        guarding.refuse_other_sites(request.environ, self._runtime.settings.server.public_url)
        client = self._client()
        if not self._attempts.begin(client):
            return self._problem(429, "too many wrong passwords came from here; try again in a minute", _LATER)
        person = self._checked(self._passwords, posted)
        if person is None:
            log.warning("console_sign_in_refused", client=client)
            return self._sign_in_page(401, after, is_wrong=True)
        self._attempts.right(client)
        with self._runtime.store.writing() as connection:
            browsing.audit(connection, self._runtime.store.tables, "console.sign-in", "", person.name)
        response = self._redirected(after)
        session = self._sessions.begun(person.name, self._passwords.proof(person.name))
        response.headers.add("Set-Cookie", self._sessions.cookie(session))
        return response

    def _checked(self, passwords: Passwords, posted: Mapping[str, str]) -> Person | None:
        """Few at once: a slow hash holds its thread, and callbacks need threads too. Raises Unavailable."""
        if not self._signing_in.acquire(blocking=False):
            raise Unavailable("too many sign in at once; try again", retry_after_seconds=2)
        try:
            return passwords.sign_in(posted.get("user", ""), posted.get("password", ""))
        finally:
            self._signing_in.release()

    def _client(self) -> str | None:
        address = self._proxies.client(request.remote_addr or "", request.headers.get("X-Forwarded-For"))
        return None if address is None else str(address)

    def sign_out(self) -> Response:
        posted = guarding.form(request.environ)
        guarding.refuse_other_sites(request.environ, self._runtime.settings.server.public_url)
        session, _ = self._signed_in()
        if session is not None:
            guarding.refuse_wrong_token(posted, self._sessions.token(session))
        response = self._redirected(_SIGN_IN if self._passwords else HOME)
        response.headers.add("Set-Cookie", ended())
        return response

    def _sign_in_page(self, status: int, after: str, *, is_wrong: bool = False) -> Response:
        text = rendering.page("sign_in.html", None, title="Sign in", after=after, is_wrong=is_wrong)
        return self._counted(Response(text, status, content_type=_HTML))

    # --- what went wrong --------------------------------------------------------------------------------------------

    def refused(self, refusal: Refusal) -> Response:
        if isinstance(refusal, StoreUnavailable) and refusal.took_too_long:
            return self._problem(503, "this took longer than two seconds and was given up; ask for less")
        if refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning("console_failed", status=refusal.status, error=getattr(refusal, "error", refusal.code))
        return self._problem(refusal.status, refusal.detail, refusal.headers)

    def failed(self, error: Exception) -> Response:
        """Our bug."""
        log.error("request_failed", error=error_class(error), where=place(error.__traceback__))
        return self._problem(500, "faxhook failed on this page; its log says where")

    def _problem(self, status: int, detail: str, headers: Any = ()) -> Response:
        title = HTTPStatus(status).phrase
        if _wants_json():
            text = json.dumps({"title": title, "status": status, "detail": detail})
            return self._counted(Response(text, status, list(headers), content_type="application/problem+json"))
        _, person = self._signed_in()
        text = rendering.page("problem.html", None, title=title, detail=detail, is_signed_in=person is not None)
        return self._counted(Response(text, status, list(headers), content_type=_HTML))

    def _redirected(self, path: str) -> Response:
        return self._counted(Response(b"", 303, [("Location", path)], content_type="text/plain"))

    def _counted(self, response: Response) -> Response:
        answers.count("-", response.status_code)
        return response


def _busy(detail: str) -> Unavailable:
    return Unavailable(detail, retry_after_seconds=2)


def _refuse_others(person: Person, role: str) -> None:
    if not person.roles:
        raise Forbidden("you are signed in, but none of your groups has a role here")
    if not person.may(role):
        raise Forbidden(f"this needs the role {role}, which you do not have")


def _refuse_impossible(named: Mapping[str, object]) -> None:
    """Of a path: no database counts so far."""
    if any(isinstance(value, int) and value > _LARGEST for value in named.values()):
        raise NotFound("there is nothing here")


def _wants_json() -> bool:
    return request.accept_mimetypes.best_match([_HTML.partition(";")[0], _JSON]) == _JSON


def _ours(path: str) -> str:
    """A path of the console, and nothing that a browser may take for another host."""
    is_plain = path.startswith(HOME) and path.isprintable() and path.isascii() and "\\" not in path
    return path if is_plain else HOME
