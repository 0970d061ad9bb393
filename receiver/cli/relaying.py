"""relay."""

import os
from contextlib import closing, suppress
from pathlib import Path

import click

from receiver import hosting, logs, metrics
from receiver.cli import opening
from receiver.errors import Unavailable
from receiver.outgoing import relay as relaying
from receiver.store.damage import look_at_start
from receiver.stores import open_store


@click.command()
@opening.config_option
def relay(config: Path | None) -> None:
    """Run the relay alone, until SIGTERM."""
    settings = opening.load(config)
    hosting.check(settings, os.environ)
    logs.stderr.on_dropped = metrics.dropped_log_lines.inc
    logs.stderr.never_wait()
    with closing(open_store(settings)) as store:
        with suppress(Unavailable):  # it is waited for
            look_at_start(store)
        relaying.run(store, settings)
