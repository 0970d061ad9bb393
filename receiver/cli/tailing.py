"""tail: receipts and events as they come."""

import json
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from receiver.cli import Failure, opening
from receiver.errors import Unavailable
from receiver.outgoing import lines
from receiver.showing import happenings
from receiver.store import Store, following, now_ms
from receiver.store.watching import Changes
from receiver.system.backoff import Backoff
from receiver.system.stopping import Interrupted, Stop, on_signals

_REST_SECONDS = 0.2  # between two looks: people read it
_WAIT_SECONDS = 1.0
_STUCK_SECONDS = 1.0  # after a signal, for a reader that does not read
_FIRST_DELAY_SECONDS = 0.25
_LONGEST_DELAY_SECONDS = 5.0


@click.command()
@opening.config_option
@click.option("--json", "is_json", is_flag=True, help="One JSON object a line.")
def tail(config: Path | None, is_json: bool) -> None:
    """
    Write each receipt and event as it comes, with the last two digits of numbers only.

    It takes nothing from anybody: events go to their consumers as if nobody looked. It begins with what comes from now
    on, waits for a store that is away, and ends at Ctrl-C, at SIGTERM, and when nobody reads it any more.
    """
    if sys.__stdout__ is None:
        raise Failure("standard output is closed")
    out = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
    with opening.open_store(config) as store, on_signals() as stop, closing(Changes(store)) as changes:
        try:
            _follow(store, changes, stop, out, is_json=is_json)
        except (BrokenPipeError, Interrupted):
            return


def _follow(store: Store, changes: Changes, stop: Stop, out: lines.Output, *, is_json: bool) -> None:
    backoff = Backoff(_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS)
    with store.reading() as connection:
        latest = _Latest(following.Following(*following.from_now(connection, store.tables)))
    click.echo("what comes from now on; Ctrl-C ends it", err=True)
    while not stop.asked and not lines.has_no_reader(out):
        try:
            changes.note()
            some = [_written(one, is_json=is_json) for one in latest.read(store)]
            with stop.interrupting(_STUCK_SECONDS):
                lines.write(out, some)
            if not stop.wait(_REST_SECONDS):
                changes.wait(stop, _WAIT_SECONDS)
            backoff.reset()
        except Unavailable as error:
            changes.close()
            click.echo(f"faxhook: {error.trouble}", err=True)
            stop.wait(backoff.next())


class _Latest:
    """What has happened since the last look, receipts before the events that they made."""

    def __init__(self, events: following.Following) -> None:
        self._events = events
        self._receipts = following.FollowingReceipts(now_ms())
        self._seqs: list[int] = []  # of events that are still to be read
        self._ready: list[Mapping[str, Any]] = []

    def read(self, store: Store) -> list[Mapping[str, Any]]:
        """Raises Unavailable; what was read until then comes with the next call."""
        with store.reading() as connection:
            self._ready += map(happenings.of_receipt, self._receipts.read(connection, store.tables))
            self._seqs += self._events.read(connection, store.tables)
            self._ready += map(happenings.of_event, following.events(connection, store.tables, self._seqs))
        found = sorted(self._ready, key=lambda one: str(one["at"]))
        self._seqs, self._ready = [], []
        return found


def _written(happened: Mapping[str, Any], *, is_json: bool) -> bytes:
    text = json.dumps(happened, ensure_ascii=False) if is_json else happenings.line(happened)
    return text.encode("utf-8", "backslashreplace")
