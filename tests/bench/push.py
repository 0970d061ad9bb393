"""
What a push of many recipients costs before the store: ``python tests/bench/push.py [--against FOLDER] [--rounds N]``.

Each figure is CPU time in multiples of ``xmltodict.parse`` of the same body, the two measured in turn. FOLDER is a work
tree of another commit (``git worktree add FOLDER COMMIT``), run by this Python in a process of its own, in turn with
this one. Stages are measured one by one with the garbage collector off; "bytes to submission" is the line as it runs,
and "to commit" adds the store. A report, not a test.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import xmltodict
from callbacks import content_type, push
from recording import House, _Collector, _Handed

ROOT = Path(__file__).parents[2]
SIZES = (1, 100, 500, 2000)  # recipients
STAGES_OF = 500  # of them
TURNS = 5  # within a process

_numbers = iter(range(10**9))


def pushes(recipients: int) -> Iterator[bytes]:
    """Pushes without end, each about a job and numbers of its own."""
    for number in _numbers:
        yield push(number, recipients)


def stages(house: House) -> dict[str, float]:
    """Each stage of a push of 500, in multiples of xmltodict.parse."""
    found: dict[str, list[float]] = {}
    for body in (next(pushes(STAGES_OF)) for _ in range(TURNS + 1)):
        gc.collect()
        gc.disable()
        spent = dict(_stage_by_stage(house, body))
        gc.enable()
        parse = spent.pop("parse")
        for name, seconds in spent.items():
            found.setdefault(f"{STAGES_OF} recipients, {name}", []).append(seconds / parse)
    return {name: statistics.median(values[1:]) for name, values in found.items()}


def _stage_by_stage(house: House, body: bytes) -> Iterator[tuple[str, float]]:
    """Name and CPU seconds of each stage, one after the other."""
    from receiver import intake, stations
    from receiver.providers import RawCallback, comes_in, read
    from receiver.store import new_id, now_ms

    endpoint = house.runtime.endpoints["retarus"]
    callback = endpoint.provider.push
    raw = RawCallback(body, content_type("xml"))
    yield "parse", _spent(lambda: xmltodict.parse(body))[0]
    seconds, data = _spent(lambda: read(raw, callback))
    yield "decode", seconds
    seconds, message = _spent(lambda: None if comes_in(data) else callback.shape(data))
    yield "shape", seconds
    seconds, (loaded, unreadable) = _spent(lambda: stations.check(message, callback.schema))
    yield "schema", seconds
    seconds, entries = _spent(lambda: callback.normalise(loaded, endpoint.source))
    yield "normalise", seconds
    at = now_ms()
    arrival = intake.Arrival(endpoint, raw, new_id(at), at)
    seconds, _ = _spent(
        lambda: intake.submit(arrival, house.runtime, entries, unreadable, repaired=set(), refusal=None, ignored=None)
    )
    yield "submission", seconds


def whole(house: House, *, commits: bool) -> dict[str, float]:
    """The line as it runs, for pushes of several sizes."""
    from receiver import intake
    from receiver.providers import RawCallback
    from receiver.store import new_id, now_ms

    runtime = house.runtime if commits else replace(house.runtime, writer=_Collector())  # type: ignore[arg-type]
    endpoint = runtime.endpoints["retarus"]

    def take(body: bytes) -> None:
        at = now_ms()
        with suppress(_Handed):
            intake.process(intake.Arrival(endpoint, RawCallback(body, content_type("xml")), new_id(at), at), runtime)

    found = {}
    for recipients in SIZES:
        repeats = max(1, 200 // recipients)
        ratios = []
        for _ in range(TURNS + 1):
            bodies = [body for body, _ in zip(pushes(recipients), range(repeats), strict=False)]
            ours, _ = _spent(lambda bodies=bodies: [take(body) for body in bodies])  # type: ignore[misc]
            parse, _ = _spent(lambda bodies=bodies: [xmltodict.parse(body) for body in bodies])  # type: ignore[misc]
            ratios.append(ours / parse)
        end = "commit" if commits else "submission"
        found[f"{recipients} recipients, bytes to {end}"] = statistics.median(ratios[1:])
    return found


def _spent(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    done = work()
    return time.process_time() - began, done


def measure() -> dict[str, float]:
    found: dict[str, float] = {}
    for look in (stages, lambda house: whole(house, commits=False), lambda house: whole(house, commits=True)):
        with tempfile.TemporaryDirectory(prefix="faxhook-bench-") as folder:
            found |= look(House(Path(folder)))
    return found


def _ask(checkout: Path) -> dict[str, float]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FAXHOOK", "PROMETHEUS"))}
    command = [sys.executable, __file__, "--measure"]
    done = subprocess.run(
        command,
        env=kept | {"PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="a work tree of another commit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(json.dumps(measure()))
        return
    sides = [ROOT, *([chosen.against.resolve()] if chosen.against else [])]
    rounds = [[_ask(side) for side in sides] for _ in range(chosen.rounds)]
    print("| in multiples of xmltodict.parse | here | there |\n| --- | --- | --- |")
    for name in rounds[0][0]:
        columns = [[one[side][name] for one in rounds] for side in range(len(sides))]
        cells = [f"{statistics.median(column):.2f} ({min(column):.2f}–{max(column):.2f})" for column in columns]
        print(f"| {name} | {' | '.join([*cells, ''][:2])} |")


if __name__ == "__main__":
    main()
