"""HTTP endpoints: the contract, what each answer means, signatures, and where requests may go."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import standardwebhooks
from certificates import Authority
from contract import Contract, Received, Stand, message, opened, troubled

from receiver.errors import ConfigurationError
from receiver.outgoing.sinks import publisher, webhook
from receiver.settings import Sink

SECRET, OTHER = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3", "whsec_b3RoZXIgc2VjcmV0IG9mIDI0IGJ5dGVzISE="
Answer = int | tuple[int, dict[str, str]]


class Endpoint:
    """A real HTTP server. ``answer``: what it says to a request, by its event id; ``took``: with which it said 2xx."""

    def __init__(self, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.took: list[Received] = []
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.answer: Callable[[str], Answer] = lambda _: 204
        self.at_once = self.most_at_once = 0
        self._mutex = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                endpoint.take(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", port), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, request: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = request.rfile.read(int(headers["content-length"]))
        if len(body) < int(headers["content-length"]):
            return  # its sender was killed
        event_id = headers["webhook-id"]
        with self._mutex:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        answer = self.answer(event_id)
        status, more = answer if isinstance(answer, tuple) else (answer, {})
        with self._mutex:
            self.at_once -= 1
            self.asked.append((request.path, headers, body))
            if 200 <= status < 300:
                self.took.append((event_id, body))
        request.send_response(status)
        for name, value in {"Content-Length": "0", **more}.items():
            request.send_header(name, value)
        request.end_headers()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class HttpStand(Stand):
    name = "webhook"
    cannot = MappingProxyType({"who_is_not_let_in_is_told_so": "a webhook has no login; 401 and 403 are tested below"})

    def __init__(self) -> None:
        self.endpoint = Endpoint()
        super().__init__(self.endpoint.port)

    def sink(self, **changes: Any) -> Sink:
        url = f"http://127.0.0.1:{self.cable.port}/faxes?tenant=7"
        return replace(Sink("contract", url, secrets=(SECRET,), allow_private=True), **changes)

    def received(self) -> list[Received]:
        return list(self.endpoint.took)

    def hurry(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(webhook, "ANSWER_SECONDS", 1.0)

    @contextmanager
    def unroutable(self) -> Iterator[Sink]:
        self.endpoint.answer = lambda _: 404
        yield self.sink()

    @contextmanager
    def with_tls(self, folder: Path) -> Iterator[tuple[Sink, Sink]]:
        authority = Authority(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("localhost"))
        endpoint = Endpoint(context)
        url = f"https://localhost:{endpoint.port}/"
        yield self.sink(url=url, ca_file=authority.file), self.sink(url=url)
        endpoint.close()

    def close(self) -> None:
        super().close()
        self.endpoint.close()


@pytest.fixture
def stand() -> Iterator[HttpStand]:
    made = HttpStand()
    yield made
    made.close()


class TestWebhook(Contract):
    def test_what_is_too_large_is_to_blame_and_the_others_go(  # type: ignore[override]
        self, stand: HttpStand, tmp_path: Path
    ) -> None:
        large, small = message(), message()
        stand.endpoint.answer = lambda event_id: 413 if event_id == large.event_id else 200
        with opened(stand.sink(), tmp_path) as one:
            result = one.publish([large, small])
        assert (result.refused, result.confirmed) == ({large.event_id}, {small.event_id})


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, "redirected"),
        (308, "redirected"),
        (401, "forbidden"),
        (403, "forbidden"),
        (404, "missing"),
        (500, "failing"),
    ],
)
def test_what_is_about_the_endpoint_is_trouble(stand: HttpStand, tmp_path: Path, status: int, kind: str) -> None:
    stand.endpoint.answer = lambda _: (status, {"Location": f"http://127.0.0.1:{stand.endpoint.port}/elsewhere"})
    with opened(stand.sink(), tmp_path) as one:
        assert troubled(one.publish([message() for _ in range(40)])) == kind
    assert len(stand.endpoint.asked) <= 8  # those that were under way when the first one failed
    assert {path for path, *_ in stand.endpoint.asked} == {"/faxes?tenant=7"}


@pytest.mark.parametrize("status", [400, 409, 422, 500, 302])
def test_an_endpoint_that_takes_the_others_is_well(stand: HttpStand, tmp_path: Path, status: int) -> None:
    messages = [message() for _ in range(20)]
    bad = messages[11].event_id
    stand.endpoint.answer = lambda event_id: status if event_id == bad else 200
    with opened(stand.sink(), tmp_path) as one:
        result = one.publish(messages)
    assert (result.returned, result.trouble, len(result.confirmed)) == ({bad}, None, 19)


def test_an_endpoint_that_takes_none_of_many_is_in_trouble(stand: HttpStand, tmp_path: Path) -> None:
    stand.endpoint.answer = lambda _: 400
    with opened(stand.sink(), tmp_path) as one:
        assert troubled(one.publish([message() for _ in range(20)])) == "failing"


def test_an_answer_that_never_ends_counts_by_its_status(stand: HttpStand, tmp_path: Path) -> None:
    """And nothing is sent again for it."""
    stand.endpoint.answer = lambda _: (200, {"Content-Length": "1000000"})
    with opened(stand.sink(), tmp_path) as one:
        sent = [message(), message()]
        assert one.publish(sent).confirmed == {one.event_id for one in sent}


def test_410_stops_it(stand: HttpStand, tmp_path: Path) -> None:
    stand.endpoint.answer = lambda _: 410
    with opened(stand.sink(), tmp_path) as one:
        assert troubled(one.publish([message() for _ in range(30)])) == "gone"
    assert len(stand.endpoint.asked) <= 8


@pytest.mark.parametrize("status", [429, 503])
def test_one_that_asks_for_time_is_given_it(stand: HttpStand, tmp_path: Path, status: int) -> None:
    stand.endpoint.answer = lambda _: (status, {"Retry-After": "120"})
    with opened(stand.sink(), tmp_path) as one:
        result = one.publish([message()])
    assert troubled(result) == "slow"
    assert result.wait_seconds == 120


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [("120", 120, 120), ("0", 0, 0), ("999999999999999", 3600, 3600), ("soon", 0, 0), ("", 0, 0), ("-5", 0, 0)],
)
def test_retry_after_is_believed_for_an_hour(text: str, least: float, most: float) -> None:
    assert least <= webhook.retry_after(text) <= most


def test_retry_after_may_be_a_date() -> None:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 300))
    assert 200 <= webhook.retry_after(date) <= 300


def test_eight_requests_are_under_way_at_once(stand: HttpStand, tmp_path: Path) -> None:
    stand.endpoint.answer = lambda _: (time.sleep(0.1), 200)[1]
    with opened(stand.sink(), tmp_path) as one:
        assert len(one.publish([message() for _ in range(24)]).confirmed) == 24
    assert 2 <= stand.endpoint.most_at_once <= 8


# --- what is sent ---------------------------------------------------------------------------------------------------


def test_a_request_is_signed_with_every_secret_and_has_the_event_s_id(stand: HttpStand, tmp_path: Path) -> None:
    sent = message()
    with opened(stand.sink(secrets=(SECRET, OTHER)), tmp_path) as one:
        one.publish([sent])
        one.publish([sent])
    for _, headers, body in stand.endpoint.asked:
        assert headers["webhook-id"] == sent.event_id
        assert headers["content-type"] == "application/cloudevents+json"
        for secret in (SECRET, OTHER):
            standardwebhooks.Webhook(secret).verify(body, headers)
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook("whsec_d3Jvbmcgc2VjcmV0IG9mIDI0IGJ5dGVzISE=").verify(body, headers)
    assert stand.endpoint.asked[0][2] == stand.endpoint.asked[1][2] == sent.body


# --- where it goes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *((one, False) for one in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "0.0.0.0", "100.64.0.1")),
        *(
            (one, False)
            for one in ("::1", "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::")
        ),
        *((one, True) for one in ("93.184.215.14", "2606:4700::1111", "::ffff:93.184.215.14")),
        *((one, False) for one in ("224.0.0.1", "ff02::1", "255.255.255.255", "168.63.129.16", "fec0::1")),
        *((one, False) for one in ("64:ff9b:1::a00:1", "::10.0.0.1", "::ffff:0:10.0.0.1")),
    ],
)
def test_an_address_is_public_or_not(address: str, public: bool) -> None:
    assert webhook.is_public(address) is public


def test_nothing_goes_to_a_private_address_unless_that_is_allowed(stand: HttpStand, tmp_path: Path) -> None:
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
        sink = stand.sink(url=f"https://{host}:{stand.cable.port}/", allow_private=False)
        with opened(sink, tmp_path) as one:
            assert troubled(one.publish([message()])) == "address"
    assert stand.endpoint.asked == []


def test_nothing_goes_to_a_public_address_without_tls(stand: HttpStand, tmp_path: Path) -> None:
    with opened(stand.sink(url="http://93.184.215.14/"), tmp_path) as one:
        assert troubled(one.publish([message()])) == "address"


def test_where_one_address_is_silent_the_next_one_is_tried(
    stand: HttpStand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "_CONNECT_SECONDS", 0.5)
    with socket.socket() as silent:  # its queue is full, so that it answers no further SYN
        silent.bind(("127.0.0.2", 0))
        silent.listen(0)
        port = silent.getsockname()[1]
        with ExitStack() as stack:
            for _ in range(3):
                sock = stack.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.2", port))
            endpoint = Endpoint(port=port)
            with opened(stand.sink(url=f"http://localhost:{port}/"), tmp_path) as one:

                async def both() -> list[str]:
                    return ["127.0.0.2", "127.0.0.1"]

                monkeypatch.setattr(one, "_addresses", both)
                assert one.publish([message()]).trouble is None
            endpoint.close()


def test_a_proxy_of_the_environment_is_not_used(
    stand: HttpStand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with opened(stand.sink(), tmp_path) as one:
        assert one.publish([message()]).trouble is None


@pytest.mark.parametrize(
    "url",
    ["http://host/", "https://", "https://user:password@host/", "https://host/#x", "https://host:x/", "https://[::1/x"],
)
def test_a_url_that_cannot_be_one_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sinks\.x\.url") as refused:
        publisher(Sink("x", url, secrets=(SECRET,)), tmp_path)
    assert "password" not in str(refused.value)


def test_a_certificate_is_shown_to_who_asks_for_one(stand: HttpStand, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("localhost"))
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    endpoint = Endpoint(context)
    certificate, key = authority.issue("faxhook")
    sink = stand.sink(url=f"https://localhost:{endpoint.port}/", ca_file=authority.file)
    with opened(replace(sink, certificate=certificate, key=key), tmp_path) as one:
        assert one.publish([message()]).trouble is None
    with opened(sink, tmp_path) as one:
        assert troubled(one.publish([message()])) in ("tls", "connection")
    endpoint.close()


def test_no_part_of_the_url_but_the_host_is_told(stand: HttpStand, tmp_path: Path) -> None:
    stand.endpoint.answer = lambda _: 500
    with opened(stand.sink(), tmp_path) as one:
        trouble = one.publish([message()]).trouble
    assert trouble is not None
    assert f"127.0.0.1:{stand.cable.port}" in trouble.detail
    assert "tenant" not in trouble.detail
