"""Files that have their name only once they are complete and on the disk, and never take another file's place."""

import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # of file systems such as CIFS and FAT


@contextmanager
def placed(target: Path, beside: Sequence[str] = ()) -> Iterator[Path]:
    """
    Yields an empty file of its owner's beside the target; when the block ends it gets the target's name, and where the
    block raises nothing stays. beside: what programs that write it add to its name for files of their own.

    Raises FileExistsError where there is a file of that name; OSError. After a kill a file ``.NAME.….part`` is left.
    """
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        yield part
        _flush(part)
        _name(part, target)
        _flush(part.parent)
    finally:
        for suffix in ("", *beside):
            with suppress(OSError):
                os.unlink(f"{part}{suffix}")


def _name(part: Path, target: Path) -> None:
    try:
        os.link(part, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        part.rename(target)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
