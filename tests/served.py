"""``faxhook serve`` as a process, callbacks sent to it, and what must hold for what arrives at the broker."""

import json
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from brokers import Line, Received
from house import CONFIGURATION, FORM, TOKEN, ask
from ports import free_port
from stock import Stock, stock


@contextmanager
def running(made: Stock, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
    """faxhook, killed at the end unless it has ended; what it said goes to a file of the command's name beside it."""
    with (made.config.parent / f"{command[0]}.log").open("ab") as log:
        process = made.start(*command, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Load:
    """
    Callbacks, one after the other: of each fax two that contradict, so that there are revisions to keep in order.

    accepted: job id and outcome of those that were answered with 2xx; tried: of all.
    """

    def __init__(self, port: int, prefix: str = "") -> None:
        self.accepted: set[tuple[str, str]] = set()
        self.tried: set[tuple[str, str]] = set()
        self.port = port
        self._prefix = prefix
        self._number = 0

    def is_up(self) -> bool:
        try:
            return ask(self.port, "GET", "/healthz").status == 200
        except OSError:
            return False

    def run(self, seconds: float) -> list[float]:
        """Send for so long; the times until the answers, each of them 2xx, sorted."""
        times = []
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            started = time.perf_counter()
            assert 200 <= self.post() < 300
            times.append(time.perf_counter() - started)
            time.sleep(0.01)
        return sorted(times)

    def post(self) -> int:
        """The next one; the answer's status. Raises OSError and HTTPException where there is none."""
        job, second = divmod(self._number, 2)
        self._number += 1
        callback = (f"{self._prefix}{job + 1}", "failed" if second else "delivered")
        self.tried.add(callback)
        body = f"OutTransID={callback[0]}&AccountID=1&LastStatus={2 if second else 0}".encode()
        status = ask(self.port, "POST", f"/callbacks/openfax/{TOKEN}", body, Content_Type=FORM).status
        if 200 <= status < 300:
            self.accepted.add(callback)
        return status


def in_order(received: list[Received]) -> bool:
    """Per fax, by first arrival."""
    revisions: dict[str, list[int]] = defaultdict(list)
    for one in received:
        event = json.loads(one.body)
        if event["data"]["revision"] not in revisions[event["subject"]]:
            revisions[event["subject"]].append(event["data"]["revision"])
    return all(found == sorted(found) for found in revisions.values())


def p99(times: list[float]) -> float:
    return times[min(len(times) - 1, round(len(times) * 0.99))]


@contextmanager
def serving(folder: Path, store_url: str, line: Line) -> Iterator[tuple[Stock, Load]]:
    """A configured folder for ``faxhook serve`` with its queue on the line."""
    port = free_port()
    with stock(folder, store_url, CONFIGURATION.replace("{port}", str(port)) + line.toml()) as made:
        yield made, Load(port)


def children(pid: int) -> list[int]:
    with suppress(FileNotFoundError, ProcessLookupError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def relay_of(serve: "subprocess.Popen[bytes]") -> int:
    """Its pid; 0 while there is none."""
    for pid in children(serve.pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            if b"\0relay\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    return 0


def check(made: Stock, received: list[Received], *loads: Load) -> None:
    """Nothing is lost, parked, invented or altered; what came twice is the same; every fax is in its order."""
    assert set(made.states()) == {"published"}
    stored = {event["id"] for event in made.events()}
    assert {one.event_id for one in received} == stored
    facts = [json.loads(one.body)["data"] for one in received]
    arrived = {(fact["provider_job_id"], fact["outcome"]) for fact in facts}
    assert {one for load in loads for one in load.accepted} <= arrived
    assert arrived <= {one for load in loads for one in load.tried}
    payloads = made.payloads()
    assert all(one.body == payloads[one.event_id] for one in received)
    assert in_order(received)


def shown(made: Stock) -> str | None:
    """The trouble that the relay tells those who watch it."""
    table = made.runtime.store.tables.relays
    with made.runtime.store.reading() as connection:
        row = connection.execute(table.select()).first()
    return None if row is None else row.trouble
