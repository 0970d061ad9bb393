"""The HTTP client of the reports: what it reads, what it refuses, and that it shows nothing."""

import http.server
import threading
from contextlib import contextmanager
from decimal import Decimal

import pytest

from receiver.errors import ReportTrouble
from receiver.providers import Client

SECRET = "example-password"


@contextmanager
def answering(status=200, body=b"", **headers):
    """Its address, and the requests that came."""
    came = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            came.append((self.path, self.rfile.read(int(self.headers["Content-Length"] or 0))))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", came
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def waits():
    return []


@pytest.fixture
def client(waits):
    made = Client("Example", 10, lambda seconds: waits.append(seconds))
    yield made
    made.close()


def test_json_in_another_encoding_and_with_exact_numbers_is_read(client):
    with answering(body='[{"To": "Café", "credit": 0.10}]'.encode("latin-1")) as (url, _):
        assert client.post(url).json("Example") == [{"To": "Café", "credit": Decimal("0.10")}]


@pytest.mark.parametrize("body", [b"<html>", b"[1e99999999999999999999]", b"[" * 100_000, b"\xff\xfe{", b'{"a'])
def test_json_that_is_none_is_trouble(client, body):
    with answering(body=body) as (url, _):
        reply = client.post(url)
    with pytest.raises(ReportTrouble) as raised:
        reply.json("Example")
    assert raised.value.kind == "unreadable"


@pytest.mark.parametrize("body", [b"", b" \r\n", b"\0", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n", b"null", b"null\0"])
def test_an_answer_that_is_empty_says_nothing(client, body):
    with answering(body=body) as (url, _):
        assert client.post(url).json("Example") is None


@pytest.mark.parametrize(
    "after", ["2", "0", "Thu, 01 Jan 1970 00:00:00 GMT", "nonsense", "Mon, 1 Jan 99999 00:00:00 GMT"]
)
def test_what_is_asked_to_come_later_does_so_a_few_times(client, waits, after):
    with answering(503, Retry_After=after) as (url, came), pytest.raises(ReportTrouble) as raised:
        client.post(url, data={"password": SECRET})
    assert (raised.value.kind, len(came), len(waits), client.requests) == ("failed", 3, 2, 3)
    assert waits[0] >= (2 if after == "2" else 0)


def test_nobody_waits_for_an_hour(client, waits):
    with answering(429, Retry_After="3600") as (url, came), pytest.raises(ReportTrouble, match="fewer requests"):
        client.post(url)
    assert (len(came), waits) == (1, [])


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_credentials_follow_no_redirect(client, status):
    with answering() as (elsewhere, there), answering(status, Location=elsewhere) as (url, _):
        with pytest.raises(ReportTrouble) as answer:
            client.post(url, data={"password": SECRET})
        assert "check the url" in str(answer.value)
    assert there == []


@pytest.mark.parametrize(
    "url", ["https://host.example/\x7f", "https://host.example/\n", "https://xn--a/", "http://127.0.0.1:1/"]
)
def test_an_address_that_is_none_is_trouble_without_a_word_of_it(client, url):
    with pytest.raises(ReportTrouble) as raised:
        client.post(url, data={"password": SECRET}, auth=("user", SECRET))
    assert SECRET not in f"{raised.value!r}{raised.value.__cause__!r}"
    assert "host.example" not in str(raised.value)


def test_a_password_no_header_can_hold_is_named_as_such(client):
    with answering() as (url, came), pytest.raises(ReportTrouble, match="stray characters"):
        client.post(url, headers={"efax-password": f"{SECRET}\n"})
    assert came == []


def test_this_machine_is_asked_without_a_proxy(monkeypatch, waits):
    with answering() as (proxy, there), answering(body=b"{}") as (url, came):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.delenv("NO_PROXY", raising=False)
        one = Client("Example", 10, lambda _: False)
        one.post(url, data={"password": SECRET})
        one.close()
    assert (len(came), there) == (1, [])
