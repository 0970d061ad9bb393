"""
The way to the queue: publishing, relaying, and how long an event is under way.

``python tests/bench/outbox.py [ROUNDS [BACKLOG]]``: needs RabbitMQ on its standard local port, with the right to make
virtual hosts (``rabbitmqctl``). Ratios are of things measured in turn in this run. A report, not a test.
"""

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from callbacks import bodies, configuration
from kombu import Connection

from receiver import bootstrap, intake, logs, settings
from receiver.intake import Arrival
from receiver.outgoing.delivery import Delivery
from receiver.outgoing.publisher import Message, Publisher
from receiver.providers import RawCallback
from receiver.runtime import Runtime
from receiver.store import new_id, now_ms
from receiver.store.migrating import migrate
from receiver.store.submissions import checksum
from receiver.store.tables import QUEUE
from receiver.system.stopping import Stop

ROOT = Path(__file__).parents[2]
VHOST = "faxhook-bench"
URL = f"amqp://guest:guest@127.0.0.1:5672/{VHOST}"
_numbers = itertools.count(int(time.time()) * 1000)
_BACKLOG = "00000000-0000-0000-0000-"  # how the ids of what fills the queue begin
_CALLBACKS = bodies("form", int(time.time()) * 1000)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    backlog = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    with vhost(), tempfile.TemporaryDirectory(prefix="faxhook-bench-") as folder:
        config = Path(folder) / "faxhook.toml"
        config.write_text(configuration(folder, 21871) + f'\n[queue]\nurl = "{URL}"\n')
        loaded = settings.load(config, {})
        with closing(bootstrap.open_store(loaded)) as store:
            migrate(store)
        runtime = bootstrap.build(loaded)
        print("| row | A | B | ratio |")
        print("| --- | --- | --- | --- |")
        _publishing(loaded, rounds)
        _relaying(runtime, rounds)
        _under_way(runtime, config, 40 * rounds)
        _grown(runtime, rounds, backlog)


def _publishing(loaded: settings.Settings, rounds: int) -> None:
    """A message to RabbitMQ and its confirm, without the store."""
    publisher = Publisher(loaded.queue, Path(loaded.server.state_dir))

    def send(batch: int) -> float:
        messages = [_message() for _ in range(600)]
        began = time.perf_counter()
        for start in range(0, len(messages), batch):
            assert publisher.publish(messages[start : start + batch]).trouble is None
        return len(messages) / (time.perf_counter() - began)

    _compare(
        "publish, messages/s: 200 in a pipeline / one confirm at a time", lambda: send(200), lambda: send(1), rounds
    )


def _relaying(runtime: Runtime, rounds: int) -> None:
    """From the outbox to the broker and marked."""
    sender = _delivery(runtime)

    def drain(batch: int) -> float:
        _fill(runtime, 400)
        sender._waiting._most = batch
        began = time.perf_counter()
        count = _drained(sender)
        return count / (time.perf_counter() - began)

    _compare("relay, events/s: batches of 200 / one at a time", lambda: drain(200), lambda: drain(1), rounds)
    sender._waiting._most = 200


