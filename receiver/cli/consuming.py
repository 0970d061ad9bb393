"""consume: the queue's reader, wherever the queue is."""

import sys
from contextlib import closing
from pathlib import Path

import click

from receiver import bootstrap, broker_consumer, consumer
from receiver.cli import Failure, opening
from receiver.errors import BrokerTrouble


@click.command()
@opening.config_option
@click.option("--follow", is_flag=True, help="Wait for more events, and for a store or broker that is away.")
@click.option("--max", "max_events", type=click.IntRange(min=1), help="End after this many events.")
@click.option("--idle-seconds", type=click.FloatRange(min=0), help="End after so many seconds without an event.")
@click.pass_context
def consume(
    ctx: click.Context, config: Path | None, follow: bool, max_events: int | None, idle_seconds: float | None
) -> None:
    """
    Write the queue's events to standard output, one line each, and acknowledge them.

    A line is exactly the published CloudEvents envelope. It is flushed before the event is acknowledged: an event can
    come twice after a crash, with the same id, but is never lost. Without --follow and --idle-seconds it ends when
    the queue is empty.
    """
    settings = opening.load(config)
    if sys.__stdout__ is None:  # what is written now goes nowhere, and would be acknowledged
        raise Failure("standard output is closed; nothing was read")
    out = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)  # with PYTHONUNBUFFERED it is raw itself
    try:
        if settings.queue.is_embedded:
            with closing(bootstrap.open_store(settings)) as store:
                consumer.consume(store, out, follow=follow, max_events=max_events, idle_seconds=idle_seconds)
        else:
            broker_consumer.consume(
                settings.queue,
                settings.server.state_dir,
                out,
                follow=follow,
                max_events=max_events,
                idle_seconds=idle_seconds,
            )
    except BrokerTrouble as trouble:
        raise Failure(f"queue.url: {trouble.detail}") from None
    except OSError as error:
        print(f"faxhook: standard output: {error.strerror}", file=sys.stderr)
        ctx.exit(1)
