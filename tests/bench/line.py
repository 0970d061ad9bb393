"""
The whole line beside a bare Flask 204 on gunicorn's own threads, with the same settings otherwise.

``python tests/bench/line.py [--relay] [ROUNDS [FORM ...]]``; with ``--relay``, events also go on to RabbitMQ meanwhile,
which then has to be there as for ``outbox.py``.

Both servers run at once and are measured in turn, A B A B, since only ratios of one interleaved run mean anything on a
shared machine. Prints a Markdown table: medians over the rounds, lowest and highest in brackets. A report, not a test.
"""

import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from callbacks import FORMS, configuration, path
from outbox import URL, relay, vhost

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PORTS = {"bare": 21870, "faxhook": 21871}
CONNECTIONS = (1, 16, 50)
# As many kept connections as are sent over; neither of its workers takes many more than half of them.
THREADS = ("--worker-class", "gthread", "--worker-connections", "66")
_COUNTS = {"form": 1600, "json": 1600, "xml": 1600, "xml-500": 150}
_starts = itertools.count(0, 1_000_000)


@dataclass(frozen=True)
class Sample:
    rate: float  # requests a second
    p50: float  # seconds
    cpu: float  # seconds of the server's processes for each request


def main() -> None:
    arguments = sys.argv[1:]
    relays = "--relay" in arguments
    arguments = [one for one in arguments if one != "--relay"]
    rounds = int(arguments[0]) if arguments else 5
    with vhost() if relays else nullcontext(), tempfile.TemporaryDirectory(prefix="faxhook-bench-") as folder:
        config = Path(folder) / "faxhook.toml"
        queue = f'\n[queue]\nurl = "{URL}"\n' if relays else ""
        config.write_text(configuration(folder, PORTS["faxhook"]) + queue)
        environment = {**os.environ, "FAXHOOK_CONFIG": str(config), "PYTHONPATH": f"{ROOT}:{HERE}"}
        faxhook = [sys.executable, "-m", "receiver", "--config", str(config)]
        subprocess.run([*faxhook, "migrate"], check=True, env=environment, stdout=subprocess.DEVNULL)
        with (
            _server("bare", "bare:app", environment, *THREADS) as bare,
            _server("faxhook", "receiver.wsgi:app", environment) as ours,
            relay(config) if relays else nullcontext(),
        ):
            print("| callback | connections | requests/s, bare | requests/s, faxhook | ratio | p50 ratio | CPU ratio |")
            print("| --- | --- | --- | --- | --- | --- | --- |")
            for form in arguments[1:] or FORMS:
                for connections in CONNECTIONS:
                    print(_row(form, connections, rounds, bare, ours), flush=True)


def _row(form: str, connections: int, rounds: int, bare: int, ours: int) -> str:
    pairs = []
    for turn in range(rounds + 1):
        pair = (_measure("bare", bare, form, connections), _measure("faxhook", ours, form, connections))
        if turn:  # the first one warms up
            pairs.append(pair)
    rate = [b.rate / a.rate for a, b in pairs]
    p50 = [b.p50 / a.p50 for a, b in pairs]
    cpu = [b.cpu / a.cpu for a, b in pairs]
    absolute = [f"{statistics.median(sample.rate for sample in side):,.0f}" for side in zip(*pairs, strict=True)]
    cells = [form, str(connections), *absolute, _spread(rate), _spread(p50), _spread(cpu)]
    return f"| {' | '.join(cells)} |"


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g}–{max(values):.3g})"


def _measure(name: str, master: int, form: str, connections: int) -> Sample:
    count = max(_COUNTS[form] // (1 if connections > 1 else 3), connections)
    arguments = [PORTS[name], path(form), form, connections, count, next(_starts)]
    before = _cpu_seconds(master)
    command = [sys.executable, str(HERE / "sender.py"), *map(str, arguments)]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=300).stdout)
    if result["failures"]:
        raise SystemExit(f"{name}: {result['failures']} of {count} {form} callbacks were refused")
    return Sample(result["rate"], result["p50"], (_cpu_seconds(master) - before) / count)


def _cpu_seconds(master: int) -> float:
    """User and system time of gunicorn's workers."""
    ticks = 0
    for child in Path(f"/proc/{master}/task/{master}/children").read_text().split():
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def _server(name: str, application: str, environment: dict[str, str], *options: str) -> Iterator[int]:
    command = [sys.executable, "-m", "gunicorn", "-c", "python:receiver.web.gunicorn_conf"]
    command += ["-b", f"127.0.0.1:{PORTS[name]}", *options, application]
    with tempfile.TemporaryDirectory() as metrics:
        # The log has a reader, as it has wherever containers run.
        process = subprocess.Popen(
            command, env={**environment, "PROMETHEUS_MULTIPROC_DIR": metrics}, stderr=subprocess.PIPE
        )
        subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        try:
            _await(PORTS[name])
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(15)


def _await(port: int) -> None:
    for _ in range(100):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                time.sleep(1)  # the other worker
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"nothing listens on port {port}")


if __name__ == "__main__":
    main()
