"""Where the command `faxhook` begins: nothing long may stand before it, nor in front of the import below."""

from receiver.system.interrupting import while_starting


def main() -> None:
    while_starting()
    from receiver.cli import main as command  # which takes a while

    command(prog_name="faxhook")
