"""
OAuth2 over real HTTP: ``faxhook serve`` with two workers, against identity providers that are real servers.

Each test begins with the numbers of its rows in the project's conformance list.
"""

import base64
import http.client
import json
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
import migrated
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from house import FORM, Reply
from identity_provider import IdentityProviders, Provider, Signer, b64, hs256, identity_providers
from ports import free_port
from stock import FAXHOOK, environment
from waiting import until

from receiver.auth.bearer import _DESCRIPTIONS

RS256, OTHER = Signer(), Signer()
ES256, EDDSA, RS512 = Signer("ES256"), Signer("EdDSA"), Signer("RS512")
RSA_1024 = Signer(bits=1024)
CALLBACK = b"OutTransID=779029&AccountID=123456789&LastStatus=0"
T = 'Bearer realm="retarus"'
CLIENT_SECRET, ODD_SECRET = "client-secret-0123456789", "odd %41+secret=0123456789"
INTROSPECTION_SECRET = "introspection-secret-0123456789"
SECRET_KEY = "conformance-secret-key-0123456789"
FAULTS = ("down", "hanging", "dripping", "html", "huge", "redirect")
TENANTS = ("main", "counted", "bare", "pair", "mixed", "rotating", "known", "aged", "stranger", "asking", *FAULTS)

CONFIGURATION = """
[server]
bind = "127.0.0.1:{port}"
public_url = "https://hooks.example.com"
secret_key = "{key}"
state_dir = "state"

[store]
url = "{store}"

[oauth2.clients]
retarus = {{ secret = "{client}" }}
odd = {{ secret = "{odd}" }}
"""
ENDPOINT = """
[endpoints.{name}]
provider = "openfax"
auth = {{ mode = "oauth2", realm = "retarus", {auth} }}
"""


