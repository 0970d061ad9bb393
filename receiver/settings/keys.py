"""Keys that are made once, where none is configured, and kept in ``state_dir``."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from receiver.errors import ConfigurationError
from receiver.settings import forms
from receiver.settings.model import Settings


def secret_keys(settings: Settings) -> tuple[bytes, ...]:
    """
    The keys to sign and verify with; the first signs.

    Where none is configured: one made once and kept (0600) in ``state_dir/secret_key``; processes that come at the
    same time get the same one.
    """
    if settings.server.secret_keys:
        return tuple(key.encode() for key in settings.server.secret_keys)
    path = settings.server.state_dir / "secret_key"
    try:
        key = kept(path, lambda: secrets.token_urlsafe(32).encode()).strip()
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}; server.secret_key can be set instead") from None
    if len(key) < forms.SECRET_LENGTH:
        raise ConfigurationError(f"{path}: expected {forms.SECRET}; remove the file to have a new key made")
    return (key,)


def kept(path: Path, make: Callable[[], bytes]) -> bytes:
    """
    What is in this file of ``state_dir``; where there is none, it is made once and kept for its owner only.

    Raises ConfigurationError where it cannot be kept or read.
    """
    try:
        if not path.exists():
            _keep(path, make())
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be kept or read: {error.strerror}") from None


def _keep(path: Path, content: bytes) -> None:
    """Write the file for its owner only and all at once, unless another process was first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # fails where the path exists: nobody ever sees half a key
    except FileExistsError:
        pass
    finally:
        draft.unlink()
