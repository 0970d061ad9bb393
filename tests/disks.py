"""File systems of a test's own, that are full or read-only, where this machine lets us mount one."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """A small file system in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Until not one byte fits any more."""
        descriptor = os.open(self.folder / "filling", os.O_WRONLY | os.O_CREAT)
        try:
            while True:
                os.write(descriptor, bytes(65536))
        except OSError:
            os.close(descriptor)

    def forbid_writing(self) -> None:
        _mount("-o", "remount,ro", str(self.folder))


@contextmanager
def disk(folder: Path, megabytes: int = 6) -> Iterator[Disk]:
    """At that folder until the block ends; the test is skipped where nobody lets us."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)
