"""
HTTP Digest over real HTTP, two gunicorn workers: what each request is answered, row by row.

The number before each case is the row of the project's conformance table. D is a 401 with the two challenges, D+S the
same with stale=true; "-" has no challenge.
"""

import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from wire import XML, Answer, Client, Served, nonce_of, served

from receiver.auth.digest import _Nonces

KEYS = ("first-secret-key-0001", "second-secret-key-002", "third-secret-key-0003")
HOOK = "/callbacks/retarus"
CONFIGURATION = """
[server]
secret_key = ["first-secret-key-0001", "second-secret-key-002"]
max_body = "24MiB"

[endpoints.retarus]
provider = "retarus"
account = "99999TE"
auth = { mode = "digest", realm = "retarus", credentials = [
    { id = "2026", user = "retarus", password = "example-password" },
    { user = "old", password = "expired-password", not_after = 2020-01-01 },
    { user = "second", password = "another-password", not_after = 2999-01-01 },
    { user = 'u"x', password = 'colon:and"quote' },
    { user = "with:colon", password = "p" },
    { user = "long", password = "LONG" },
    { user = "jörg", password = "größe" },
    { user = "hashed", password = "ha1:HASHED" },
] }

[endpoints.other]
provider = "retarus"
account = "99999TE"
auth = { mode = "digest", realm = "other", credentials = [ { user = "retarus", password = "example-password" } ] }

[endpoints.sha]
provider = "retarus"
account = "99999TE"
auth = { mode = "digest", realm = "sha", algorithms = ["SHA-256"], credentials = [
    { user = "retarus", password = "example-password" } ] }

[endpoints.query]
provider = "retarus"
account = "99999TE"
auth = { mode = "digest", realm = "query", ignore_query = true, credentials = [
    { user = "retarus", password = "example-password" } ] }

[endpoints.prefix]
provider = "retarus"
account = "99999TE"
auth = { mode = "digest", realm = "prefix", prefix = "/fax", credentials = [
    { user = "retarus", password = "example-password" } ] }
""".replace("LONG", "x" * 1000).replace(
    "HASHED",
    ":".join(Client(user="hashed", algorithm=one).ha1() for one in ("MD5", "SHA-256")),
)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service("postgresql"))])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    store = request.getfixturevalue("module_postgresql_url") if request.param == "postgresql" else None
    with served(tmp_path_factory.mktemp("digest"), CONFIGURATION, store) as found:
        yield found


@pytest.fixture
def client(server: Served) -> Client:
    return challenged(server)


def challenged(server: Served, target: str = HOOK, **known: str) -> Client:
    """A client that has asked once and read the answer."""
    return Client(nonce=nonce_of(server.post(target)), **known)


def verdict(answer: Answer) -> str:
    """``200``, ``401 D``, ``401 D+S``, ``400 -``: the reply as the table writes it, checked in every detail."""
    if answer.status == 200:
        return "200"
    assert answer.header("Set-Cookie") is None
    if answer.status < 430:  # 431 is the server's own
        assert answer.header("Cache-Control") == "no-store"
    if answer.status != 401:
        assert not answer.challenges
        return f"{answer.status} -"
    pattern = r'Digest realm="([\w.-]+)", qop="auth", algorithm=(MD5|SHA-256), nonce="([0-9a-f]{72})", charset=UTF-8'
    read = [re.fullmatch(pattern + "(, stale=true)?", one) for one in answer.challenges]
    assert all(read), answer.challenges
    realms, algorithms, nonces, stale = zip(*(one.groups() for one in read if one), strict=True)
    assert len(set(realms)) == len(set(nonces)) == len(set(stale)) == 1
    assert algorithms == (("SHA-256",) if realms[0] == "sha" else ("MD5", "SHA-256"))
    return "401 D+S" if stale[0] else "401 D"


Send = Callable[[Served, Client], Answer]


