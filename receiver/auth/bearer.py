"""
OAuth2 on the server, RFC 6750: reading the Authorization header, what a token must say, and the answers.

Who can read a token differs: the issuer's public keys, the issuer itself, or the key of our own tokens. All three give
claims, which are then held against the endpoint in the same way. Tokens are not remembered; keys are.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import parse_qsl

from receiver import errors
from receiver.auth import jwts
from receiver.auth.credentials import utc_now
from receiver.auth.introspection import Introspection
from receiver.auth.jwks import KeySet
from receiver.auth.jwts import Unreadable
from receiver.auth.request import Request
from receiver.settings import OAuth2 as Options

_LONGEST = 8192  # of the header
_LATEST = 1e15  # seconds since 1970 that can still be calculated with
_SCHEME = re.compile(r"(?P<scheme>[!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]+(?P<rest>.*))?", re.DOTALL)
_TOKEN = re.compile("[A-Za-z0-9._~+/-]+=*")

# Why a token is refused: what the log says -> what the answer says. Nothing of the token, nothing of a library.
_DESCRIPTIONS = {
    "malformed": "The token is not one that can be read here.",
    "algorithm": "The token is signed with an algorithm that is not accepted.",
    "critical": "The token has a critical extension.",
    "type": "The token is of another type than an access token.",
    "signature": "The token is not signed with a key of the issuer.",
    "inactive": "The token is not active.",
    "expired": "The token has expired, or does not say when it will.",
    "early": "The token is not valid yet.",
    "issuer": "The token is from another issuer.",
    "audience": "The token is for another audience.",
    "client": "The client of the token is not known, or has another secret now.",
}


class Source(Protocol):
    """One way to read tokens."""

    def claims(self, token: str) -> Mapping[str, Any]:
        """Raises Unreadable for one that proves nothing, Unavailable where that cannot be found out now."""


class InvalidToken(errors.Unauthorized):
    """reason: for the log, a key of the descriptions."""

    def __init__(self, realm: str, reason: str) -> None:
        description = _DESCRIPTIONS[reason]
        challenge = f'Bearer realm="{realm}", error="invalid_token", error_description="{description}"'
        super().__init__(description, headers=[("WWW-Authenticate", challenge)])
        self.error = reason


class Bearer:
    """The OAuth2 of one endpoint. audience: what its tokens name."""

    def __init__(
        self, options: Options, audience: str, source: Source, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._options = options
        self._audience = audience
        self._source = source
        self._clock = clock
        self._challenge = f'Bearer realm="{options.realm}"'

    def verify(self, request: Request) -> None:
        """
        Raises Unauthorized, with the challenge, unless the header holds a token that is valid now and for us.

        Raises Forbidden for a valid one that does not suffice, MalformedCredentials for a header that cannot be read,
        and Unavailable where the issuer's answer is needed and does not come.
        """
        try:
            token = parse(request)
        except _InvalidRequest as error:
            header = f'{self._challenge}, error="invalid_request", error_description="{error}"'
            raise errors.MalformedCredentials(str(error), headers=[("WWW-Authenticate", header)]) from None
        if token is None:
            raise errors.Challenged("Expected a bearer token.", headers=[("WWW-Authenticate", self._challenge)])
        try:
            claims = self._source.claims(token)
            self._check_validity(claims)
        except Unreadable as error:
            raise InvalidToken(self._options.realm, error.reason) from None
        self._check_rights(claims)

    def _check_validity(self, claims: Mapping[str, Any]) -> None:
        """Whether the token is valid at all, here and now."""
        now, leeway = self._clock().timestamp(), self._options.leeway.total_seconds()
        if "exp" in claims and not now < _time(claims, "exp", "expired") + leeway:
            raise Unreadable("expired")
        for name in ("nbf", "iat"):
            if name in claims and now + leeway < _time(claims, name, "early"):
                raise Unreadable("early")
        audience = claims.get("aud")
        if audience != self._audience and not (isinstance(audience, list) and self._audience in audience):
            raise Unreadable("audience")

    def _check_rights(self, claims: Mapping[str, Any]) -> None:
        """Whether who has the valid token may call this endpoint."""
        if self._options.allowed_clients and _client(claims) not in self._options.allowed_clients:
            raise self._forbidden("The client of the token may not call this endpoint.")
        missing = set(self._options.scope) - _scope(claims)
        if missing:
            raise self._forbidden("The token has not the scope that is needed.", scope=" ".join(self._options.scope))
        for name, wanted in self._options.required_claims.items():
            found = claims.get(name)
            if found != wanted and not (isinstance(found, list) and wanted in found):
                raise self._forbidden("The token has not the claims that are needed.")

    def _forbidden(self, detail: str, *, scope: str | None = None) -> errors.Forbidden:
        needed = f', scope="{scope}"' if scope else ""
        header = f'{self._challenge}, error="insufficient_scope"{needed}'
        return errors.Forbidden(detail, headers=[("WWW-Authenticate", header)])


class Signed:
    """Tokens that a remote issuer signed. algorithms: never symmetric ones, whose key would be a public one."""

    def __init__(self, options: Options, keys: KeySet) -> None:
        self._options = options
        self._keys = keys

    def claims(self, token: str) -> Mapping[str, Any]:
        algorithm, kid = jwts.header(token, self._options.algorithms, at_jwt_only=self._options.at_jwt_only)
        key = self._keys.find(kid, algorithm)
        if key is None:
            raise Unreadable("signature")
        claims = jwts.claims(token, key, algorithm)
        if claims.get("iss") != self._options.issuer:
            raise Unreadable("issuer")
        if "exp" not in claims:
            raise Unreadable("expired")
        return claims


class Asked:
    """Tokens that their issuer is asked about. issuer: where configured, and where it says one, that one."""

    def __init__(self, options: Options, introspection: Introspection) -> None:
        self._options = options
        self._introspection = introspection

    def claims(self, token: str) -> Mapping[str, Any]:
        claims = self._introspection.claims(token)
        if claims is None:
            raise Unreadable("inactive")
        if self._options.issuer is not None and claims.get("iss", self._options.issuer) != self._options.issuer:
            raise Unreadable("issuer")
        return claims


class _InvalidRequest(Exception):  # noqa: N818 - the caller's
    """What was expected."""


def parse(request: Request) -> str | None:
    """The token in the header; None where there is none, or one of another scheme. Raises what verify makes a 400."""
    authorization = (request.authorization or "").strip(" \t")
    if not authorization:
        return None
    if len(authorization) > _LONGEST:
        raise _InvalidRequest(f"The Authorization header is longer than {_LONGEST} bytes.")
    header = _SCHEME.fullmatch(authorization)
    if header is None:
        raise _InvalidRequest("The Authorization header does not begin with the name of a scheme.")
    if header["scheme"].lower() != "bearer":
        return None
    token = header["rest"] or ""
    if not _TOKEN.fullmatch(token):
        raise _InvalidRequest("Expected Bearer, a space and one token.")
    query = str(request.environ.get("QUERY_STRING", ""))
    if any(name == "access_token" for name, _ in parse_qsl(query, keep_blank_values=True)):
        raise _InvalidRequest("The token is expected in the Authorization header only.")
    return token


def _time(claims: Mapping[str, Any], name: str, reason: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LATEST:
        raise Unreadable(reason)
    return value


def _client(claims: Mapping[str, Any]) -> object:
    """RFC 9068's name of it, or that of common servers."""
    return next((claims[name] for name in ("client_id", "azp", "appid") if name in claims), None)


def _scope(claims: Mapping[str, Any]) -> set[str]:
    """A text with spaces between, or a list; under RFC 9068's name or another common one."""
    found: set[str] = set()
    for name in ("scope", "scp"):
        value = claims.get(name)
        words = value.split(" ") if isinstance(value, str) else value
        if isinstance(words, list):
            found.update(word for word in words if isinstance(word, str))
    return found
