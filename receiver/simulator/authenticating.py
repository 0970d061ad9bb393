"""
How a caller shows who it is, mode by mode, as real clients do.

A Proof is what is known of a target's secrets. Its session is how one connection shows them, over one request after
another: what it has been told meanwhile, such as a nonce, is its own.
"""

import base64
import hashlib
import hmac
import http.client
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.message import Message
from typing import Protocol
from urllib.parse import quote_plus, urlencode, urlsplit

from receiver.auth import digest
from receiver.errors import MalformedCredentials
from receiver.settings import Signature
from receiver.simulator.unanswered import why

_TIMEOUT_SECONDS = 10.0
_BEFORE_ITS_END_SECONDS = 5.0  # a token must outlast its way to the server


class Session(Protocol):
    """One connection's way to show who calls."""

    def headers(self, method: str, uri: str, body: bytes) -> Mapping[str, str]:
        """For the next request; each character is one byte. Raises NoToken."""

    def learn(self, refusal: Message) -> bool:
        """Read the headers of a 401; whether the request has a better chance now."""


class Proof(Protocol):
    """What is known of a target's secrets."""

    def session(self) -> Session:
        """For one connection."""

    def spoiled(self) -> "Proof":
        """The same with wrong secrets."""


class _Constant:
    """Needs no challenge, and learns nothing from one."""

    def learn(self, _refusal: Message) -> bool:
        return False


