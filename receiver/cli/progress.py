"""How far a long look has come, on the error output: what it finds may go into a file."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_LINE_SECONDS = 5.0  # between two lines


def progress() -> AbstractContextManager[Callable[[str], object]]:
    """Yields what takes the newest text, as often as there is one. Where no terminal is, it is a line now and then."""
    console = Console(stderr=True)
    return _shown(console) if console.is_terminal else nullcontext(_lines())


def _lines() -> Callable[[str], object]:
    due = time.monotonic() + _LINE_SECONDS

    def told(text: str) -> None:
        nonlocal due
        if time.monotonic() >= due:
            click.echo(f"{text} so far", err=True)
            due = time.monotonic() + _LINE_SECONDS

    return told


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[str], object]]:
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("asking", total=None)
        yield lambda text: shown.update(task, description=text)