@dataclass
class Faxhook:
    """The program in a folder. used: every credential that was ever sent to it."""

    folder: Path
    port: int
    used: set[str] = field(default_factory=set)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*FAXHOOK, "serve", "--no-relay"],
                cwd=self.folder,
                env=environment() | {"WEB_CONCURRENCY": "2"},
                stdout=log,
                stderr=log,
            )
        until(self._is_ready)

    def _is_ready(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log()
        try:
            return self.ask("GET", "/readyz").status == 200
        except OSError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(60) == 0

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def ask(self, method: str, path: str, *headers: tuple[str, str], body: bytes = b"") -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in (("Content-Length", str(len(body))), *headers):
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def call(self, endpoint: str, *authorization: str, query: str = "") -> Reply:
        """A callback, with so many Authorization headers."""
        self.used.update(word for one in authorization for word in one.replace(",", " ").split() if len(word) > 15)
        headers = (("Content-Type", FORM), *(("Authorization", one) for one in authorization))
        return self.ask("POST", f"/callbacks/{endpoint}{query}", *headers, body=CALLBACK)

    def bear(self, endpoint: str, token: str) -> Reply:
        return self.call(endpoint, f"Bearer {token}")

    def token_request(self, form: Any, *headers: tuple[str, str], content_type: str = FORM, query: str = "") -> Reply:
        body = form if isinstance(form, bytes) else urlencode(form).encode()
        self.used.update(value.split()[-1] for name, value in headers if name == "Authorization")
        answer = self.ask("POST", f"/oauth2/token{query}", ("Content-Type", content_type), *headers, body=body)
        if answer.status == 200:
            self.used.add(answer.json["access_token"])
        return answer


def endpoints(idps: IdentityProviders) -> Iterator[tuple[str, str]]:
    """Each with its auth."""
    for name in TENANTS:
        yield name, f'issuer = "{idps.url}/{name}", audience = "faxhook", scope = "fax.push"'
    main = f'issuer = "{idps.url}/main", audience = "faxhook"'
    yield "strict", f'{main}, typ = "at+jwt"'
    yield "roles", f'{main}, required_claims = {{ roles = "fax" }}'
    yield "two-scopes", f'{main}, scope = "fax.push fax.more"'
    yield "clients", f'{main}, allowed_clients = ["retarus"]'
    asked = f'url = "{idps.url}/asking/introspect", client_id = "faxhook", client_secret = "{INTROSPECTION_SECRET}"'
    yield "asked", f'audience = "faxhook", scope = "fax.push", introspection = {{ {asked} }}'
    yield "own-a", 'issuer = "self", scope = "fax.push", allowed_clients = ["retarus", "odd"]'
    yield "own-b", 'issuer = "self", scope = "fax.push", allowed_clients = ["odd"]'


@contextmanager
def faxhook(folder: Path, store: str, idps: IdentityProviders) -> Iterator[Faxhook]:
    port = free_port()
    text = CONFIGURATION.format(port=port, key=SECRET_KEY, store=store, client=CLIENT_SECRET, odd=ODD_SECRET)
    text += "".join(ENDPOINT.format(name=name, auth=auth) for name, auth in endpoints(idps))
    (folder / "faxhook.toml").write_text(text)
    migrated.make(store)
    found = Faxhook(folder, port)
    found.used |= {CLIENT_SECRET, ODD_SECRET, INTROSPECTION_SECRET, SECRET_KEY}
    found.start()
    try:
        yield found
        found.stop()
        assert '"event":"callback"' in found.log()
        # Row 118
        assert not [one for one in found.used if one in found.log()]
    finally:
        if found.process is not None:
            found.process.kill()
            found.process.wait()


@pytest.fixture(scope="module")
def idps() -> Iterator[IdentityProviders]:
    with identity_providers() as found:
        for name in TENANTS:
            found.add(name, RS256)
        found.providers["main"].jwks += [ES256.jwk(), EDDSA.jwk(), RS512.jwk()]
        yield found


@pytest.fixture(scope="module")
def main(idps: IdentityProviders) -> Provider:
    return idps.providers["main"]


@pytest.fixture(scope="module")
def server(idps: IdentityProviders, main: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faxhook]:
    folder = tmp_path_factory.mktemp("bearer")
    with faxhook(folder, f"sqlite:///{folder}/faxhook.db", idps) as found:
        both_workers_have_keys(found, main)
        yield found


def gets_in(server: Faxhook, endpoint: str, token: str) -> bool:
    """At both workers: more connections are open at once than one of them takes."""
    connections = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in range(40)]
    server.used.add(token)
    headers = {"Content-Type": FORM, "Authorization": f"Bearer {token}"}
    try:
        for connection in connections:
            connection.connect()
        for connection in connections:
            connection.request("POST", f"/callbacks/{endpoint}", CALLBACK, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                return False
    finally:
        for connection in connections:
            connection.close()
    return True


def both_workers_have_keys(server: Faxhook, provider: Provider) -> None:
    """From here on any row is answered by either. One of them may have found what the other fetched and kept."""
    until(lambda: gets_in(server, provider.issuer.rpartition("/")[2], provider.token()))


def check_invalid(reply: Reply, *secret: str) -> None:
    """401 invalid_token with one of our descriptions, and nothing of the token."""
    assert reply.status == 401
    challenges = {f'{T}, error="invalid_token", error_description="{text}"' for text in _DESCRIPTIONS.values()}
    assert reply.headers["WWW-Authenticate"] in challenges
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.json["code"] == "unauthorized"
    assert not [one for one in secret if len(one) > 4 and one.encode() in reply.body]


def check_unavailable(reply: Reply) -> None:
    assert reply.status == 503
    assert int(reply.headers["Retry-After"]) > 0
    assert "WWW-Authenticate" not in reply.headers


# --- the header -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [None, "", "Basic cmV0YXJ1czpwYXNzd29yZA==", 'Digest username="x"', "Bearers x"])
def test_79_without_a_bearer_token_there_is_the_bare_challenge(server: Faxhook, header: str | None) -> None:
    for _ in range(3):
        reply = server.call("main", *([] if header is None else [header]))
        assert reply.status == 401
        assert reply.headers["WWW-Authenticate"] == T
        assert reply.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "headers",
    [
        ["Bearer"],
        ["Bearer "],
        ["Bearer {0} {0}"],
        ["Bearer {0}", "Bearer {0}"],
        ["Bearer {0}", "Basic cmV0YXJ1czpwYXNzd29yZA=="],
        ["Bearer {0},{0}"],
        ["Bearer {0}, x"],
        ['Bearer "{0}"'],
        ["Bearer token={0}x"],
        ["Bearer {0}é"],
        ["=Bearer {0}"],
    ],
)
def test_80_a_malformed_or_second_header_is_an_invalid_request(
    server: Faxhook, main: Provider, headers: list[str]
) -> None:
    reply = server.call("main", *(one.format(main.token()) for one in headers))
    check_invalid_request(reply)


