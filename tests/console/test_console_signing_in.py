"""Who gets into the console, who does not, and for how long."""

import base64
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from desk import PROXY, Browser, audited, console, sign_in, text
from house import House, house

from receiver.auth import credentials
from receiver.auth.credentials import Credentials
from receiver.settings import Console, ConsoleUser
from receiver.web.console import sessions
from receiver.web.console.persons import Attempts, Passwords

NAVIGATED = {"Accept": "text/html"}
PROXIES = 'trusted_proxies = ["127.0.0.1/32"]'


def test_there_is_none_unless_it_is_enabled(tmp_path: Path, sqlite_url: str) -> None:
    with house(tmp_path, sqlite_url) as at:
        for path in ("/console/", "/console/faxes", "/console/sign-in", "/console/static/console.css"):
            assert at.ask("GET", path).status == 404


def test_a_password_opens_it_and_signing_out_closes_it(desk: House) -> None:
    browser = Browser(desk)
    page = browser.get("/console/faxes?outcome=failed")
    assert "Password" in text(page)
    reply = browser.submit("/console/sign-in?next=/console/faxes?outcome=failed", user="vera", password="vera-password")
    assert "vera (viewer)" in text(reply)
    assert "outcome: failed" in text(reply), "it goes on where it was asked for"
    assert browser.post("/console/sign-out", {"token": browser.token()}).status == 303
    assert "Password" in text(browser.get("/console/faxes"))


