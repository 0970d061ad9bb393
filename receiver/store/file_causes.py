"""
What SQLite, and the file system under it, refuse: in words for operators.

SQLite's own names say what it could not do and seldom why: a full disk is SQLITE_FULL, SQLITE_IOERR or SQLITE_CANTOPEN
by the file that did not fit. So the files and their folder are looked at first.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from receiver.store.trouble import StoreUnavailable

_BESIDE = ("", "-wal", "-shm", "-journal", ".lock")  # what stands in the folder of a store, after its name
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_RIGHTS = "look at the rights of the file, of its folder, and of the files beside it"
# Beginning of SQLite's name, or ours -> what is wrong and what to do.
_BY_NAME = {
    "SQLITE_CORRUPT": "the file is damaged; see faxhook doctor --deep, restore a backup, or try faxhook store salvage",
    "SQLITE_NOTADB": "it is no SQLite database, or its beginning is damaged; check store.url, restore a backup, or try"
    " faxhook store salvage",
    "SQLITE_BUSY": "another program keeps it locked, such as a backup or an sqlite3 shell; `fuser` with the file's name"
    " shows which",
    "SQLITE_LOCKED": "another connection of this process keeps it locked; try again",
    "SQLITE_PROTOCOL": "too many processes begin with it at once; try again",
    "SQLITE_READONLY": f"it cannot be written; {_RIGHTS}",
    "SQLITE_CANTOPEN": f"it cannot be opened; {_RIGHTS}",
    "SQLITE_PERM": f"it cannot be opened; {_RIGHTS}",
    "SQLITE_AUTH": f"it cannot be opened; {_RIGHTS}",
    "SQLITE_FULL": "the disk is full, or the file has reached its limit; make room",
    "SQLITE_IOERR": "the disk or its file system has failed; see the system's log (dmesg), and think of a backup",
    "SQLITE_NOLFS": "the file system cannot hold a file of this size; move the store to another one",
    "SQLITE_INTERRUPT": "it took longer than it may; ask for less, such as a shorter time",
    "SQLITE_NOMEM": "there is not enough memory",
    "SQLITE_SCHEMA": "its tables have just been changed; try again",
    "SQLITE_ERROR": "its tables are not those of this version; run: faxhook migrate",
    "Locked": "another faxhook process has kept it locked; `fuser` with the name of its .lock file shows which",
    "FileReplaced": "the file, its -wal or its -shm was removed or replaced while it was in use, which loses what was"
    " in it; stop faxhook before such work",
    "LogDamaged": "the -wal was overwritten or cut off while it was in use: what was only in it is lost, and the"
    " rest is used again; fetch what is missing with faxhook reconcile --since",
}
_UNKNOWN = "SQLite refused what was asked; see faxhook doctor"


def unavailable(error: str, path: Path, cause: BaseException | None = None) -> StoreUnavailable:
    """error: SQLite's name for it, one of ours, or the class of the system's error."""
    return StoreUnavailable(error, f"SQLite at {path}: {explain(error, path, cause)} ({error})")


def explain(error: str, path: Path, cause: BaseException | None = None) -> str:
    """What is wrong, and what to do."""
    if not error.startswith(_DAMAGED) and error not in ("FileReplaced", "LogDamaged"):
        looks: tuple[Callable[[Path], str | None], ...] = (_wrong_kind, _missing)
        if not error.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "Locked")):
            looks += (_no_room, _read_only, _no_right)
        for look in looks:
            with suppress(OSError):
                if found := look(path):
                    return found
    if isinstance(cause, OSError):
        return _said(cause, path)
    return next((words for name, words in _BY_NAME.items() if error.startswith(name)), _UNKNOWN)


def _said(error: OSError, path: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full, or a quota is used up; make room at {path.parent}"
    return f"{error.filename or path}: {error.strerror or 'the system refused it'}"


def _wrong_kind(path: Path) -> str | None:
    for suffix in _BESIDE:
        one = path.with_name(path.name + suffix)
        try:
            mode = one.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "no file"
            advice = "remove it while faxhook is stopped" if suffix else "store.url must name a file"
            return f"{one.name} is {kind}; {advice}"
    return None


def _missing(path: Path) -> str | None:
    for folder in reversed(path.parents):
        if folder.exists() and not folder.is_dir():
            return f"{folder} is a file; store.url must name a file in a folder"
    if not path.exists():
        return "there is no such file; is its volume mounted? For a new store: faxhook migrate"
    return None


def _no_room(path: Path) -> str | None:
    folder = os.statvfs(path.parent)
    if folder.f_blocks and not folder.f_bavail:
        return f"the disk is full; make room at {path.parent}"
    if folder.f_files and not folder.f_favail:
        return f"the file system at {path.parent} has no inodes left; remove files there"
    return None


def _read_only(path: Path) -> str | None:
    if os.statvfs(path.parent).f_flag & os.ST_RDONLY:
        return f"the file system at {path.parent} is mounted read-only; mount it for writing, or move the store"
    return None


def _no_right(path: Path) -> str | None:
    user = f"this user (uid {os.geteuid()})"
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return f"{user} may not make files in {path.parent}; give the folder to the user that faxhook runs as"
    for suffix in _BESIDE:
        one = path.with_name(path.name + suffix)
        if one.exists() and not os.access(one, os.R_OK | os.W_OK):
            return f"{user} may not read and write {one.name}; give it to the user that faxhook runs as"
    return None
