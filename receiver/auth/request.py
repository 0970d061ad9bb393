"""What a verifier may look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the WSGI server read it, with its whole body."""

    environ: Mapping[str, Any]
    body: bytes

    @property
    def method(self) -> str:
        return str(self.environ["REQUEST_METHOD"])

    @property
    def target(self) -> str:
        """As it was sent, in absolute-form too, with its query; rebuilt where the server does not say."""
        raw = self.environ.get("RAW_URI") or self.environ.get("REQUEST_URI")
        if raw:
            return str(raw)
        query = self.environ.get("QUERY_STRING", "")
        return f"{self.environ['PATH_INFO']}{'?' if query else ''}{query}"

    @property
    def has_query(self) -> bool:
        return bool(self.environ.get("QUERY_STRING"))

    @property
    def host(self) -> str:
        return str(self.environ.get("HTTP_HOST", ""))

    @property
    def authorization(self) -> str | None:
        """All Authorization headers, joined by commas; each character is one byte."""
        return self.header("Authorization")

    @property
    def peer(self) -> str:
        """Address of the socket, empty for a unix socket."""
        return self.environ.get("REMOTE_ADDR") or ""

    def header(self, name: str) -> str | None:
        value = self.environ.get("HTTP_" + name.upper().replace("-", "_"))
        return None if value is None else str(value)
