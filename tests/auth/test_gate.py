import base64
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_network

import pytest
from werkzeug.security import generate_password_hash

from receiver import errors
from receiver.auth import Gate, Request, Surroundings
from receiver.settings import Auth, Credential, Endpoint, Token

ME = Credential(id="2026", user="me", password="größe:1", not_before=None, not_after=None)
CHALLENGE = (("WWW-Authenticate", 'Basic realm="fax", charset="UTF-8"'),)


def endpoint(mode="none", credentials=(ME,), tokens=(), allow=(), realm="fax", certificates=()):
    return Endpoint(
        name="acme",
        provider="openfax",
        account=None,
        timezone=None,
        region=None,
        auth=Auth(mode=mode, realm=realm, credentials=tuple(credentials)),
        tokens=tuple(Token(digest=sha256(text.encode()).digest(), plain=text) for text in tokens),
        allow=tuple(map(ip_network, allow)),
        client_certificates=tuple(sha256(one).digest() for one in certificates),
        answer=200,
        insecure=False,
    )


def surroundings(trusted=(), **more):
    return Surroundings(tuple(map(ip_network, trusted)), [b"a key of sixteen"], lambda _name, _expires: True, **more)


def gate_of(*, trusted=(), **settings):
    return Gate(endpoint(**settings), surroundings(trusted))


def request(peer="198.51.100.1", body=b"", **headers):
    """headers: underscores for hyphens; None: not sent."""
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/callbacks/acme", "REMOTE_ADDR": peer}
    sent = {f"HTTP_{name.upper()}": value for name, value in headers.items() if value is not None}
    return Request(environ | sent, body)


def called_from(peer, forwarded_for):
    return request(peer, X_Forwarded_For=forwarded_for)


def showing(authorization):
    return request(Authorization=authorization)


def header(text: str | bytes, charset: str = "utf-8") -> str:
    raw = text if isinstance(text, bytes) else text.encode(charset)
    return "Basic " + base64.b64encode(raw).decode()


# --- path token ----------------------------------------------------------------------------------------------------


def test_any_of_the_tokens_opens_an_endpoint_that_has_some():
    both = gate_of(tokens=["Old-Token", "new-tökén"])

    assert both.admits("Old-Token")
    assert both.admits("new-tökén")


@pytest.mark.parametrize(
    "token", [None, "", "old-token", "Old-Token/", " Old-Token", "Old%2DToken", "Old-Toke", "\udcff"]
)
def test_without_exactly_one_of_the_tokens_it_stays_closed(token):
    assert not gate_of(tokens=["Old-Token"]).admits(token)


def test_the_digest_of_a_token_is_not_the_token():
    digest = sha256(b"token").hexdigest()

    assert not gate_of(tokens=["token"]).admits(digest)
    assert not gate_of(tokens=["token"]).admits("sha256:" + digest)


def test_an_endpoint_without_tokens_takes_none():
    assert gate_of().admits(None)
    assert not gate_of().admits("token")
    assert not gate_of().admits("")


@pytest.mark.parametrize("mode", ["none", "basic", "payload"])
def test_tokens_are_asked_for_in_every_mode(mode):
    assert gate_of(mode=mode, tokens=["token"]).admits("token")
    assert not gate_of(mode=mode, tokens=["token"]).admits(None)


# --- address -------------------------------------------------------------------------------------------------------


def test_an_address_outside_the_list_is_forbidden_without_a_challenge():
    listed = gate_of(mode="basic", allow=["203.0.113.0/24"])

    with pytest.raises(errors.Challenged):  # the address is right, so that the credentials are asked for
        listed.check_caller(called_from("203.0.113.7", None))
    with pytest.raises(errors.Forbidden) as caught:
        listed.check_caller(called_from("198.51.100.1", "203.0.113.7"))
    assert caught.value.headers == ()
    assert "198.51" not in caught.value.detail


def test_a_trusted_proxy_speaks_for_its_clients():
    listed = gate_of(allow=["203.0.113.0/24"], trusted=["10.0.0.0/8"])

    listed.check_caller(called_from("10.0.0.1", "203.0.113.7"))
    for forwarded_for in (None, "unknown", "203.0.113.7, 198.51.100.1"):
        with pytest.raises(errors.Forbidden):
            listed.check_caller(called_from("10.0.0.1", forwarded_for))


def test_without_a_list_every_address_passes():
    gate_of().check_caller(called_from("198.51.100.1", "unknown"))
    gate_of().check_caller(called_from("", None))


