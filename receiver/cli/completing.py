"""completion."""

import click
from click.shell_completion import get_completion_class

from receiver.cli import main


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """
    The script that lets SHELL complete commands, options and their choices.

    \b
    bash: in ~/.bashrc    eval "$(faxhook completion bash)"
    zsh:  in ~/.zshrc     eval "$(faxhook completion zsh)"
    fish: faxhook completion fish > ~/.config/fish/completions/faxhook.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click has all three
    click.echo(kind(main, {}, "faxhook", "_FAXHOOK_COMPLETE").source())
