"""amqps:// and rediss:// with real TLS: to the broker that is meant, and to strangers who would like the password."""

import json
import os
import re
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from brokers import Node, RedisServer, running_node
from certificates import Authority, self_signed
from click.testing import CliRunner
from kombu.connection import Connection
from ports import free_port, listener
from queued import Queued, ids, queued

from receiver import transports
from receiver.cli import main
from receiver.errors import BadValue, BrokerTrouble
from receiver.outgoing.broker import Broker
from receiver.settings import Queue

SCHEMES = ("amqps", "rediss")
PASSWORD = "word-of-ours"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def trouble_with(url: str, folder: Path) -> BrokerTrouble:
    broker = Broker(Queue(url, "fax.events", "fax.completed", True), "test", folder)
    with pytest.raises(BrokerTrouble) as raised:
        broker.open()
    return raised.value


# --- the broker that is meant ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[tuple[Node, int]]:
    """And its TLS port. Its certificate is for localhost; it looks at the client's, if one is shown."""
    certificate, key = authority.issue("localhost", to="rabbitmq")
    port = free_port()
    more = f"""
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {authority.file}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
"""
    with running_node(tmp_path_factory.mktemp("node"), more) as node:
        yield node, port


@contextmanager
def redis_with_tls(folder: Path, authority: Authority, pair: tuple[Path, Path], *, asks: str = "no") -> Iterator[int]:
    """The TLS port of a Redis with a password."""
    port = free_port()
    options = {
        "tls-port": port,
        "tls-cert-file": pair[0],
        "tls-key-file": pair[1],
        "tls-ca-cert-file": authority.file,
        "tls-auth-clients": asks,
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with RedisServer(folder, *arguments):
        yield port


@pytest.fixture(params=SCHEMES)
def good(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority) -> Iterator[str]:
    """The URL of a broker whose certificate is for localhost, without parameters."""
    if request.param == "amqps":
        _, port = request.getfixturevalue("rabbitmq")
        yield f"amqps://guest:guest@localhost:{port}/"
    else:
        pair = authority.issue("localhost", to="redis")
        with redis_with_tls(tmp_path / "redis", authority, pair) as port:
            yield f"rediss://localhost:{port}/0"


@contextmanager
def leading_to(folder: Path, url: str) -> Iterator[Queued]:
    with queued(folder, url) as made:
        yield made


def test_with_the_right_authority_events_go_out_and_are_consumed(
    tmp_path: Path, authority: Authority, good: str
) -> None:
    with leading_to(tmp_path, f"{good}?ssl_ca_certs={authority.file}") as made:
        expected = made.fill_queue(120)
        lines = made.consumed()
        assert set(ids(lines)) == expected
        assert all(line == made.payload(event_id) for line, event_id in zip(lines, ids(lines), strict=True))
        result = CliRunner().invoke(main, ["check", "--config", str(made.config)])
        assert result.exit_code == 0, result.output
        assert "ssl_" not in result.output


def test_without_its_authority_it_is_refused_and_every_command_says_so(tmp_path: Path, good: str) -> None:
    with leading_to(tmp_path, good) as made:
        for command in ("check", "doctor", "consume"):
            result = CliRunner().invoke(main, [command, "--config", str(made.config)])
            assert result.exit_code == 1
            assert "its certificate comes from an authority that is not trusted; see ssl_ca_certs" in result.output
            assert result.exception is None or isinstance(result.exception, SystemExit)
        made.fill(1)
        with made.start("relay") as relay:
            said = next(one for one in map(json.loads, relay.stderr or ()) if one["event"] == "publish_failed")
            relay.terminate()
            relay.communicate(timeout=60)
        assert said["reason"] == "tls"
        assert said["cause"].startswith(good.partition(":")[0] + "://localhost:")
        assert made.states() == {"pending": 1}


def test_the_certificate_of_another_host_is_refused_unless_the_url_says_otherwise(
    tmp_path: Path, authority: Authority, good: str
) -> None:
    url = f"{good.replace('localhost', '127.0.0.1')}?ssl_ca_certs={authority.file}"
    trouble = trouble_with(url, tmp_path)
    assert trouble.kind == "tls"
    assert "its certificate is for another" in trouble.detail
    with leading_to(tmp_path, f"{url}&ssl_check_hostname=false") as made:
        assert ids(made.consumed()) == []
        result = CliRunner().invoke(main, ["check", "--config", str(made.config)])
        assert result.exit_code == 0
        assert "warning: queue.url: ssl_check_hostname=false: any server with a trusted certificate" in result.output


def test_any_certificate_is_taken_only_where_the_url_says_so_and_check_says_what_that_means(
    tmp_path: Path, good: str
) -> None:
    with leading_to(tmp_path, f"{good.replace('localhost', '127.0.0.1')}?ssl_cert_reqs=none") as made:
        assert ids(made.consumed()) == []
        result = CliRunner().invoke(main, ["check", "--config", str(made.config)])
        assert result.exit_code == 0
        assert "warning: queue.url: ssl_cert_reqs=none: " in result.output


def test_the_next_host_is_asked_by_its_own_name_and_parameters(tmp_path: Path, authority: Authority, good: str) -> None:
    known = f"{good}?ssl_ca_certs={authority.file}"
    stranger = known.replace("localhost", "127.0.0.1")
    broker = Broker(Queue(f"{stranger};{known}", "fax.events", "fax.completed", True), "test", tmp_path)
    broker.open()
    broker.close()
    trouble = trouble_with(f"{stranger};{good}", tmp_path)
    assert "for another" in trouble.detail
    assert "not trusted" in trouble.detail


# --- certificates of ours --------------------------------------------------------------------------------------------


def test_redis_that_asks_for_a_certificate_gets_ours(tmp_path: Path, authority: Authority) -> None:
    pair = authority.issue("localhost", to="redis")
    certificate, key = authority.issue("faxhook")
    with redis_with_tls(tmp_path / "redis", authority, pair, asks="yes") as port:
        url = f"rediss://localhost:{port}/0?ssl_ca_certs={authority.file}"
        trouble = trouble_with(url, tmp_path)
        assert trouble.kind in ("tls", "connection")
        with leading_to(tmp_path, f"{url}&ssl_certfile={certificate}&ssl_keyfile={key}") as made:
            assert set(ids(made.consumed())) == made.fill_queue(0)


def test_rabbitmq_takes_our_certificate_and_refuses_that_of_a_stranger(
    tmp_path: Path, authority: Authority, rabbitmq: tuple[Node, int]
) -> None:
    url = f"amqps://guest:guest@localhost:{rabbitmq[1]}/?ssl_ca_certs={authority.file}"
    certificate, key = authority.issue("faxhook")
    ours = f"{url}&ssl_certfile={certificate}&ssl_keyfile={key}"
    broker = Broker(Queue(ours, "fax.events", "fax.completed", True), "test", tmp_path)
    broker.open()
    broker.close()
    certificate, key = Authority(tmp_path, "other").issue("faxhook")
    trouble = trouble_with(f"{url}&ssl_certfile={certificate}&ssl_keyfile={key}", tmp_path)
    # TLS 1.3 tells it after the handshake: the alert or the end is read first, or a reset overtakes both.
    assert trouble.kind in ("tls", "connection")
    assert re.search("it refuses our side of TLS|it ended the TLS handshake|ended the connection", trouble.detail)


# --- strangers -------------------------------------------------------------------------------------------------------


class Stranger:
    """Somebody who speaks TLS with this certificate, and keeps what is said after the handshake."""

    def __init__(self, pair: tuple[Path, Path]) -> None:
        self.heard = b""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*pair)
        self._listener = listener()
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> "Stranger":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(60)

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                near.settimeout(60)
                with suppress(OSError), self._context.wrap_socket(near, server_side=True) as secured:
                    self.heard += secured.recv(4096)


