"""Tokens, addresses and client certificates over real HTTP: each case by its row in the list of conformance."""

import base64
import json
import ssl
from hashlib import sha256
from urllib.parse import quote

import pytest
from asked import Served, Told, basic, faxage, serving

TOKEN, OTHER = "uX2mFfN0Q2v6c4Yw8bJ1kZ5tR7sD9gH3", "Second.token_of-the~endpoint-0123456789"
DIGESTED = "Third-token-which-the-file-does-not-hold"
PROXY, STRANGER = "127.0.0.1", "127.0.0.2"
ALLOWED, ATTACKER = "203.0.113.7", "198.51.100.9"
NONE = '{ mode = "none" }'

# Only their digest is compared, so any bytes will do.
CERTIFICATE, SECOND, FOREIGN = b"\x30\x82 certificate +/ \xff", b"\x30\x82 renewed", b"\x30\x82 foreign"


def fingerprint(der: bytes) -> str:
    return f"sha256:{sha256(der).hexdigest()}"


COLONS = f"sha256:{sha256(SECOND).digest().hex(':').upper()}"  # as openssl prints it
CERTIFICATES = f'client_certificates = ["{fingerprint(CERTIFICATE)}", "{COLONS}"]'
ENDPOINTS = (
    faxage("tokens", NONE, f'tokens = ["{TOKEN}", "{OTHER}", "sha256:{sha256(DIGESTED.encode()).hexdigest()}"]')
    + faxage("listed", NONE, 'allow = ["203.0.113.0/24", "2001:db8::/32", "127.0.0.3"]')
    + faxage("certified", NONE, CERTIFICATES)
    + faxage(
        "all",
        '{ mode = "basic", credentials = [{ user = "me", password = "word" }] }',
        f'tokens = ["{TOKEN}"]\nallow = ["203.0.113.0/24"]\n{CERTIFICATES}',
    )
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("none")
    trusted = f'trusted_proxies = ["{PROXY}", "10.0.0.0/8"]\n'
    with serving(folder, f"sqlite:///{folder}/faxhook.db", ENDPOINTS, trusted) as started:
        yield started


def is_refused(told: Told, status: int) -> None:
    assert told.status == status, told.body
    assert told.challenges == []
    assert told.all("Cache-Control") == ["no-store"]
    assert json.loads(told.body)["status"] == status
    assert told.stays


# --- path tokens ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [TOKEN, OTHER, DIGESTED])
def test_row_112_each_token_opens_the_endpoint(server: Served, token):
    assert server.post(f"/callbacks/tokens/{token}").status == 200
    assert server.post(f"/callbacks/tokens/{token}/r/order-1").status == 200
    assert server.post(f"/callbacks/tokens/{token}", body=b"", method="HEAD").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/callbacks/tokens",
        "/callbacks/tokens/",
        "/callbacks/tokens/wrong-wrong-wrong-wrong",
        f"/callbacks/tokens/{TOKEN.lower()}",
        f"/callbacks/tokens/{TOKEN.swapcase()}",
        f"/callbacks/tokens/{TOKEN}/",
        f"/callbacks/tokens/{TOKEN[:-1]}",
        f"/callbacks/tokens/{TOKEN}x",
        f"/callbacks/tokens/%75{TOKEN[1:]}",
        f"/callbacks/tokens//{TOKEN}",
        f"/callbacks//tokens/{TOKEN}",
        f"//callbacks/tokens/{TOKEN}",
        f"/callbacks/x/../tokens/{TOKEN}",
        f"/callbacks/tokens/{TOKEN}/{TOKEN}",
        f"/callbacks/tokens/{TOKEN}%2F",
        f"/callbacks/tokens/{sha256(TOKEN.encode()).hexdigest()}",
        f"/callbacks/Tokens/{TOKEN}",
        f"/callbacks/listed/{TOKEN}",
        f"/callbacks/tokens?token={TOKEN}",
        f"/callbacks/none/{TOKEN}",
    ],
)
def test_row_112_any_other_is_the_same_404(server: Served, path):
    told = server.post(path)
    is_refused(told, 404)
    nowhere = server.post("/nowhere/at-all")
    assert told.body == nowhere.body
    assert [one for one in told.headers if one[0] != "Date"] == [one for one in nowhere.headers if one[0] != "Date"]
    is_head = server.post(path, body=b"", method="HEAD")
    assert (is_head.status, is_head.body) == (404, b"")


# --- addresses ------------------------------------------------------------------------------------------------------


def forwarded(*lines: str) -> list[tuple[str, str]]:
    return [("X-Forwarded-For", line) for line in lines]


@pytest.mark.parametrize(
    ("source", "headers"),
    [
        ("127.0.0.3", []),  # on the list itself
        ("127.0.0.3", forwarded(ATTACKER)),  # whatever it says
        (PROXY, forwarded(ALLOWED)),
        (PROXY, forwarded(f"{ATTACKER}, {ALLOWED}")),
        (PROXY, forwarded(f"unknown, {ALLOWED}, 10.1.1.1")),
        (PROXY, forwarded(ATTACKER, ALLOWED)),  # two lines are one list
        (PROXY, forwarded(f"{ALLOWED}:5678")),
        (PROXY, forwarded("[2001:db8::1]")),
        (PROXY, forwarded("[2001:db8::1]:443")),
        (PROXY, forwarded(f"::ffff:{ALLOWED}")),
        (PROXY, forwarded(f"{ALLOWED}, ::ffff:10.1.1.1")),
        (PROXY, forwarded(ALLOWED + ",10.0.0.2" * 800)),
    ],
)
def test_rows_113_and_114_who_may_call(server: Served, source, headers):
    assert server.post("/callbacks/listed", *headers, source=source).status == 200


