"""Whoever reads the log, or does not: callbacks are answered, and what was lost of the log is counted."""

import http.client
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from house import CONFIGURATION, FORM, TOKEN, ask
from served import Load, free_port
from stock import stock
from waiting import until

CLIENTS = 8
CALLBACKS = 2000


@contextmanager
def serving(folder: Path, stderr: int) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """``faxhook serve`` with this as its standard error; process and port."""
    port = free_port()
    store = f"sqlite:///{folder / 'faxhook.db'}"
    with stock(folder, store, CONFIGURATION.replace("{port}", str(port))) as made:
        process = made.start("serve", stdout=subprocess.DEVNULL, stderr=stderr)
        try:
            until(Load(port).is_up)
            yield process, port
        finally:
            process.kill()
            process.wait()


def send(port: int, first: int, count: int) -> list[int]:
    """So many callbacks of new faxes over one connection; the status of each."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    found = []
    for number in range(first, first + count):
        body = f"OutTransID={number}&AccountID=1&LastStatus=0".encode()
        connection.request("POST", f"/callbacks/openfax/{TOKEN}", body, {"Content-Type": FORM})
        answer = connection.getresponse()
        answer.read()
        found.append(answer.status)
    connection.close()
    return found


def dropped(port: int) -> int:
    shown = ask(port, "GET", "/metrics").body.decode()
    found = re.search(r"^faxhook_log_lines_dropped_total ([0-9.e+]+)$", shown, re.MULTILINE)
    return int(float(found[1])) if found else 0


def is_logged_again(port: int, log: int) -> bool:
    refused = ask(port, "POST", f"/callbacks/openfax/{TOKEN}", b"AccountID=1", Content_Type=FORM)
    assert refused.status == 422
    try:
        return b"unprocessable" in os.read(log, 1 << 20)
    except BlockingIOError:
        return False


def test_a_log_pipe_that_nobody_reads_stops_no_callback_and_may_be_read_again(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    try:
        with serving(tmp_path, writing) as (process, port):
            with ThreadPoolExecutor(CLIENTS) as pool:
                share = CALLBACKS // CLIENTS
                answers = list(pool.map(lambda client: send(port, 1 + client * share, share), range(CLIENTS)))
            assert [status for each in answers for status in each] == [200] * CALLBACKS
            assert dropped(port) > 0
            assert ask(port, "GET", "/readyz").status == 200
            os.set_blocking(reading, False)
            until(lambda: is_logged_again(port, reading))
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "full disk"])
def test_a_log_that_cannot_be_written_stops_no_callback(closed: bool, tmp_path: Path) -> None:
    if closed:
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open("/dev/full", os.O_WRONLY)
    try:
        with serving(tmp_path, writing) as (_process, port):
            assert send(port, 1, 20) == [200] * 20
            until(lambda: dropped(port) > 0)
    finally:
        os.close(writing)