def certificate(kind: str, folder: Path, authority: Authority) -> tuple[Path, Path]:
    match kind:
        case "self-signed":
            return self_signed(folder, "localhost", "127.0.0.1")
        case "of another authority":
            return Authority(folder, "other").issue("localhost", "127.0.0.1")
        case "of another host":
            return authority.issue("hidden.example.com", to="another")
        case "expired":
            return authority.issue("localhost", days=(-2, -1), to="expired")
        case _:
            return authority.issue("localhost", days=(1, 2), to="early")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("self-signed", "is self-signed, and not one of those that are trusted"),
        ("of another authority", "comes from an authority that is not trusted"),
        ("of another host", "is for another host name"),
        ("expired", "has expired"),
        ("not valid yet", "is not valid yet"),
    ],
)
def test_a_stranger_is_told_nothing(tmp_path: Path, authority: Authority, scheme: str, kind: str, said: str) -> None:
    with Stranger(certificate(kind, tmp_path, authority)) as stranger:
        url = f"{scheme}://user:{PASSWORD}@localhost:{stranger.port}/"
        trouble = trouble_with(f"{url}?ssl_ca_certs={authority.file}", tmp_path)
        assert (trouble.kind, trouble.detail) == ("tls", trouble.detail)
        assert f"{scheme}://localhost:{stranger.port}: its certificate {said}" in trouble.detail
        assert PASSWORD not in trouble.detail
        assert trouble_with(url, tmp_path).kind == "tls"
    assert stranger.heard == b""


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_port_without_tls_is_told_nothing_and_named(tmp_path: Path, scheme: str) -> None:
    heard: list[bytes] = []

    def answer(listener: socket.socket) -> None:
        near, _ = listener.accept()
        with near:
            heard.append(near.recv(4096))
            near.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with listener() as taken:
        threading.Thread(target=answer, args=(taken,), daemon=True).start()
        trouble = trouble_with(f"{scheme}://user:{PASSWORD}@127.0.0.1:{taken.getsockname()[1]}/", tmp_path)
    assert trouble.kind == "tls"
    assert "no TLS at this port" in trouble.detail
    assert PASSWORD.encode() not in b"".join(heard)


