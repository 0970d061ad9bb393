"""
Our own access tokens, for a provider that speaks only OAuth2 to a user who has no identity provider.

Nothing is stored. A token is signed with a key made of the secret key, so every worker and machine with that key knows
it again; and it names the secret its client had, so that a removed client or a changed secret ends it at once.
"""

import hmac
import secrets
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import jwt

from receiver.auth import jwts
from receiver.auth.jwts import Unreadable
from receiver.settings import Client

LIFETIME_SECONDS = 600
_ALGORITHM = "HS256"


class OwnTokens:
    """issuer: what they name. keys: the first signs, all verify. clients: who may have some."""

    def __init__(self, issuer: str, keys: Sequence[bytes], clients: Mapping[str, Client]) -> None:
        self._issuer = issuer
        self._keys = [hmac.digest(key, b"access-token", "sha256") for key in keys]
        self._digests = {client.id: secret_digest(client) for client in clients.values()}

    def issue(self, client: str, audience: Sequence[str], scope: Sequence[str], now: float) -> str:
        """A token of LIFETIME_SECONDS for a client that has shown its secret."""
        claims = {
            "iss": self._issuer,
            "aud": list(audience),
            "sub": client,
            "client_id": client,
            "scope": " ".join(scope),
            "iat": int(now),
            "exp": int(now) + LIFETIME_SECONDS,
            "jti": secrets.token_urlsafe(12),
            "cv": self._version(self._keys[0], client),
        }
        return jwt.encode(claims, self._keys[0], algorithm=_ALGORITHM, headers={"typ": jwts.ACCESS_TOKEN})

    def claims(self, token: str) -> Mapping[str, Any]:
        """As issued. Raises Unreadable for what we did not sign, or for a client that is not the one it was."""
        jwts.header(token, (_ALGORITHM,), at_jwt_only=True)
        for key in self._keys:
            try:
                claims = jwts.claims(token, key, _ALGORITHM)
            except Unreadable:
                continue
            if claims["iss"] != self._issuer:
                raise Unreadable("issuer")
            client = str(claims["client_id"])
            if client not in self._digests or not hmac.compare_digest(claims["cv"], self._version(key, client)):
                raise Unreadable("client")
            return claims
        raise Unreadable("signature")

    def _version(self, key: bytes, client: str) -> str:
        """Which secret it is, to those who have the key only."""
        return hmac.digest(key, b"client\0" + client.encode() + b"\0" + self._digests[client], "sha256")[:8].hex()


def secret_digest(client: Client) -> bytes:
    """SHA-256 of the secret, also where only that is configured."""
    if client.secret.startswith("sha256:"):
        return bytes.fromhex(client.secret.removeprefix("sha256:"))
    return sha256(client.secret.encode()).digest()
