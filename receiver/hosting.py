"""Where faxhook runs: on many platforms the disk is new after each restart, and so would be a store on it."""

import re
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy.engine import make_url

from receiver.errors import ConfigurationError
from receiver.settings import Settings

# A variable that the platform sets -> its name.
_PLATFORMS = {
    "DYNO": "Heroku",
    "FLY_APP_NAME": "Fly.io",
    "RENDER": "Render",
    "K_SERVICE": "Cloud Run",
    "RAILWAY_ENVIRONMENT": "Railway",
    "VCAP_APPLICATION": "Cloud Foundry",
}
_MEMORY = "is memory: its faxes are lost at a restart"
_NETWORK = "is a network file system, where SQLite can be corrupted"
_DOUBTFUL = {
    "tmpfs": _MEMORY,
    "ramfs": _MEMORY,
    "overlay": "is the inside of a container: its faxes are lost with the container",
    **dict.fromkeys(("nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "fuse.gcsfuse", "fuse.s3fs", "fuse.sshfs"), _NETWORK),
}
MOUNTS = Path("/proc/self/mountinfo")


def platform(environ: Mapping[str, str]) -> str | None:
    """The platform as a service we are on; None where none shows."""
    return next((name for variable, name in _PLATFORMS.items() if environ.get(variable)), None)


def check(settings: Settings, environ: Mapping[str, str], mounts: Path = MOUNTS) -> None:
    """Raise ConfigurationError where a platform would lose acknowledged faxes, or the key, at its next restart."""
    name = platform(environ)
    if name is None or settings.store.ephemeral_ok:
        return
    if not settings.server.secret_keys:
        raise ConfigurationError(
            f"server.secret_key: expected on {name}, which forgets one made by faxhook, or store.ephemeral_ok = true"
        )
    file = _sqlite_file(settings)
    if file is not None:
        point, kind = mount(file, mounts)
        if point == "/" or kind in _DOUBTFUL:
            raise ConfigurationError(
                f"store.url: expected PostgreSQL, or SQLite on a volume of its own: {name} forgets other files at each"
                " restart, and faxes with them. store.ephemeral_ok = true accepts that loss"
            )


def doubts(settings: Settings, mounts: Path = MOUNTS) -> list[str]:
    """What may not keep the store, as a sentence each."""
    file = _sqlite_file(settings)
    if file is None or settings.store.ephemeral_ok:
        return []
    point, kind = mount(file, mounts)
    return [f"store.url: {point} ({kind}) {_DOUBTFUL[kind]}"] if kind in _DOUBTFUL else []


def mount(path: Path, mounts: Path = MOUNTS) -> tuple[str, str]:
    """The mount point a file is or will be on, and the kind of its file system; kind "" where nobody says (macOS)."""
    resolved = path.resolve()
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        parents = (parent for parent in resolved.parents if parent.is_mount())
        return str(next(parents, "/")), ""
    found = ("/", "")
    for line in lines:  # proc(5): 36 35 98:0 /root /mount/point options optional... - type source options
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), before.split()[4])
        # Of two mounts on one point, the later hides the earlier.
        if resolved.is_relative_to(point) and len(point) >= len(found[0]):
            found = (point, after.split()[0])
    return found


def _sqlite_file(settings: Settings) -> Path | None:
    url = make_url(settings.store.url)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
