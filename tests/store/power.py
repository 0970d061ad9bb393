"""
What a disk may hold after a power cut: rebuilt from the system calls that a process has made on one folder.

What was synced is there. Of what was not, any part may be: each sector of each write for itself, in whatever order, and
each change of a file's size. That a file was made or removed is on the disk once its folder was synced; until then it
may be or not. This is less than any file system promises.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

SECTOR = 512  # bytes, that are written whole or not at all
CALLS = "pwrite64,write,pwritev,pwritev2,writev,fdatasync,fsync,sync_file_range,ftruncate,fallocate,openat,open,creat"
NAMES = "unlink,unlinkat,rename,renameat,renameat2,link,linkat"
IN_MEMORY = ("-shm", ".lock")  # what is in these files means nothing after a start

_CALL = re.compile(r"(\w+)\((.*)\) += (\d+)", re.DOTALL)
_FILE = re.compile(r'^(\d+)<([^>]*)>(\(deleted\))?(?:, "([^"]*)")?')
_NUMBER = re.compile(r", (\d+)$")


@dataclass(frozen=True, slots=True)
class Call:
    """
    One that succeeded. path: of its file, or of the one it makes or removes. at: where it writes, or the new size.
    is_made: it makes the file where there is none.
    """

    name: str
    path: str
    descriptor: int = -1
    data: bytes = b""
    at: int = 0
    is_made: bool = False


def traced(command: Sequence[str], trace: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run a Python program, and write down its system calls."""
    strace = ["strace", "-f", "--seccomp-bpf", "-y", "-xx", "-s", "1000000", "-e", f"trace={CALLS},{NAMES}"]
    program = ["-o", str(trace), sys.executable, *command]
    return subprocess.run([*strace, *program], env=environment, capture_output=True, text=True, timeout=300)


def calls(trace: Path) -> Iterator[Call]:
    """Those that succeeded, in the order of their ends."""
    begun: dict[str, str] = {}
    with trace.open(encoding="ascii") as lines:
        for line in lines:
            pid, _, text = line.rstrip("\n").partition(" ")
            text = text.lstrip()
            if text.endswith("<unfinished ...>"):
                begun[pid] = text.removesuffix("<unfinished ...>")
                continue
            if text.startswith("<... "):
                text = begun.pop(pid) + text.partition("resumed>")[2]
            if (found := _CALL.match(text)) is not None:
                yield from _calls(found[1], found[2])


def _calls(name: str, arguments: str) -> Iterator[Call]:
    """One for each file that it is about."""
    if name in (*NAMES.split(","), "openat", "open", "creat"):
        is_made = "O_CREAT" in arguments or name == "creat"
        for path in re.findall(r'"([^"]*)"', arguments):
            yield Call(name, _bytes(path).decode(), is_made=is_made)
        return
    found = _FILE.match(arguments)
    if found is not None and not found[3]:  # else it was removed, or is none
        number = _NUMBER.search(arguments)
        at = int(number[1]) if number else 0
        yield Call(name, _bytes(found[2]).decode(errors="replace"), int(found[1]), _bytes(found[4] or ""), at)


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


@dataclass(slots=True)
class _Content:
    """synced: what is on the disk for certain. pending: (bytes, where) of writes, (None, size) of truncations."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[tuple[bytes | None, int]] = field(default_factory=list)


class Disk:
    """One folder. ``apply()`` the calls; ``cut()`` tells what may be left at that moment."""

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        self._folder = str(folder)
        self._live = {name: _Content(bytearray(content)) for name, content in files.items()}
        self._names: dict[str, list[_Content | None]] = {name: [self._live[name]] for name in files}

    def apply(self, call: Call) -> None:
        if call.path == self._folder:
            if call.name in ("fsync", "fdatasync"):
                for states in self._names.values():
                    del states[:-1]
            return
        folder, _, name = call.path.rpartition("/")
        if folder != self._folder or name.endswith(IN_MEMORY):
            return
        if call.name in ("openat", "open", "creat"):
            if call.is_made and name not in self._live:
                self._live[name] = _Content()
                self._names.setdefault(name, [None]).append(self._live[name])
        elif call.name in ("unlink", "unlinkat"):
            del self._live[name]
            self._names[name].append(None)
        else:
            # One that this model knows nothing of would make its disks better than they may be.
            assert call.name in ("pwrite64", "ftruncate", "fsync", "fdatasync"), f"{call.name} is not modelled"
            self._change(self._live[name], call)

    @staticmethod
    def _change(content: _Content, call: Call) -> None:
        if call.name == "pwrite64":
            content.pending.append((call.data, call.at))
        elif call.name == "ftruncate":
            content.pending.append((None, call.at))
        else:
            for data, at in content.pending:
                _put(content.synced, data, at)
            content.pending.clear()

    def cut(self, chance: Random) -> dict[str, bytes]:
        """The files, and what is in each."""
        share = chance.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        filler = chance.choice([b"\0", b"\xa5"])  # where a file is longer, and its new end was never written
        found = {}
        for name, states in self._names.items():
            content = chance.choice(states)
            if content is not None:
                found[name] = _left(content, share, filler, chance)
        return found


def _left(content: _Content, share: float, filler: bytes, chance: Random) -> bytes:
    left = bytearray(content.synced)
    for data, at in content.pending:
        if data is None:
            if chance.random() < share:
                _put(left, None, at, filler)
            continue
        start = at
        while start < at + len(data):
            end = min(at + len(data), (start // SECTOR + 1) * SECTOR)
            if chance.random() < share:
                _put(left, data[start - at : end - at], start, filler)
            start = end
    return bytes(left)


def _put(content: bytearray, data: bytes | None, at: int, filler: bytes = b"\0") -> None:
    """Write, or where there are no data cut off or extend."""
    end = at if data is None else at + len(data)
    if end > len(content):
        content.extend(filler * (end - len(content)))
    if data is None:
        del content[at:]
    else:
        content[at:end] = data
