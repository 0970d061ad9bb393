"""Tokens that only their issuer can read, RFC 7662: it is asked, and what it says is kept for a minute at most."""

import hmac
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote_plus

from receiver import errors
from receiver.auth.fetching import Unfetched, begin, document
from receiver.logs import log
from receiver.settings import Introspection as Options
from receiver.system.waiting import may_wait

_ACTIVE_SECONDS = 60.0
_INACTIVE_SECONDS = 10.0
_PAUSE_SECONDS = 2.0  # after a question that was not answered, so that a hanging server does not hold every thread
_WAIT_SECONDS = 3.5  # a fetch takes 3 s at most
_ENTRIES_MAX = 1024
_QUESTIONS_AT_ONCE = 2  # of a process: strangers' tokens must not hold every thread where answers are slow
_TURN_SECONDS = 0.5


class Introspection:
    """The answers about one endpoint's tokens. label: of the log's lines."""

    def __init__(self, options: Options, *, label: str = "", clock: Callable[[], float] = time.time) -> None:
        self._options = options
        self._login = quote_plus(options.client_id), quote_plus(options.client_secret)  # RFC 6749, 2.3.1
        self._label = label
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._answers: dict[bytes, tuple[Mapping[str, Any] | None, float]] = {}  # oldest first, and until when
        self._silent_until = float("-inf")
        self._turns = threading.BoundedSemaphore(_QUESTIONS_AT_ONCE)

    def claims(self, token: str) -> Mapping[str, Any] | None:
        """What the issuer says of the token; None where it is not active. Raises Unavailable where it says nothing."""
        name = hmac.digest(self._key, token.encode(), "sha256")
        now = self._clock()
        claims, until = self._answers.get(name, (None, now))
        if now < until:
            return claims
        if now < self._silent_until:
            raise _unavailable()
        may_wait()
        if not self._turns.acquire(timeout=_TURN_SECONDS):
            raise _unavailable()
        try:
            claims = self._ask(token)
        except Unfetched as error:
            log.warning("token_not_introspected", endpoint=self._label, reason=error.reason)
            self._silent_until = self._clock() + _PAUSE_SECONDS
            raise _unavailable() from None
        finally:
            self._turns.release()
        self._remember(name, claims, now)
        return claims

    def trouble(self) -> str | None:
        """Ask about no token of anybody's; why that did not work, None where it did."""
        try:
            self._ask(secrets.token_hex(16))
        except Unfetched as error:
            return error.reason
        return None

    def _ask(self, token: str) -> Mapping[str, Any] | None:
        form = {"token": token, "token_type_hint": "access_token"}
        try:
            answer = begin(document(self._options.url, form=form, login=self._login)).result(_WAIT_SECONDS)
        except TimeoutError:
            raise Unfetched("timeout") from None
        return answer if answer.get("active") is True else None

    def _remember(self, name: bytes, claims: Mapping[str, Any] | None, now: float) -> None:
        until = now + (_INACTIVE_SECONDS if claims is None else _ACTIVE_SECONDS)
        expiry = claims.get("exp") if claims else None
        if isinstance(expiry, int | float):
            until = min(until, expiry)
        with self._lock:
            self._answers.pop(name, None)
            if len(self._answers) >= _ENTRIES_MAX:
                del self._answers[next(iter(self._answers))]
            self._answers[name] = claims, until


def _unavailable() -> errors.Unavailable:
    return errors.Unavailable("The token's issuer cannot be asked about it now.", retry_after_seconds=2)
