"""A real HTTP server that plays identity providers, one for each first word of the path, with their faults."""

import base64
import hmac
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms
from ports import listener

ALGORITHMS = get_default_algorithms()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Signer:
    """A private key with a name."""

    def __init__(self, algorithm: str = "RS256", *, bits: int = 2048, kid: str | None = "") -> None:
        self.algorithm = algorithm
        self.kid = secrets.token_hex(4) if kid == "" else kid
        match algorithm[:2]:
            case "RS" | "PS":
                self.key: Any = rsa.generate_private_key(65537, bits)
            case "ES":
                self.key = ec.generate_private_key({"ES256": ec.SECP256R1, "ES384": ec.SECP384R1}[algorithm]())
            case _:
                self.key = ed25519.Ed25519PrivateKey.generate()

    def jwk(self, **more: Any) -> dict[str, Any]:
        return self._jwk(self.key.public_key(), more)

    def private_jwk(self) -> dict[str, Any]:
        return self._jwk(self.key, {})

    def _jwk(self, key: Any, more: Mapping[str, Any]) -> dict[str, Any]:
        found = ALGORITHMS[self.algorithm].to_jwk(key, as_dict=True)
        found.pop("key_ops", None)
        name = {} if self.kid is None else {"kid": self.kid}
        return {**found, **name, "use": "sig", **more}

    def sign(self, payload: Any, **header: Any) -> str:
        """payload: claims, or the text of them. header: names that are None are left out."""
        whole = {"alg": self.algorithm, "typ": "at+jwt", "kid": self.kid, **header}
        head = json.dumps({name: value for name, value in whole.items() if value is not None})
        body = payload if isinstance(payload, str) else json.dumps(payload)
        signed = f"{b64(head.encode())}.{b64(body.encode())}"
        return f"{signed}.{b64(ALGORITHMS[self.algorithm].sign(signed.encode(), self.key))}"


def hs256(payload: Mapping[str, Any], key: bytes, **header: Any) -> str:
    """With any text as the key, as no library would."""
    head = json.dumps({"alg": "HS256", "typ": "at+jwt", **header})
    signed = f"{b64(head.encode())}.{b64(json.dumps(payload).encode())}"
    return f"{signed}.{b64(hmac.digest(key, signed.encode(), 'sha256'))}"


@dataclass
class Provider:
    """
    One identity provider. answers: of introspection, by token.

    fault: "" for none, "down", "hanging", "dripping", "html", "huge", "redirect", "other issuer" or "error".
    """

    issuer: str
    signer: Signer
    jwks: list[dict[str, Any]]
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    login: str = ""  # that introspection expects
    is_rfc8414: bool = False  # and has no OpenID Connect
    fault: str = ""
    asked: "Counter[str]" = field(default_factory=Counter)

    def claims(self, **more: Any) -> dict[str, Any]:
        """Those of a good token; names that are None are left out."""
        now = int(time.time())
        good = {
            "iss": self.issuer,
            "aud": "faxhook",
            "sub": "retarus",
            "client_id": "retarus",
            "scope": "openid fax.push",
            "iat": now,
            "exp": now + 300,
            "jti": secrets.token_hex(4),
        }
        return {name: value for name, value in {**good, **more}.items() if value is not None}

    def token(self, **more: Any) -> str:
        return self.signer.sign(self.claims(**more))


class IdentityProviders:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.providers: dict[str, Provider] = {}
        self.ended = threading.Event()

    def add(self, name: str, signer: Signer) -> Provider:
        provider = Provider(f"{self.url}/{name}", signer, [signer.jwk()])
        self.providers[name] = provider
        return provider


@contextmanager
def identity_providers() -> Iterator[IdentityProviders]:
    with listener() as sock:
        found = IdentityProviders(sock.getsockname()[1])

        class Handler(_Handler):
            house = found

        server = ThreadingHTTPServer(sock.getsockname(), Handler, bind_and_activate=False)
        server.daemon_threads = True
        server.socket.close()
        server.socket = sock
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            found.ended.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    house: IdentityProviders

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._serve({name: values[0] for name, values in parse_qs(body).items()})

    def _serve(self, form: Mapping[str, str]) -> None:
        with suppress(OSError):  # a client that has given up
            name, _, path = self.path.strip("/").partition("/")
            if name == ".well-known":  # RFC 8414 has it before the issuer's own path
                path, _, name = path.partition("/")
            provider = self.house.providers[name]
            provider.asked[path] += 1
            self._answer(provider, path, form)

    def _answer(self, provider: Provider, path: str, form: Mapping[str, str]) -> None:
        match provider.fault:
            case "down":
                self.close_connection = True
            case "hanging":
                self.house.ended.wait(20)
            case "dripping":
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                while not self.house.ended.wait(0.2):
                    self.wfile.write(b"X-More: 1\r\n")
                    self.wfile.flush()
            case "html":
                self._send(200, b"<html>Service is being maintained</html>", "text/html")
            case "huge":
                self._send(200, b'{"keys": [' + b" " * 30_000_000 + b"]}")
            case "redirect":
                self.send_response(302)
                self.send_header("Location", f"{self.house.url}/main/jwks")
                self.send_header("Content-Length", "0")
                self.end_headers()
            case "error":
                self._send(500, b"{}")
            case _:
                self._answer_rightly(provider, path, form)

    def _answer_rightly(self, provider: Provider, path: str, form: Mapping[str, str]) -> None:
        found: Any = None
        if path == "jwks":
            found = {"keys": provider.jwks}
        elif path == ("oauth-authorization-server" if provider.is_rfc8414 else ".well-known/openid-configuration"):
            issuer = provider.issuer + ("/other" if provider.fault == "other issuer" else "")
            found = {"issuer": issuer, "jwks_uri": f"{provider.issuer}/jwks"}
        elif path == "introspect":
            expected = "Basic " + base64.b64encode(provider.login.encode()).decode()
            if self.headers["Authorization"] != expected:
                self._send(401, b"{}")
                return
            found = provider.answers.get(form.get("token", ""), {"active": False})
        self._send(*((404, b"{}") if found is None else (200, json.dumps(found).encode())))

    def _send(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