def check_invalid_request(reply: Reply) -> None:
    assert reply.status == 400
    assert reply.headers["WWW-Authenticate"].startswith(f'{T}, error="invalid_request"')
    assert reply.json["code"] == "malformed_credentials"


def test_80_a_token_in_query_and_header_is_an_invalid_request(server: Faxhook, main: Provider) -> None:
    check_invalid_request(server.call("main", f"Bearer {main.token()}", query="?x=1&access_token=abc"))
    check_invalid_request(server.call("main", f"Bearer {main.token()}", query="?access%5Ftoken="))
    assert server.call("main", query=f"?access_token={main.token()}").headers["WWW-Authenticate"] == T


@pytest.mark.parametrize("signer", [RS256, ES256, EDDSA], ids=lambda signer: signer.algorithm)
def test_81_right_tokens_get_in(server: Faxhook, main: Provider, signer: Signer) -> None:
    for claims in (main.claims(), main.claims(aud=["other", "faxhook"])):
        for scheme in ("Bearer ", "bearer ", "BEARER  "):
            assert server.call("main", scheme + signer.sign(claims)).status == 200


# --- signatures -----------------------------------------------------------------------------------------------------


def forged(main: Provider) -> Iterator[tuple[str, str]]:
    claims = main.claims()
    good = main.token()
    head, payload, signature = good.split(".")
    public = RS256.key.public_key()
    for word in ("none", "None", "nOnE"):
        for end in ("", signature):
            yield f"82 alg {word} {bool(end)}", f"{b64(json.dumps({'alg': word}).encode())}.{payload}.{end}"
    yield "82 empty signature", f"{head}.{payload}."
    for name, encoding in (("PEM", Encoding.PEM), ("DER", Encoding.DER)):
        key = public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        yield f"83 HS256 with the {name}", hs256(claims, key, kid=RS256.kid)
    for text in (json.dumps(RS256.jwk()), RS256.jwk()["n"]):
        yield f"83 HS256 with the JWK {len(text)}", hs256(claims, text.encode(), kid=RS256.kid)
    yield "84 RS512", RS512.sign(claims)
    yield "84 HS512", hs256(claims, b"x" * 64, alg="HS512")
    yield "84 ES256 with the kid of RS256", ES256.sign(claims, kid=RS256.kid)
    yield "84 RS256 with the kid of ES256", RS256.sign(claims, kid=ES256.kid)
    yield "84 alg is a list", RS256.sign(claims, alg=["RS256"])
    evil = f"{main.issuer}/evil"
    for name, value in (("jwk", OTHER.jwk()), ("jku", evil), ("x5u", evil), ("x5c", ["MIIB"])):
        yield f"85 {name}", OTHER.sign(claims, kid=RS256.kid, **{name: value})
    yield "86 unknown kid", OTHER.sign(claims)
    yield "86 kid ../../x", RS256.sign(claims, kid="../../x")
    yield "86 kid a number", RS256.sign(claims, kid=5)
    yield "87 crit", RS256.sign(claims, crit=["unknown"], unknown=1)
    yield "87 b64 false", RS256.sign(claims, crit=["b64"], b64=False)
    yield "87 b64 without crit", RS256.sign(claims, b64=False)
    flipped = bytearray(base64.urlsafe_b64decode(signature + "=="))
    flipped[10] ^= 1
    yield "94 bit flipped", f"{head}.{payload}.{b64(bytes(flipped))}"
    yield "94 another payload", f"{head}.{main.token().split('.')[1]}.{signature}"
    yield "94 padding", good + "="
    yield "94 four parts", good + ".x"
    yield "94 two parts", f"{head}.{payload}"
    yield "94 JWE", ".".join([b64(b'{"alg":"RSA-OAEP","enc":"A256GCM"}'), "a", "b", "c", "d"])
    yield "94 opaque", secrets.token_urlsafe(24)
    for text in ("[]", '"text"', "5", "null", "{", "{" * 3000):
        yield f"94 payload {text[:6]}", RS256.sign(text)
    yield "94 repeated claim", RS256.sign(json.dumps(claims)[:-1] + ', "aud": "faxhook"}')
    yield "94 header no object", f"{b64(b'[]')}.{payload}.{signature}"
    repeated = b64(b'{"alg":"none","alg":"RS256"}')
    yield "94 repeated header", f"{repeated}.{payload}.{signature}"