def post(target: str = HOOK, **options: object) -> Send:
    """One request; options are Client.header's."""
    known = {
        name: options.pop(name) for name in ("user", "password", "realm", "algorithm", "charset") if name in options
    }
    sent_to = str(options.pop("to", target))
    method = str(options.pop("as_method", "POST"))

    def send(server: Served, client: Client) -> Answer:
        for name, value in known.items():
            setattr(client, name, value)
        return server.post(sent_to, client.header(target, method, **options))  # type: ignore[arg-type]

    return send


def raw(change: Callable[[str], str | bytes], **known: str) -> Send:
    """The right header, changed as text."""

    def send(server: Served, client: Client) -> Answer:
        for name, value in known.items():
            setattr(client, name, value)
        return server.post(HOOK, change(client.header(HOOK)))

    return send


def without(name: str) -> Send:
    return post(written={name: None})


def nonce(change: Callable[[str], str], **options: object) -> Send:
    def send(server: Served, client: Client) -> Answer:
        client.nonce = change(client.nonce)
        return post(**options)(server, client)

    return send


def made(key: str, age_seconds: float, endpoint: str = "retarus", realm: str = "retarus") -> str:
    nonces = _Nonces(endpoint, realm, [key.encode()], timedelta(seconds=300))
    return nonces.new(datetime.now(UTC) - timedelta(seconds=age_seconds))


def unquoted(header: str) -> str:
    return re.sub(r'(username|realm|nonce|cnonce|response)="([\w-]+)"', r"\1=\2", header)


def other_charset(name: str, hashed: str) -> Send:
    def send(server: Served, client: Client) -> Answer:
        client.user, client.password, client.charset = "jörg", "größe", hashed
        written = "jörg".encode(name)
        text = client.header(HOOK, written={"username": '"NAME"'}).encode("latin-1")
        return server.post(HOOK, text.replace(b"NAME", written))

    return send


# fmt: off