def _under_way(runtime: Runtime, config: Path, count: int) -> None:
    """From just before the commit to a consumer's hands, an event every 50 ms, and an idle relay."""
    with relay(config), Connection(URL) as connection:
        queue = connection.SimpleQueue("fax.completed", no_ack=True, queue_opts={"no_declare": True})
        _empty(queue)
        spent = []
        for _ in range(count):
            time.sleep(0.05)
            began = time.perf_counter()
            _take(runtime)
            queue.get(timeout=10)
            spent.append((time.perf_counter() - began) * 1000)
        queue.close()
    spent.sort()
    p50, p99 = spent[len(spent) // 2], spent[int(len(spent) * 0.99)]
    print(f"| commit to consumer, idle, ms: p50, p99 | {p50:.1f} | {p99:.1f} | |", flush=True)


def _grown(runtime: Runtime, rounds: int, backlog: int) -> None:
    """The same work beside a backlog, and without one: the rows are put away and taken back between the rounds."""
    sender = _delivery(runtime)
    _preload(runtime, backlog)
    inserted: dict[bool, list[float]] = {True: [], False: []}
    relayed: dict[bool, list[float]] = {True: [], False: []}
    for _, grown in itertools.product(range(rounds), (True, False)):
        _hide(runtime, hidden=not grown)
        began = time.perf_counter()
        _fill(runtime, 200)
        inserted[grown].append(time.perf_counter() - began)
        began = time.perf_counter()
        count = sender.step()
        relayed[grown].append((time.perf_counter() - began) / count)
        if not grown:
            _drained(sender)
    for name, times in (("insert", inserted), ("relay", relayed)):
        ratios = [a / b for a, b in zip(times[True], times[False], strict=True)]
        a, b = (statistics.median(times[grown]) * 1000 for grown in (True, False))
        print(
            f"| {name} at a backlog of {backlog:,} / without, ms | {a:.3g} | {b:.3g} | {_spread(ratios)} |", flush=True
        )


def _compare(name: str, one: Any, other: Any, rounds: int) -> None:
    pairs = [(one(), other()) for _ in range(rounds + 1)][1:]  # the first one warms up
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"| {name} | {a:,.0f} | {b:,.0f} | {_spread([x / y for x, y in pairs])} |", flush=True)


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def _message() -> Message:
    number = next(_numbers)
    return Message(f"event-{number}", f"fax-{number}", "fax.completed.delivered", b"x" * 1100)


def _take(runtime: Runtime) -> None:
    at = now_ms()
    raw = RawCallback(next(_CALLBACKS), "application/x-www-form-urlencoded")
    intake.process(Arrival(runtime.endpoints["form"], raw, new_id(at), at), runtime)


def _fill(runtime: Runtime, count: int) -> None:
    for _ in range(count):
        _take(runtime)


def _delivery(runtime: Runtime) -> Delivery:
    publisher = Publisher(runtime.settings.queue, runtime.settings.server.state_dir)
    return Delivery(runtime.store, publisher, Stop())


def _drained(sender: Delivery) -> int:
    total = 0
    while sent := sender.step():
        total += sent
    return total


def _preload(runtime: Runtime, count: int) -> None:
    """Pending events as callbacks leave them, without their receipts and faxes."""
    tables, store = runtime.store.tables, runtime.store
    body = b'{"specversion":"1.0"}' + b" " * 1000
    at = now_ms()
    event = {"outcome": "delivered", "receipt": new_id(at), "created_at_ms": at, "body": body}
    first = 10**6
    for start in range(0, count, 20_000):
        ids = {first + number: f"{_BACKLOG}{number:012d}" for number in range(start, min(start + 20_000, count))}
        faxes = [{"seq": seq, "fax_id": one, "revision": 1} for seq, one in ids.items()]
        events = [{**fax, "id": fax["fax_id"], "checksum": checksum(fax["fax_id"], body), **event} for fax in faxes]
        rows = [{"sink": QUEUE, "turn": fax["seq"], **fax} for fax in faxes]
        with store.writing() as connection:
            connection.execute(tables.events.insert(), events)
            connection.execute(tables.waiting.insert(), rows)


def _hide(runtime: Runtime, *, hidden: bool) -> None:
    """Take the backlog out of the relay's sight, or back. To another sink, so that the tables stay as large."""
    waiting = runtime.store.tables.waiting
    was, becomes = (QUEUE, "hidden") if hidden else ("hidden", QUEUE)
    with runtime.store.writing(time.monotonic() + 300) as connection:
        of_backlog = waiting.c.fax_id.between(f"{_BACKLOG}{0:012d}", f"{_BACKLOG}{10**12 - 1:012d}")
        connection.execute(waiting.update().where(waiting.c.sink == was, of_backlog).values(sink=becomes))


def _empty(queue: Any) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            queue.get(timeout=1.5)
        except queue.Empty:
            return


@contextmanager
def relay(config: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "receiver", "relay", "--config", str(config)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(15)


@contextmanager
def vhost() -> Iterator[None]:
    _control("add_vhost", VHOST)
    try:
        _control("set_permissions", "-p", VHOST, "guest", ".*", ".*", ".*")
        yield
    finally:
        _control("delete_vhost", VHOST)


def _control(*arguments: str) -> None:
    subprocess.run(["rabbitmqctl", "-q", *arguments], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - log lines are made, not read
    logs.install()
    main()