CASES = list(forged(Provider("x", RS256, [])))


@pytest.mark.parametrize("number", range(len(CASES)), ids=[name for name, _ in CASES])
def test_82_to_87_and_94_a_forged_token_is_invalid(server: Faxhook, main: Provider, number: int) -> None:
    _, token = list(forged(main))[number]
    for _ in range(2):
        check_invalid(server.bear("main", token), token, *token.split("."))
    assert not main.asked["evil"]


def test_86_unknown_kids_cause_one_fetch_of_each_worker_in_thirty_seconds(
    server: Faxhook, idps: IdentityProviders
) -> None:
    counted = idps.providers["counted"]
    both_workers_have_keys(server, counted)
    before = counted.asked["jwks"]
    tokens = [OTHER.sign(counted.claims(), kid=f"made-up-{number}") for number in range(60)]
    with ThreadPoolExecutor(6) as threads:
        for reply in threads.map(lambda token: server.bear("counted", token), tokens):
            check_invalid(reply)
    assert 0 < counted.asked["jwks"] - before <= 2


def test_86_a_kid_of_10_kb_does_not_fit_a_header(server: Faxhook, main: Provider) -> None:
    assert server.bear("main", RS256.sign(main.claims(), kid="k" * 10_000)).status == 431


def test_86_without_kid_the_only_key_counts_and_of_two_none(server: Faxhook, idps: IdentityProviders) -> None:
    bare, pair = idps.providers["bare"], idps.providers["pair"]
    pair.jwks = [RS256.jwk(), OTHER.jwk()]
    assert server.bear("bare", RS256.sign(bare.claims(), kid=None)).status == 200
    check_invalid(server.bear("bare", OTHER.sign(bare.claims(), kid=None)))
    check_invalid(server.bear("pair", RS256.sign(pair.claims(), kid=None)))
    assert server.bear("pair", RS256.sign(pair.claims())).status == 200


# --- claims ---------------------------------------------------------------------------------------------------------


def of_times(main: Provider) -> Iterator[tuple[str, str, int]]:
    now = int(time.time())

    def text(**replaced: str) -> str:
        whole = json.dumps(main.claims(**dict.fromkeys(replaced)))
        return whole[:-1] + "".join(f', "{name}": {value}' for name, value in replaced.items()) + "}"

    yield "88 exp past by 30 s", main.token(exp=now - 30), 200
    yield "88 exp past by 61 s", main.token(exp=now - 61), 401
    yield "88 exp a fraction", main.token(exp=now + 30.5), 200
    yield "88 no exp", main.token(exp=None), 401
    yield "88 exp text", main.token(exp=str(now + 300)), 401
    yield "88 exp true", main.token(exp=True), 401
    yield "88 exp null", RS256.sign(text(exp="null")), 401
    yield "88 exp 1e400", RS256.sign(text(exp="1e400")), 401
    yield "88 exp NaN", RS256.sign(text(exp="NaN")), 401
    yield "88 exp Infinity", RS256.sign(text(exp="Infinity")), 401
    yield "88 exp of 5000 digits", RS256.sign(text(exp="9" * 5000)), 401
    yield "88 exp of 400 digits", RS256.sign(text(exp="9" * 400)), 401
    yield "88 exp negative", main.token(exp=-1), 401
    yield "89 nbf in 30 s", main.token(nbf=now + 30), 200
    yield "89 nbf in 300 s", main.token(nbf=now + 300), 401
    yield "89 nbf text", main.token(nbf="soon"), 401
    yield "89 iat in 1 h", main.token(iat=now + 3600), 401
    yield "90 iss with a slash more", main.token(iss=main.issuer + "/"), 401
    yield "90 iss list", main.token(iss=[main.issuer]), 401
    yield "90 iss absent", main.token(iss=None), 401
    yield "90 iss of another", main.token(iss=main.issuer.replace("main", "bare")), 401
    yield "90 aud other", main.token(aud="other"), 401
    yield "90 aud absent", main.token(aud=None), 401
    yield "90 aud a prefix", main.token(aud="faxhoo"), 401
    yield "90 aud with ours as a prefix", main.token(aud="faxhook2"), 401
    yield "90 aud others", main.token(aud=["other", "faxhook2"]), 401
    yield "90 aud an object", main.token(aud={"faxhook": 1}), 401
    yield "91 typ at+jwt", RS256.sign(main.claims(), typ="at+jwt"), 200
    yield "91 typ AT+JWT", RS256.sign(main.claims(), typ="AT+JWT"), 200
    yield "91 typ application/at+jwt", RS256.sign(main.claims(), typ="application/at+jwt"), 200
    yield "91 typ JWT", RS256.sign(main.claims(), typ="JWT"), 200
    yield "91 typ absent", RS256.sign(main.claims(), typ=None), 200
    yield "91 typ logout+jwt", RS256.sign(main.claims(), typ="logout+jwt"), 401
    yield "91 typ a number", RS256.sign(main.claims(), typ=1), 401
    yield "102 an ID token", main.token(aud="retarus", client_id=None, azp="retarus", scope=None, nonce="n"), 401