CASES: list[tuple[str, Send, str]] = [
    ("1 no Authorization", lambda server, _: server.post(HOOK), "401 D"),
    ("1 no Authorization, no body", lambda server, _: server.post(HOOK, body=b""), "401 D"),
    ("2 MD5", post(), "200"),
    ("2 SHA-256", post(algorithm="SHA-256"), "200"),
    ("2 algorithm left out", post(algorithm="MD5", written={"algorithm": None}), "200"),
    ("4 first nc 0", post(nc="00000000"), "200"),
    ("4 first nc 2", post(nc="00000002"), "200"),
    ("4 first nc ffffffff", post(nc="ffffffff"), "200"),
    ("4 first nc in capitals", post(nc="FFFFFFFE"), "200"),
    ("9 nonce of another key", nonce(lambda _: made("somebody-elses-secret", 0)), "401 D+S"),
    ("9 nonce made up", nonce(lambda _: "abc"), "401 D+S"),
    ("10 the same, wrong response", nonce(lambda _: "abc", password="wrong"), "401 D"),
    ("11 first character changed", nonce(lambda one: "f" + one[1:]), "401 D+S"),
    ("11 last character changed", nonce(lambda one: one[:-1] + ("0" if one[-1] != "0" else "1")), "401 D+S"),
    ("8 nonce of the second key", nonce(lambda _: made(KEYS[1], 0)), "200"),
    ("8 nonce of a removed key", nonce(lambda _: made(KEYS[2], 0)), "401 D+S"),
    ("12 old nonce", nonce(lambda _: made(KEYS[0], 301)), "401 D+S"),
    ("12 old nonce, wrong response", nonce(lambda _: made(KEYS[0], 301), password="wrong"), "401 D"),
    ("12 just in time", nonce(lambda _: made(KEYS[0], 290)), "200"),
    ("13 from the future", nonce(lambda _: made(KEYS[0], -3600)), "401 D+S"),
    ("61 clock set back 30 s", nonce(lambda _: made(KEYS[0], -30)), "200"),
    ("14 nonce of another endpoint", nonce(lambda _: made(KEYS[0], 0, "other", "other")), "401 D+S"),
    ("14 realm of that endpoint too", nonce(lambda _: made(KEYS[0], 0, "other", "other"), realm="other"), "401 D"),
    ("15 wrong password", post(password="wrong"), "401 D"),
    ("15 empty password", post(password=""), "401 D"),
    ("15 unknown user", post(user="nobody"), "401 D"),
    ("15 user in capitals", post(user="RETARUS"), "401 D"),
    ("15 user null", post(user="null"), "401 D"),
    ("15 user None", post(user="None"), "401 D"),
    ("16 empty user", post(user="", password=""), "401 D"),
    ("17 realm of the client's choosing", post(realm="elsewhere"), "401 D"),
    ("18 response short by one", raw(lambda text: re.sub(r'response="."?', 'response="', text)), "401 D"),
    ("18 response empty", post(written={"response": '""'}), "400 -"),
    ("18 response of zeros", post(written={"response": f'"{"0" * 32}"'}), "401 D"),
    ("18 response not ASCII", post(written={"response": '"äöü"'}), "401 D"),
    ("18 response of 1 MB", post(written={"response": f'"{"0" * 1_000_000}"'}), "431 -"),
    (
        "19 response in capitals",
        raw(lambda text: re.sub(r'response="(.*?)"', lambda m: m[0].upper().replace("RESPONSE", "response"), text)),
        "200",
    ),
    ("20 computed for GET", post(as_method="GET"), "401 D"),
    ("21 uri of another path", post("/callbacks/other", to=HOOK), "400 -"),
    ("21 header of one endpoint at another", post(HOOK, to="/callbacks/other"), "400 -"),
    ("22 query added", post(HOOK, to=f"{HOOK}?admin=1"), "400 -"),
    ("22 query in another order", post(f"{HOOK}?a=1&b=2", to=f"{HOOK}?b=2&a=1"), "400 -"),
    ("22 query missing in uri", post(HOOK, to=f"{HOOK}?a=1"), "400 -"),
    ("22 the same, ignored", lambda server, _: _at(server, "query", "/callbacks/query", "/callbacks/query?a=1"), "200"),
    (
        "22 order, ignored",
        lambda server, _: _at(server, "query", "/callbacks/query?a&b", "/callbacks/query?b&a"),
        "400 -",
    ),
    ("23 query %2F", post(f"{HOOK}?a=%2F"), "200"),
    ("23 query +", post(f"{HOOK}?a=+"), "200"),
    ("23 query ;", post(f"{HOOK}?a;b"), "200"),
    ("23 query empty", post(f"{HOOK}?"), "200"),
    ("24 uri in absolute form", post(f"http://fax.example{HOOK}", to=HOOK), "200"),
    ("24 target in absolute form", post(HOOK, to=f"http://fax.example{HOOK}"), "200"),
    ("25 uri of another host", post(f"http://evil.example{HOOK}", to=HOOK), "400 -"),
    ("26 uri with ..", post("/x/.." + HOOK, to=HOOK), "400 -"),
    ("26 uri with //", post("/" + HOOK, to=HOOK), "400 -"),
    ("26 uri *", post("*", to=HOOK), "400 -"),
    ("26 uri in capitals", post(HOOK.upper(), to=HOOK), "400 -"),
    ("26 uri encoded", post(HOOK.replace("a", "%61"), to=HOOK), "400 -"),
    (
        "27 prefix configured",
        lambda server, _: _at(server, "prefix", "/fax/callbacks/prefix", "/callbacks/prefix"),
        "200",
    ),
    ("27 prefix not configured", post("/fax" + HOOK, to=HOOK), "400 -"),
    ("28 no qop", post(qop=None, nc=None, cnonce=None), "401 D"),
    ("29 qop auth-int", post(qop="auth-int"), "401 D"),
    ("29 qop of both", post(qop="auth,auth-int", written={"qop": '"auth,auth-int"'}), "401 D"),
    ("29 qop in capitals", post(qop="AUTH"), "200"),
    ("30 no nc", without("nc"), "400 -"),
    ("30 no cnonce", without("cnonce"), "400 -"),
    ("30 cnonce empty", post(written={"cnonce": '""'}), "400 -"),
    *[
        (f"31 nc {nc!r}", post(nc=nc, written={"nc": f'"{nc}"'}), "400 -")
        for nc in ("0000001", "000000001", "0000000g", "", "-0000001")
    ],
    ("32 nc, qop, algorithm quoted", raw(lambda text: re.sub(r"(nc|qop|algorithm)=([\w-]+)", r'\1="\2"', text)), "200"),
    ("32 all unquoted that may be", raw(unquoted), "200"),
    ("33 MD5-sess", post(written={"algorithm": "MD5-sess"}), "401 D"),
    ("33 SHA-512-256", post(written={"algorithm": "SHA-512-256"}), "401 D"),
    ("33 none", post(written={"algorithm": "none"}), "401 D"),
    ("33 SHA-256 named, MD5 computed", post(written={"algorithm": "SHA-256"}), "401 D"),
    (
        "34 SHA-256 offered, MD5 without a name",
        lambda server, _: _at(server, "sha", written={"algorithm": None}),
        "401 D",
    ),
    ("34 SHA-256 offered and computed", lambda server, _: _at(server, "sha", algorithm="SHA-256"), "200"),
    *[(f"35 no {name}", without(name), "400 -") for name in ("username", "realm", "nonce", "uri", "response")],
    ("36 username twice", raw(lambda text: text + ', username="x"'), "400 -"),
    ("36 response twice", raw(lambda text: text + ', response="x"'), "400 -"),
    ("36 Username and username", raw(lambda text: text + ', Username="x"'), "400 -"),
    ("36 username and username*", raw(lambda text: text + ", username*=UTF-8''x"), "400 -"),
    (
        "37 username*",
        post(user="jörg", password="größe", written={"username": None, "username*": "UTF-8''j%C3%B6rg"}),
        "200",
    ),
    ("37 username*, bad percent", post(written={"username": None, "username*": "UTF-8''j%C"}), "400 -"),
    ("37 username*, Latin-1", post(written={"username": None, "username*": "ISO-8859-1''j%F6rg"}), "400 -"),
    ("38 userhash", post(written={"userhash": "true"}), "401 D"),
    (
        "39 two headers, Basic second",
        lambda server, client: server.post(HOOK, client.header(HOOK), "Basic eDp5"),
        "400 -",
    ),
    ("39 two headers, both Digest", lambda server, client: server.post(HOOK, *[client.header(HOOK)] * 2), "400 -"),
    (
        "39 two headers, Basic first",
        lambda server, client: server.post(HOOK, "Basic eDp5", client.header(HOOK)),
        "401 D",
    ),
    ("40 digest", raw(lambda text: text.replace("Digest", "digest")), "200"),
    ("40 DIGEST", raw(lambda text: text.replace("Digest", "DIGEST")), "200"),
    ("40 two spaces", raw(lambda text: text.replace("Digest ", "Digest  ")), "200"),
    ("40 a tab", raw(lambda text: text.replace("Digest ", "Digest\t")), "200"),
    ("40 no space after commas", raw(lambda text: text.replace(", ", ",")), "200"),
    ("40 trailing comma", raw(lambda text: text + ","), "200"),
    ("40 unknown parameter", raw(lambda text: text + ", extra=1"), "200"),
    *[
        (f"41 {name}", raw(lambda _, text=text: text), "400 -")
        for name, text in {  # type: ignore[misc]
            "Digest alone": "Digest",
            "only commas": "Digest ,,,",
            "empty": "",
            "unterminated": 'Digest username="x',
        }.items()
    ],
    ("41 semicolons", raw(lambda text: text.replace(", ", "; ")), "400 -"),
    (
        "41 garbage after a quoted string",
        raw(lambda text: text.replace('realm="retarus"', 'realm="retarus"x')),
        "400 -",
    ),
    ("42 quoted pair in the name", post(user='u"x', password='colon:and"quote'), "200"),
    ("42 backslash at the end", raw(lambda text: text + ', extra="\\'), "400 -"),
    ("43 user with a colon", post(user="with:colon", password="p"), "200"),
    *[
        (f"43 name {name}, hash {hashed}", other_charset(name, hashed), "200")
        for name in ("utf-8", "latin-1")
        for hashed in ("utf-8", "latin-1")
    ],
    ("44 header of 5 kB", raw(lambda text: f'{text}, extra="{"x" * 5000}"'), "400 -"),
    ("44 header of 9 kB", raw(lambda text: f'{text}, extra="{"x" * 9000}"'), "431 -"),
    ("44 header of 64 kB", raw(lambda text: f'{text}, extra="{"x" * 64_000}"'), "431 -"),
    ("44 1000 parameters", raw(lambda text: text + "".join(f", p{number}=1" for number in range(1000))), "400 -"),
    ("44 500 parameters", raw(lambda text: text + "".join(f", p{number}=1" for number in range(500))), "400 -"),
    ("46 line break, encoded, in the name", post(user="x%0d%0aX-Evil: 1"), "401 D"),
    ("46 realm with quotes", raw(lambda text: text.replace('realm="retarus"', r'realm="ret\"arus"')), "401 D"),
    ("47 Basic", lambda server, _: server.post(HOOK, "Basic cmV0YXJ1czpleGFtcGxlLXBhc3N3b3Jk"), "401 D"),
    ("47 Bearer", lambda server, _: server.post(HOOK, "Bearer abc"), "401 D"),
    *[
        (f"48 {name}", lambda server, _, name=name: server.post(HOOK, headers=(f"{name}: retarus",)), "401 D")  # type: ignore[misc]
        for name in ("Remote-User", "X-Remote-User", "X-Forwarded-User", "REMOTE-USER")
    ],
    ("49 method override", lambda server, _: server.post(HOOK, headers=("X-HTTP-Method-Override: GET",)), "401 D"),
    ("50 GET", lambda server, _: server.post(HOOK, method="GET", body=b""), "405 -"),
    ("50 OPTIONS", lambda server, _: server.post(HOOK, method="OPTIONS", body=b""), "405 -"),
    ("50 PUT", lambda server, _: server.post(HOOK, method="PUT"), "405 -"),
    ("53 body missing", lambda server, _: server.post(HOOK, body=b""), "401 D"),
    ("53 body no XML", lambda server, _: server.post(HOOK, body=b"<broken"), "401 D"),
    ("57 second credential", post(user="second", password="another-password"), "200"),
    ("57 after not_after", post(user="old", password="expired-password"), "401 D"),
    ("58 password with colon and quote", post(user='u"x', password='colon:and"quote'), "200"),
    ("58 password of 1000 characters", post(user="long", password="x" * 1000), "200"),
    ("HA1 instead of the secret, MD5", post(user="hashed"), "200"),
    ("HA1 instead of the secret, SHA-256", post(user="hashed", algorithm="SHA-256"), "200"),
    ("the HA1 is no password", post(user="hashed", password=Client(user="hashed").ha1()), "401 D"),
]
# fmt: on


