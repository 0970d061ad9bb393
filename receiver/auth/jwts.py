"""Reading signed tokens: PyJWT checks the signature, whatever else a token may say about itself is decided here."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import jwt
from jwt.utils import base64url_decode

from receiver.auth.jwks import PublicKey
from receiver.auth.strict_json import parse_object

ACCESS_TOKEN = "at+jwt"  # noqa: S105 - a media type
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TYPES = frozenset({ACCESS_TOKEN, f"application/{ACCESS_TOKEN}"})
_JWS = jwt.PyJWS()


class Unreadable(Exception):  # noqa: N818 - the token's fault
    """A token that we do not accept. reason: one of our own words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def header(token: str, algorithms: Collection[str], *, at_jwt_only: bool) -> tuple[str, str | None]:
    """
    Algorithm and kid of a token. Raises Unreadable unless it is a compact JWT of a permitted algorithm and type.

    jwk, jku, x5u and x5c are never looked at: a token does not say which key is right. at_jwt_only: not JWT, nor none.
    """
    compact = _COMPACT.fullmatch(token)
    if compact is None:
        raise Unreadable("malformed")
    try:
        said = parse_object(base64url_decode(compact[1]))
    except ValueError:
        raise Unreadable("malformed") from None
    algorithm, kid, kind = said.get("alg"), said.get("kid"), said.get("typ")
    if algorithm not in algorithms:
        raise Unreadable("algorithm")
    if "crit" in said or "b64" in said:
        raise Unreadable("critical")  # we know no extension
    if kind is None or (isinstance(kind, str) and kind.lower() == "jwt"):
        is_known = not at_jwt_only
    else:
        is_known = isinstance(kind, str) and kind.lower() in _TYPES
    if not is_known:
        raise Unreadable("type")
    if not isinstance(kid, str | None):
        raise Unreadable("malformed")
    return str(algorithm), kid


def claims(token: str, key: PublicKey | bytes, algorithm: str) -> Mapping[str, Any]:
    """What the token says, once its signature is right. Raises Unreadable."""
    try:
        payload = _JWS.decode_complete(token, key, algorithms=[algorithm])["payload"]
    except jwt.InvalidTokenError:
        raise Unreadable("signature") from None
    except (ValueError, TypeError):  # keys and signatures that cryptography does not take
        raise Unreadable("signature") from None
    try:
        return parse_object(payload)
    except ValueError:
        raise Unreadable("malformed") from None