# --- Basic ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("charset", ["utf-8", "latin-1"])
def test_right_credentials_pass_in_either_charset(charset):
    gate_of(mode="basic").check_caller(showing(header("me:größe:1", charset)))


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer abc",
        'Digest username="me", realm="fax"',
        header("me:wrong"),
        header("Me:größe:1"),
        header("you:größe:1"),
        header("me:"),
        header(":"),
        header("me:gro\u0308ße:1"),
        header(b"me:\x80\xff"),
    ],
)
def test_missing_and_wrong_credentials_are_challenged(authorization):
    with pytest.raises(errors.Unauthorized) as caught:
        gate_of(mode="basic").check_caller(showing(authorization))

    assert caught.value.headers == CHALLENGE
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "authorization",
    [
        "Basic",
        "Basic me",
        header("me"),
        header("me:größe:1\n"),
        header("me:größe:1") + ", " + header("me:wrong"),
        header("me:wrong") + ", " + header("me:größe:1"),
    ],
)
def test_credentials_that_cannot_be_read_are_malformed_and_not_challenged(authorization):
    with pytest.raises(errors.MalformedCredentials) as caught:
        gate_of(mode="basic").check_caller(showing(authorization))

    assert caught.value.headers == ()


@pytest.mark.parametrize("mode", ["none", "payload"])
@pytest.mark.parametrize("authorization", [None, "Basic", "Bearer x", header("me:wrong")])
def test_other_modes_do_not_look_at_the_header(mode, authorization):
    gate_of(mode=mode).check_caller(showing(authorization))


def test_the_clock_decides_which_credential_is_valid():
    now = [datetime(2026, 6, 1, tzinfo=UTC)]
    expiring = Credential(
        id="2026", user="me", password="old", not_before=None, not_after=now[0] + timedelta(seconds=1)
    )
    watched = Gate(endpoint(mode="basic", credentials=[expiring]), surroundings(clock=lambda: now[0]))
    watched.check_caller(showing(header("me:old")))

    now[0] += timedelta(seconds=1)

    with pytest.raises(errors.Unauthorized):
        watched.check_caller(showing(header("me:old")))


def test_slow_hashes_work_with_the_cache_of_the_process():
    stored = generate_password_hash("größe", "scrypt:256:8:1")
    slow = gate_of(mode="basic", credentials=[Credential("1", "me", stored, None, None)])

    for charset in ("utf-8", "latin-1"):
        slow.check_caller(showing(header("me:größe", charset)))
    with pytest.raises(errors.Unauthorized):
        slow.check_caller(showing(header("me:" + stored)))


# --- payload -------------------------------------------------------------------------------------------------------


def test_only_the_payload_mode_reads_the_payload():
    assert [gate_of(mode=mode).reads_payload for mode in ("none", "basic", "payload")] == [False, False, True]


def test_right_credentials_in_the_body_pass():
    gate_of(mode="payload").check_payload(("me", "größe:1"))


@pytest.mark.parametrize("given", [None, ("me", "wrong"), ("you", "größe:1"), ("", ""), ("me", "\ud800")])
def test_missing_and_wrong_credentials_in_the_body_are_refused_without_a_challenge(given):
    with pytest.raises(errors.Unauthorized) as caught:
        gate_of(mode="payload").check_payload(given)

    assert caught.value.headers == ()


@pytest.mark.parametrize("mode", ["none", "basic"])
def test_other_modes_do_not_look_at_the_body(mode):
    gate_of(mode=mode).check_payload(None)
    gate_of(mode=mode).check_payload(("me", "wrong"))


# --- start and privacy ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["digest", "oauth2", "hmac", "", "None", "BASIC"])
def test_an_unknown_mode_stops_the_start_instead_of_leaving_the_gate_open(mode):
    with pytest.raises(errors.ConfigurationError, match="acme"):
        gate_of(mode=mode)


def test_a_payload_may_hold_a_user_with_a_colon():
    colon = Credential("1", "m:e", "secret", None, None)

    gate_of(mode="payload", credentials=[colon]).check_payload(("m:e", "secret"))


@pytest.mark.parametrize("settings", [{"realm": "größe"}, {"credentials": [Credential("1", "me", "", None, None)]}])
def test_what_stops_the_start_names_the_endpoint(settings):
    with pytest.raises(errors.ConfigurationError, match=r"^endpoint acme: "):
        gate_of(mode="basic", **settings)


@pytest.mark.parametrize("mode", ["basic", "payload"])
def test_a_mode_with_credentials_and_none_configured_accepts_nobody(mode):
    empty = gate_of(mode=mode, credentials=[])
    check, given = (empty.check_caller, showing(header(":"))) if mode == "basic" else (empty.check_payload, ("", ""))

    with pytest.raises(errors.Unauthorized):
        check(given)


def test_neither_the_gate_nor_its_refusals_show_a_secret():
    closed = gate_of(mode="basic", tokens=["hidden-token"])
    with pytest.raises(errors.Unauthorized) as caught:
        closed.check_caller(showing(header("somebody:hunter2")))

    for text in (repr(closed), repr(caught.value), str(caught.value), repr(closed._verifier._credentials)):
        for secret in ("größe", "hidden-token", "hunter2", "somebody"):
            assert secret not in text


def test_auth_imports_neither_providers_nor_store():
    code = "import sys, receiver.auth; print([name for name in sys.modules if name.startswith('receiver.')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert "receiver.auth" in loaded
    assert "receiver.providers" not in loaded
    assert "receiver.store" not in loaded
