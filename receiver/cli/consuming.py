"""consume: the embedded queue's reader."""

import sys
from pathlib import Path

import click

from receiver import bootstrap, consumer
from receiver.cli import opening


@click.command()
@opening.config_option
@click.option("--follow", is_flag=True, help="Wait for more events, and for a store that is away.")
@click.option("--max", "max_events", type=click.IntRange(min=1), help="End after this many events.")
@click.option("--idle-seconds", type=click.FloatRange(min=0), help="End after so many seconds without an event.")
@click.pass_context
def consume(
    ctx: click.Context, config: Path | None, follow: bool, max_events: int | None, idle_seconds: float | None
) -> None:
    """
    Write pending events to standard output, one line each, and acknowledge them.

    A line is exactly the published CloudEvents envelope. It is flushed before the event is acknowledged: an event can
    come twice after a crash, with the same id, but is never lost. Without --follow and --idle-seconds it ends when
    nothing is pending.
    """
    store = bootstrap.open_store(opening.load(config))
    try:
        consumer.consume(
            store,
            getattr(sys.stdout.buffer, "raw", sys.stdout.buffer),  # with PYTHONUNBUFFERED it is raw itself
            follow=follow,
            max_events=max_events,
            idle_seconds=idle_seconds,
        )
    except OSError as error:
        print(f"faxhook: standard output: {error.strerror}", file=sys.stderr)
        ctx.exit(1)
    finally:
        store.close()
