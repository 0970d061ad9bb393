"""
A report of many rows: how fast it is taken in, beside the store alone, and in how much memory.

``python tests/bench/reports.py [ROUNDS [ROWS]]``. The provider is a socket that sends one long FAXAGE reply, from a
process of its own. Ratios are of things measured in turn in this run. A report, not a test.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from receiver import bootstrap, facts, logs, settings
from receiver.providers import Ask, Client
from receiver.reconcile import Choice, reconcile
from receiver.runtime import Runtime
from receiver.store import new_id, now_ms
from receiver.store.migrating import migrate
from receiver.store.recording import record
from receiver.store.submissions import REPORT, Announcement, Submission
from receiver.system.stopping import Stop
from schemas.identity import fax_id

_PART = 500  # faxes in one transaction, as reconcile has them

# Sends the reply to whatever it is asked but for calls, of which there are none. argv: rows, end (seconds since 1970).
_PROVIDER = r"""
import http.server, sys
from datetime import UTC, datetime, timedelta
rows, end = int(sys.argv[1]), datetime.fromtimestamp(int(sys.argv[2]), UTC)
class Reply(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        for start in [] if self.path == "/getcdr.php" else range(0, rows, 1000):
            lines = []
            for number in range(start, min(start + 1000, rows)):
                sent = end - timedelta(seconds=60 + number % 80000)
                done = sent + timedelta(seconds=41)
                fields = (500000 + number, number, "Example", f"208555{number % 10000:04}", "success", "Sent OK",
                          f"{sent:%Y-%m-%d %H:%M:%S}", f"{done:%Y-%m-%d %H:%M:%S}", "00:00:41", 2, "", "user", 2, 1)
                lines.append("\t".join(map(str, fields)) + "\n")
            self.wfile.write("".join(lines).encode())
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Reply)
print(server.server_port, flush=True)
server.serve_forever()
"""

_CONFIGURATION = """
[server]
state_dir = "{folder}/state"

[store]
url = "sqlite:///{folder}/faxhook.db"

[endpoints.faxage]
provider = "faxage"
account = "acme"
timezone = "UTC"

[endpoints.faxage.reports]
company = "acme"
user = "me"
password = "example"
url = "http://127.0.0.1:{port}/httpsfax.php"
cdr_url = "http://127.0.0.1:{port}/getcdr.php"
"""


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    ratios, rates, alone, large, small = [], [], [], [], []
    for _ in range(rounds):
        rates.append(_measured("pull", rows)[0])
        alone.append(_measured("store", rows)[0])
        ratios.append(rates[-1] / alone[-1])
    for _ in range(rounds):
        large.append(_measured("pull", rows)[1])
        small.append(_measured("pull", rows // 10)[1])
    print("| row | A | B | ratio |")
    print("| --- | --- | --- | --- |")
    _print(f"rows/s of {rows:,}: reconcile / the store alone", rates, alone, ratios)
    _print(
        f"memory at the end, MiB: {rows:,} rows / {rows // 10:,}",
        large,
        small,
        [one / other for one, other in zip(large, small, strict=True)],
    )


def _print(name: str, first: list[float], second: list[float], ratios: list[float]) -> None:
    middle = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
    print(f"| {name} | {statistics.median(first):,.0f} | {statistics.median(second):,.0f} | {middle} |")


def _measured(kind: str, rows: int) -> tuple[float, float]:
    """Rows a second, and the most memory there was in MiB; in a process of its own."""
    done = subprocess.run([sys.executable, __file__, kind, str(rows)], capture_output=True, text=True, check=True)
    rate, memory = json.loads(done.stdout)
    return rate, memory


@contextmanager
def _provider(rows: int) -> Iterator[int]:
    end = int(time.time())
    process = subprocess.Popen(
        [sys.executable, "-c", _PROVIDER, str(rows), str(end)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def _one(kind: str, rows: int) -> None:
    with tempfile.TemporaryDirectory(prefix="faxhook-bench-") as folder, _provider(rows) as port:
        config = Path(folder) / "faxhook.toml"
        config.write_text(_CONFIGURATION.format(folder=folder, port=port))
        loaded = settings.load(config, {})
        with closing(bootstrap.open_store(loaded)) as store:
            migrate(store)
        with closing(bootstrap.build(loaded)) as runtime:
            logs.install()
            seconds = _pull(runtime, rows) if kind == "pull" else _store(runtime)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([rows / seconds, memory]))


def _pull(runtime: Runtime, rows: int) -> float:
    began = time.perf_counter()
    summary = reconcile(runtime, runtime.accounts["faxage"], Choice(), Stop())
    seconds = time.perf_counter() - began
    assert summary.filled == rows, summary
    return seconds


def _store(runtime: Runtime) -> float:
    """The same events, made beforehand."""
    account = runtime.accounts["faxage"]
    assert account.provider.reports is not None
    assert account.reports is not None
    (report,) = (one for one in account.provider.reports.records if not one.of_jobs)
    now = datetime.now(UTC)
    ask = Ask("acme", now - timedelta(days=1), now, None, (), account.source.timezone, account.reports.options)
    announcements = []
    for page in report.fetch(ask, Client("FAXAGE", 10, lambda _: False)):
        for row in page.rows:
            for event in report.normalise(report.schema.load(report.shape(row)), account.source):
                identity = fax_id("faxage", event.account, event.key, None)
                announcements.append(Announcement(identity, facts.of(event)))
    began = time.perf_counter()
    for start in range(0, len(announcements), _PART):
        at = now_ms()
        part = tuple(announcements[start : start + _PART])
        one = Submission(
            new_id(at), "faxage", "faxage", at, 0, None, "2026-11-21T00:00:00.000Z", REPORT, announcements=part
        )
        with runtime.store.recording(time.monotonic() + 4) as cursor:
            record(cursor, runtime.store.engine.dialect, [one])
    return time.perf_counter() - began


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in ("pull", "store"):
        _one(sys.argv[1], int(sys.argv[2]))
    else:
        main()
