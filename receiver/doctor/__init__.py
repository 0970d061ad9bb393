"""
``faxhook doctor``: what an operator asks when something is wrong, each question with a verdict.

Everything is asked of the real thing, within seconds, also while the store or the broker is away. Nothing is changed
but one row of the store, which is there to be written.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing

from receiver import bootstrap, hosting, resolving
from receiver.doctor.configuration import configured, hosted, secret_key
from receiver.doctor.finding import TROUBLE, WARNING, Finding
from receiver.doctor.queue import of_queue
from receiver.doctor.store import Progress, files, usable, vanished, whole
from receiver.doctor.under_way import of_figures
from receiver.outgoing import sinks
from receiver.settings import Settings
from receiver.stores import open_store


def examine(settings: Settings, environ: Mapping[str, str], progress: Progress | None = None) -> Iterator[Finding]:
    """
    Look at everything, one after the other. Raises ConfigurationError where faxhook would not start.

    progress: the whole SQLite file is read as well, and this is told how far. Raises Interrupted at Ctrl-C meanwhile.
    """
    resolving.resolve(settings)
    sinks.check(settings)
    hosting.check(settings, environ)
    yield from configured(settings)
    yield from hosted(settings, environ)
    obstacles = bootstrap.obstacles(settings)
    yield from (Finding("server", TROUBLE, obstacle) for obstacle in obstacles)
    if not obstacles:
        yield secret_key(settings)
    with closing(open_store(settings)) as store:
        yield from vanished(settings, store)
        yield from files(store)
        found = yield from usable(settings, store)
        if progress is not None:
            yield from whole(store, progress)
    for doubt in bootstrap.former_stores(settings):
        yield Finding("store", WARNING, doubt)
    yield from of_queue(settings)
    if found is None:
        yield Finding("relay", WARNING, "nobody knows of relay, backlog and dead letters without the store")
    else:
        yield from of_figures(settings, found)
