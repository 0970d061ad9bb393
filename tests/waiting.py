"""Waiting for what other processes do."""

import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Return as soon as it is true; fail when it seems to hang. Not a measure of how fast it comes true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def terminate_twice(process: "subprocess.Popen[bytes]") -> None:
    """Two that a process meets at once are one: the second SIGTERM is sent when it has taken the first."""
    process.terminate()
    until(lambda: not _is_pending(process.pid, signal.SIGTERM))
    process.terminate()


def _is_pending(pid: int, number: int) -> bool:
    masks = re.findall(r"^(?:SigPnd|ShdPnd):\t([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)
