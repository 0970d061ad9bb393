"""The standard streams, which may be closed or on a full disk: faxhook works also where it cannot speak."""

import io
import os
import sys
from typing import Any


def secure() -> None:
    """
    Open what is closed of the standard streams on /dev/null, and let what cannot be written to stderr be lost.

    The next file to be opened, such as the store, would get the number of a closed stream, and warnings be written
    into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            os.set_inheritable(descriptor, True)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stdout is None:
        sys.stdout = _lossy(1)
    elif isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout is sys.__stdout__:  # else somebody reads it himself
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Stdout(1, "w", closefd=False)),
            encoding=sys.stdout.encoding,
            errors="backslashreplace",  # a terminal that takes only ASCII
            line_buffering=sys.stdout.isatty(),
        )
    sys.stderr = _lossy(2)


def let_stdout_be_lost() -> None:
    """For a service, whose words there are only a courtesy; a command that prints data must fail without them."""
    if isinstance(sys.stdout, io.TextIOWrapper) and isinstance(getattr(sys.stdout.buffer, "raw", None), _Stdout):
        sys.stdout = _lossy(1)


def _lossy(descriptor: int) -> io.TextIOWrapper:
    # A line at a time, also of print(), which writes text and newline: other processes write to the same pipe.
    return io.TextIOWrapper(_Lossy(descriptor), encoding="utf-8", errors="backslashreplace", line_buffering=True)


class _Stdout(io.FileIO):
    """Its error says where it comes from, a full disk behind it is not the store's; and it comes once."""

    _has_failed = False

    def write(self, data: Any) -> int:
        if self._has_failed:  # what is left is flushed again when the process ends, and would change the exit code
            return len(data)
        try:
            return super().write(data)
        except OSError as error:
            self._has_failed = True
            raise OSError(error.errno, error.strerror, "standard output") from None


class _Lossy(io.FileIO):
    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)

    def write(self, data: Any) -> int:
        """Write all of it if possible; its length in any case."""
        rest = memoryview(data)
        try:
            while rest and (written := super().write(rest)):
                rest = rest[written:]
        except OSError:
            pass  # a full disk, a reader that has gone
        return len(data)
