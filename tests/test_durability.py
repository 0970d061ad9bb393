"""
What was acknowledged is never lost: the real ``faxhook serve`` and ``consume``, killed while callbacks come in.

A ledger holds every callback sent and each answer that came complete. Afterwards everything that was read from the
queue, by consumers that were killed too, is compared with it and with the golden events of the callbacks.
"""

import http.client
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import pytest
from house import CONFIGURATION, FORM, TOKEN
from ports import free_port
from providers.samples import events as normalised

import receiver
from receiver import facts, providers, settings, simulator
from schemas.identity import fax_id

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc"),
]

CALLBACKS = 1000
CLIENTS = 16
RATE = 200  # a second, so that the kills find something to break
REFUSED_SHARE = 0.1


# --- the program ----------------------------------------------------------------------------------------------------


@dataclass
class Program:
    """faxhook in one folder, started and killed as often as the test likes."""

    folder: Path
    port: int
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(self, *arguments: str, output: Path) -> "subprocess.Popen[bytes]":
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("FAXHOOK", "PROMETHEUS"))}
        environment |= {"PYTHONPATH": str(Path(receiver.__path__[0]).parent), "WEB_CONCURRENCY": "2"}
        with output.open("ab") as out, (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "receiver", *arguments, "--config", "faxhook.toml"],
                cwd=self.folder,
                env=environment,
                stdout=out,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def serve(self) -> "subprocess.Popen[bytes]":
        process = self.start("serve", output=self.folder / "log")
        deadline = time.monotonic() + 120
        while not self._is_ready():
            assert process.poll() is None and time.monotonic() < deadline, (self.folder / "log").read_text()[-3000:]
            time.sleep(0.05)
        return process

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def run(self, *arguments: str, output: Path) -> None:
        assert self.start(*arguments, output=output).wait(120) == 0, (self.folder / "log").read_text()[-3000:]


@contextmanager
def program(folder: Path, store_url: str) -> Iterator[Program]:
    port = free_port()
    (folder / "faxhook.toml").write_text(CONFIGURATION.format(port=port, store=store_url))
    found = Program(folder, port)
    try:
        found.run("migrate", output=folder / "log")
        yield found
    finally:
        for process in found.processes:
            process.kill()  # its children die with it
            process.wait()


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def tree(pid: int) -> list[int]:
    return [pid, *(inner for child in children(pid) for inner in tree(child))]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def workers(serve: "subprocess.Popen[bytes]") -> list[int]:
    """The processes that serve: children of gunicorn's master, which is a child of ours with children."""
    return [worker for child in children(serve.pid) for worker in children(child)]


# --- the ledger -----------------------------------------------------------------------------------------------------


@dataclass
class Sent:
    """One callback, and every complete answer to it."""

    path: str
    content_type: str
    body: bytes
    fax_ids: list[str]  # empty: it must be refused
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    unanswered: int = 0


def ledger(config: Path, golden: dict[str, facts.Facts], seed: int) -> list[Sent]:
    """The callbacks to send, in every case that every provider has; golden is given the facts of their faxes."""
    chosen = random.Random(seed)
    plan = simulator.Plan(
        targets=simulator.targets(settings.load(config, {}), providers.load()), cases=None, count=CALLBACKS, seed=seed
    )
    sent = []
    for delivery in itertools.islice(plan.deliveries(), CALLBACKS):
        target, raw = delivery.target, delivery.raw
        if chosen.random() < REFUSED_SHARE:
            refused = urlencode({"OutTransID": len(sent), "AccountID": "1", "LastStatus": "busy"}).encode()
            sent.append(Sent(f"/callbacks/openfax/{TOKEN}", FORM, refused, []))
            continue
        found = normalised(target.provider.name, raw, account=target.account, timezone=target.timezone)
        ids = [str(fax_id(target.provider.name, event.account, event.key)) for event in found]
        golden.update(zip(ids, map(facts.of, found), strict=True))
        sent.append(Sent(target.path, raw.content_type, raw.body, ids))
    return sent


