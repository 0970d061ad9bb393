"""Redis Streams pass the contract, on a server of their own; and what is said of how it keeps its data."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import redis
from brokers import RedisServer
from certificates import Authority
from contract import Contract, Received, Stand, arrive, message, opened, troubled
from ports import free_port, listener

from receiver.errors import ConfigurationError
from receiver.outgoing.sinks import publisher, redis_streams
from receiver.settings import Sink

pytestmark = pytest.mark.tool("redis-server")


class Protected(RedisServer):
    def client(self) -> "redis.Redis[Any]":
        return redis.Redis(port=self.port, password="secret/+", socket_timeout=60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    options = ("--requirepass", "secret/+", "--appendonly", "yes", "--appendfsync", "always")
    with Protected(tmp_path_factory.mktemp("redis"), *options) as made:
        yield made


class RedisStand(Stand):
    name = "Redis Streams"
    cannot = MappingProxyType(
        {
            "what_is_too_large_is_to_blame_and_the_others_go": "it takes 512 MB, far above any event",
            "where_no_place_is_for_events_nothing_counts": "the first XADD makes the stream",
        }
    )

    def __init__(self, server: RedisServer) -> None:
        super().__init__(server.port)
        self.client = server.client()

    def sink(self, **changes: Any) -> Sink:
        url = f"redis-stream://:secret%2F+@127.0.0.1:{self.cable.port}/0/faxes"
        return replace(Sink("contract", url), **changes)

    def received(self) -> list[Received]:
        entries: list[Any] = self.client.xrange("faxes")
        return [(fields[b"id"].decode(), fields[b"body"]) for _, fields in entries]

    def hurry(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(redis_streams, "CONNECT_SECONDS", 1.0)
        patch.setattr(redis_streams, "SOCKET_SECONDS", 1.0)

    def stranger(self) -> Sink:
        return self.sink(url=f"redis-stream://:wrong@127.0.0.1:{self.cable.port}/0/faxes")

    @contextmanager
    def with_tls(self, folder: Path) -> Iterator[tuple[Sink, Sink]]:
        authority = Authority(folder)
        certificate, key = authority.issue("localhost")
        port = free_port()
        tls = ("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
        with RedisServer(folder / "tls", *tls, "--tls-ca-cert-file", str(authority.file), "--tls-auth-clients", "no"):
            url = f"rediss-stream://localhost:{port}/0/faxes"
            yield self.sink(url=url, ca_file=authority.file), self.sink(url=url)

    def close(self) -> None:
        super().close()
        self.client.flushall()
        self.client.close()


@pytest.fixture
def stand(server: RedisServer) -> Iterator[RedisStand]:
    made = RedisStand(server)
    yield made
    made.close()


class TestRedis(Contract):
    pass


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return [line for line in lines if line["event"] == "queue_durability"]


def test_how_it_keeps_its_data_is_said_once(
    stand: RedisStand, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(stand.sink(), tmp_path) as one:
        arrive(one, [message()])
        stand.drop()
        arrive(one, [message()])
    (line,) = said(capsys)
    assert (line["level"], line["appendonly"], line["appendfsync"]) == ("info", "yes", "always")


def test_one_that_may_forget_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RedisServer(tmp_path / "redis") as forgetful:
        with opened(Sink("x", f"redis-stream://127.0.0.1:{forgetful.port}/0/faxes"), tmp_path) as one:
            arrive(one, [message()])
        (line,) = said(capsys)
        assert (line["level"], line["appendonly"]) == ("warning", "no")


def test_a_key_of_another_kind_is_trouble(stand: RedisStand, tmp_path: Path) -> None:
    stand.client.set("faxes", "x")
    with opened(stand.sink(), tmp_path) as one:
        assert troubled(one.publish([message()])) == "missing"
    stand.client.delete("faxes")


@pytest.mark.parametrize(
    "url", ["redis-stream://host", "redis-stream://host/0", "redis-stream://host/x/key", "redis-stream:///0/key"]
)
def test_a_url_that_cannot_be_one_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sinks\.x\.url"):
        publisher(Sink("x", url), tmp_path)


# --- a server of 7.2 ------------------------------------------------------------------------------------------------


class StandIn:
    """Speaks as much RESP as a server that knows WAITAOF; ``synced``: on how many disks it says its log is."""

    def __init__(self) -> None:
        self.synced = 1
        self.has_log = True
        self.commands: list[list[bytes]] = []
        self._listener = listener()
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock: socket.socket) -> None:
        with sock, sock.makefile("rwb") as stream:
            while head := stream.readline():
                command = [self._argument(stream) for _ in range(int(head[1:]))]
                self.commands.append(command)
                stream.write(self._answer(command))
                stream.flush()

    def _argument(self, stream: Any) -> bytes:
        data: bytes = stream.read(int(stream.readline()[1:]) + 2)
        return data[:-2]

    def _answer(self, command: list[bytes]) -> bytes:
        match command[0].upper():
            case b"CONFIG" if self.has_log:
                value = {b"appendonly": b"yes", b"appendfsync": b"everysec"}.get(command[2], b"noeviction")
                return b"*2\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(one), one) for one in (command[2], value))
            case b"XADD":
                return b"$3\r\n1-1\r\n"
            case b"CONFIG":
                return b"-NOPERM this user has no permissions to run the 'config|get' command\r\n"
            case b"WAITAOF" if not self.has_log and command[1] != b"0":
                return b"-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n"
            case b"WAITAOF":
                return b"*2\r\n:%d\r\n:0\r\n" % (self.synced if command[1] != b"0" else 0)
            case b"HELLO":
                return b"-ERR unknown command\r\n"
            case _:
                return b"+OK\r\n"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    made = StandIn()
    yield made
    made.close()


def test_where_the_server_can_say_so_an_event_counts_when_it_is_on_the_disk(
    stand_in: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(Sink("x", f"redis-stream://127.0.0.1:{stand_in.port}/0/faxes"), tmp_path) as one:
        messages = [message(), message()]
        assert len(one.publish(messages).confirmed) == 2
        assert stand_in.commands[-1][:2] == [b"WAITAOF", b"1"]
        assert said(capsys)[0]["level"] == "info"  # although the log is written each second only
        stand_in.synced = 0
        assert troubled(one.publish(messages)) == "timeout"


def test_where_there_is_no_log_and_nobody_may_ask_for_it_nothing_is_waited_for(
    stand_in: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.has_log = False
    with opened(Sink("x", f"redis-stream://127.0.0.1:{stand_in.port}/0/faxes"), tmp_path) as one:
        assert len(one.publish([message(), message()]).confirmed) == 2
    assert said(capsys)[0]["level"] == "warning"
