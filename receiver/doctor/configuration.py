"""What is configured: the file, the platform, the secret key."""

import os
from collections.abc import Iterator, Mapping

from receiver import bootstrap, hosting
from receiver import settings as configuration
from receiver.doctor.finding import OK, TROUBLE, WARNING, Finding
from receiver.doctor.permissions import is_open_to_others
from receiver.settings import Settings


def configured(settings: Settings) -> Iterator[Finding]:
    source = settings.path or "FAXHOOK_CONFIG_TOML"
    yield Finding("configuration", OK, f"{source}: {len(settings.endpoints)} endpoints")
    if settings.path is not None and is_open_to_others(settings.path):
        yield Finding("configuration", WARNING, f"{settings.path} can be read by others; it holds secrets: chmod 600")
    for doubt in (*configuration.doubts(settings), *bootstrap.doubts(settings)):
        yield Finding("configuration", WARNING, doubt)


def hosted(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    name = hosting.platform(environ)
    yield Finding("platform", OK, name or "none that shows")
    for doubt in hosting.doubts(settings):
        yield Finding("platform", WARNING, doubt)


def secret_key(settings: Settings) -> Finding:
    if settings.server.secret_keys:
        return Finding("secret key", OK, f"configured, {len(settings.server.secret_keys)}")
    path = settings.server.state_dir / "secret_key"
    if not path.exists():
        return Finding("secret key", OK, f"will be made at the first start: {path}")
    if not os.access(path, os.R_OK):
        return Finding("secret key", TROUBLE, f"{path} cannot be read by this user")
    if is_open_to_others(path):
        return Finding("secret key", WARNING, f"{path} can be read by others: chmod 600")
    return Finding("secret key", OK, f"made by faxhook: {path}")
