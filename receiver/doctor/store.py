"""The store: whether it is there and whole, keeps what it is given, and has room."""

import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from receiver import bootstrap
from receiver.doctor.clock import of_clock
from receiver.doctor.finding import OK, TROUBLE, WARNING, Finding
from receiver.doctor.permissions import is_open_to_others
from receiver.doctor.statements import log_of_the_database
from receiver.errors import ConfigurationError, StoreError, Unavailable
from receiver.settings import Settings
from receiver.store import Store, damage, figures
from receiver.store.browsing import iso
from receiver.store.figures import Figures
from receiver.store.identity import verify
from receiver.store.migrating import check_version
from receiver.store.probing import probe

Progress: TypeAlias = Callable[[], AbstractContextManager[Callable[[str], object]]]

_WRITE_SECONDS = 3.0
_LITTLE_SPACE = 1 << 30
_NO_SPACE = 64 << 20
_DAMAGES_SHOWN = 10


def vanished(settings: Settings, store: Store) -> Iterator[Finding]:
    try:
        bootstrap.refuse_vanished(settings, store)
    except ConfigurationError as error:
        yield Finding("state_dir", TROUBLE, str(error))
    except Unavailable:
        return  # told where it is looked at


def files(store: Store) -> Iterator[Finding]:
    """SQLite's: who may read it, and how much more fits beside it."""
    if store.file is None:
        return
    path = store.file.path
    try:
        folder = next((parent for parent in path.parents if parent.exists()), Path("/"))
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield Finding("disk", TROUBLE, f"{path.parent}: {error.strerror}")
        return
    verdict = TROUBLE if free < _NO_SPACE else WARNING if free < _LITTLE_SPACE else OK
    yield Finding("disk", verdict, f"{free / (1 << 20):,.0f} MiB free at {folder}")
    if is_open_to_others(path):
        yield Finding("store", WARNING, f"{path} can be read by others; it holds personal data: chmod 600")


def usable(settings: Settings, store: Store) -> Generator[Finding, None, Figures | None]:
    """Its findings; and its figures, unless it cannot be used."""
    try:
        damage.check_newest(store)
        check_version(store)
        yield _durability(store)
        yield from _noted_damage(store)
        yield _write(store)
        with store.reading() as connection:
            verify(connection, store.tables, settings.endpoints.values(), settings.store.identity_salt)
            found = figures.read(connection, store.tables)
        yield of_clock(store, found)
        yield from log_of_the_database(store)
    except StoreError as error:
        yield Finding("store", TROUBLE, str(error))
    except Unavailable as error:
        yield Finding("store", TROUBLE, error.trouble)
    else:
        return found
    return None


def whole(store: Store, progress: Progress) -> Iterator[Finding]:
    """Every page of a SQLite file, on a connection of its own that holds nobody up."""
    if store.file is None or not store.file.exists():
        return
    path, began = store.file.path, time.monotonic()
    with progress() as told:

        def go_on() -> bool:
            told(f"{path}: every page is being read, {time.monotonic() - began:.0f} s")
            return True

        try:
            found = damage.check_all(path, go_on)
        except Unavailable as error:
            yield Finding("store", TROUBLE, f"its pages could not be read: {error.trouble}")
            return
    for line in found[:_DAMAGES_SHOWN]:
        yield Finding("store", TROUBLE, f"damaged: {line}")
    if found:
        hint = "stop faxhook, restore a backup or see what `faxhook store salvage NEW_FILE` can read"
        yield Finding("store", TROUBLE, f"{len(found)} damage{'s' if len(found) > 1 else ''}; {hint}")
    else:
        yield Finding("store", OK, "every page was read, and is whole")


def _noted_damage(store: Store) -> Iterator[Finding]:
    with store.reading() as connection:
        known = damage.noted(connection, store.tables)
    if known is not None:
        what = f"{known['count']} damages: {'; '.join(known['found'])}" if "found" in known else "see doctor --deep"
        yield Finding("store", TROUBLE, f"damaged, noted {iso(known['since_ms'])}: {what}")


def _durability(store: Store) -> Finding:
    how = store.durability()
    words = f"{how.pop('store')} {how.pop('version')}, migrated, " + ", ".join(f"{k} {v}" for k, v in how.items())
    # PostgreSQL's other levels (local, remote_write, remote_apply) all wait for its own disk.
    if how["synchronous"] in ("off", "normal") or "off" in (how.get("fsync"), how.get("full_page_writes")):
        return Finding("store", TROUBLE, f"{words}: a power cut loses what was answered with 2xx")
    return Finding("store", OK, words)


def _write(store: Store) -> Finding:
    if store.file is not None and store.file.owner() != os.geteuid():
        # A lock file made by this user would keep the service out.
        return Finding("store", WARNING, "belongs to another user, so nothing was written; run this as that user")
    began = time.monotonic()
    probe(store, _WRITE_SECONDS)
    return Finding("store", OK, f"a write took {(time.monotonic() - began) * 1000:.1f} ms")