@pytest.mark.parametrize(
    ("source", "headers"),
    [
        (STRANGER, []),
        (STRANGER, forwarded(ALLOWED)),  # forged
        (STRANGER, [("X_Forwarded_For", ALLOWED)]),
        (STRANGER, [("Forwarded", f"for={ALLOWED}"), ("X-Real-IP", ALLOWED)]),
        (PROXY, []),
        (PROXY, forwarded("")),
        (PROXY, [("X_Forwarded_For", ALLOWED)]),
        (PROXY, [("Forwarded", f"for={ALLOWED}")]),
        (PROXY, forwarded(f"{ALLOWED}, {ATTACKER}")),
        (PROXY, forwarded(ALLOWED, ATTACKER)),
        (PROXY, forwarded("unknown")),
        (PROXY, forwarded(f"{ALLOWED}, unknown")),
        (PROXY, forwarded(f"{ALLOWED}, ")),
        (PROXY, forwarded(f"{ALLOWED}:port")),
        (PROXY, forwarded("10.1.1.1")),  # only proxies
        (PROXY, forwarded((ALLOWED + ",") * 500 + ATTACKER)),
    ],
)
def test_rows_113_and_114_who_may_not(server: Served, source, headers):
    is_refused(server.post("/callbacks/listed", *headers, source=source), 403)


def test_row_114_a_thousand_entries_are_more_than_a_head_may_have(server: Served):
    assert server.post("/callbacks/listed", *forwarded(f"{ALLOWED}, " * 1000)).status == 431


# --- client certificates --------------------------------------------------------------------------------------------


def rfc9440(der: bytes) -> tuple[str, str]:
    return "Client-Cert", f":{base64.b64encode(der).decode()}:"


def nginx(der: bytes) -> tuple[str, str]:
    """As its $ssl_client_escaped_cert."""
    return "Client-Cert", quote(ssl.DER_cert_to_PEM_cert(der), safe="")


@pytest.mark.parametrize("der", [CERTIFICATE, SECOND])
@pytest.mark.parametrize("written", [rfc9440, nginx])
def test_a_configured_certificate_that_a_trusted_proxy_has_seen_gets_in(server: Served, der, written):
    assert server.post("/callbacks/certified", written(der)).status == 200


@pytest.mark.parametrize(
    ("source", "headers"),
    [
        (PROXY, []),
        (PROXY, [("Client-Cert", "")]),
        (PROXY, [("Client-Cert", "::")]),
        (PROXY, [("Client-Cert", ":")]),
        (PROXY, [("Client-Cert", fingerprint(CERTIFICATE))]),
        (PROXY, [("Client-Cert", rfc9440(CERTIFICATE)[1][1:])]),
        (PROXY, [("Client-Cert", ":not base64:")]),
        (PROXY, [("Client-Cert", ":größe:")]),
        (PROXY, [rfc9440(FOREIGN)]),
        (PROXY, [nginx(FOREIGN)]),
        (PROXY, [rfc9440(FOREIGN), rfc9440(CERTIFICATE)]),  # one that a proxy has added to the client's own
        (PROXY, [rfc9440(CERTIFICATE), rfc9440(FOREIGN)]),
        (PROXY, [nginx(CERTIFICATE), nginx(CERTIFICATE)]),
        (PROXY, [("Client-Cert", nginx(CERTIFICATE)[1] + nginx(FOREIGN)[1])]),
        (PROXY, [("Client_Cert", rfc9440(CERTIFICATE)[1])]),
        (PROXY, [("X-SSL-Client-Verify", "SUCCESS"), ("X-Client-Cert", rfc9440(CERTIFICATE)[1])]),
        (STRANGER, []),
        (STRANGER, [rfc9440(CERTIFICATE)]),
        (STRANGER, [nginx(CERTIFICATE)]),
        (STRANGER, [rfc9440(CERTIFICATE), ("X-Forwarded-For", PROXY)]),
        (STRANGER, [("Client_Cert", rfc9440(CERTIFICATE)[1])]),
    ],
)
def test_row_115_any_other_certificate_or_messenger_is_403(server: Served, source, headers):
    is_refused(server.post("/callbacks/certified", *headers, source=source), 403)


def test_all_that_is_configured_is_needed(server: Served):
    path = f"/callbacks/all/{TOKEN}"
    shown = {"address": ("X-Forwarded-For", ALLOWED), "certificate": rfc9440(CERTIFICATE), "user": basic("me:word")}
    assert server.post(path, *shown.values()).status == 200
    assert server.post("/callbacks/all", *shown.values()).status == 404
    for missing, status in (("address", 403), ("certificate", 403), ("user", 401)):
        assert server.post(path, *(header for name, header in shown.items() if name != missing)).status == status


def test_another_header_may_be_the_proxys(tmp_path):
    extra = f'trusted_proxies = ["{PROXY}"]\nclient_certificate_header = "X-SSL-Cert"\n'
    endpoint = faxage("certified", NONE, CERTIFICATES)
    with serving(tmp_path, f"sqlite:///{tmp_path}/faxhook.db", endpoint, extra) as server:
        assert server.post("/callbacks/certified", ("X-SSL-Cert", nginx(CERTIFICATE)[1])).status == 200
        is_refused(server.post("/callbacks/certified", nginx(CERTIFICATE)), 403)
