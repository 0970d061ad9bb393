"""
The embedded queue: consumers that are killed again and again while the same faxes are amended.

All append to one file, so that it has what they wrote in the order in which they wrote it.
"""

import json
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from announcing import fax, rows, submission
from house import CONFIGURATION

import receiver
from receiver.store import Store
from receiver.store.writer import Writer
from schemas.event import Recipient

BEGINNING = b'{"specversion":'
LARGEST_BATCH = 50


class Consumers:
    """So many of ``faxhook consume --follow``, each replaced by another when it is killed."""

    def __init__(self, folder, store, count):
        config = folder / "faxhook.toml"
        config.write_text(CONFIGURATION.format(port=8000, store=store.url.render_as_string(hide_password=False)))
        self._command = [sys.executable, "-m", "receiver", "consume", "--config", str(config)]
        self._environment = {**os.environ, "PYTHONPATH": str(Path(receiver.__path__[0]).parent)}
        self._folder = folder
        self.written = folder / "written"
        self.kills = 0
        self._processes = {process.pid: process for process in (self._start("--follow") for _ in range(count))}

    def _start(self, *options):
        with self.written.open("ab") as out, (self._folder / "log").open("ab") as log:
            return subprocess.Popen([*self._command, *options], env=self._environment, stdout=out, stderr=log)

    def kill(self, holder):
        """One that holds events, in the middle of whatever it does."""
        process = self._processes.pop(int(holder.split("/")[1]), None)
        if process is not None:
            process.kill()
            process.wait()
            self.kills += 1
            following = self._start("--follow")
            self._processes[following.pid] = following

    def end(self):
        for process in self._processes.values():
            process.kill()
            process.wait()

    def take_the_rest(self):
        assert self._start("--idle-seconds", "0.5").wait(120) == 0, (self._folder / "log").read_text()[-2000:]

    def events(self):
        """What was written, each in its bytes; without lines that a killed one did not bring to their ends."""
        *lines, _ = self.written.read_bytes().split(b"\n")
        return [line[line.rfind(BEGINNING) :] for line in lines]


@contextmanager
def consumers(folder, store, count):
    made = Consumers(folder, store, count)
    try:
        yield made
    finally:
        made.end()


def amend(url, keys, times, pause):
    """
    One instance: these faxes are told, and then amended so many times. Three events of each at once, so that later ones
    wait while an earlier one is in somebody's hands.
    """
    store = Store(url)
    writer = Writer(store)
    for version in range(times + 1):
        number = Recipient(number=f"+1303555{version:04}")
        writer.submit(submission(*[fax(key, recipient=number) for key in keys]))
        if version % 3 == 2:
            time.sleep(pause)
    store.close()


def holders(store):
    return sorted({holder for holder in rows(store, "waiting", "holder") if holder is not None})


@pytest.mark.parametrize(
    ("count", "faxes", "times", "pause"),
    [(3, 100, 8, 1.0), pytest.param(8, 500, 10, 8.0, marks=pytest.mark.campaign)],
    ids=["short", "long"],
)
def test_each_event_is_written_and_those_of_a_fax_in_their_order(tmp_path, store, count, faxes, times, pause):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    url = store.url.render_as_string(hide_password=False)
    keys = [str(number) for number in range(faxes)]
    with consumers(tmp_path, store, count) as reading, ThreadPoolExecutor(2) as threads:
        amending = [threads.submit(amend, url, keys[start::2], times, pause) for start in range(2)]
        # On a busy machine they may begin to read when all has been told.
        while not all(one.done() for one in amending) or (reading.kills == 0 and rows(store, "waiting")):
            time.sleep(chance.uniform(0.0, 0.01))
            if found := holders(store):
                reading.kill(chance.choice(found))
                time.sleep(chance.uniform(0.0, 0.3))
        for one in amending:
            one.result()
        reading.end()
        reading.take_the_rest()
        written = reading.events()
    print(f"{reading.kills} killed, {len(written)} lines")
    assert reading.kills > 0
    stored = {event.id: event.body for event in rows(store, "events")}
    assert len(stored) == faxes * (times + 1)
    by_fax = {}
    for body in written:
        event = json.loads(body)
        assert stored[event["id"]] == body
        by_fax.setdefault(event["subject"], []).append(event["data"]["revision"])
    for revisions in by_fax.values():
        assert revisions == sorted(revisions), "also of what was written again"
        assert set(revisions) == set(range(1, times + 2))
    assert len(by_fax) == faxes
    assert len(written) - len(stored) <= LARGEST_BATCH * reading.kills, "only what a killed one had not acknowledged"
    assert rows(store, "waiting") == []