def test_parameters_of_a_url_are_looked_at_by_check(tmp_path: Path, authority: Authority) -> None:
    def said(url: str) -> Any:
        with queued(tmp_path, "memory://") as made:
            made.config.write_text(made.config.read_text().replace("memory://", url))
            return CliRunner().invoke(main, ["check", "--config", str(made.config)])

    for scheme in SCHEMES:
        result = said(f"{scheme}://user:{PASSWORD}@localhost:1/?ssl_ca_certs={tmp_path}/absent.pem")
        assert result.exit_code == 2
        assert "queue.url: ssl_ca_certs: expected the absolute path of a PEM file" in result.output
        assert PASSWORD not in result.output
        certificate_alone = authority.issue("faxhook", to=scheme)[0]
        result = said(f"{scheme}://user:{PASSWORD}@localhost:1/?ssl_certfile={certificate_alone}")
        assert result.exit_code == 2
        assert "queue.url: ssl_certfile: expected a certificate and" in result.output


# --- the wrong kind of port, the wrong kind of TLS, and files that cannot be used ------------------------------------


@contextmanager
def speaking_tls(pair: tuple[Path, Path], change: Callable[[ssl.SSLContext], object]) -> Iterator[int]:
    """The port of a server that only shakes hands."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    change(context)

    def listen(taken: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = taken.accept()
                near.settimeout(60)
                with near, suppress(OSError), context.wrap_socket(near, server_side=True) as secured:
                    secured.recv(4096)

    with listener() as taken:
        threading.Thread(target=listen, args=(taken,), daemon=True).start()
        yield taken.getsockname()[1]


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_url_without_tls_for_a_port_with_it_is_told_so(tmp_path: Path, authority: Authority, scheme: str) -> None:
    with speaking_tls(authority.issue("localhost", to="plain"), lambda _context: None) as port:
        trouble = trouble_with(f"{scheme}://user:{PASSWORD}@localhost:{port}/", tmp_path)
    assert trouble.detail.startswith(f"{scheme}://localhost:{port}: ")
    assert f"Where TLS is on at this port, the URL begins with {scheme}s://" in trouble.detail


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_connection_that_is_reset_at_once_leads_to_the_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    def reset(_connection: object, **_options: object) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(Connection, "ensure_connection", reset)
    trouble = trouble_with(f"{scheme}://user:{PASSWORD}@localhost:1/", tmp_path)
    assert trouble.detail.endswith("It may ask for a client certificate: see ssl_certfile")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_broker_with_old_tls_only_is_refused_as_that(tmp_path: Path, authority: Authority, scheme: str) -> None:
    def be_old(context: ssl.SSLContext) -> None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore"):
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1

    with speaking_tls(authority.issue("localhost", to="old"), be_old) as port:
        url = f"{scheme}://user:{PASSWORD}@localhost:{port}/?ssl_ca_certs={authority.file}"
        trouble = trouble_with(url, tmp_path)
    assert trouble.kind == "tls"
    said = "it speaks no TLS that is safe, which begins with 1.2; turn that on there"
    assert trouble.detail == f"{scheme}://localhost:{port}: {said}"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_broker_that_demands_a_certificate_leads_to_the_key(
    tmp_path: Path, authority: Authority, scheme: str
) -> None:
    def demand(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # 1.3 tells it after the handshake
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.file)

    with speaking_tls(authority.issue("localhost", to="strict"), demand) as port:
        url = f"{scheme}://user:{PASSWORD}@localhost:{port}/?ssl_ca_certs={authority.file}"
        trouble = trouble_with(url, tmp_path)
    assert trouble.kind == "tls"
    assert "ask for a client certificate? See ssl_certfile" in trouble.detail


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_file_of_certificates_that_cannot_be_used_is_named_with_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: Authority, scheme: str
) -> None:
    (tmp_path / "words.pem").write_text("nonsense")

    def said(path: str) -> str:
        with pytest.raises(BadValue) as refused:
            transports.addresses(f"{scheme}://user:{PASSWORD}@localhost:1/?ssl_ca_certs={path}")
        return str(refused.value)

    assert said(f"{tmp_path}/absent.pem").endswith(f"there is no file {tmp_path}/absent.pem")
    assert said(f"{tmp_path}").endswith(f"{tmp_path} is a folder")
    assert said("ca.pem").endswith("it does not begin with /")
    assert said(f"{tmp_path}/words.pem").endswith(f"{tmp_path}/words.pem holds no certificate in PEM")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert said(f"{tmp_path}/words.pem").endswith(f"this user may not read {tmp_path}/words.pem")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_file_that_is_gone_while_we_run_is_trouble_with_the_broker(tmp_path: Path, scheme: str) -> None:
    """As while certificates are renewed: the relay tries again, and does not end."""
    trouble = trouble_with(f"{scheme}://user:{PASSWORD}@localhost:1/?ssl_ca_certs={tmp_path}/renewed.pem", tmp_path)
    assert trouble.kind == "tls"
    assert trouble.detail.startswith(f"{scheme}://localhost:1: ssl_ca_certs: ")
    assert f"there is no file {tmp_path}/renewed.pem" in trouble.detail
