"""The cookie of somebody who has signed in: signed, good for a quarter of an hour after each page, and kept nowhere."""

import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256

from itsdangerous import BadData, URLSafeTimedSerializer

COOKIE = "__Host-faxhook"  # browsers take it over TLS only, or from this machine, and give it to this host alone
IDLE_SECONDS = 15 * 60
LONGEST_SECONDS = 12 * 3600
_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax"


@dataclass(frozen=True, slots=True)
class Session:
    """proof: of what the person has signed in with; another password, and the session is over."""

    id: str
    user: str
    proof: str
    began: int  # seconds since 1970


class Sessions:
    """keys: the first signs, all verify."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        own = [hmac.digest(key, b"console", "sha256") for key in keys]
        kinds = {"key_derivation": "hmac", "digest_method": sha256}
        self._signer = URLSafeTimedSerializer(own[::-1], salt="session", signer_kwargs=kinds)
        self._key = own[0]

    def begun(self, user: str, proof: str) -> Session:
        return Session(secrets.token_urlsafe(16), user, proof, int(time.time()))

    def read(self, cookie: str | None) -> Session | None:
        """None where it is none of ours, or its time is over."""
        try:
            session = Session(**self._signer.loads(cookie or "", max_age=IDLE_SECONDS))
        except (BadData, TypeError):
            return None
        return session if time.time() - session.began < LONGEST_SECONDS else None

    def cookie(self, session: Session) -> str:
        """The header's value that lets it go on from now."""
        return f"{COOKIE}={self._signer.dumps(asdict(session))}; {_ATTRIBUTES}"

    def token(self, session: Session) -> str:
        """What each form of this session brings back: no other site knows it."""
        return hmac.digest(self._key, f"form {session.id} {session.user}".encode(), "sha256").hex()


def ended() -> str:
    """The header's value that takes the cookie away."""
    return f"{COOKIE}=; Max-Age=0; {_ATTRIBUTES}"
