"""Idle connections: how long they are kept, what they cost, and who closes them first, faxhook or the proxy."""

import os
import random
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

import live
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from house import CONFIGURATION, FORM, TOKEN
from ports import free_port
from served import running
from stock import stock
from waiting import until

from receiver import settings
from receiver.errors import ConfigurationError

NGINX = (Path(__file__).parents[1] / "deploy" / "nginx.conf").read_text()
# The short version runs with the suite. The long one is what was promised: 600 callbacks at each boundary.
IS_LONG = bool(os.environ.get("FAXHOOK_LONG_TESTS"))
CLIENTS = 60
ROUNDS = 10 if IS_LONG else 1

APPLICATION = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def ask(sock: socket.socket) -> str:
    """The head of the answer to one request over an open connection."""
    sock.sendall(REQUEST)
    status, head, _ = live.answer(sock)
    assert status == 200
    return head.lower()


def test_many_idle_connections_are_kept_and_hinder_nobody(tmp_path: Path) -> None:
    with live.gunicorn(tmp_path, APPLICATION) as server, ExitStack() as stack:
        kept = [stack.enter_context(server.connect()) for _ in range(60)]
        for _ in range(2):
            for sock in kept:
                assert "connection: close" not in ask(sock)
        assert server.ask(REQUEST)[0] == 200


def test_connections_that_send_nothing_cost_no_thread(tmp_path: Path) -> None:
    with live.gunicorn(tmp_path, APPLICATION) as server, ExitStack() as stack:
        silent = [stack.enter_context(server.connect()) for _ in range(60)]
        assert server.ask(REQUEST)[0] == 200
        for sock in silent:
            assert "connection: close" not in ask(sock)


def test_of_very_many_silent_connections_the_oldest_are_closed(tmp_path: Path) -> None:
    with live.gunicorn(tmp_path, APPLICATION) as server, ExitStack() as stack:
        silent = [stack.enter_context(server.connect()) for _ in range(250)]
        assert server.ask(REQUEST)[0] == 200
        assert silent[0].recv(1) == b""
        ask(silent[-1])


def test_a_worker_that_stops_answers_what_arrives_and_waits_for_no_silent_connection(tmp_path: Path) -> None:
    with live.gunicorn(tmp_path, APPLICATION) as server, server.connect() as idle, server.connect() as silent:
        ask(idle)
        (master,) = map(int, re.findall(r'Listening at: [^"]*\((\d+)\)', server.log.read_text()))
        os.kill(master, signal.SIGTERM)
        until(lambda: "Handling signal: term" in server.log.read_text())
        assert "connection: close" in ask(idle)
        assert silent.recv(1) == b""


@pytest.mark.parametrize(("given", "seconds"), [(None, 75), ('keep_alive = "620s"', 620), ('keep_alive = "1h"', 3600)])
def test_an_idle_connection_is_kept_as_long_as_configured(tmp_path: Path, given: str | None, seconds: int) -> None:
    text = live.CONFIGURATION.replace("[server]\n", f"[server]\n{given or ''}\n")
    (tmp_path / "x.toml").write_text(text)
    assert settings.load(tmp_path / "x.toml", {}).server.keep_alive == timedelta(seconds=seconds)


@pytest.mark.parametrize("given", ['"0s"', '"2h"', "75", '"75"', '""'])
def test_another_keep_alive_is_refused(tmp_path: Path, given: str) -> None:
    (tmp_path / "x.toml").write_text(live.CONFIGURATION.replace("[server]\n", f"[server]\nkeep_alive = {given}\n"))
    with pytest.raises(ConfigurationError, match=r"server\.keep_alive: expected"):
        settings.load(tmp_path / "x.toml", {})


def test_it_is_closed_then_and_not_before(tmp_path: Path) -> None:
    configuration = live.CONFIGURATION.replace("[server]\n", '[server]\nkeep_alive = "2s"\n')
    with live.gunicorn(tmp_path, APPLICATION, configuration=configuration) as server, server.connect() as sock:
        ask(sock)
        began = time.monotonic()
        assert sock.recv(1) == b""
        assert time.monotonic() - began > 1.9


# --- behind nginx ---------------------------------------------------------------------------------------------------


