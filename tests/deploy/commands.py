"""Whether the product takes a command line as a file in deploy/ has it, without running it."""

from collections.abc import Sequence

import click

from receiver.cli import main


def assert_taken(words: Sequence[str]) -> None:
    """Raises click's errors for a command or an option that is not there."""
    assert words[0] == "faxhook"
    command: click.Command = main
    rest = list(words[1:])
    while isinstance(command, click.Group):
        _, found, rest = command.resolve_command(click.Context(command), rest)
        assert found is not None
        command = found
    command.make_context(command.name, rest)
