"""NATS JetStream passes the contract, on a server of its own."""

import asyncio
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import nats
import pytest
from certificates import Authority
from contract import TRACEPARENT, Contract, Received, Stand, arrive, message, opened
from nats.js.api import StreamConfig
from ports import free_port
from waiting import until

from receiver.errors import ConfigurationError
from receiver.outgoing.sinks import nats as jetstream
from receiver.outgoing.sinks import publisher
from receiver.settings import Sink

pytestmark = [
    pytest.mark.tool("nats-server"),
]


@contextmanager
def server(folder: Path, *options: str) -> Iterator[int]:
    port = free_port()
    command = ["nats-server", "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: _answers(port))
            yield port
        finally:
            process.kill()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with server(tmp_path_factory.mktemp("nats"), "--user", "faxhook", "--pass", "secret/+") as at:
        yield at


class NatsStand(Stand):
    name = "NATS JetStream"

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._url = f"nats://127.0.0.1:{port}"
        self.stream = f"S{secrets.token_hex(4)}"
        self._run(lambda js: js.add_stream(StreamConfig(name=self.stream, subjects=[f"{self.stream}.faxes"])))

    def _run(self, work: Any) -> Any:
        async def connected() -> Any:
            connection = await nats.connect(self._url, user="faxhook", password="secret/+", allow_reconnect=False)
            try:
                return await work(connection.jetstream())
            finally:
                await connection.close()
                await asyncio.sleep(0.01)  # its socket goes in the loop's next rounds

        return asyncio.run(connected())

    def sink(self, **changes: Any) -> Sink:
        url = f"nats://faxhook:secret%2F+@127.0.0.1:{self.cable.port}/{self.stream}.faxes"
        return replace(Sink("contract", url), **changes)

    def received(self) -> list[Received]:
        return [(one.headers["Nats-Msg-Id"], one.data) for one in self.messages()]

    def messages(self) -> list[Any]:
        async def read(js: Any) -> list[Any]:
            state = (await js.stream_info(self.stream)).state
            if not state.messages:
                return []
            return [await js.get_msg(self.stream, seq) for seq in range(state.first_seq, state.last_seq + 1)]

        found: list[Any] = self._run(read)
        return found

    def hurry(self, patch: pytest.MonkeyPatch) -> None:
        for name in ("ACK_SECONDS", "_CONNECT_SECONDS", "_OPEN_SECONDS"):
            patch.setattr(jetstream, name, 1.0)

    def stranger(self) -> Sink:
        return self.sink(url=f"nats://faxhook:wrong@127.0.0.1:{self.cable.port}/{self.stream}.faxes")

    @contextmanager
    def unroutable(self) -> Iterator[Sink]:
        yield self.sink(url=f"nats://faxhook:secret%2F+@127.0.0.1:{self.cable.port}/{self.stream}.elsewhere")

    @contextmanager
    def with_tls(self, folder: Path) -> Iterator[tuple[Sink, Sink]]:
        authority = Authority(folder)
        certificate, key = authority.issue("localhost")
        with server(folder / "tls", "--tls", "--tlscert", str(certificate), "--tlskey", str(key)) as port:
            subject = "faxes"

            async def make() -> None:
                connection = await nats.connect(
                    f"tls://localhost:{port}",
                    allow_reconnect=False,
                    tls=jetstream.client_context(self.sink(ca_file=authority.file)),
                )
                await connection.jetstream().add_stream(StreamConfig(name="faxes", subjects=[subject]))
                await connection.close()
                await asyncio.sleep(0.01)

            asyncio.run(make())
            url = f"nats+tls://localhost:{port}/{subject}"
            yield self.sink(url=url, ca_file=authority.file), self.sink(url=url)


@pytest.fixture
def stand(port: int) -> Iterator[NatsStand]:
    made = NatsStand(port)
    yield made
    made.close()


class TestNats(Contract):
    pass


def test_the_stream_drops_what_comes_twice(stand: NatsStand, tmp_path: Path) -> None:
    sent = message()
    with opened(stand.sink(), tmp_path) as one:
        arrive(one, [sent])
        arrive(one, [sent])
    assert [event_id for event_id, _ in stand.received()] == [sent.event_id]


def test_an_event_says_what_it_is(stand: NatsStand, tmp_path: Path) -> None:
    with opened(stand.sink(), tmp_path) as one:
        arrive(one, [message()])
    assert stand.messages()[0].headers["Content-Type"] == "application/cloudevents+json"
    assert stand.messages()[0].headers["traceparent"] == TRACEPARENT


@pytest.mark.parametrize(
    "url", ["nats://host", "nats://host/faxes.*", "nats://host/a b", "nats:///x", "nats://h/x?y=z"]
)
def test_a_url_that_cannot_be_one_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sinks\.x\.url"):
        publisher(Sink("x", url), tmp_path)
