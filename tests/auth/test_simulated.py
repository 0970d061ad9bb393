"""``faxhook simulate`` shows who calls as real clients do, in each mode; and what must be refused is refused."""

import base64
import hashlib
import hmac
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from click.testing import CliRunner
from house import serving
from ports import listener
from wire import Served, served

from receiver import errors, settings
from receiver.auth import Request
from receiver.auth.credentials import utc_now
from receiver.auth.digest import Digest
from receiver.cli import main
from receiver.simulator import FAULTS

TOKEN = "uX2mFfN0Q2v6c4Yw8bJ1kZ5tR7sD9gH3"
TABLE = '[endpoints.one]\nprovider = "retarus"\naccount = "1"\nauth = {{ {} }}\n'
DIGEST = 'mode = "digest", credentials = [{ user = "jörg", password = \'größe "\\ 1\' }]'


def run(*arguments: object, **variables: str) -> tuple[int, list[str]]:
    """Exit code and the lines of the output."""
    done = CliRunner().invoke(main, ["simulate", *map(str, arguments)], env=variables)
    return done.exit_code, done.output.splitlines()


# --- a listener that keeps what it was sent -------------------------------------------------------------------------


@dataclass
class Listener:
    """verify: raises the Refusal of what is not right. seen: each request, in order."""

    verify: Callable[[Request], None] = lambda _: None
    seen: list[Request] = field(default_factory=list)
    port: int = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        request = Request(dict(environ), environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        self.seen.append(request)
        status, headers, body = 200, [("Content-Type", "application/json")], b'{"status":"accepted"}'
        try:
            self.verify(request)
        except errors.Refusal as refusal:
            status, headers, body = refusal.status, list(refusal.headers), b""
        start_response(f"{status} -", headers)
        return [body]

    @contextmanager
    def listening(self, folder: Path, auth: str, *, more: str = "") -> Iterator[Path]:
        """The configuration of an endpoint ``one`` that is served here."""
        with listener() as sock, serving(self, sock) as self.port:
            path = folder / "faxhook.toml"
            path.write_text(f'[server]\nbind = "127.0.0.1:{self.port}"\n{TABLE.format(auth)}{more}')
            yield path


@dataclass
class DigestListener(Listener):
    """The receiver's own verifier, its clock for tests; used: all (nonce, nc)."""

    ahead: timedelta = timedelta()

    @contextmanager
    def listening(self, folder: Path, auth: str, *, more: str = "") -> Iterator[Path]:
        used: set[str] = set()
        mutex = threading.Lock()

        def claim(name: str, _expires: float) -> bool:
            with mutex:
                is_new = name not in used
                used.add(name)
                return is_new

        def clock() -> datetime:
            return utc_now() + self.ahead

        with super().listening(folder, auth, more=more) as path:
            options = settings.load(path, {}).endpoints["one"].auth
            assert isinstance(options, settings.Digest)
            self.verify = Digest("one", options, [b"secret"], claim, clock=clock).verify
            yield path

    def shown(self) -> list[str]:
        """``-``, or algorithm and count of each request."""
        found = (re.search(r"algorithm=([\w-]+), qop=auth, nc=0*(\w+),", one.authorization or "") for one in self.seen)
        return ["-" if one is None else f"{one[1]} {one[2]}" for one in found]


# --- digest ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offered", "expected"), [('["MD5"]', "MD5"), ('["MD5", "SHA-256"]', "SHA-256")])
def test_digest_begins_without_credentials_and_goes_on_with_the_next_count(
    tmp_path: Path, offered: str, expected: str
) -> None:
    listener = DigestListener()
    with listener.listening(tmp_path, f"{DIGEST}, algorithms = {offered}") as config:
        assert run("--count", 3, "--config", config)[0] == 0
    assert listener.shown() == ["-", *(f"{expected} {count}" for count in (1, 2, 3))]
    assert listener.seen[0].body == listener.seen[1].body != b""


def test_digest_answers_again_when_its_nonce_is_stale(tmp_path: Path) -> None:
    listener = DigestListener()
    with listener.listening(tmp_path, DIGEST) as config:

        def verify(request: Request, known: Callable[[Request], None] = listener.verify) -> None:
            listener.ahead = timedelta(hours=len(listener.seen) >= 3)
            known(request)

        listener.verify = verify
        assert run("--count", 3, "--config", config)[0] == 0
    assert listener.shown() == ["-", "SHA-256 1", "SHA-256 2", "SHA-256 1", "SHA-256 2"]


def test_digest_gives_up_where_the_password_is_wrong(tmp_path: Path) -> None:
    listener = DigestListener()
    with listener.listening(tmp_path, DIGEST) as config:
        address = f"http://me:wrong@127.0.0.1:{listener.port}/callbacks/one"
        assert run("--count", 2, "--config", config, "--to", address)[0] == 1
    assert listener.shown() == ["-", "SHA-256 1"] * 2


def test_each_connection_has_its_own_nonce(tmp_path: Path) -> None:
    listener = DigestListener()
    with listener.listening(tmp_path, DIGEST) as config:
        code, lines = run("--count", 40, "--parallel", 4, "--config", config)
    assert (code, lines[-1]) == (0, "answers: 40 x 200 accepted")
    shown = listener.shown()
    assert 1 <= shown.count("-") <= 4
    assert shown.count("SHA-256 1") == shown.count("-")


# --- oauth2 ---------------------------------------------------------------------------------------------------------


class TokenListener(Listener):
    """A token endpoint and a callback address in one. lasts: the seconds of each token."""

    def __init__(self, *, lasts: int | None = 600, answer: str = "200 OK") -> None:
        super().__init__(verify=self._verify)
        self.lasts = lasts
        self.answer = answer
        self.issued = 0
        self.refused: set[str] = set()
        self.asked: list[Request] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        if environ["PATH_INFO"] != "/oauth2/token":
            return super().__call__(environ, start_response)
        self.asked.append(Request(dict(environ), environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))
        self.issued += 1
        document = {"access_token": f"token-{self.issued}", "token_type": "Bearer", "expires_in": self.lasts}
        if self.answer != "200 OK":
            document = {"error": "invalid_client"}
        start_response(self.answer, [("Content-Type", "application/json")])
        return [json.dumps(document).encode()]

    def _verify(self, request: Request) -> None:
        if request.authorization != f"Bearer token-{self.issued}" or request.authorization in self.refused:
            raise errors.Unauthorized("x", headers=[("WWW-Authenticate", "Bearer")])


OWN = 'mode = "oauth2", issuer = "self", scope = "fax.push fax.test"'
ELSEWHERE = 'mode = "oauth2", issuer = "https://login.example.com/", audience = "faxhook"'
CLIENT = '[oauth2.clients."re.tarus"]\nsecret = "a secret of + and %41"\n'


def test_a_token_is_fetched_once(tmp_path: Path) -> None:
    listener = TokenListener()
    with listener.listening(tmp_path, OWN, more=CLIENT) as config:
        assert run("--count", 5, "--parallel", 3, "--config", config)[0] == 0
    (asked,) = listener.asked
    assert len(listener.seen) == 5
    assert parse_qs(asked.body.decode()) == {"grant_type": ["client_credentials"], "scope": ["fax.push fax.test"]}
    shown = base64.b64decode((asked.authorization or "").removeprefix("Basic "))
    assert shown == b"re.tarus:a+secret+of+%2B+and+%2541"


def test_a_token_that_ends_is_fetched_anew(tmp_path: Path) -> None:
    listener = TokenListener(lasts=1)
    with listener.listening(tmp_path, OWN, more=CLIENT) as config:
        assert run("--count", 3, "--config", config)[0] == 0
    assert (len(listener.asked), len(listener.seen)) == (3, 3)


def test_a_token_that_is_refused_is_fetched_anew(tmp_path: Path) -> None:
    listener = TokenListener(lasts=None)
    listener.refused.add("Bearer token-1")

    def verify(request: Request) -> None:
        if len(listener.seen) > 1:  # the first request is before the token is revoked
            TokenListener._verify(listener, request)

    listener.verify = verify
    with listener.listening(tmp_path, OWN, more=CLIENT) as config:
        assert run("--count", 3, "--config", config)[0] == 0
    assert [one.authorization for one in listener.seen] == [f"Bearer token-{n}" for n in (1, 1, 2, 2)]


def test_a_new_token_that_is_refused_is_the_answer(tmp_path: Path) -> None:
    listener = TokenListener()
    listener.refused.add("Bearer token-1")
    with listener.listening(tmp_path, OWN, more=CLIENT) as config:
        code, lines = run("--config", config)
    assert (code, lines[-1], len(listener.asked)) == (1, "answers: 1 x 401", 1)


def test_a_token_endpoint_elsewhere(tmp_path: Path) -> None:
    listener = TokenListener()
    with listener.listening(tmp_path, ELSEWHERE) as config:
        url = f"http://127.0.0.1:{listener.port}/oauth2/token"
        secret = {"FAXHOOK_SIMULATE_CLIENT_SECRET": "s3cret"}
        options = ("--token-url", url, "--client-id", "me")
        assert run("--config", config, *options, **secret)[0] == 0
        to = f"http://127.0.0.1:{listener.port}/callbacks/one"
        assert run("retarus", "--to", to, "--auth", "oauth2", *options, **secret)[0] == 0
        assert run("--config", config, *options)[0] == 2
        assert run("--config", config, "--token-url", url, **secret)[0] == 2
        assert run("--config", config, "--token-url", "login", "--client-id", "me", **secret)[0] == 2
        assert run("--config", config)[0] == 2
    assert len(listener.seen) == 2
    assert {base64.b64decode((one.authorization or "")[6:]) for one in listener.asked} == {b"me:s3cret"}


def test_a_token_that_is_there_already(tmp_path: Path) -> None:
    listener = TokenListener()
    listener.issued = 7
    with listener.listening(tmp_path, ELSEWHERE) as config:
        assert run("--count", 2, "--config", config, FAXHOOK_SIMULATE_TOKEN="token-7")[0] == 0
        code, lines = run("--config", config, FAXHOOK_SIMULATE_TOKEN="token-8")
    assert (code, lines[-1], len(listener.asked), len(listener.seen)) == (1, "answers: 1 x 401", 0, 3)


def test_no_token_is_no_answer(tmp_path: Path) -> None:
    listener = TokenListener(answer="401 Unauthorized")
    with listener.listening(tmp_path, OWN, more=CLIENT) as config:
        code, lines = run("--config", config)
        unreachable = ("--token-url", "http://127.0.0.1:1/", "--client-id", "me")
        missing = run("--config", config, *unreachable, FAXHOOK_SIMULATE_CLIENT_SECRET="s")[1]
    assert (code, lines[-1]) == (1, "answers: 1 x no answer: no token: its server answered 401 invalid_client")
    assert missing[-1] == "answers: 1 x no answer: no token: nothing listens at 127.0.0.1:1"
    assert listener.seen == []


def test_a_client_known_as_a_hash_only_cannot_fetch(tmp_path: Path) -> None:
    hashed = f'[oauth2.clients.a]\nsecret = "sha256:{hashlib.sha256(b"x" * 20).hexdigest()}"\n'
    with Listener().listening(tmp_path, OWN, more=hashed) as config:
        code, lines = run("--config", config)
    assert code == 2
    assert "oauth2.clients" in lines[-1]


# --- hmac -----------------------------------------------------------------------------------------------------------


def test_standard_webhooks(tmp_path: Path) -> None:
    key = b"0123456789abcdef01234567"
    secrets = f'mode = "hmac", secrets = ["whsec_{base64.b64encode(key).decode()}", "whsec_{"A" * 40}"]'
    listener = Listener()
    with listener.listening(tmp_path, secrets) as config:
        assert run("--count", 2, "--config", config)[0] == 0
    for one in listener.seen:
        signed = f"{one.header('webhook-id')}.{one.header('webhook-timestamp')}.".encode() + one.body
        signature = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
        assert one.header("webhook-signature") == f"v1,{signature}"
    assert len({one.header("webhook-id") for one in listener.seen}) == 2


@pytest.mark.parametrize(
    ("variant", "written"),
    [
        ('header = "X-Signature"', lambda body, _: hmac.new(b"a" * 16, body, "sha256").hexdigest()),
        (
            'header = "X-Signature", encoding = "base64", prefix = "sha256=", timestamp_header = "X-Time"',
            lambda body, time: (
                "sha256=" + base64.b64encode(hmac.digest(b"a" * 16, f"{time}.".encode() + body, "sha256")).decode()
            ),
        ),
    ],
)
def test_a_signature_in_a_header(tmp_path: Path, variant: str, written: Callable[[bytes, str | None], str]) -> None:
    listener = Listener()
    with listener.listening(tmp_path, f'mode = "hmac", secrets = ["{"a" * 16}"], {variant}') as config:
        assert run("--config", config)[0] == 0
    (one,) = listener.seen
    assert one.header("X-Signature") == written(one.body, one.header("X-Time"))


# --- every mode, and every fault, at the real server ----------------------------------------------------------------

CONFIGURATION = f"""
[server]
secret_key = "first-secret-key-0001"
max_body = "64KiB"

[endpoints.form]
provider = "openfax"
auth = {{ mode = "none" }}
tokens = ["{TOKEN}"]

[endpoints.basic]
provider = "retarus"
account = "99999TE"
auth = {{ mode = "basic", credentials = [{{ user = "me", password = "größe" }}] }}

[endpoints.digest]
provider = "retarus"
account = "99999TE"
tokens = ["{TOKEN}"]
auth = {{ mode = "digest", realm = "d", credentials = [{{ user = "me", password = "größe" }}] }}

[endpoints.payload]
provider = "efax"
account = "me"
timezone = "UTC"
tokens = ["{TOKEN}"]
auth = {{ mode = "payload", credentials = [{{ user = "me", password = "größe" }}] }}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("simulated"), CONFIGURATION) as found:
        yield found


def config_of(server: Served) -> tuple[str, Path]:
    return "--config", server.folder / "faxhook.toml"


def test_every_mode_gets_in_and_a_repetition_too(server: Served) -> None:
    code, lines = run("--count", 5, "--duplicate", 20, "--parallel", 3, *config_of(server))
    assert (code, lines[-1]) == (0, "answers: 10 x 200, 15 x 200 accepted, 15 x 200 duplicate")


@pytest.mark.parametrize("endpoint", ["basic", "digest", "payload"])
@pytest.mark.parametrize("mode", ["none", "basic", "digest", "payload"])
def test_another_mode_than_the_endpoints_is_refused(server: Served, endpoint: str, mode: str) -> None:
    code, lines = run("--endpoint", endpoint, "--auth", mode, *config_of(server))
    if mode == endpoint:
        assert (code, lines[-1].removesuffix(" accepted")) == (0, "answers: 1 x 200")
    else:
        assert (code, lines[-1]) == (1, "answers: 1 x 401 unauthorized")


def test_a_mode_without_its_secrets_is_bad_usage(server: Served) -> None:
    for mode in ("basic", "digest", "oauth2", "hmac", "payload"):
        assert run("--endpoint", "form", "--auth", mode, *config_of(server))[0] == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_gets_the_refusal_it_must_get(server: Served, fault: str) -> None:
    code, lines = run("--fault", fault, "--parallel", 4, *config_of(server))
    status = FAULTS[fault].status
    assert code == 0, lines
    assert re.match(rf"answers: (1 x 200 accepted, )?[1-4] x {status} \w+", lines[-1])
    assert (fault == "replay") == ("200 accepted" in lines[-1])


@pytest.mark.parametrize(
    ("fault", "endpoints"),
    [
        ("doctype", {"basic", "digest", "payload"}),
        ("broken", {"basic", "digest", "payload"}),
        ("duplicate-fields", {"form", "basic", "digest", "payload"}),
        ("wrong-password", {"basic", "digest", "payload"}),
        ("replay", {"digest"}),
        ("wrong-token", {"form", "basic", "digest", "payload"}),
    ],
)
def test_a_fault_goes_to_those_that_can_have_it(server: Served, fault: str, endpoints: set[str]) -> None:
    lines = run("--fault", fault, *config_of(server))[1]
    assert {line.partition(" ")[0] for line in lines if " ms" in line and ": " in line} - {"sent"} == endpoints


def test_a_fault_that_is_let_through_is_exit_code_1(tmp_path: Path) -> None:
    listener = Listener()
    with listener.listening(tmp_path, 'mode = "basic", credentials = [{ user = "me", password = "p" }]') as config:
        code, lines = run("--fault", "wrong-password", "--config", config)
    assert code == 1
    assert lines[0].endswith("(expected 401)")
    assert lines[-1] == "answers: 1 x 200 accepted"


def test_a_fault_nobody_can_have_is_bad_usage(server: Served) -> None:
    for fault in ("doctype", "wrong-password", "replay"):
        assert run("--endpoint", "form", "--fault", fault, *config_of(server))[0] == 2
    assert run("--fault", "empty", "--duplicate", 1, *config_of(server))[0] == 2


def test_every_fault_is_in_the_manual() -> None:
    manual = (Path(__file__).parents[2] / "deploy" / "README.md").read_text()
    for name, fault in FAULTS.items():
        assert f"| `{name}` | {fault.about} | {fault.status} |" in manual
