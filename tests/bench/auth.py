"""
What a check of credentials costs, in one process: ``python tests/bench/auth.py [ROUNDS]``.

Each mode's gate is asked with right credentials, in turn with the gate of mode none, in CPU time. Digest claims its
nonces in SQLite; the keys of RS256 and ES256 are known. Prints a Markdown table. A report, not a test.
"""

import base64
import hashlib
import itertools
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from receiver import bootstrap, settings
from receiver.auth import Gate, Request
from receiver.auth.token_endpoint import TokenEndpoint
from receiver.errors import Unauthorized
from receiver.store.migrating import migrate

REQUESTS = 500  # a round
PASSWORD = "a-password-of-32-characters-here"
ISSUER = "https://login.example.com/"

CONFIGURATION = f"""
[server]
secret_key = "the-secret-key-of-the-benchmark"
state_dir = "state"
[store]
url = "sqlite:///faxhook.db"
[endpoints.none]
provider = "openfax"
auth = {{ mode = "none" }}
insecure = true
[endpoints.basic]
provider = "openfax"
auth = {{ mode = "basic", credentials = [{{ user = "me", password = "{PASSWORD}" }}] }}
[endpoints.digest]
provider = "openfax"
auth = {{ mode = "digest", credentials = [{{ user = "me", password = "{PASSWORD}" }}] }}
[endpoints.signed]
provider = "openfax"
auth = {{ mode = "oauth2", issuer = "{ISSUER}", audience = "faxhook", scope = "fax.push" }}
[endpoints.own]
provider = "openfax"
auth = {{ mode = "oauth2", issuer = "self", scope = "fax.push" }}
[oauth2.clients.me]
secret = "{PASSWORD}"
"""


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory(prefix="faxhook-bench-") as folder:
        config = Path(folder) / "faxhook.toml"
        config.write_text(CONFIGURATION)
        loaded = settings.load(config, {})
        keys = {"RS256": rsa.generate_private_key(65537, 2048), "ES256": ec.generate_private_key(ec.SECP256R1())}
        _know(loaded.server.state_dir, keys)
        store = bootstrap.open_store(loaded)
        migrate(store)
        store.close()
        runtime = bootstrap.build(loaded)
        gates = {name: endpoint.gate for name, endpoint in runtime.endpoints.items()}
        assert runtime.token_endpoint is not None
        rows: dict[str, tuple[Gate, Iterator[Request]]] = {
            "Basic, sha256": (gates["basic"], _always("Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode())),
            "Digest, MD5": (gates["digest"], _digest(gates["digest"], "MD5")),
            "Digest, SHA-256": (gates["digest"], _digest(gates["digest"], "SHA-256")),
            "OAuth2, RS256": (gates["signed"], _always("Bearer " + _token(keys["RS256"], "RS256"))),
            "OAuth2, ES256": (gates["signed"], _always("Bearer " + _token(keys["ES256"], "ES256"))),
            "OAuth2, our own": (gates["own"], _always("Bearer " + _own(runtime.token_endpoint))),
        }
        print("| mode | CPU added to a request, µs |\n| --- | --- |")
        for name, (gate, requests) in rows.items():
            found = [
                _microseconds(gate, requests) - _microseconds(gates["none"], _always("none")) for _ in range(rounds)
            ]
            print(f"| {name} | {statistics.median(found):.0f} ({min(found):.0f}–{max(found):.0f}) |", flush=True)
        runtime.close()


def _know(folder: Path, keys: dict[str, Any]) -> None:
    """As if they had been fetched."""
    algorithms = jwt.algorithms.get_default_algorithms()
    public = [algorithms[name].to_jwk(key.public_key(), as_dict=True) | {"kid": name} for name, key in keys.items()]
    folder.mkdir()
    name = hashlib.sha256(f"{ISSUER}\0".encode()).hexdigest()[:16]
    (folder / f"jwks-{name}.json").write_text(json.dumps({"fetched_at": time.time(), "keys": public}))


def _token(key: Any, algorithm: str) -> str:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "faxhook", "sub": "me", "client_id": "me", "scope": "openid fax.push"}
    times = {"iat": now, "exp": now + 3600, "jti": "0123456789abcdef"}
    return jwt.encode(claims | times, key, algorithm=algorithm, headers={"kid": algorithm, "typ": "at+jwt"})


def _own(endpoint: TokenEndpoint) -> str:
    form = f"grant_type=client_credentials&client_id=me&client_secret={PASSWORD}".encode()
    environ = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": "application/x-www-form-urlencoded"}
    return str(json.loads(endpoint.answer(Request(environ, form)).body)["access_token"])


def _request(authorization: str) -> Request:
    return Request({"REQUEST_METHOD": "POST", "RAW_URI": "/hook", "HTTP_AUTHORIZATION": authorization}, b"")


def _always(authorization: str) -> Iterator[Request]:
    return itertools.repeat(_request(authorization))


def _digest(gate: Gate, algorithm: str) -> Iterator[Request]:
    """Each with the next count; a new nonce for every thousand."""

    def hashed(text: str) -> str:
        return hashlib.new(algorithm.replace("-", ""), text.encode()).hexdigest()

    while True:
        nonce = _challenge(gate)
        for count in range(1, 1001):
            nc = f"{count:08x}"
            ha = hashed(f"me:faxhook:{PASSWORD}"), hashed("POST:/hook")
            response = hashed(f"{ha[0]}:{nonce}:{nc}:0a4f113b:auth:{ha[1]}")
            yield _request(
                f'Digest username="me", realm="faxhook", nonce="{nonce}", uri="/hook", algorithm={algorithm},'
                f' qop=auth, nc={nc}, cnonce="0a4f113b", response="{response}"'
            )


def _challenge(gate: Gate) -> str:
    try:
        gate.check_caller(Request({"REQUEST_METHOD": "POST", "RAW_URI": "/hook"}, b""))
    except Unauthorized as challenged:
        found = re.search('nonce="([0-9a-f]+)"', str(challenged.headers))
        assert found
        return found[1]
    raise SystemExit("not challenged")


def _microseconds(gate: Gate, requests: Iterator[Request]) -> float:
    prepared = list(itertools.islice(requests, REQUESTS))
    began = time.thread_time()
    for request in prepared:
        gate.check_caller(request)
    return (time.thread_time() - began) / REQUESTS * 1e6


if __name__ == "__main__":
    main()
