"""
SQLite's write-ahead log, looked at from outside: whether it still holds what its index says.

SQLite believes the index, which all processes share in memory. A log that somebody has cut off or overwritten is
noticed by nobody then: commits are written behind the hole and are lost at the next start, and a checkpoint copies the
hole into the database. Some bytes of both files tell: https://www.sqlite.org/walformat.html
"""

import os
import struct
import threading
from collections import Counter
from contextlib import suppress

_INDEX_HEADER = struct.Struct("=12xBxHI4x8s8s8x")  # is initialised, page size, last frame, its checksum, salt
_HEADERS = 2 * 48  # bytes: the index begins with the same header twice
_LOG_HEADER = 32  # bytes
_FRAME_HEADER = 24


Identity = tuple[int, int]  # device and inode

# A process has one descriptor for each index, and closes it when its last store has closed all connections: closing one
# ends the locks that SQLite holds on the file in this process, through whatever descriptor.
_descriptors: dict[Identity, int] = {}
_users: Counter[Identity] = Counter()
_mutex = threading.Lock()


def look(path: str) -> os.stat_result | None:
    """What the system says of a file; None if there is none."""
    try:
        return os.stat(path)
    except OSError:
        return None


def identity(found: os.stat_result | None) -> Identity | None:
    """Which file it is."""
    return None if found is None else (found.st_dev, found.st_ino)


class LogFile:
    """The log and the index beside one database file. Not for several threads at once."""

    def __init__(self, log: str, index: str) -> None:
        self._log = log
        self._index = index
        self._opened: dict[Identity, int] = {}  # the index, and those that it has replaced
        self._opened_log: tuple[Identity, int] | None = None

    def is_whole(self, log: os.stat_result, index: os.stat_result) -> bool:
        """
        Whether size, beginning and last frame of the log are what the index says. log, index: as they are now.

        The lock on writing must be held.
        """
        try:
            index_opened = self._open_index((index.st_dev, index.st_ino))
            header = os.pread(index_opened, _INDEX_HEADER.size, 0)
            if len(header) < _INDEX_HEADER.size:
                return True
            is_initialised, page_size, frames, checksum, salt = _INDEX_HEADER.unpack(header)
            if not is_initialised or not frames:
                return True
            return self._holds(log, frames, 65536 if page_size == 1 else page_size, _in_file(checksum), salt)
        except FileNotFoundError:
            return True  # that they are gone is noticed by others

    def distrust_index(self) -> None:
        """
        Have every process read the log itself before it goes on, and take what is whole of it, as after a crash.

        The lock on writing must be held.
        """
        with suppress(OSError):
            found = os.stat(self._index)
            os.pwrite(self._open_index((found.st_dev, found.st_ino)), bytes(_HEADERS), 0)

    def _holds(self, log: os.stat_result, frames: int, page_size: int, checksum: bytes, salt: bytes) -> bool:
        last = _LOG_HEADER + (frames - 1) * (_FRAME_HEADER + page_size)
        if log.st_size < last + _FRAME_HEADER + page_size:
            return False
        descriptor = self._open_log((log.st_dev, log.st_ino))
        header = os.pread(descriptor, _LOG_HEADER, 0)
        frame = os.pread(descriptor, _FRAME_HEADER, last)
        return header[16:24] == salt and frame[8:] == salt + checksum

    def forget(self) -> None:
        """Close what is open. All of SQLite's connections must be closed, also those in the hands of other threads."""
        with _mutex:
            for known in self._opened:
                _users[known] -= 1
                if not _users[known]:
                    os.close(_descriptors.pop(known))
                    del _users[known]
            self._opened.clear()
        self._close_log()

    def _open_log(self, known: Identity) -> int:
        """SQLite has no locks on the log: it may be closed at any time."""
        if self._opened_log is None or self._opened_log[0] != known:
            self._close_log()
            self._opened_log = known, os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)
        return self._opened_log[1]

    def _close_log(self) -> None:
        if self._opened_log is not None:
            os.close(self._opened_log[1])
            self._opened_log = None

    def _open_index(self, known: Identity) -> int:
        if known not in self._opened:
            with _mutex:
                if known not in _descriptors:
                    _descriptors[known] = os.open(self._index, os.O_RDWR | os.O_CLOEXEC)
                _users[known] += 1
                self._opened[known] = _descriptors[known]
        return self._opened[known]


def _in_file(checksum: bytes) -> bytes:
    """As the log has it: always big-endian."""
    return struct.pack(">2I", *struct.unpack("=2I", checksum))
