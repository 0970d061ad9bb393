"""HTTP Digest in process: headers that nobody's client sends, and clocks that differ."""

import hashlib
import time
from datetime import UTC, datetime, timedelta

import pytest

from receiver.auth.digest import Digest, parse
from receiver.auth.request import Request
from receiver.errors import MalformedCredentials, Unauthorized
from receiver.settings import Credential
from receiver.settings import Digest as Options

PATH = "/callbacks/retarus"
NOW = datetime(2026, 7, 1, tzinfo=UTC)
OPTIONS = Options(
    mode="digest",
    realm="retarus",
    credentials=(Credential(None, "retarus", "example-password", None, None),),
    algorithms=("MD5", "SHA-256"),
    nonce_lifetime=timedelta(seconds=300),
    ignore_query=False,
    prefix="",
)


class Claims:
    """What has been used, as the store keeps it: forgotten by a clock of its own."""

    def __init__(self) -> None:
        self.expiries: dict[str, float] = {}

    def claim(self, name: str, expires: float) -> bool:
        is_first = name not in self.expiries
        self.expiries[name] = expires
        return is_first

    def forget(self, now: datetime) -> None:
        self.expiries = {name: expires for name, expires in self.expiries.items() if expires >= now.timestamp()}


def machine(claims: Claims, now: datetime = NOW) -> Digest:
    return Digest("retarus", OPTIONS, [b"a key of all machines"], claims.claim, clock=lambda: now)


def challenged(digest: Digest) -> str:
    """A nonce of it."""
    with pytest.raises(Unauthorized) as refused:
        digest.verify(request(None))
    return refused.value.headers[0][1].partition('nonce="')[2].partition('"')[0]


def request(authorization: str | None, *, target: str = PATH, host: str | None = "hooks.example.com") -> Request:
    environ = {"REQUEST_METHOD": "POST", "RAW_URI": target}
    if host is not None:
        environ["HTTP_HOST"] = host
    if authorization is not None:
        environ["HTTP_AUTHORIZATION"] = authorization
    return Request(environ, b"")


def answer(nonce: str, uri: str = PATH) -> str:
    ha1, ha2 = md5("retarus:retarus:example-password"), md5(f"POST:{uri}")
    response = md5(f"{ha1}:{nonce}:00000001:0a:auth:{ha2}")
    return (
        f'Digest username="retarus", realm="retarus", nonce="{nonce}", uri="{uri}", qop=auth, nc=00000001,'
        f' cnonce="0a", response="{response}"'
    )


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    "uri", ["http://[", "http://[::1/", "http:callbacks", "https:", "http:/callbacks/retarus", "http:///", "http://x]/"]
)
@pytest.mark.parametrize("host", ["hooks.example.com", None])
def test_a_uri_that_is_none_is_malformed(uri: str, host: str | None) -> None:
    digest = machine(Claims())
    with pytest.raises(MalformedCredentials):
        digest.verify(request(answer(challenged(digest), uri), host=host))


def test_a_target_that_is_no_uri_is_malformed() -> None:
    digest = machine(Claims())
    with pytest.raises(MalformedCredentials):
        digest.verify(request(answer(challenged(digest)), target=f"http://[{PATH}"))


@pytest.mark.parametrize("uri", [f"http://hooks.example.com{PATH}", f"HTTPS://HOOKS.example.com{PATH}#part"])
def test_an_absolute_uri_of_this_host_is_right(uri: str) -> None:
    digest = machine(Claims())
    digest.verify(request(answer(challenged(digest), uri)))


@pytest.mark.parametrize(
    "header",
    [
        'a="b",' + " " * 4000 + '"',
        'a="b" ' + " " * 4000 + "x",
        'a="' + "\\a" * 2000,
        "a" * 4000 + '"',
        "," * 4000 + '"',
    ],
)
def test_a_header_made_to_be_slow_is_not(header: str) -> None:
    started = time.process_time()
    with pytest.raises(MalformedCredentials):
        parse(f"Digest {header}")
    assert time.process_time() - started < 0.2


def test_what_one_machine_forgets_no_other_takes_again() -> None:
    """The store forgets by the clock that is ahead; the answer comes to the one that is behind."""
    claims = Claims()
    ahead = machine(claims)
    shown = request(answer(challenged(ahead)))
    ahead.verify(shown)

    later = NOW + timedelta(seconds=330)
    claims.forget(later)

    with pytest.raises(Unauthorized) as refused:
        machine(claims, later - timedelta(seconds=45)).verify(shown)
    assert refused.value.headers[0][1].endswith("stale=true")
