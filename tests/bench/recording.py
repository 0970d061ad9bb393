"""
What recording costs, beside another checkout's: ``python tests/bench/recording.py [--against FOLDER] [--rounds N]``.

FOLDER is a work tree of another commit (``git worktree add FOLDER COMMIT``), run by this Python; without it the figures
stand alone. Each round measures both sides in turn, each in a process of its own on a fresh SQLite store. CPU time, as
the others of this folder: a report, not a test. ``--faxes N`` sets how many fill the large store (1,000,000 in the
tables of README.md; an hour).
"""

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import xmltodict
from callbacks import bodies, configuration, content_type

ROOT = Path(__file__).parents[2]
GROUPS = (1, 8, 32)
FAXES = 640  # recorded for each figure
WARM_UP = 320
COMMITS = 400  # looked at for pages and trees

# --- one checkout, in a process of its own --------------------------------------------------------------------------


class _Handed(Exception):  # noqa: N818 - a way out, and no error
    """What the line hands over to be recorded."""


class _Collector:
    def submit(self, submission: Any) -> None:
        raise _Handed(submission)

    hand_over = submit


class House:
    """A fresh store, and the line up to the point where something is recorded."""

    def __init__(self, folder: Path) -> None:
        from receiver import bootstrap, settings
        from receiver.store.migrating import migrate

        config = folder / "faxhook.toml"
        config.write_text(configuration(str(folder), 21871))
        loaded = settings.load(config, {})
        store = bootstrap.open_store(loaded)
        migrate(store)
        store.close()
        self.file = folder / "faxhook.db"
        self.runtime = bootstrap.build(loaded)
        self._collecting = replace(self.runtime, writer=_Collector())  # type: ignore[arg-type]
        self._sources = {form: bodies(form) for form in ("form", "xml-500")}

    def submission(self, form: str = "form") -> Any:
        """What one callback about new faxes asks the store to record."""
        from receiver import intake
        from receiver.providers import RawCallback
        from receiver.store import new_id, now_ms

        at = now_ms()
        endpoint = self.runtime.endpoints["form" if form == "form" else "retarus"]
        raw = RawCallback(next(self._sources[form]), content_type(form))
        try:
            intake.process(intake.Arrival(endpoint, raw, new_id(at), at), self._collecting)
        except _Handed as handed:
            return handed.args[0]
        raise AssertionError("nothing was handed over")

    def record(self, submissions: list[Any]) -> None:
        from receiver.store.recording import record

        store = self.runtime.store
        with store.recording(time.monotonic() + 60) as cursor:
            record(cursor, store.engine.dialect, submissions)


def _cpu_of_groups(house: House) -> dict[str, float]:
    """CPU microseconds to record a fax, in commits of so many."""
    house.record([house.submission() for _ in range(WARM_UP)])
    found = {}
    for size in GROUPS:
        groups = [[house.submission() for _ in range(size)] for _ in range(FAXES // size)]
        began = time.process_time()
        for group in groups:
            house.record(group)
        found[f"CPU of recording a fax in groups of {size}, µs"] = (time.process_time() - began) / FAXES * 1e6
    return found


def _pages(house: House) -> dict[str, float]:
    """Pages and trees that one new fax alone in its commit writes: the frames of the write-ahead log."""
    log = house.file.with_name(house.file.name + "-wal")
    house.record([house.submission()])
    size = int.from_bytes(log.read_bytes()[8:12], "big")
    written: list[list[int]] = []
    before = len(list(_frames(log, size)))
    for _ in range(COMMITS):
        house.record([house.submission()])
        frames = list(_frames(log, size))
        written.append(frames[before if len(frames) > before else 0 :])  # else the log has begun again
        before = len(frames)
    names = _trees(house.file)
    pages = [len(set(numbers)) for numbers in written]
    trees = [len({names[number] for number in numbers if number in names}) for numbers in written]
    return {
        "pages a new fax alone writes": statistics.median(pages),
        "trees a new fax alone writes": statistics.median(trees),
    }


def _trees(file: Path) -> dict[int, str]:
    """The tree that each page belongs to; read from a copy, as two SQLite libraries in one process share no locks."""
    copy = file.with_name("copy.db")
    for suffix in ("", "-wal"):
        shutil.copyfile(file.with_name(file.name + suffix), copy.with_name(copy.name + suffix))
    with closing(sqlite3.connect(copy)) as connection:
        return dict(connection.execute("SELECT pageno, name FROM dbstat").fetchall())


def _frames(log: Path, size: int) -> Iterator[int]:
    """The page numbers of the log's frames: https://www.sqlite.org/fileformat2.html#walformat."""
    data = log.read_bytes()
    salts = data[16:24]
    for at in range(32, len(data) - size - 23, size + 24):
        if data[at + 8 : at + 16] != salts:
            return
        yield int.from_bytes(data[at : at + 4], "big")


def _large_store(house: House, faxes: int) -> dict[str, float]:
    """The same in a store of so many faxes, and the disk that each takes."""
    for _ in range(faxes // 100):
        house.record([house.submission() for _ in range(100)])
    found = {f"{name}, in the large store": value for name, value in _cpu_of_groups(house).items()}
    return {"disk a fax, bytes": house.file.stat().st_size / faxes, **found}


def _recipients(house: House) -> dict[str, float]:
    """A push of 500 recipients, from its bytes to the commit, in multiples of xmltodict.parse alone."""
    house.record([house.submission("xml-500")])
    whole, parse = [], []
    body = next(bodies("xml-500"))
    for _ in range(5):
        began = time.process_time()
        house.record([house.submission("xml-500")])
        middle = time.process_time()
        xmltodict.parse(body)
        whole.append(middle - began)
        parse.append(time.process_time() - middle)
    return {"500 recipients, bytes to commit / xmltodict.parse": statistics.median(whole) / statistics.median(parse)}


def measure(faxes: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for look in (_cpu_of_groups, _pages, _recipients):
        with tempfile.TemporaryDirectory(prefix="faxhook-bench-") as folder:
            found |= look(House(Path(folder)))
    if faxes:
        with tempfile.TemporaryDirectory(prefix="faxhook-bench-") as folder:
            found |= _large_store(House(Path(folder)), faxes)
    return found


# --- both, in turn --------------------------------------------------------------------------------------------------


def _ask(checkout: Path, faxes: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", "--faxes", str(faxes)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FAXHOOK", "PROMETHEUS"))}
    environment = kept | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="a work tree of another commit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--faxes", type=int, default=20_000)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(json.dumps(measure(chosen.faxes)))
        return
    sides = [ROOT, *([chosen.against.resolve()] if chosen.against else [])]
    rounds = [[_ask(side, chosen.faxes) for side in sides] for _ in range(chosen.rounds)]
    print("| row | here | there | here / there |\n| --- | --- | --- | --- |")
    for name in rounds[0][0]:
        values = [[found[name] for found in one] for one in rounds]
        medians = [f"{statistics.median(column):,.4g}" for column in zip(*values, strict=True)]
        ratios = [one[0] / one[1] for one in values if len(one) > 1]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})" if ratios else ""
        print(f"| {name} | {' | '.join([*medians, *[''] * (2 - len(medians))])} | {spread} |")


if __name__ == "__main__":
    main()
