"""
The random-kill campaign: see README.md beside this file.

Callbacks go to ``faxhook serve`` on SQLite without being sent again, while workers, gunicorn, the relay, the whole
service and RabbitMQ are killed, frozen or starved at random. Then everything is healed, and the books must balance.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from brokers import Node, running_node  # noqa: E402
from served import Load, check, children, relay_of, running, serving  # noqa: E402
from stock import Stock  # noqa: E402
from waiting import until  # noqa: E402

CLIENTS = 3


class Nemesis:
    """Does harm, and has undone it when ``strike()`` returns; but for the service, which is to come back by itself."""

    def __init__(self, node: Node, made: Stock, chance: random.Random) -> None:
        self._node = node
        self._made = made
        self._chance = chance
        self._stack = ExitStack()
        self._serve: subprocess.Popen[bytes] | None = None
        self.strikes: Counter[str] = Counter()
        self.begin()

    def begin(self) -> None:
        self._stack.close()
        self._serve = self._stack.enter_context(running(self._made, "serve"))

    def strike(self) -> None:
        kill: dict[Callable[[], None], int] = {
            self.kill_relay: 6,
            self.kill_worker: 6,
            self.kill_service: 2,
            self.kill_broker: 1,
            self.freeze_broker: 1,
            self.alarm_broker: 1,
        }
        (chosen,) = self._chance.choices(list(kill), list(kill.values()))
        self.strikes[chosen.__name__] += 1
        chosen()

    def kill_relay(self) -> None:
        if self._serve is not None and (pid := relay_of(self._serve)):
            os.kill(pid, signal.SIGKILL)

    def kill_worker(self) -> None:
        """Or gunicorn itself, whose end ends the service."""
        assert self._serve is not None
        masters = [pid for pid in children(self._serve.pid) if pid != relay_of(self._serve)]
        found = [pid for master in masters for pid in (master, *children(master))]
        if found:
            os.kill(self._chance.choice(found), signal.SIGKILL)
        until_over = time.monotonic() + 1
        while time.monotonic() < until_over and self._serve.poll() is None:
            time.sleep(0.05)
        if self._serve.poll() is not None:
            self.begin()

    def kill_service(self) -> None:
        self.begin()

    def kill_broker(self) -> None:
        self._node.kill()
        time.sleep(self._chance.uniform(0, 3))
        self._node.start()

    def freeze_broker(self) -> None:
        with self._node.frozen():
            time.sleep(self._chance.uniform(1, 15))

    def alarm_broker(self) -> None:
        with self._node.alarmed():
            time.sleep(self._chance.uniform(1, 10))

    def rest(self) -> None:
        """Leave it alone until everything has arrived; then end it, in good order."""
        self.begin()
        assert self._serve is not None
        until(lambda: set(self._made.states()) == {"published"}, 120)
        self._serve.terminate()
        assert self._serve.wait(60) == 0
        self._stack.close()


def send(load: Load, ended: threading.Event, answers: Counter[str]) -> None:
    while not ended.wait(0.01):
        try:
            answers[str(load.post())] += 1
        except (OSError, HTTPException) as error:
            answers[type(error).__name__] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    chance = random.Random(chosen.seed)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faxhook-campaign-")))
        (folder / "node").mkdir()
        node = stack.enter_context(running_node(folder / "node"))
        line = node.line()
        made, first = stack.enter_context(serving(folder / "served", f"sqlite:///{folder}/served/store/f.db", line))
        nemesis = Nemesis(node, made, chance)
        until(first.is_up)
        loads = [Load(first.port, f"{number}-") for number in range(CLIENTS)]
        ended, answers = threading.Event(), Counter[str]()
        threads = [threading.Thread(target=send, args=[load, ended, answers], daemon=True) for load in loads]
        for thread in threads:
            thread.start()
        ends = time.monotonic() + chosen.minutes * 60
        while time.monotonic() < ends:
            time.sleep(chance.uniform(0.3, 1.5))
            nemesis.strike()
        ended.set()
        for thread in threads:
            thread.join()
        nemesis.rest()
        received = line.take()
        print(f"struck {sum(nemesis.strikes.values())} times: {dict(nemesis.strikes)}")
        print(f"answers: {dict(answers)}")
        accepted = sum(len(load.accepted) for load in loads)
        print(f"accepted {accepted}, events {len(made.events())}, arrived {len(received)}")
        check(made, received, *loads)
        with made.runtime.store.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        print("lost 0; every duplicate is the same event; every fax in its order; the store is whole")


if __name__ == "__main__":
    main()
