"""consume: the queue's reader, wherever the queue is."""

import sys
from contextlib import closing
from pathlib import Path

import click

from receiver.cli import Failure, opening
from receiver.errors import BrokerTrouble
from receiver.outgoing import lines
from receiver.stores import open_store


@click.command()
@opening.config_option
@click.option("--peek", is_flag=True, help="Only look: what is there is written, and stays there.")
@click.option("--follow", is_flag=True, help="Wait for more events, and for a store or broker that is away.")
@click.option("--max", "max_events", type=click.IntRange(min=1), help="End after this many events.")
@click.option(
    "--idle-seconds",
    type=click.FloatRange(min=0),
    help="End after so many seconds without an event; exit code 1 where store or broker are away then.",
)
@click.pass_context
def consume(
    ctx: click.Context,
    config: Path | None,
    peek: bool,
    follow: bool,
    max_events: int | None,
    idle_seconds: float | None,
) -> None:
    """
    Write the queue's events to standard output, one line each, and acknowledge them.

    A line is exactly the published CloudEvents envelope. It is flushed before the event is acknowledged: an event can
    come twice after a crash, with the same id, but is never lost. Without --follow and --idle-seconds it ends when
    the queue is empty. A reader that ends before it has read everything is told of, with exit code 1: what it had been
    given may have to be republished.
    """
    if peek and (follow or idle_seconds is not None):
        raise click.UsageError("--peek writes what is there and ends; leave out --follow and --idle-seconds")
    settings = opening.load(config)
    if sys.__stdout__ is None:  # what is written now goes nowhere, and would be acknowledged
        raise Failure("standard output is closed; nothing was read")
    out = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)  # with PYTHONUNBUFFERED it is raw itself
    try:
        if settings.queue.is_embedded:
            from receiver.outgoing import consumer

            with closing(open_store(settings)) as store:
                if peek:
                    consumer.peek(store, out, max_events)
                else:
                    consumer.consume(store, out, follow=follow, max_events=max_events, idle_seconds=idle_seconds)
        else:
            from receiver.outgoing import broker_consumer

            where = settings.queue, settings.server.state_dir
            if peek:
                broker_consumer.peek(*where, out, max_events)
            else:
                broker_consumer.consume(*where, out, follow=follow, max_events=max_events, idle_seconds=idle_seconds)
    except BrokerTrouble as trouble:
        raise Failure(f"queue.url: {trouble.detail}") from None
    except lines.ReaderGone as gone:
        raise Failure(_unread(gone)) from None
    except OSError as error:
        if peek and isinstance(error, BrokenPipeError):
            return  # `| head`: nothing was taken
        print(f"faxhook: standard output: {error.strerror}", file=sys.stderr)
        ctx.exit(1)


def _unread(gone: lines.ReaderGone) -> str:
    if not gone.count:
        return f"{gone}; nothing that it did not read was acknowledged"
    events = "1 event was" if gone.count == 1 else f"{gone.count} events were"
    return f"{gone}; {events} acknowledged but perhaps not read: `faxhook events republish --since {gone.since}`"