TIMES = [(name, status) for name, _, status in of_times(Provider("main", RS256, []))]


@pytest.mark.parametrize("number", range(len(TIMES)), ids=[f"{name}-{status}" for name, status in TIMES])
def test_88_to_91_and_102_what_a_token_must_say(server: Faxhook, main: Provider, number: int) -> None:
    _, token, status = list(of_times(main))[number]
    reply = server.bear("main", token)
    assert reply.status == status
    if status == 401:
        check_invalid(reply, *token.split("."))


def test_91_in_strict_mode_only_access_tokens_count(server: Faxhook, main: Provider) -> None:
    assert server.bear("strict", RS256.sign(main.claims(), typ="at+jwt")).status == 200
    assert server.bear("strict", RS256.sign(main.claims(), typ="application/at+jwt")).status == 200
    check_invalid(server.bear("strict", RS256.sign(main.claims(), typ="JWT")))
    check_invalid(server.bear("strict", RS256.sign(main.claims(), typ=None)))


@pytest.mark.parametrize(
    ("endpoint", "scope", "claims", "status"),
    [
        ("main", "fax.push", {"scope": None}, 403),
        ("main", "fax.push", {"scope": ""}, 403),
        ("main", "fax.push", {"scope": "fax.pushx"}, 403),
        ("main", "fax.push", {"scope": "fax.pull FAX.PUSH"}, 403),
        ("main", "fax.push", {"scope": 5}, 403),
        ("main", "fax.push", {"scope": None, "roles": ["fax.push"]}, 403),
        ("main", "fax.push", {"scope": None, "scp": ["fax.pull", "fax.push"]}, 200),
        ("main", "fax.push", {"scope": None, "scp": "fax.pull fax.push"}, 200),
        ("main", "fax.push", {"scope": ["fax.push", 5]}, 200),
        ("two-scopes", "fax.push fax.more", {}, 403),
        ("two-scopes", "fax.push fax.more", {"scope": "fax.more fax.push"}, 200),
        ("roles", None, {"scope": None}, 403),
        ("roles", None, {"roles": ["other"]}, 403),
        ("roles", None, {"roles": "faxes"}, 403),
        ("roles", None, {"scope": None, "roles": ["other", "fax"]}, 200),
        ("roles", None, {"scope": None, "roles": "fax"}, 200),
    ],
)
def test_92_a_token_without_what_is_needed_does_not_suffice(
    server: Faxhook, main: Provider, endpoint: str, scope: str | None, claims: Mapping[str, Any], status: int
) -> None:
    reply = server.bear(endpoint, main.token(**claims))
    assert reply.status == status
    if status == 403:
        end = f', scope="{scope}"' if scope else ""
        assert reply.headers["WWW-Authenticate"] == f'{T}, error="insufficient_scope"{end}'
        assert reply.json["code"] == "forbidden"


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({}, 200),
        ({"client_id": None, "azp": "retarus"}, 200),
        ({"client_id": None, "appid": "retarus"}, 200),
        ({"client_id": "other"}, 403),
        ({"client_id": "other", "azp": "retarus"}, 403),
        ({"client_id": None}, 403),
        ({"client_id": ["retarus"]}, 403),
    ],
)
def test_93_a_client_that_is_not_allowed(
    server: Faxhook, main: Provider, claims: Mapping[str, Any], status: int
) -> None:
    assert server.bear("clients", main.token(**claims)).status == status


