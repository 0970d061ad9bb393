"""Log lines without waiting: a reader that takes them at once costs no thread, and one that does not loses no order."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import BinaryIO

import pytest

PROGRAM = """
import sys, threading
from receiver.system.stderr import Stderr

stderr = Stderr()
stderr.on_dropped = lambda: print("dropped", flush=True)
stderr.never_wait()
for name in sys.stdin:
    with stderr.together():
        for number in range(50):
            stderr.write(f"{name.strip()} {number} " + "x" * int(sys.argv[1]))
    print(any(thread.name == "stderr" for thread in threading.enumerate()), flush=True)
"""


def pipe() -> tuple[BinaryIO, int]:
    reading, writing = os.pipe()
    return open(reading, "rb", buffering=0), writing


def connection() -> tuple[BinaryIO, int]:
    """As systemd gives its services."""
    reading, writing = socket.socketpair()
    with reading:
        return reading.makefile("rb", buffering=0), writing.detach()


@pytest.mark.parametrize("made", [pipe, connection])
@pytest.mark.parametrize("length", [100, 5000], ids=["short lines", "lines that do not stay together"])
def test_lines_come_whole_and_in_order_whether_they_are_taken_at_once_or_not(
    made: Callable[[], tuple[BinaryIO, int]], length: int
) -> None:
    reading, writing = made()
    with (
        reading,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(length)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=writing,
            text=True,
        ) as process,
    ):
        os.close(writing)
        assert process.stdin is not None
        assert process.stdout is not None

        def told(round_: int) -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{round_}\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        assert told(0) == str(length > 4096), "a thread is there for what may have to wait, and only then"
        rounds = 1
        while rounds < 100 and told(rounds) == "False":
            rounds += 1
        expected = [f"{one} {number} " + "x" * length for one in range(rounds + 1) for number in range(50)]
        found = b""
        while found.count(b"\n") < len(expected):
            found += reading.read(1 << 20)
        process.stdin.close()
    assert found.decode().splitlines() == expected