def send_all(port: int, callbacks: list[Sent], deadline: float) -> threading.Thread:
    """Start the clients; every second one sends again what was not answered, as long as there is time."""
    queue, mutex, started = iter(enumerate(callbacks)), threading.Lock(), time.monotonic()

    def client(is_stubborn: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            with mutex:
                index, callback = next(queue, (0, None))
            if callback is None:
                connection.close()
                return
            time.sleep(max(0.0, started + index / RATE - time.monotonic()))
            while not ask(connection, callback) and is_stubborn and time.monotonic() < deadline:
                time.sleep(0.05)

    clients = [threading.Thread(target=client, args=(index % 2 == 0,)) for index in range(CLIENTS)]
    for one in clients:
        one.start()

    def joined() -> None:
        for one in clients:
            one.join()

    everyone = threading.Thread(target=joined)
    everyone.start()
    return everyone


def ask(connection: http.client.HTTPConnection, callback: Sent) -> bool:
    try:
        connection.request("POST", callback.path, callback.body, {"Content-Type": callback.content_type})
        answer = connection.getresponse()
        callback.answers.append((answer.status, answer.read()))
    except (OSError, http.client.HTTPException):
        connection.close()
        callback.unanswered += 1
        return False
    return callback.answers[-1][0] < 500


# --- reading the queue ----------------------------------------------------------------------------------------------


class Consumers:
    """One `consume --follow` after the other, each killed after a while. Each writes a file of its own."""

    def __init__(self, found: Program) -> None:
        self._program = found
        self._files: list[Path] = []
        self._current: subprocess.Popen[bytes] | None = None

    def replace(self) -> None:
        """Kill the one that runs, once it has read something, and start the next."""
        if self._current is not None and not self._files[-1].stat().st_size:
            return
        self.kill()
        self._current = self._program.start("consume", "--follow", output=self._new_file())

    def kill(self) -> None:
        if self._current is not None:
            self._current.kill()
            self._current.wait()

    def drain(self) -> list[bytes]:
        """Everything that was ever read, the last line of a killed one left out where it was cut."""
        self.kill()
        self._program.run("consume", "--idle-seconds", "0.3", output=self._new_file())
        self._program.run("consume", output=(rest := self._new_file()))
        assert rest.read_bytes() == b""
        return [line for file in self._files for line in file.read_bytes().split(b"\n")[:-1]]

    def _new_file(self) -> Path:
        self._files.append(self._program.folder / f"consumed-{len(self._files)}")
        return self._files[-1]


def check(callbacks: list[Sent], lines: list[bytes], golden: dict[str, facts.Facts]) -> None:
    """The invariants."""
    by_id: dict[str, bytes] = {}
    for line in lines:
        event = json.loads(line)
        assert by_id.setdefault(event["id"], line) == line, "an event came again with other bytes"
    published = {event["subject"]: event for event in map(json.loads, by_id.values())}
    assert len(published) == len(by_id), "a fax was announced twice"

    # none invented, none altered
    for subject, event in published.items():
        assert subject in golden
        told = {name: event["data"][name] for name in golden[subject]}
        assert told == golden[subject]

    # none lost, and none of those that were refused
    for callback in callbacks:
        statuses = {status for status, _ in callback.answers}
        if not callback.fax_ids:
            assert statuses <= {422, 503}
            continue
        assert statuses <= {200, 503}
        for status, body in callback.answers:
            if status == 200:
                assert all(one in published for one in callback.fax_ids), "acknowledged and lost"
                if body.startswith(b"{"):
                    assert set(json.loads(body)["events"]) <= by_id.keys()


def campaign(
    folder: Path,
    store_url: str,
    seed: int,
    break_it: Callable[[Program, "subprocess.Popen[bytes]"], object],
    at_least: int,
) -> list[Sent]:
    """
    Callbacks come in, break_it is called until they have all been sent, and then the invariants are checked.

    at_least: how often it is called, however slowly the machine serves again. What was acknowledged must stay, also
    where nothing more comes in.
    """
    golden: dict[str, facts.Facts] = {}
    with program(folder, store_url) as found:
        callbacks = ledger(folder / "faxhook.toml", golden, seed)
        serve = found.serve()
        consumers = Consumers(found)
        consumers.replace()
        clients = send_all(found.port, callbacks, time.monotonic() + 90)
        try:
            for number in itertools.count():
                if number >= at_least and not clients.is_alive():
                    break
                serve = break_it(found, serve) or serve
                consumers.replace()
        finally:
            clients.join()
        check(callbacks, consumers.drain(), golden)
        serve.send_signal(signal.SIGTERM)
        assert serve.wait(60) == 0
    return callbacks


def answered(callbacks: list[Sent]) -> int:
    return sum(any(status < 500 for status, _ in callback.answers) for callback in callbacks)


# --- the campaigns --------------------------------------------------------------------------------------------------


def test_killed_workers_lose_nothing(tmp_path, store_url):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chosen = random.Random(seed)
    killed = []

    def kill_a_worker(_program, serve):
        time.sleep(chosen.uniform(0.5, 1.0))
        if found := workers(serve):
            killed.append(chosen.choice(found))
            os.kill(killed[-1], signal.SIGKILL)

    callbacks = campaign(tmp_path, store_url, seed, kill_a_worker, at_least=6)
    assert len(killed) >= 4
    assert answered(callbacks) > 0.1 * CALLBACKS


def test_a_killed_tree_loses_nothing_and_serves_again(tmp_path, sqlite_url):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    kills = itertools.count()
    chosen = random.Random(seed)

    def kill_it_all(found, serve):
        time.sleep(chosen.uniform(1.0, 2.0))
        number = next(kills)
        if number > 1:
            return None
        processes = tree(serve.pid)
        # first only the parent, whose children must not live on and hold the port; then all at once
        for pid in processes[: 1 if number == 0 else None]:
            os.kill(pid, signal.SIGKILL)
        serve.wait()
        deadline = time.monotonic() + 60
        while any(map(is_alive, processes)):
            assert time.monotonic() < deadline, "an orphan lives on"
            time.sleep(0.02)
        return found.serve()

    callbacks = campaign(tmp_path, sqlite_url, seed, kill_it_all, at_least=2)
    assert answered(callbacks) > 0.1 * CALLBACKS
