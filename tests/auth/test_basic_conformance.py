"""HTTP Basic over real HTTP, on two workers: each case by the number of its row in the list of conformance."""

import json
import subprocess
import threading
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest
from asked import Served, Told, basic, configured, fax, faxage, serving
from stock import FAXHOOK, environment
from werkzeug.security import generate_password_hash

CHALLENGE = 'Basic realm="fax room", charset="UTF-8"'
PASSWORD = "größe: 1"
HASHED = "sha256:" + sha256(b"hashed-word").hexdigest()


def credentials(*entries: str) -> str:
    return f'{{ mode = "basic", realm = "fax room", credentials = [{", ".join(entries)}] }}'


def entry(user: str, password: str, more: str = "") -> str:
    return f'{{ user = "{user}", password = "{password}"{more} }}'


ENDPOINTS = (
    faxage("plain", credentials(entry("me", PASSWORD)))
    + faxage("hashed", credentials(entry("me", HASHED)))
    + faxage("slow", credentials(entry("me", generate_password_hash("slow-word", "scrypt"))))
    + faxage(
        "rotating",
        credentials(
            entry("me", "expired-word", ", not_after = 2026-01-01"),
            entry("me", "old-word", ", not_after = 2999-01-01"),
            entry("me", "new-word", ", not_before = 2026-01-01"),
            entry("me", "next-word", ", not_before = 2999-01-01"),
        ),
    )
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("basic")
    with serving(folder, f"sqlite:///{folder}/faxhook.db", ENDPOINTS) as started:
        yield started


def is_refused(told: Told, status: int = 401) -> None:
    """As every refusal is, with the challenge if it is a 401."""
    assert told.status == status, told.body
    assert told.challenges == ([CHALLENGE] if status == 401 else [])
    assert told.all("Content-Type") == ["application/problem+json"]
    assert told.all("Cache-Control") == ["no-store"]
    assert json.loads(told.body)["status"] == status
    assert told.stays
    assert not told.all("Set-Cookie")


RIGHT = f"me:{PASSWORD}"
VALUE = basic(RIGHT)[1]
BARE = VALUE.removeprefix("Basic ")


def authorization(value: str) -> tuple[str, str]:
    return "Authorization", value


ACCEPTED = [
    ("64 right", "plain", [basic(RIGHT)]),
    ("64 basic", "plain", [authorization(f"basic {BARE}")]),
    ("64 BASIC", "plain", [authorization(f"BASIC {BARE}")]),
    ("64 two spaces", "plain", [authorization(f"Basic  {BARE}")]),
    ("66 colon in password", "plain", [basic("me:größe: 1")]),
    ("69 UTF-8", "plain", [basic(RIGHT, "utf-8")]),
    ("69 Latin-1", "plain", [basic(RIGHT, "latin-1")]),
    ("73 old", "rotating", [basic("me:old-word")]),
    ("73 new", "rotating", [basic("me:new-word")]),
    ("64 stored as sha256", "hashed", [basic("me:hashed-word")]),
    ("64 stored as scrypt", "slow", [basic("me:slow-word")]),
]
REFUSED = [
    ("63 none", "plain", [], 401),
    ("63 other scheme", "plain", [authorization("Bearer abc")], 401),
    ("63 Digest", "plain", [authorization('Digest username="me", realm="fax room", nonce="1"')], 401),
    ("63 Basic alone", "plain", [authorization("Basic")], 400),
    ("65 wrong password", "plain", [basic("me:größe: 2")], 401),
    ("65 wrong user", "plain", [basic("you:größe: 1")], 401),
    ("65 both empty", "plain", [authorization("Basic Og==")], 401),
    ("65 empty password", "plain", [basic("me:")], 401),
    ("66 no colon", "plain", [basic("me")], 400),
    ("67 not base64", "plain", [authorization("Basic me:secret")], 400),
    ("67 urlsafe", "plain", [authorization("Basic bWU6Pz8_Pz8-")], 400),
    ("67 no padding", "hashed", [authorization(basic("me:hashed-word")[1].rstrip("="))], 400),
    ("67 inner space", "plain", [authorization(f"Basic {BARE[:4]} {BARE[4:]}")], 400),
    ("67 trailing Digest", "plain", [authorization(f"{VALUE}, Digest x=1")], 400),
    *((f"68 control {ord(one)}", "plain", [basic(f"me:größe: 1{one}")], 400) for one in "\0\r\n\x7f"),
    ("68 control in user", "plain", [basic("m\0e:größe: 1")], 400),
    ("69 NFD", "plain", [basic(unicodedata.normalize("NFD", RIGHT))], 401),
    ("70 bytes of no charset", "plain", [basic(b"me:\xff\xfe\x80")], 401),
    ("71 right, wrong", "plain", [basic(RIGHT), basic("me:wrong")], 400),
    ("71 wrong, right", "plain", [basic("me:wrong"), basic(RIGHT)], 400),
    ("71 right twice", "plain", [basic(RIGHT), basic(RIGHT)], 400),
    ("71 two spellings", "plain", [basic(RIGHT), ("AUTHORIZATION", VALUE)], 400),
    ("72 user in other case", "plain", [basic("Me:größe: 1")], 401),
    ("72 trailing space", "plain", [basic("me:größe: 1 ")], 401),
    ("72 trailing newline", "plain", [basic("me:größe: 1\n")], 400),
    ("73 expired", "rotating", [basic("me:expired-word")], 401),
    ("73 not yet", "rotating", [basic("me:next-word")], 401),
    ("74 the stored hash", "hashed", [basic(f"me:{HASHED}")], 401),
    ("74 its digits", "hashed", [basic(f"me:{HASHED.removeprefix('sha256:')}")], 401),
    ("a user named by headers", "plain", [("Remote-User", "me"), ("X-Forwarded-User", "me")], 401),
]


def of(rows):
    return [pytest.param(*row[1:], id=row[0]) for row in rows]


@pytest.mark.parametrize(("endpoint", "headers"), of(ACCEPTED))
def test_rows_that_get_in(server: Served, endpoint, headers):
    for _ in range(3):  # on whichever worker
        told = server.post(f"/callbacks/{endpoint}", *headers)
        assert (told.status, told.stays) == (200, True), told.body
        assert json.loads(told.body)["status"] == "accepted"


@pytest.mark.parametrize(("endpoint", "headers", "status"), of(REFUSED))
def test_rows_that_do_not(server: Served, endpoint, headers, status):
    is_refused(server.post(f"/callbacks/{endpoint}", *headers), status)


def test_row_65_wrong_user_and_wrong_password_are_not_told_apart(server: Served):
    def asked(text):
        began = time.perf_counter()
        told = server.post("/callbacks/slow", basic(text))
        is_refused(told)
        return time.perf_counter() - began, told.body

    known = [asked("me:wrong") for _ in range(3)]
    unknown = [asked("nobody:wrong") for _ in range(3)]
    assert {body for _, body in (*known, *unknown)} == {known[0][1]}
    # The slow hash is computed for a user that nobody knows as well.
    assert min(unknown)[0] > min(known)[0] / 2


def test_row_66_a_colon_in_a_configured_user_is_refused_at_start(tmp_path):
    config = tmp_path / "faxhook.toml"
    config.write_text(configured(8000, f"sqlite:///{tmp_path}/x.db", faxage("x", credentials(entry("m:e", "word")))))
    for command in ("check", "serve"):
        done = subprocess.run(
            [*FAXHOOK, command, "--config", str(config)], env=environment(), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 2
        assert "endpoints.x.auth.credentials[0].user: expected no colon" in done.stderr


def test_row_75_after_a_reload_the_old_password_is_wrong(tmp_path):
    def endpoints(password):
        return faxage("slow", credentials(entry("me", generate_password_hash(password, "scrypt:1024:8:1"))))

    def asked(password):
        return server.post("/callbacks/slow", basic(f"me:{password}")).status

    store = f"sqlite:///{tmp_path}/faxhook.db"
    with serving(tmp_path, store, endpoints("before")) as server:
        assert {asked("before") for _ in range(10)} == {200}  # and both workers remember it
        server.reload(configured(server.port, store, endpoints("after")))
        deadline = time.monotonic() + 120
        while any(asked("after") != 200 for _ in range(10)):
            assert time.monotonic() < deadline, server.log.read_text()[-2000:]
            time.sleep(0.1)
        assert {asked("before") for _ in range(20)} == {401}
        assert {asked("after") for _ in range(20)} == {200}


def test_a_reload_that_no_worker_could_begin_with_changes_nothing(tmp_path):
    good = faxage("plain", credentials(entry("me", "good-word")))
    store = f"sqlite:///{tmp_path}/faxhook.db"
    with serving(tmp_path, store, good) as server:
        for refused, bad in enumerate(
            (
                good.replace('provider = "faxage"', 'provider = "faxagge"'),
                good.replace("auth =", f'client_certificates = ["sha256:{64 * "a"}"]\nauth ='),
            ),
            1,
        ):
            server.reload(configured(server.port, store, bad))
            deadline = time.monotonic() + 120
            while server.log.read_text().count('"reload_refused"') < refused:
                assert time.monotonic() < deadline, server.log.read_text()[-2000:]
                time.sleep(0.05)
            assert {server.post("/callbacks/plain", basic("me:good-word")).status for _ in range(10)} == {200}
        assert server.process.poll() is None


def test_row_76_a_storm_of_wrong_passwords_does_not_keep_the_right_one_out(server: Served):
    right, wrong = basic("me:slow-word"), [basic(f"me:wrong-{number}") for number in range(100)]
    for _ in range(10):
        assert server.post("/callbacks/slow", right).status == 200
    answers: list[Told] = []
    over = threading.Event()

    def storm() -> None:
        with ThreadPoolExecutor(100) as pool:
            answers.extend(pool.map(lambda one: server.post("/callbacks/slow", one), wrong))
        over.set()

    thread = threading.Thread(target=storm)
    thread.start()
    others = []
    while not over.is_set():
        others.append(server.post("/callbacks/slow", right).status)
    thread.join()
    assert len(answers) == 100
    for told in answers:
        assert told.status in (401, 503)
        assert told.challenges == ([CHALLENGE] if told.status == 401 else [])
        assert bool(told.all("Retry-After")) == (told.status == 503)
    assert 401 in {told.status for told in answers}
    # A worker that has not seen the right one before may be too busy to look at it, which is no refusal.
    assert 200 in others
    assert set(others) <= {200, 503}
    assert server.post("/callbacks/slow", right).status == 200


@pytest.mark.parametrize("query", ["user=you&pass=wrong", f"user=me&password={PASSWORD[:1]}", "?"])
def test_row_77_a_query_is_not_looked_at(server: Served, query):
    assert server.post(f"/callbacks/plain?{query}", basic(RIGHT)).status == 200
    is_refused(server.post(f"/callbacks/plain?{query}"))


def test_row_77_credentials_in_the_query_are_none(server: Served):
    is_refused(server.post("/callbacks/hashed?user=me&pass=hashed-word&password=hashed-word"))


def test_row_78_a_header_of_9_kb_is_too_large(server: Served):
    told = server.post("/callbacks/plain", basic("me:" + "x" * 6800))
    assert (told.status, told.challenges) == (431, [])
    is_refused(server.post("/callbacks/plain", basic("me:" + "x" * 3000)))


@pytest.mark.service("postgresql")
def test_rows_64_65_and_73_on_postgresql(tmp_path, postgresql_url):
    with serving(tmp_path, postgresql_url, ENDPOINTS) as server:
        body = fax()
        first = server.post("/callbacks/plain", basic(RIGHT), body=body)
        again = server.post("/callbacks/rotating", basic("me:old-word"), body=body)
        assert [json.loads(told.body)["status"] for told in (first, again)] == ["accepted", "duplicate"]
        is_refused(server.post("/callbacks/plain", basic("me:wrong")))
        is_refused(server.post("/callbacks/plain"))
        is_refused(server.post("/callbacks/rotating", basic("me:expired-word")))
