"""What keeps other sites, and roles that may not, out of the console."""

from pathlib import Path

import pytest
from desk import Browser, console, sign_in
from house import FORM, House

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def test_every_answer_tells_browsers_what_they_may(desk: House) -> None:
    browser = sign_in(desk, "vera")
    answers = [browser._ask("GET", path, None) for path in ("/console/", "/console/faxes", "/console/faxes/x")]
    answers += [Browser(desk)._ask("GET", path, None) for path in ("/console/faxes", "/console/sign-in", "/console/y")]
    answers.append(browser.post("/console/sign-out", {"token": "x"}))
    assert {answer.status for answer in answers} == {200, 303, 403, 404}
    for answer in answers:
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert b"<script" not in answer.body
        assert b"style=" not in answer.body


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": ""},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "javascript:alert(1)"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
    ],
)
def test_a_form_of_another_site_is_refused(desk: House, headers: dict[str, str]) -> None:
    browser = sign_in(desk, "vera")
    token = browser.token()
    assert browser.post("/console/sign-out", {"token": token}, **headers).status == 403
    user = {"user": "otto", "password": "otto-password"}
    assert Browser(desk).post("/console/sign-in", user, **headers).status == 403
    assert browser.get("/console/faxes").status == 200


def test_a_form_of_another_session_is_refused(desk: House) -> None:
    browser, other = sign_in(desk, "vera"), sign_in(desk, "vera")
    assert browser.post("/console/sign-out", {"token": other.token()}).status == 403
    assert browser.post("/console/sign-out", {}).status == 403
    assert browser.post("/console/sign-out", {"token": browser.token()}).status == 303


def test_behind_a_proxy_the_form_is_from_the_public_url(tmp_path: Path, sqlite_url: str) -> None:
    with console(tmp_path, sqlite_url, before='public_url = "https://hooks.example.com"') as at:
        user = {"user": "vera", "password": "vera-password"}
        for origin, host, status in [
            ("https://hooks.example.com", "hooks.example.com", 303),
            ("https://hooks.example.com", "127.0.0.1", 303),
            ("https://hooks.example.com:443", "hooks.example.com", 303),
            ("http://hooks.example.com", "hooks.example.com", 403),
            ("https://evil.example", "hooks.example.com", 403),
            ("http://localhost:1234", "localhost:1234", 303),
        ]:
            assert Browser(at).post("/console/sign-in", user, Origin=origin, Host=host).status == status, origin


def test_what_no_form_of_ours_sends_is_refused(desk: House) -> None:
    browser = sign_in(desk, "vera")
    for body, kind in [
        (b'{"token": "x"}', "application/json"),
        (b"token=\xff", FORM),
        (b"token=%ff", FORM),
        (b"&".join([b"a=1"] * 100), FORM),
    ]:
        given = {"Origin": browser.origin, "Content_Type": kind}
        assert browser._ask("POST", "/console/sign-out", body, **given).status == 400, body
    assert browser._ask("POST", "/console/sign-out", b"x" * 20_000, Origin=browser.origin).status == 413
    for method in ("PUT", "DELETE", "POST", "OPTIONS"):
        assert browser._ask(method, "/console/faxes", None).status == 405
    assert browser._ask("HEAD", "/console/faxes", None).status == 200
