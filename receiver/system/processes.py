"""The processes of one run of faxhook: children that do not outlive their parent, and the folder they count in."""

import ctypes
import fcntl
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from receiver.errors import ConfigurationError

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, of this pid, is gone. Only Linux can; elsewhere nothing."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # gone before we could ask
            os._exit(1)


def metrics_folder(state_dir: Path) -> Path:
    """
    Make an empty folder for the counters of this run's processes, and remove those of runs that have ended.

    A run's folder is locked until its processes have ended, however they do. Raises ConfigurationError where
    ``state_dir`` cannot be written.
    """
    everybody = state_dir / "metrics"
    mine = everybody / secrets.token_hex(8)
    try:
        for folder in (state_dir, everybody):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(everybody):  # or another process would find our folder before it is locked
            for folder in everybody.iterdir():
                _remove_unless_locked(folder)
            mine.mkdir(mode=0o700)
            fcntl.flock(os.open(mine, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_EX)  # open as long as the process
    except OSError as error:
        raise ConfigurationError(
            f"server.state_dir: {error.filename or state_dir} cannot be written: {error.strerror}; expected a folder"
            " that belongs to the user faxhook runs as, on a disk with room"
        ) from None
    return mine


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_unless_locked(folder: Path) -> None:
    with suppress(OSError):  # no folder; or in use
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(descriptor)
