"""A pair of PostgreSQL servers: the primary is gone at once, its standby is promoted, and callbacks never stop."""

import json
import threading
import time
from collections import Counter
from http.client import HTTPException
from pathlib import Path

import pytest
from house import CONFIGURATION
from ports import free_port
from served import Load, running
from servers import postgresql_pair
from stock import stock
from waiting import until

pytestmark = [pytest.mark.campaign, pytest.mark.service("postgresql")]

CLIENTS = 4
CALLBACKS = 50  # of each client, before and after
AWAY_SECONDS = 3.0
LONGEST_SECONDS = 30.0  # without a callback that is taken


class Client:
    """Sends callbacks one after the other. answers: how often each status; taken_at: when the last one was 2xx."""

    def __init__(self, port: int, prefix: str) -> None:
        self.load = Load(port, prefix)
        self.answers: Counter[object] = Counter()
        self.longest = 0.0
        self._taken_at = 0.0

    def send(self, ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                status = self.load.post()
            except (OSError, HTTPException) as error:
                self.answers[type(error).__name__] += 1
                continue
            self.answers[status] += 1
            now = time.monotonic()
            if 200 <= status < 300:
                self.longest = max(self.longest, now - (self._taken_at or now))
                self._taken_at = now
            else:
                ended.wait(0.05)


def test_a_failover_loses_nothing_and_is_over_soon(tmp_path: Path) -> None:
    port = free_port()
    with postgresql_pair() as (primary, standby):
        both = f"postgresql://{primary.place},127.0.0.1:{standby.port}/postgres?target_session_attrs=read-write"
        with stock(tmp_path, both, CONFIGURATION.replace("{port}", str(port))) as made, running(made, "serve"):
            clients = [Client(port, str(number)) for number in range(1, CLIENTS + 1)]
            until(clients[0].load.is_up)
            ended = threading.Event()
            senders = [threading.Thread(target=client.send, args=(ended,)) for client in clients]
            for sender in senders:
                sender.start()
            try:
                some_more(clients)
                primary.cut_off()
                time.sleep(AWAY_SECONDS)  # until somebody, or a program, has decided
                standby.ask("SELECT pg_promote()")
                some_more(clients)
            finally:
                ended.set()
                for sender in senders:
                    sender.join()
        answers = sum((client.answers for client in clients), Counter())
        assert set(answers) == {200, 503}, answers
        assert max_of(clients) < LONGEST_SECONDS
        with stock(tmp_path / "then", both) as made:
            told = set().union(*(client.load.accepted for client in clients))
            arrived = Counter(
                (fact["provider_job_id"], fact["outcome"])
                for fact in (json.loads(line)["data"] for line in made.consumed())
            )
            assert told <= arrived.keys()
            assert set(arrived.values()) == {1}
        print(f"{answers[503]} callbacks of {answers.total()} were answered 503, for at most", max_of(clients), "s")


def some_more(clients: list[Client]) -> None:
    counts = [len(client.load.accepted) + CALLBACKS for client in clients]
    until(lambda: all(len(one.load.accepted) >= count for one, count in zip(clients, counts, strict=True)), 120)


def max_of(clients: list[Client]) -> float:
    return round(max(client.longest for client in clients), 1)