def test_95_a_token_of_7_kb_gets_in_and_one_of_9_kb_is_too_long(server: Faxhook, main: Provider) -> None:
    assert 7000 < len(token := main.token(more="x" * 4900)) < 7500
    assert server.bear("main", token).status == 200
    assert len(token := main.token(more="x" * 6500)) > 9000
    assert server.bear("main", token).status == 431


# --- the issuer's server --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_96_an_issuer_that_was_never_reached_is_our_trouble(
    server: Faxhook, idps: IdentityProviders, fault: str
) -> None:
    broken = idps.providers[fault]
    broken.fault = fault
    for _ in range(2):
        began = time.monotonic()
        check_unavailable(server.bear(fault, broken.token()))
        assert time.monotonic() - began < 60
    assert server.call(fault).status == 401  # that needs no keys
    assert server.bear("main", idps.providers["main"].token()).status == 200


def test_97_known_keys_serve_while_the_issuer_is_down(server: Faxhook, idps: IdentityProviders) -> None:
    known = idps.providers["known"]
    both_workers_have_keys(server, known)
    known.fault = "down"
    for _ in range(6):
        assert server.bear("known", known.token()).status == 200
    check_invalid(server.bear("known", known.token(aud="other")))


def test_97_110_and_111_what_a_restart_keeps_and_what_it_ends(idps: IdentityProviders, tmp_path: Path) -> None:
    aged = idps.providers["aged"]
    with faxhook(tmp_path, f"sqlite:///{tmp_path}/faxhook.db", idps) as server:
        both_workers_have_keys(server, aged)
        own, odd = own_token(server, "retarus", CLIENT_SECRET), own_token(server, "odd", ODD_SECRET)
        assert [server.bear("own-a", token).status for token in (own, odd)] == [200, 200]
        aged.fault = "down"

        # The issuer has been down for long, and a client has a new secret.
        server.stop()
        age_keys(tmp_path / "state", hours=23)
        replace(tmp_path / "faxhook.toml", (ODD_SECRET, "changed-secret-0123456789"))
        server.start()
        for _ in range(4):
            assert server.bear("aged", aged.token()).status == 200
            assert server.bear("own-a", own).status == 200
            check_invalid(server.bear("own-a", odd), odd)
        assert server.bear("own-a", own_token(server, "odd", "changed-secret-0123456789")).status == 200

        # For too long, and a client is gone.
        server.stop()
        age_keys(tmp_path / "state", hours=25)
        gone = (f'retarus = {{ secret = "{CLIENT_SECRET}" }}', "")
        replace(tmp_path / "faxhook.toml", gone, ('["retarus", "odd"]', '["odd"]'))
        server.start()
        for _ in range(4):
            check_unavailable(server.bear("aged", aged.token()))
            check_invalid(server.bear("own-a", own), own)


def age_keys(state: Path, *, hours: int) -> None:
    (kept,) = state.glob("jwks-*.json")
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"fetched_at": time.time() - 3600 * hours}))