class Nothing(_Constant):
    """Shows nothing outside the payload."""

    def session(self) -> "Nothing":
        return self

    def spoiled(self) -> "Nothing":
        return self

    def headers(self, _method: str, _uri: str, _body: bytes) -> Mapping[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class Basic(_Constant):
    user: str
    password: str = field(repr=False)

    def session(self) -> "Basic":
        return self

    def spoiled(self) -> "Basic":
        return replace(self, password=self.password + "x")

    def headers(self, _method: str, _uri: str, _body: bytes) -> Mapping[str, str]:
        return {"Authorization": _basic(self.user, self.password)}


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# --- Digest ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Digest:
    user: str
    password: str = field(repr=False)

    def session(self) -> "_DigestSession":
        return _DigestSession(self)

    def spoiled(self) -> "Digest":
        return replace(self, password=self.password + "x")


class _DigestSession:
    """
    Nothing at first; then the answer to the challenge, and on the same nonce before being asked while it is good.

    A request that answered one challenge is sent once more only where the server says that just the nonce was old.
    """

    def __init__(self, known: Digest) -> None:
        self._known = known
        self._challenge: _Challenge | None = None
        self._count = 0

    def headers(self, method: str, uri: str, _body: bytes) -> Mapping[str, str]:
        if self._challenge is None:
            return {}
        self._count += 1
        return {"Authorization": self._challenge.answer(self._known, method, uri, self._count)}

    def learn(self, refusal: Message) -> bool:
        had_answered = self._challenge is not None
        found = _Challenge.best_of(refusal.get_all("WWW-Authenticate", []))
        self._challenge = None if had_answered and found is not None and not found.is_stale else found
        self._count = 0
        return self._challenge is not None


@dataclass(frozen=True, slots=True)
class _Challenge:
    realm: str
    nonce: str
    algorithm: str
    is_stale: bool

    @classmethod
    def best_of(cls, headers: list[str]) -> "_Challenge | None":
        """The strongest that we can answer; None where there is none."""
        found = {}
        for header in headers:
            try:
                fields = digest.parse(header) or {}
            except MalformedCredentials:
                continue
            algorithm = fields.get("algorithm", "MD5").upper()
            offered = [one.strip().lower() for one in fields.get("qop", "").split(",")]
            if algorithm in _HASHES and "auth" in offered and "realm" in fields and "nonce" in fields:
                is_stale = fields.get("stale", "").lower() == "true"
                found[algorithm] = cls(fields["realm"], fields["nonce"], algorithm, is_stale)
        return next((found[algorithm] for algorithm in _HASHES if algorithm in found), None)

    def answer(self, known: Digest, method: str, uri: str, count: int) -> str:
        nc, cnonce = f"{count:08x}", secrets.token_hex(8)
        ha1 = self._hash(f"{known.user}:{self.realm}:{known.password}".encode())
        ha2 = self._hash(f"{method}:{uri}".encode("latin-1"))
        response = self._hash(f"{ha1}:{self.nonce}:{nc}:{cnonce}:auth:{ha2}".encode("latin-1"))
        user = known.user.encode().decode("latin-1")
        return (
            f"Digest username={_quoted(user)}, realm={_quoted(self.realm)}, nonce={_quoted(self.nonce)}, "
            f"uri={_quoted(uri)}, algorithm={self.algorithm}, qop=auth, nc={nc}, "
            f'cnonce="{cnonce}", response="{response}"'
        )

    def _hash(self, data: bytes) -> str:
        return _HASHES[self.algorithm](data)


_HASHES: Mapping[str, Callable[[bytes], str]] = {  # the strongest first
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# --- OAuth2 ---------------------------------------------------------------------------------------------------------


class NoToken(Exception):  # noqa: N818 - how one call ends
    """There is no access token to call with; the message says what the token endpoint answered."""


@dataclass(frozen=True, slots=True)
class Ready(_Constant):
    """An access token that somebody else has fetched."""

    token: str = field(repr=False)

    def session(self) -> "Ready":
        return self

    def spoiled(self) -> "Ready":
        return Ready("wrong." + self.token)

    def headers(self, _method: str, _uri: str, _body: bytes) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


Fetch = Callable[[], tuple[str, float | None]]  # an access token, and the seconds it lasts where that is known


class Bearer:
    """Fetches access tokens: the first when it is needed, the next when it ends or is refused. For all connections."""

    def __init__(self, fetch: Fetch, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._mutex = threading.Lock()
        self._token: str | None = None
        self._ends = 0.0

    def session(self) -> "_BearerSession":
        return _BearerSession(self)

    def spoiled(self) -> Ready:
        return Ready("wrong")

    def current(self) -> tuple[str, bool]:
        """A token, and whether it has just been fetched. Raises NoToken."""
        with self._mutex:
            if self._token is not None and self._clock() < self._ends:
                return self._token, False
            self._token, lasts = self._fetch()
            self._ends = float("inf") if lasts is None else self._clock() + lasts - _BEFORE_ITS_END_SECONDS
            return self._token, True

    def forget(self, token: str) -> None:
        with self._mutex:
            if token == self._token:  # another connection may have fetched the next one
                self._token = None


class _BearerSession:
    def __init__(self, bearer: Bearer) -> None:
        self._bearer = bearer
        self._token = ""
        self._is_new = False

    def headers(self, _method: str, _uri: str, _body: bytes) -> Mapping[str, str]:
        self._token, self._is_new = self._bearer.current()
        return {"Authorization": f"Bearer {self._token}"}

    def learn(self, _refusal: Message) -> bool:
        """Another token may be taken where this one was fetched for an earlier request."""
        self._bearer.forget(self._token)
        return not self._is_new


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """url: http or https. scope: as it is asked for; empty for the endpoint's default."""

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str = ""

    def fetch(self) -> tuple[str, float | None]:
        """client_credentials, RFC 6749 4.4, with the secret in the header. Raises NoToken."""
        status, body = self._ask()
        try:
            document = json.loads(body)
            if status != 200:
                raise NoToken(f"no token: its server answered {status} {_word(document['error'])}".rstrip())
            token, lasts = document["access_token"], document.get("expires_in")
            if not isinstance(token, str) or not token.isascii() or document["token_type"].lower() != "bearer":
                raise NoToken("no token: its server answered one that is not of type bearer")
            return token, None if lasts is None else float(lasts)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise NoToken(f"no token: its server answered {status}, and no JSON with a token") from None

    def _ask(self) -> tuple[int, bytes]:
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)
        form = {"grant_type": "client_credentials"} | ({"scope": self.scope} if self.scope else {})
        headers = {
            "Authorization": _basic(quote_plus(self.client_id), quote_plus(self.client_secret)),
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", path, urlencode(form), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            port = parts.port or connection.default_port
            raise NoToken(f"no token: {why(error, parts.hostname or '', port)}") from None
        finally:
            connection.close()


def _word(error: object) -> str:
    """An error code of the token endpoint, as far as it is one."""
    return error if isinstance(error, str) and error.replace("_", "").isalpha() and len(error) < 40 else ""


# --- HMAC -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signed(_Constant):
    """Signs each request anew, with the first secret."""

    options: Signature

    def session(self) -> "Signed":
        return self

    def spoiled(self) -> "Signed":
        first = self.options.secrets[0]
        other = "A" if first[-5] != "A" else "B"  # still base64, where it was
        return Signed(replace(self.options, secrets=(first[:-5] + other + first[-4:],)))

    def headers(self, _method: str, _uri: str, body: bytes) -> Mapping[str, str]:
        now = str(int(time.time()))
        if self.options.header is None:
            return self._standard(f"msg_{secrets.token_hex(12)}", now, body)
        named = self.options.timestamp_header
        made = hmac.digest(
            self.options.secrets[0].encode(), (f"{now}.".encode() if named else b"") + body, hashlib.sha256
        )
        written = made.hex() if self.options.encoding == "hex" else base64.b64encode(made).decode()
        return {self.options.header: self.options.prefix + written} | ({named: now} if named else {})

    def _standard(self, name: str, now: str, body: bytes) -> Mapping[str, str]:
        """Standard Webhooks."""
        key = base64.b64decode(self.options.secrets[0].removeprefix("whsec_"))
        made = hmac.digest(key, f"{name}.{now}.".encode() + body, hashlib.sha256)
        signature = "v1," + base64.b64encode(made).decode()
        return {"webhook-id": name, "webhook-timestamp": now, "webhook-signature": signature}
