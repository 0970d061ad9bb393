"""Requests that leave no receipt: an operator learns of each kind, and a stranger cannot fill the log."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from house import CONFIGURATION, FORM, TOKEN, House, house

from receiver.errors import NotFound
from receiver.refusals import Refusals
from receiver.store import now_ms, refusals
from receiver.web.app import create_app

BODY = b"OutTransID=1&AccountID=1&LastStatus=0"
PROXIED = CONFIGURATION.replace("[server]", '[server]\nmax_body = "1KiB"\ntrusted_proxies = ["127.0.0.1/32"]')


@pytest.fixture
def served(tmp_path: Path, store_url: str) -> Iterator[House]:
    with house(tmp_path, store_url, PROXIED) as made:
        yield made


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was logged since the last look, without the time."""
    found = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    return [{key: value for key, value in line.items() if key != "timestamp"} for line in found]


def counted(made: House) -> dict[tuple[str, str], int]:
    made.runtime.refusals.tell()
    store = made.runtime.store
    with store.reading() as connection:
        return dict(refusals.since(connection, store.tables, now_ms() - 3600_000))


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "endpoint", "reason"),
    [
        ("POST", "/callbacks/openfax/wrong-token", BODY, 404, "openfax", "wrong_token"),
        ("POST", "/callbacks/openfax", BODY, 404, "openfax", "wrong_token"),
        ("POST", f"/callbacks/openfax/{TOKEN}/", BODY, 404, "openfax", "trailing_slash"),
        ("POST", f"/callbacks/faxline/{TOKEN}", BODY, 404, "-", "no_endpoint"),
        ("POST", f"/callback/openfax/{TOKEN}", BODY, 404, "-", "no_endpoint"),
        ("HEAD", "/callbacks/openfax/wrong-token", None, 404, "openfax", "wrong_token"),
        ("PUT", f"/callbacks/openfax/{TOKEN}", BODY, 405, "openfax", "method_not_allowed"),
        ("GET", f"/callbacks/retarus/{TOKEN}", None, 405, "retarus", "method_not_allowed"),
        ("POST", f"/callbacks/openfax/{TOKEN}", b"x" * 2000, 413, "openfax", "too_large"),
        ("POST", f"/callbacks/efax/{TOKEN}", b"no=xml", 400, "efax", "undecodable"),
        ("POST", f"/callbacks/efax/{TOKEN}", b"xml=<OutboundDisposition UserName='a'/>", 401, "efax", "unauthorized"),
    ],
)
def test_a_refusal_without_a_receipt_is_a_log_line_and_is_counted(
    method: str,
    path: str,
    body: bytes | None,
    status: int,
    endpoint: str,
    reason: str,
    served: House,
    capfd: pytest.CaptureFixture[str],
) -> None:
    lines(capfd)
    reply = served.ask(method, path, body, Content_Type=FORM, X_Forwarded_For="203.0.113.7")
    assert reply.status == status
    assert TOKEN not in reply.body.decode()
    if status == 404 and body is not None:
        assert reply.json["code"] == "not_found"  # which of the reasons is not for the sender
    (line,) = [line for line in lines(capfd) if line["event"] == "callback_refused"]
    assert (line["status"], line["reason"], line["endpoint"]) == (status, reason, endpoint)
    assert (line["client"], line["count"]) == ("203.0.113.7", 1)
    assert counted(served) == {(endpoint, reason): 1}


def test_those_that_follow_are_one_line_with_their_number(served: House, capfd: pytest.CaptureFixture[str]) -> None:
    lines(capfd)
    for number in range(30):
        served.ask("POST", "/callbacks/openfax/wrong-token", BODY, X_Forwarded_For=f"203.0.113.{number}")
        served.ask("POST", "/nowhere", BODY, X_Forwarded_For="not an address")
    assert counted(served) == {("openfax", "wrong_token"): 30, ("-", "no_endpoint"): 30}
    found = [(line["reason"], line["client"], line["count"]) for line in lines(capfd)]
    assert found == [
        ("wrong_token", "203.0.113.0", 1),
        ("no_endpoint", None, 1),
        ("wrong_token", "203.0.113.29", 29),
        ("no_endpoint", None, 29),
    ]


def test_a_challenge_that_digest_clients_begin_with_is_no_news(
    tmp_path: Path, sqlite_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    digest = CONFIGURATION.replace(
        'provider = "retarus"\naccount = "99999TE"\nauth = {{ mode = "none" }}',
        'provider = "retarus"\naccount = "99999TE"\n'
        'auth = {{ mode = "digest", realm = "r", credentials = [{{ user = "u", password = "p" }}] }}',
    )
    with house(tmp_path, sqlite_url, digest) as made:
        lines(capfd)
        assert made.post("retarus", b"{}").status == 401
        assert counted(made) == {}
        assert lines(capfd) == []


def test_what_the_store_does_not_take_is_counted_later(served: House) -> None:
    noted = Refusals(served.runtime.store, seconds=3600)
    refused = NotFound("there is nothing here", reason="no_endpoint")
    noted.note("callback_refused", "-", refused, None)
    file = served.runtime.store.file
    if file is not None:
        hidden = file.path.with_name("hidden")
        served.runtime.store.close()
        file.path.rename(hidden)
        noted.tell()
        hidden.rename(file.path)
    noted.note("callback_refused", "-", refused, None)
    noted.tell()
    assert counted(served) == {("-", "no_endpoint"): 2}


def test_processes_add_to_one_count(served: House) -> None:
    store = served.runtime.store
    names = [(endpoint, reason) for endpoint in "abc" for reason in "xyz"]

    def add(order: int) -> None:
        for _ in range(10):
            with store.writing() as connection:
                refusals.add(connection, store.tables, dict.fromkeys(names[::order], 1), now_ms())

    threads = [threading.Thread(target=add, args=(order,)) for order in (1, -1, 1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted(served) == dict.fromkeys(names, 40)


# --- who is a stranger to the operator's pages -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "CF-Connecting-IP", "True-Client-IP"]
)
def test_through_a_proxy_on_this_machine_nobody_sees_details(served: House, header: str) -> None:
    assert served.ask("GET", "/metrics").status == 200
    through = {header.replace("-", "_"): "for=203.0.113.7" if header == "Forwarded" else "203.0.113.7"}
    assert served.ask("GET", "/metrics", **through).status == 404
    assert served.ask("GET", "/readyz", **through).body == b""


@pytest.mark.parametrize(("peer", "is_local"), [("::ffff:127.0.0.1", True), ("::1", True), ("::ffff:10.0.0.1", False)])
def test_loopback_may_be_written_as_ipv6(served: House, peer: str, is_local: bool) -> None:
    client = create_app(served.runtime).test_client()
    assert client.get("/metrics", environ_base={"REMOTE_ADDR": peer}).status_code == (200 if is_local else 404)
