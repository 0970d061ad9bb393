"""A configured folder whose events go to a broker, a virtual host of RabbitMQ to send them to, and waiting."""

import json
import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from house import CONFIGURATION
from kombu.connection import Connection
from ports import listener
from stock import Stock, stock

from receiver import settings
from receiver.outgoing.delivery import Delivery
from receiver.outgoing.publisher import Publisher
from receiver.system.stopping import Stop


@contextmanager
def virtual_host() -> Iterator[str]:
    """The URL of an empty one on the shared RabbitMQ."""
    name = f"faxhook-test-{secrets.token_hex(6)}"
    subprocess.run(["rabbitmqctl", "-q", "add_vhost", name], check=True, capture_output=True, timeout=60)
    try:
        allowed = ["rabbitmqctl", "-q", "set_permissions", "-p", name, "guest", ".*", ".*", ".*"]
        subprocess.run(allowed, check=True, capture_output=True, timeout=60)
        yield f"amqp://guest:guest@127.0.0.1:5672/{name}"
    finally:
        subprocess.run(["rabbitmqctl", "-q", "delete_vhost", name], check=True, capture_output=True, timeout=60)


class Way:
    """A port on this machine that leads to RabbitMQ, until it is cut or frozen."""

    def __init__(self) -> None:
        self._listener = listener()
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._is_open = threading.Event()
        self._is_open.set()
        self._accepting()

    def __enter__(self) -> "Way":
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def cut(self) -> None:
        """Every connection is lost, and new ones are refused."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._is_open.set()
        for pair in self._pairs:
            for sock in pair:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def freeze(self) -> None:
        """Nothing moves any more, and nobody is told."""
        self._is_open.clear()

    def open(self) -> None:
        """Again."""
        self.cut()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._accepting()

    def _accepting(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", 5672))
                self._pairs.append((near, far))
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError), source:
            while data := source.recv(65536):
                self._is_open.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Queued(Stock):
    """A stock with a broker's URL."""

    @property
    def queue(self) -> settings.Queue:
        return self.runtime.settings.queue

    def send(self) -> None:
        """Do the relay's work: publish what is pending. It must succeed."""
        delivery = Delivery(self.runtime.store, Publisher(self.queue, self.runtime.settings.server.state_dir), Stop())
        try:
            while delivery.step():
                pass
        finally:
            delivery.end()
        assert delivery.trouble is None

    def fill_queue(self, count: int) -> set[str]:
        """So many published events; their ids."""
        known = self.fill(count)
        self.send()
        return known

    def consumed_apart(self, *options: str) -> list[bytes]:
        """The lines of ``faxhook consume`` in a process of its own."""
        process = self.start("consume", *options)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return out.splitlines()

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """One of our own at the broker."""
        with Connection(self.queue.url, connect_timeout=5) as connection:
            yield connection.channel()

    def waiting(self, queue: str = "") -> int:
        """How many messages RabbitMQ's queue has to give."""
        with self.channel() as channel:
            return int(channel.queue_declare(queue or self.queue.queue, passive=True).message_count)


@contextmanager
def queued(folder: Path, url: str, more: str = "") -> Iterator[Queued]:
    """more: lines for [queue]. The names of exchange and queue are this one's own, unless it says otherwise."""
    name = secrets.token_hex(4)
    names = "" if "queue =" in more else f'exchange = "events-{name}"\nqueue = "completed-{name}"\n'
    section = f'\n[queue]\nurl = "{url}"\n{names}{more}\n'
    with stock(folder, f"sqlite:///{folder / 'faxhook.db'}", CONFIGURATION + section) as made:
        yield Queued(made.config, made.runtime)


def ids(lines: list[bytes]) -> list[str]:
    return [json.loads(line)["id"] for line in lines]