@pytest.mark.parametrize("wrong", [("vera", "otto-password"), ("nobody", "vera-password"), ("", ""), ("vera\0", "x")])
def test_a_wrong_password_does_not(desk: House, wrong: tuple[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    browser = Browser(desk)
    reply = browser.post("/console/sign-in", {"user": wrong[0], "password": wrong[1]})
    assert reply.status == 401
    assert "wrong" in text(reply)
    assert not browser.cookie
    logged = capfd.readouterr().err
    assert "console_sign_in_refused" in logged
    assert not wrong[0] or wrong[0] not in logged


def test_an_address_with_many_wrong_passwords_waits(desk: House) -> None:
    for _ in range(10):
        assert Browser(desk).post("/console/sign-in", {"user": "vera", "password": "x"}).status == 401
    reply = Browser(desk).post("/console/sign-in", {"user": "vera", "password": "vera-password"})
    assert (reply.status, reply.headers["Retry-After"]) == (429, "60")


def test_wrong_passwords_are_forgotten_after_a_minute() -> None:
    now = [0.0]
    attempts = Attempts(lambda: now[0])
    for client in ("a", None):
        for _ in range(10):
            assert attempts.begin(client)
        assert not attempts.begin(client)
    for _ in range(20):
        assert attempts.begin("b")
        attempts.right("b")
    now[0] = 61.0
    assert attempts.begin("a")
    for number in range(5000):
        attempts.begin(str(number))
    assert len(attempts._wrong) == 1000


def test_whoever_has_one_ipv6_address_has_no_more_attempts_with_others_of_its_network() -> None:
    attempts = Attempts()
    assert sum(attempts.begin(f"2001:db8::{number:x}") for number in range(50)) == 10
    assert attempts.begin("2001:db8:0:1::1")


def test_a_sign_in_holds_up_no_callback_and_few_are_checked_at_once(
    desk: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the lock of the callbacks' slow hashes nor more than two threads."""
    begun, go_on = threading.Semaphore(0), threading.Event()

    def match(_self: Credentials, _user: str, _password: str) -> bool:
        begun.release()
        go_on.wait(60)
        return False

    monkeypatch.setattr(Credentials, "match", match)
    with ThreadPoolExecutor(2) as threads:
        wrong = {"user": "vera", "password": "x"}
        waiting = [threads.submit(Browser(desk).post, "/console/sign-in", wrong) for _ in range(2)]
        for _ in waiting:
            assert begun.acquire(timeout=60)
        assert Browser(desk).post("/console/sign-in", wrong).status == 503
        go_on.set()
        assert [one.result().status for one in waiting] == [401, 401]
    mine = Passwords(Console("basic", (ConsoleUser("vera", "x", frozenset()),), {}, "", ""), b"key")._credentials
    assert mine._slow_checks is not credentials._OF_THIS_PROCESS


def test_the_cookie_helps_nobody_to_guess_the_password(desk: House) -> None:
    value = sign_in(desk, "vera").cookie.partition("=")[2]
    payload = value.lstrip(".").partition(".")[0]
    told = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    told = zlib.decompress(told) if value.startswith(".") else told
    assert b"vera" in told
    for guess in ("vera-password", "vera\0vera-password"):
        assert sha256(guess.encode()).hexdigest().encode() not in told


def test_the_cookie_is_for_this_host_alone_and_what_was_changed_in_it_is_none(desk: House) -> None:
    reply = Browser(desk).post("/console/sign-in", {"user": "vera", "password": "vera-password"})
    cookie = reply.headers["Set-Cookie"]
    assert cookie.startswith("__Host-faxhook=")
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    name, _, value = cookie.partition(";")[0].partition("=")
    for changed in (value[:-1], value[:-2] + "AA", value.swapcase(), "", "x" * 5000):
        assert Browser(desk, f"{name}={changed}")._ask("GET", "/console/faxes", None).status == 303


def test_after_a_quarter_of_an_hour_without_a_page_it_is_over(desk: House, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = sign_in(desk, "vera")
    real, later = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + later[0])
    for _ in range(3):
        later[0] += sessions.IDLE_SECONDS - 60
        assert "vera" in browser.words("/console/faxes"), "each page begins a new quarter"
    later[0] += sessions.IDLE_SECONDS + 2
    assert "Password" in browser.words("/console/faxes")
    assert browser.get("/console/faxes", Accept="application/json").status == 401
    later[0] = 0
    browser = sign_in(desk, "vera")
    while later[0] < sessions.LONGEST_SECONDS:
        assert browser._ask("GET", "/console/faxes", None).status == 200
        later[0] += sessions.IDLE_SECONDS - 60
    assert browser._ask("GET", "/console/faxes", None).status == 303, "however often a page was asked for"


def test_another_password_ends_the_sessions_of_the_one_before(tmp_path: Path, sqlite_url: str) -> None:
    with console(tmp_path, sqlite_url, before=f'secret_key = "{"k" * 40}"') as at:
        cookie = sign_in(at, "vera").cookie
    changed = at.config.read_text().replace("vera-password", "another-password").replace("{", "{{").replace("}", "}}")
    with house(tmp_path, sqlite_url, changed) as again:
        assert Browser(again, cookie)._ask("GET", "/console/faxes", None).status == 303
        assert Browser(again, sign_in(again, "otto").cookie)._ask("GET", "/console/faxes", None).status == 200


@pytest.mark.parametrize("path", ["https://evil.example/", "//evil.example/", "/\\evil.example", "/console/\\x", "x"])
def test_signing_in_leads_to_no_other_site(desk: House, path: str) -> None:
    reply = Browser(desk).post(f"/console/sign-in?next={path}", {"user": "vera", "password": "vera-password"})
    assert reply.headers["Location"] == "/console/"


def test_a_proxy_says_who_it_is_and_only_a_trusted_one(tmp_path: Path, sqlite_url: str) -> None:
    said = {"X_Forwarded_User": "Anna Żak".encode().decode("latin-1"), "X_Forwarded_Groups": "staff, fax-operators"}
    with console(tmp_path / "a", sqlite_url, PROXY, before=PROXIES) as at:
        assert "Anna Żak (operator)" in Browser(at, headers=said).words("/console/faxes")
        assert Browser(at).get("/console/faxes").status == 401
        nobody = said | {"X_Forwarded_Groups": "staff"}
        assert Browser(at, headers=nobody).get("/console/faxes").status == 403
        assert Browser(at, headers={"X_Forwarded_User": "x"}).get("/console/faxes").status == 403
        assert at.ask("GET", "/console/sign-in", **said).status == 404
    with console(tmp_path / "b", sqlite_url, PROXY, before='trusted_proxies = ["10.0.0.0/8"]') as at:
        assert Browser(at, headers=said).get("/console/faxes").status == 401
        forwarded = said | {"X_Forwarded_For": "10.0.0.1"}
        assert Browser(at, headers=forwarded).get("/console/faxes").status == 401


def test_the_audit_says_who_has_signed_in(desk: House) -> None:
    sign_in(desk, "otto")
    assert audited(desk) == []
    table = desk.runtime.store.tables.audit
    with desk.runtime.store.reading() as connection:
        assert [(row.actor, row.action) for row in connection.execute(table.select())] == [("otto", "console.sign-in")]
