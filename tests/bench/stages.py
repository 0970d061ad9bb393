"""
Where the time goes, in one process: ``python tests/bench/stages.py [ROUNDS]``.

Each row is a ratio of two things measured in turn in this run, in CPU time where nothing waits and in wall time where
a commit does. Prints a Markdown table. A report, not a test.
"""

import io
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import xmltodict
from bare import app as bare_app
from callbacks import bodies, configuration, content_type, path

from receiver import bootstrap, intake, logs, settings, stations
from receiver.intake import Arrival
from receiver.providers import RawCallback, read
from receiver.runtime import Runtime
from receiver.store import new_id, now_ms
from receiver.store.migrating import migrate
from receiver.store.submissions import KeptBody, Submission
from receiver.web.app import create_app

Work = Callable[[int], object]


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory(prefix="faxhook-bench-") as folder:
        config = Path(folder) / "faxhook.toml"
        config.write_text(configuration(folder, 21871))
        loaded = settings.load(config, os.environ)
        migrate(bootstrap.open_store(loaded))
        runtime = bootstrap.build(loaded)
        print("| row | A, µs | B, µs | A / B |")
        print("| --- | --- | --- | --- |")
        for row in _rows(runtime):
            print(_measure(rounds, *row), flush=True)


def _rows(runtime: Runtime) -> Iterator[tuple[str, Work, Work, int, Callable[[], float]]]:
    cpu, wall = time.thread_time, time.perf_counter
    bare = _wsgi(bare_app, "form")
    for form in ("form", "json", "xml"):
        yield f"{form}: read, check, normalise / bare Flask call", _understand(runtime, form), bare, 200, cpu
    for form in ("form", "json", "xml"):
        whole = _wsgi(create_app(runtime), form)
        yield f"{form}: whole request with commit / bare Flask call", whole, bare, 100, wall
    for form in ("form", "xml"):
        whole = _wsgi(create_app(runtime), form)
        yield (
            f"{form}: whole request with commit / read, check, normalise",
            whole,
            _understand(runtime, form),
            100,
            wall,
        )
    yield (
        "xml-500: request to commit / xmltodict.parse alone",
        _wsgi(create_app(runtime), "xml-500"),
        _parse(next(bodies("xml-500"))),
        3,
        cpu,
    )
    yield "one receipt, 16 threads / one at a time", _threads(runtime), _receipt(runtime), 320, wall


def _measure(rounds: int, name: str, one: Work, other: Work, times: int, clock: Callable[[], float]) -> str:
    pairs = []
    for turn in range(rounds + 1):
        pair = (_time(one, times, clock), _time(other, times, clock))
        if turn:
            pairs.append(pair)
    ratios = [a / b for a, b in pairs]
    medians = [statistics.median(side) * 1e6 for side in zip(*pairs, strict=True)]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
    return f"| {name} | {medians[0]:,.0f} | {medians[1]:,.0f} | {spread} |"


def _time(work: Work, times: int, clock: Callable[[], float]) -> float:
    began = clock()
    work(times)
    return (clock() - began) / times


_fresh = iter(range(0, 10**9, 10_000_000))


def _wsgi(app: Any, form: str) -> Work:
    source = bodies(form, next(_fresh))

    def work(times: int) -> None:
        for _ in range(times):
            body = next(source)
            environ = {
                "REQUEST_METHOD": "POST",
                "PATH_INFO": path(form),
                "QUERY_STRING": "",
                "CONTENT_TYPE": content_type(form),
                "CONTENT_LENGTH": str(len(body)),
                "SERVER_NAME": "bench",
                "SERVER_PORT": "80",
                "SERVER_PROTOCOL": "HTTP/1.1",
                "REMOTE_ADDR": "127.0.0.1",
                "wsgi.url_scheme": "http",
                "wsgi.input": io.BytesIO(body),
                "wsgi.errors": sys.stderr,
            }
            for _part in app(environ, lambda status, _headers: _expect_success(status)):
                pass

    return work


def _expect_success(status: str) -> Callable[[bytes], object]:
    if not status.startswith("2"):
        raise SystemExit(f"refused: {status}")
    return lambda _: None


def _understand(runtime: Runtime, form: str) -> Work:
    endpoint = runtime.endpoints["form" if form == "form" else "retarus"]
    callback = endpoint.provider.push
    source = bodies(form, next(_fresh))

    def work(times: int) -> None:
        for _ in range(times):
            raw = RawCallback(next(source), content_type(form))
            data, unreadable = stations.check(callback.shape(read(raw, callback)), callback.schema)
            at = now_ms()
            intake.submit(
                Arrival(endpoint, raw, new_id(at), at),
                runtime,
                callback.normalise(data, endpoint.source),
                unreadable,
                repaired=frozenset(),
                refusal=None,
                ignored=None,
            )

    return work


def _parse(body: bytes) -> Work:
    def work(times: int) -> None:
        for _ in range(times):
            xmltodict.parse(body)

    return work


def _receipt(runtime: Runtime) -> Work:
    def work(times: int) -> None:
        for _ in range(times):
            at = now_ms()
            body = KeptBody(b"x" * 500, b"", "text/plain", None)
            runtime.writer.submit(Submission(new_id(at), "form", "faxage", at, 500, body, "2026-06-08T15:38:08.000Z"))

    return work


def _threads(runtime: Runtime) -> Work:
    one = _receipt(runtime)

    def work(times: int) -> None:
        threads = [threading.Thread(target=one, args=(times // 16,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return work


if __name__ == "__main__":
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - log lines are made, not read
    logs.install()
    main()
