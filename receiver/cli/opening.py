"""From the --config option to settings and an open store."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from receiver import settings
from receiver.cli import CONFIG
from receiver.settings import Settings
from receiver.showing import times
from receiver.store import Store
from receiver.store.migrating import check_version
from receiver.stores import open_store as configured_store

# Most commands need the store alone, and start in half the time without the providers.
if TYPE_CHECKING:
    from receiver.runtime import Runtime

F = TypeVar("F", bound=Callable[..., Any])


def config_option(command: F) -> F:
    """``--config``, given to the function as ``config``; before the command's name it counts as well."""

    def chosen(ctx: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
        earlier = ctx.find_root().params.get("config")
        return value or (earlier if isinstance(earlier, Path) else None)

    help_text = "The configuration file. Default: FAXHOOK_CONFIG, FAXHOOK_CONFIG_TOML, ./faxhook.toml"
    return click.option("--config", type=CONFIG, callback=chosen, help=help_text)(command)


def load(config: Path | None) -> Settings:
    return settings.load(config, os.environ)


@contextmanager
def open_store(config: Path | None) -> Iterator[Store]:
    """The configured store. Raises StoreError unless it is migrated."""
    store = configured_store(load(config))
    try:
        check_version(store)
        yield store
    finally:
        store.close()


@contextmanager
def open_runtime(config: Path | None) -> Iterator["Runtime"]:
    """All that a web worker has: for commands that process callbacks."""
    from receiver import bootstrap

    runtime = bootstrap.build(load(config))
    try:
        yield runtime
    finally:
        runtime.close()


class _Since(click.ParamType[datetime]):
    """``2026-11-21``, ``2026-11-21T10:00:00Z``, or how long ago: ``90m``, ``24h``, ``7d``. Without a zone: UTC."""

    name = "time or period"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return times.instant(value)
        except ValueError:
            self.fail(f"expected {times.EXPECTED}", param, ctx)


SINCE = _Since()


def milliseconds(time: datetime | None) -> int | None:
    return None if time is None else round(time.timestamp() * 1000)
