"""
What ``state_dir`` remembers of the stores it was used with, so that another or a vanished one is not begun in silence.

``stores.json`` holds ``{"stores": [{"url": …, "since": …}]}``: each store's URL without password and parameters, and
when it was first used. The one in use stands last.
"""

import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.engine import URL

_AT_MOST = 4  # stores; the one in use, and some before it


@dataclass(frozen=True, slots=True)
class Remembered:
    """One store that was used with this ``state_dir``. url: as ``place`` writes it. since: ISO 8601, UTC."""

    url: str
    since: str


def place(url: URL) -> str:
    """Where a store is, without its password and parameters: to compare, to keep, and to show."""
    hosts = {name: url.query[name] for name in ("host", "port") if name in url.query}  # of PostgreSQL, where several
    return url.set(password=None, query=hosts).render_as_string()


def record(state_dir: Path) -> Path:
    """The file that remembers."""
    return state_dir / "stores.json"


def remembered(state_dir: Path) -> tuple[Remembered, ...]:
    """The stores this ``state_dir`` was used with, the last used one last; none where no record can be read."""
    try:
        stores = json.loads(record(state_dir).read_bytes())["stores"]
        return tuple(Remembered(str(one["url"]), str(one["since"])) for one in stores)
    except (OSError, ValueError, LookupError, TypeError):
        return ()  # it only adds a word; without it faxhook works as on its first day


def find(state_dir: Path, url: URL) -> Remembered | None:
    """This store, if the ``state_dir`` was used with it before."""
    return next((one for one in remembered(state_dir) if one.url == place(url)), None)


def note(state_dir: Path, url: URL) -> None:
    """Remember that this store is in use, and that the others were before it. Writes only what is new."""
    known = remembered(state_dir)
    if known and known[-1].url == place(url):
        return
    since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    ours = find(state_dir, url) or Remembered(place(url), since)
    with suppress(OSError):  # an unwritable state_dir is for doctor to name, and no reason to refuse a callback
        _write(record(state_dir), [*(one for one in known if one.url != ours.url), ours][-_AT_MOST:])


def _write(path: Path, stores: Sequence[Remembered]) -> None:
    """All at once: a reader finds the old record or the new one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump({"stores": [asdict(one) for one in stores]}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