def _at(server: Served, endpoint: str, uri: str = "", to: str = "", **options: object) -> Answer:
    """The same at another endpoint, whose realm is its name."""
    target = f"/callbacks/{endpoint}"
    return post(uri or target, to=to or target, **options)(server, challenged(server, target, realm=endpoint))


@pytest.mark.parametrize(("send", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_row(server: Served, client: Client, send: Send, expected: str) -> None:
    assert verdict(send(server, client)) == expected


# --- rows of more than one request ----------------------------------------------------------------------------------


def test_3_any_count_that_was_not_used_before(server: Served, client: Client) -> None:
    for count in (1, 2, 5, 4):
        assert verdict(server.post(HOOK, client.header(HOOK, nc=f"{count:08x}"))) == "200"


def test_5_the_same_request_again_and_the_same_count_again(server: Served, client: Client) -> None:
    header = client.header(HOOK, nc="0000000a")
    assert verdict(server.post(HOOK, header)) == "200"
    assert verdict(server.post(HOOK, header)) == "401 D+S"
    assert verdict(server.post(HOOK, client.header(HOOK, nc="0000000a"))) == "401 D+S"
    assert verdict(server.post(HOOK, client.header(HOOK, nc="0000000A"))) == "401 D+S"


def test_6_of_eight_at_once_exactly_one_gets_in_forty_times(server: Served) -> None:
    with ThreadPoolExecutor(8) as threads:
        for _ in range(40):
            header = challenged(server).header(HOOK)
            together = threading.Barrier(8)

            def send(_: int, header: str = header, together: threading.Barrier = together) -> str:
                with server.connect() as sock:
                    together.wait(60)
                    return verdict(server.post(HOOK, header, sock=sock))

            assert sorted(threads.map(send, range(8))) == ["200"] + ["401 D+S"] * 7


def test_6_and_7_another_machine_with_the_same_store_and_key(server: Served, client: Client) -> None:
    store = re.search(r'\[store\]\nurl = "(.*)"', (server.folder / "faxhook.toml").read_text())
    assert store
    with served(server.folder / "second", CONFIGURATION, store[1], workers=1) as second:
        header = client.header(HOOK)
        assert verdict(second.post(HOOK, header)) == "200"
        assert verdict(server.post(HOOK, header)) == "401 D+S"
        assert verdict(server.post(HOOK, client.header(HOOK))) == "200"


def test_7_after_a_restart_with_the_same_key(tmp_path: object, server: Served, client: Client) -> None:
    """The second machine above has never seen the nonce either; here the store is new as well."""
    with served(server.folder / "restarted", CONFIGURATION, workers=1) as again:
        assert verdict(again.post(HOOK, client.header(HOOK))) == "200"


def test_50_head_is_answered_without_credentials(server: Served) -> None:
    with server.connect() as sock:
        sock.sendall(f"HEAD {HOOK} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("line", [b"\r\n folded", b"\nX-Evil: 1", b"\r x", b"\0"])
def test_45_what_is_no_header_is_refused_by_the_server_and_not_logged(server: Served, line: bytes) -> None:
    head = f"POST {HOOK} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nAuthorization: Digest mark-{line.hex()}".encode()
    answer = server.ask(head + line + b"\r\n\r\n")
    assert answer.status in (400, 401)  # a bare line feed ends a line: then the header is just a bad one
    assert f"mark-{line.hex()}" not in server.log


@pytest.mark.parametrize("size", [0, 8, 150_000, 3_000_000, 20_000_000])
def test_1_and_52_the_body_is_read_before_the_challenge(server: Served, size: int) -> None:
    answer = server.post(HOOK, body=b"x" * size)
    assert verdict(answer) == "401 D"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [b"x" * 65536] * (size // 65536)) + b"0\r\n\r\n"
    head = f"POST {HOOK} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    assert verdict(server.ask(head, chunks)) == "401 D"


def test_52_over_max_body(server: Served) -> None:
    assert verdict(server.post(HOOK, body=b"x" * (24 * 1024 * 1024 + 1))) == "413 -"


def test_51_expect_continue(server: Served) -> None:
    assert verdict(server.post(HOOK, headers=("Expect: 100-continue",))) == "401 D"


def test_55_each_challenge_has_a_nonce_of_its_own_and_sets_no_cookie(server: Served) -> None:
    answers = [server.post(HOOK) for _ in range(5)]
    assert len({nonce_of(answer) for answer in answers}) == 5
    assert not any(re.search("(?i)^(set-cookie|vary):", answer.head, re.MULTILINE) for answer in answers)


def test_59_the_retry_comes_on_the_same_connection(server: Served) -> None:
    with server.connect() as sock:
        client = Client(nonce=nonce_of(server.post(HOOK, sock=sock)))
        assert verdict(server.post(HOOK, client.header(HOOK), sock=sock)) == "200"


def test_60_two_on_one_nonce_out_of_order(server: Served, client: Client) -> None:
    first, second = client.header(HOOK, nc="00000001"), client.header(HOOK, nc="00000002")
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda header: verdict(server.post(HOOK, header)), (second, first))) == ["200", "200"]


@pytest.mark.campaign
def test_62_one_nonce_a_thousand_times(server: Served, client: Client) -> None:
    with server.connect() as sock:
        found = {verdict(server.post(HOOK, client.header(HOOK), sock=sock)) for _ in range(1000)}
    assert found == {"200"}


def test_15_a_wrong_name_and_a_wrong_password_are_told_alike(server: Served) -> None:
    bodies = {post(**wrong)(server, challenged(server)).body for wrong in ({"user": "nobody"}, {"password": "wrong"})}  # type: ignore[arg-type]
    assert len(bodies) == 1


def test_54_without_the_replay_store_nobody_gets_in_and_it_is_our_trouble(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("away")
    with served(folder, CONFIGURATION, workers=1) as server:
        (folder / "faxhook.db.nonces").mkdir()
        answer = server.post(HOOK, challenged(server).header(HOOK))
        assert verdict(answer) == "503 -"
        assert answer.header("Retry-After")
        (folder / "faxhook.db.nonces").rmdir()
        assert verdict(server.post(HOOK, challenged(server).header(HOOK))) == "200"


@pytest.mark.campaign
def test_56_ten_thousand_strangers_leave_nothing(server: Served) -> None:
    def rows() -> int:
        path = server.folder / "faxhook.db.nonces"
        text = (server.folder / "faxhook.toml").read_text()
        if "postgresql" in text:
            url = re.search(r'url = "postgresql\+psycopg(.*)"', text)
            assert url
            with psycopg.connect(f"postgresql{url[1]}") as connection:
                found = connection.execute(
                    "SELECT (SELECT count(*) FROM faxhook.nonces) + (SELECT count(*) FROM faxhook.receipts)"
                )
                return int(found.fetchone()[0])  # type: ignore[index]
        if not path.exists():
            return 0
        with closing(sqlite3.connect(path)) as connection:
            return int(connection.execute("SELECT count(*) FROM nonces").fetchone()[0])

    def memory() -> int:
        """Resident pages of the workers."""
        master = next(iter(_children(server.process.pid)))
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in _children(master))

    def strangers(count: int) -> None:
        with server.connect() as sock:
            for _ in range(count):
                assert server.post(HOOK, body=b"", sock=sock).status == 401

    strangers(500)
    before_rows, before = rows(), memory()
    each = 500 if "postgresql" in (server.folder / "faxhook.toml").read_text() else 2500
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(strangers, [each] * 4))
    assert rows() == before_rows
    assert memory() - before < 2000  # pages: 8 MB, for two workers


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_118_no_secret_is_in_the_log(server: Served, client: Client) -> None:
    server.post(HOOK, client.header(HOOK))
    time.sleep(0.2)
    secrets = ("example-password", "another-password", "größe", *KEYS, client.nonce, Client().ha1(), "99999TE")
    assert not [secret for secret in secrets if secret in server.log]
    assert XML[:40].decode() not in server.log