def test_nginx_as_shipped_closes_idle_connections_first(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(live.CONFIGURATION)
    kept = settings.load(tmp_path / "x.toml", {}).server.keep_alive
    (upstream,) = re.findall(r"^upstream faxhook \{(.*?)^\}", NGINX, re.MULTILINE | re.DOTALL)
    (seconds,) = re.findall(r"^ *keepalive_timeout (\d+)s;", upstream, re.MULTILINE)
    assert timedelta(seconds=int(seconds) + 10) <= kept


def certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example.com")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
    ).sign(key, hashes.SHA256())
    (folder / "fullchain.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "privkey.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@contextmanager
def nginx(folder: Path, upstream: int, seconds: int | None = None, *, error_log: str = "") -> Iterator[int]:
    """nginx with the shipped server block, changed in its port and paths (and timeout, error log); its port."""
    folder.mkdir()
    certificate(folder)
    port = free_port()
    text = NGINX.replace("127.0.0.1:8000", f"127.0.0.1:{upstream}")
    text = text.replace("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;").replace("    listen [::]:443 ssl;\n", "")
    text = text.replace("/etc/ssl/hooks.example.com", str(folder)).replace("/var/log/nginx", str(folder))
    if error_log:
        text = text.replace("/dev/null emerg", error_log)
    if seconds is not None:
        text = re.sub(r"keepalive_timeout \d+s;", f"keepalive_timeout {seconds}s;", text)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nworker_processes 4;\n"
        f"events {{ worker_connections 512; }}\nhttp {{\n{temporary}{text}\n}}\n"
    )
    process = subprocess.Popen(["nginx", "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")])
    try:
        until(lambda: answers(port))
        yield port
    finally:
        process.terminate()
        process.wait(60)


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    except OSError:
        return False
    return True


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Client(threading.Thread):
    """Sends a callback after each pause, over one connection to nginx; what became of them."""

    def __init__(self, port: int, name: str, pauses: list[float]) -> None:
        super().__init__(name=name)
        self._connection = HTTPSConnection("127.0.0.1", port, timeout=60, context=trusting())
        self._pauses = pauses
        self.results: list[object] = []

    def run(self) -> None:
        for number, pause in enumerate(self._pauses):
            time.sleep(pause)
            body = f"OutTransID={self.name}-{number}&AccountID=1&LastStatus=0"
            try:
                self._connection.request("POST", f"/callbacks/openfax/{TOKEN}", body, {"Content-Type": FORM})
                answer = self._connection.getresponse()
                answer.read()
                self.results.append(answer.status)
            except (OSError, HTTPException) as error:
                self.results.append(repr(error))
        self._connection.close()


@pytest.mark.campaign
@pytest.mark.tool("nginx")
@pytest.mark.parametrize(
    ("keep_alive", "of_nginx", "gaps"),
    [
        ("75s", None, [5.0]),  # where the first version of faxhook closed
        ("6s", 2, [2.0, 6.0]),  # around both ends of a shorter pair
    ],
    ids=["as shipped", "a shorter pair"],
)
def test_behind_nginx_no_callback_meets_a_closing_connection(
    tmp_path: Path, keep_alive: str, of_nginx: int | None, gaps: list[float]
) -> None:
    port = free_port()
    configuration = CONFIGURATION.replace("{port}", str(port)).replace(
        "[server]\n", f'[server]\nkeep_alive = "{keep_alive}"\n'
    )
    with (
        stock(tmp_path / "faxhook", f"sqlite:///{tmp_path}/store/faxhook.db", configuration) as made,
        running(made, "serve"),
        nginx(tmp_path / "nginx", port, of_nginx) as front,
    ):
        until(lambda: answers(port))
        pauses = [0.0, *(gap + random.uniform(-0.1, 0.1) for _ in range(ROUNDS) for gap in gaps)]
        clients = [Client(front, f"{number}", pauses) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        counted = Counter(result for client in clients for result in client.results)
    assert counted == {200: CLIENTS * len(pauses)}


def post(port: int, body: bytes) -> int:
    connection = HTTPSConnection("127.0.0.1", port, timeout=60, context=trusting())
    connection.request("POST", f"/callbacks/openfax/{TOKEN}?To=Jones", body, {"Content-Type": FORM})
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.tool("nginx")
def test_nginx_as_shipped_writes_no_token_and_no_callback(tmp_path: Path) -> None:
    """Its upstream is down, which it would log with the whole request line."""
    with nginx(tmp_path / "nginx", free_port()) as front:
        assert post(front, b"From=" + b"Mike" * 500_000) == 502
    written = {path.name: path.read_bytes() for path in (tmp_path / "nginx").rglob("*") if path.is_file()}
    assert not [name for name, content in written.items() if TOKEN.encode() in content or b"Jones" in content]
    assert b"502 upstream=502" in written["faxhook.access.log"]


@pytest.mark.tool("nginx")
def test_nginx_as_shipped_keeps_the_largest_callback_in_memory(tmp_path: Path) -> None:
    told = tmp_path / "told"
    with nginx(tmp_path / "nginx", free_port(), error_log=f"{told} warn") as front:
        assert post(front, b"x" * (8 << 20)) == 502
    assert "connect() failed" in told.read_text()
    assert "temporary file" not in told.read_text()
