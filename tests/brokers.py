"""RabbitMQ: queues of a test's own on the shared server, and a node of its own to stop, freeze and fill. And Redis."""

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import amqp
import pytest
import redis
from ports import free_port
from waiting import until

from receiver.settings import Queue

URL = "amqp://guest:guest@127.0.0.1:5672//"
_PROGRAMS = Path("/usr/lib/rabbitmq/bin")  # Debian's in /usr/sbin change to a user who may not read a test's folder


@dataclass(frozen=True)
class Received:
    body: bytes
    routing_key: str
    properties: dict[str, Any]

    @property
    def event_id(self) -> str:
        return str(self.properties["message_id"])


@dataclass(frozen=True)
class Line:
    """An exchange and a queue that only one test knows, or two names for them."""

    port: int
    exchange: str
    queue: str

    @property
    def url(self) -> str:
        return URL.replace("5672", str(self.port))

    def settings(self, *, declare: bool = True, url: str = "") -> Queue:
        return Queue(url or self.url, self.exchange, self.queue, declare)

    def toml(self, *, declare: bool = True) -> str:
        """The section of the configuration."""
        return (
            f'\n[queue]\nurl = "{self.url}"\nexchange = "{self.exchange}"\nqueue = "{self.queue}"\n'
            f"declare = {str(declare).lower()}\n"
        )

    @contextmanager
    def channel(self) -> Iterator[Any]:
        # A node that is about to start takes the connection and says nothing.
        patience = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), 60)
        with amqp.Connection(f"127.0.0.1:{self.port}", userid="guest", password="guest", **patience) as connection:
            yield connection.channel()

    def make(self, **arguments: str | int) -> None:
        """By hand: a classic queue, fed by the exchange."""
        with self.channel() as channel:
            channel.exchange_declare(self.exchange, "topic", durable=True, auto_delete=False)
            channel.queue_declare(self.queue, durable=True, auto_delete=False, arguments=arguments)
        self.bind()

    def bind(self) -> None:
        with self.channel() as channel:
            channel.queue_bind(self.queue, self.exchange, "fax.#")

    def take(self, queue: str = "") -> list[Received]:
        """All that is in the queue."""
        with self.channel() as channel:
            return list(_drained(channel, queue or self.queue))

    def collect(self, count: int, queue: str = "") -> list[Received]:
        """So many, as they come."""
        found: list[Received] = []
        until(lambda: found.extend(self.take(queue)) or len(found) >= count)
        return found

    def remove(self) -> None:
        with suppress(OSError), self.channel() as channel:
            for name in (self.queue, f"{self.queue}.dead"):
                channel.queue_delete(name)
            for name in (self.exchange, f"{self.exchange}.dead"):
                channel.exchange_delete(name)


def _drained(channel: Any, queue: str) -> Iterator[Received]:
    channel.auto_decode = False
    while (message := channel.basic_get(queue, no_ack=True)) is not None:
        body = message.body.encode() if isinstance(message.body, str) else bytes(message.body)
        yield Received(body, message.delivery_info["routing_key"], message.properties)


def new_line(port: int = 5672) -> Line:
    name = secrets.token_hex(4)
    return Line(port, f"test.{name}.events", f"test.{name}.completed")


@pytest.fixture
def line() -> Iterator[Line]:
    """On the shared server, which is marked service("rabbitmq"); nothing is made yet."""
    made = new_line()
    yield made
    made.remove()


# --- a node of our own -----------------------------------------------------------------------------------------------

_CONFIGURATION = """
listeners.tcp.1 = 127.0.0.1:{port}
max_message_size = {largest}
log.file = false
log.console = true
log.console.level = error
"""


class Node:
    """A RabbitMQ with no plugins and one scheduler, in a folder. largest: bytes of a message that it takes."""

    largest = 20_000

    def __init__(self, folder: Path, more: str = "") -> None:
        """more: lines of its configuration."""
        self.port, distribution = free_port(), free_port()
        self._folder = folder
        (folder / "rabbitmq.conf").write_text(_CONFIGURATION.format(port=self.port, largest=self.largest) + more)
        (folder / "plugins").write_text("[].")
        (folder / "env").touch()
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),  # its cookie is its own
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"faxhook{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "env"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [_PROGRAMS / "rabbitmq-server"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(self._answers)

    def kill(self) -> None:
        """Like a power cut; what it has synced stays."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def ctl(self, *arguments: str) -> None:
        subprocess.run(
            [_PROGRAMS / "rabbitmqctl", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=True,
        )

    def line(self) -> Line:
        return new_line(self.port)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.ctl("stop_app")
        try:
            yield
        finally:
            until(self._starts)
            until(self._answers)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It keeps its connections, and the kernel takes new ones, but nothing answers."""
        pid = int((self._folder / "pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextmanager
    def alarmed(self) -> Iterator[None]:
        """Short of memory: who publishes is blocked."""
        self.ctl("set_vm_memory_high_watermark", "0.0000001")
        try:
            yield
        finally:
            self.ctl("set_vm_memory_high_watermark", "0.4")

    def _starts(self) -> bool:
        try:
            self.ctl("start_app")
        except subprocess.CalledProcessError:  # it gives up where the machine is busy
            return False
        return True

    def _answers(self) -> bool:
        try:
            with self.line().channel():
                return True
        except (OSError, amqp.AMQPError):
            return False


@contextmanager
def running_node(folder: Path, more: str = "") -> Iterator[Node]:
    if not shutil.which("rabbitmq-server", path=_PROGRAMS):
        (pytest.fail if os.environ.get("FAXHOOK_REQUIRE_SERVICES") else pytest.skip)("no rabbitmq-server to start")
    node = Node(folder, more)
    try:
        node.start()
        yield node
    finally:
        node.kill()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running_node(tmp_path_factory.mktemp("node")) as made:
        yield made


# --- a Redis of our own -----------------------------------------------------------------------------------------------


class RedisServer:
    """A Redis of this test's own, with its data in a folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(exist_ok=True)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = ["redis-server", "--port", str(self.port), "--dir", str(folder), "--save", "", *options]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(60)

    def client(self) -> "redis.Redis[Any]":
        return redis.Redis(port=self.port, socket_timeout=60)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False