def replace(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text()
    for was, now in changes:
        assert was in text
        text = text.replace(was, now)
    path.write_text(text)


def test_98_a_new_key_is_fetched_and_an_old_one_is_gone(server: Faxhook, idps: IdentityProviders) -> None:
    rotating = idps.providers["rotating"]
    both_workers_have_keys(server, rotating)
    old, before = rotating.token(), rotating.asked["jwks"]
    rotating.signer, rotating.jwks = OTHER, [OTHER.jwk()]
    until(lambda: gets_in(server, "rotating", rotating.token()))
    for _ in range(4):
        check_invalid(server.bear("rotating", old))
        assert server.bear("rotating", rotating.token()).status == 200
    assert 0 < rotating.asked["jwks"] - before <= 2


def test_99_keys_that_are_no_public_signing_keys_are_not_used(server: Faxhook, idps: IdentityProviders) -> None:
    mixed = idps.providers["mixed"]
    secret = b"a-symmetric-key-of-32-bytes-here"
    oct_key = {"kty": "oct", "kid": "oct", "alg": "HS256", "k": b64(secret)}
    private = OTHER.private_jwk() | {"kid": "private"}
    mixed.jwks = [oct_key, RSA_1024.jwk(), OTHER.jwk(use="enc", kid="enc"), private, RS256.jwk()]
    check_invalid(server.bear("mixed", hs256(mixed.claims(), secret, kid="oct")))
    check_invalid(server.bear("mixed", RSA_1024.sign(mixed.claims())))
    check_invalid(server.bear("mixed", OTHER.sign(mixed.claims(), kid="enc")))
    check_invalid(server.bear("mixed", OTHER.sign(mixed.claims(), kid="private")))
    assert server.bear("mixed", RS256.sign(mixed.claims())).status == 200


def test_100_the_document_of_another_issuer_is_our_trouble_and_check_says_so(
    server: Faxhook, idps: IdentityProviders
) -> None:
    stranger = idps.providers["stranger"]
    stranger.fault = "other issuer"
    check_unavailable(server.bear("stranger", stranger.token()))

    def is_said() -> bool:  # on a busy machine a provider's answer may come too late
        command = [*FAXHOOK, "check"]
        done = subprocess.run(command, cwd=server.folder, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0
        stranger_is_told = "endpoints.stranger.auth: its identity provider cannot be used now (another issuer)"
        return stranger_is_told in done.stdout and "endpoints.main.auth: its identity" not in done.stdout

    until(is_said)


# --- introspection --------------------------------------------------------------------------------------------------


def test_101_a_token_that_only_its_issuer_can_read(server: Faxhook, idps: IdentityProviders) -> None:
    asking = idps.providers["asking"]
    asking.login = f"faxhook:{INTROSPECTION_SECRET}"
    good = {"active": True, "aud": "faxhook", "scope": "fax.push", "client_id": "retarus"}
    now = time.time()
    for changed, status in [
        ({}, 200),
        ({"exp": now + 60, "aud": ["faxhook"]}, 200),
        ({"active": False}, 401),
        ({"active": "true"}, 401),
        ({"active": 1}, 401),
        ({"aud": "other"}, 401),
        ({"aud": None}, 401),
        ({"exp": now - 100}, 401),
        ({"scope": "fax.pull"}, 403),
    ]:
        token = secrets.token_urlsafe(24)
        asking.answers[token] = {**good, **changed}
        for _ in range(3):
            reply = server.bear("asked", token)
            assert reply.status == status, changed
            if status == 401:
                check_invalid(reply, token)
    known = secrets.token_urlsafe(24)
    asking.answers[known] = good
    before = asking.asked["introspect"]
    until(lambda: gets_in(server, "asked", known) and asking.asked["introspect"] >= before + 2)
    for fault in ("down", "hanging", "html"):
        asking.fault = fault
        began = time.monotonic()
        check_unavailable(server.bear("asked", secrets.token_urlsafe(24)))
        assert time.monotonic() - began < 60
        assert server.bear("asked", known).status == 200
    asking.fault = ""


# --- the token endpoint ---------------------------------------------------------------------------------------------


GRANT = {"grant_type": "client_credentials"}


def basic(client: str, secret: str) -> tuple[str, str]:
    return "Authorization", "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()


def own_token(server: Faxhook, client: str, secret: str) -> str:
    answer = server.token_request(GRANT, basic(client, secret))
    assert answer.status == 200
    return str(answer.json["access_token"])


def check_error(reply: Reply, status: int, code: str) -> None:
    assert reply.status == status
    assert reply.json["error"] == code
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["Pragma"] == "no-cache"


@pytest.mark.parametrize(
    ("form", "headers"),
    [
        (GRANT, [basic("retarus", CLIENT_SECRET)]),
        ({**GRANT, "client_id": "retarus", "client_secret": CLIENT_SECRET}, []),
        (GRANT, [basic("odd", ODD_SECRET)]),
        (GRANT, [basic("odd", "odd+%2541%2Bsecret%3D0123456789")]),
        ({**GRANT, "client_id": "odd", "client_secret": ODD_SECRET}, []),
    ],
)
def test_104_a_client_gets_a_token_that_opens_its_endpoint(server: Faxhook, form: Any, headers: Any) -> None:
    answer = server.token_request(form, *headers)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Pragma"] == "no-cache"
    assert answer.json.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert (answer.json["token_type"], answer.json["expires_in"]) == ("Bearer", 600)
    assert server.bear("own-a", answer.json["access_token"]).status == 200


def test_105_credentials_at_two_places_are_an_invalid_request(server: Faxhook) -> None:
    login = basic("retarus", CLIENT_SECRET)
    both = {**GRANT, "client_id": "retarus", "client_secret": CLIENT_SECRET}
    check_error(server.token_request(both, login), 400, "invalid_request")
    check_error(server.token_request({**GRANT, "client_id": "odd"}, login), 400, "invalid_request")
    check_error(server.token_request(GRANT, login, login), 400, "invalid_request")


def test_106_wrong_clients_are_not_told_apart(server: Faxhook) -> None:
    replies = [
        server.token_request(GRANT, basic("retarus", "wrong-secret-0123456789")),
        server.token_request(GRANT, basic("unknown", CLIENT_SECRET)),
        server.token_request({**GRANT, "client_id": "unknown", "client_secret": CLIENT_SECRET}),
        server.token_request(GRANT),
    ]
    for reply in replies:
        check_error(reply, 401, "invalid_client")
        assert reply.headers["WWW-Authenticate"] == 'Basic realm="faxhook"'
        assert reply.body == replies[0].body


@pytest.mark.parametrize(
    ("form", "query", "code"),
    [
        ({}, "", "invalid_request"),
        ({"grant_type": "password"}, "", "unsupported_grant_type"),
        ([*GRANT.items(), *GRANT.items()], "", "invalid_request"),
        ({}, "?grant_type=client_credentials", "invalid_request"),
        ({**GRANT, "scope": "unknown"}, "", "invalid_scope"),
        ([*GRANT.items(), ("scope", "fax.push"), ("scope", "fax.push")], "", "invalid_request"),
    ],
)
def test_107_and_108_other_grants_and_scopes(server: Faxhook, form: Any, query: str, code: str) -> None:
    check_error(server.token_request(form, basic("retarus", CLIENT_SECRET), query=query), 400, code)


def test_108_an_empty_scope_is_the_default(server: Faxhook) -> None:
    answer = server.token_request({**GRANT, "scope": ""}, basic("retarus", CLIENT_SECRET))
    assert answer.json["scope"] == "fax.push"


def test_109_method_kind_and_size(server: Faxhook) -> None:
    login = basic("retarus", CLIENT_SECRET)
    reply = server.ask("GET", "/oauth2/token", login)
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")
    check_error(server.token_request(b"{}", login, content_type="application/json"), 400, "invalid_request")
    assert server.token_request(b"x" * 1_000_000, login).status == 413


def test_110_a_token_is_for_its_endpoints_and_its_issuer_only(server: Faxhook, main: Provider) -> None:
    token = own_token(server, "retarus", CLIENT_SECRET)
    both = own_token(server, "odd", ODD_SECRET)
    assert [server.bear(name, token).status for name in ("own-a", "own-b")] == [200, 401]
    assert [server.bear(name, both).status for name in ("own-a", "own-b")] == [200, 200]
    check_invalid(server.bear("own-b", token), token)
    check_invalid(server.bear("main", token), token)
    check_invalid(server.bear("own-a", main.token(aud="own-a")))
    for key in (SECRET_KEY.encode(), b"faxhook"):
        check_invalid(server.bear("own-a", hs256(main.claims(aud="own-a"), key)))
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["iss"] == "https://hooks.example.com"
    check_invalid(server.bear("own-a", hs256(claims, SECRET_KEY.encode())))


def test_111_a_token_of_one_worker_opens_the_other(server: Faxhook) -> None:
    with ThreadPoolExecutor(8) as threads:
        tokens = list(threads.map(lambda _: own_token(server, "retarus", CLIENT_SECRET), range(16)))
        assert len(set(tokens)) == 16
        replies = list(threads.map(lambda token: server.bear("own-a", token).status, tokens * 4))
    assert replies == [200] * 64


@pytest.mark.service("postgresql")
def test_79_81_93_104_and_111_on_postgresql(idps: IdentityProviders, tmp_path: Path, postgresql_url: str) -> None:
    main = idps.providers["main"]
    with faxhook(tmp_path, postgresql_url, idps) as server:
        for _ in range(4):
            assert server.call("main").headers["WWW-Authenticate"] == T
            assert server.bear("main", main.token()).status == 200
            assert server.bear("clients", main.token(client_id="other")).status == 403
            check_invalid(server.bear("main", OTHER.sign(main.claims())))
            assert server.bear("own-a", own_token(server, "retarus", CLIENT_SECRET)).status == 200
