"""
Ports that no other test process on this machine is given, from the moment they are chosen until this process ends.

So a test may close its socket, and start or start again a server on its port. ``python tests/ports.py COUNT`` prints
some for a script, and holds them until its standard input ends.
"""

import atexit
import itertools
import socket
import sys
from collections.abc import Iterator
from functools import cache

# Below Linux's ephemeral range, so that no outgoing connection takes one; RabbitMQ's own 25672 is left out.
_BLOCK = 100
_BLOCKS = [first for first in range(20_000, 32_700, _BLOCK) if first != 25_600]


def listener() -> socket.socket:
    """Bound to 127.0.0.1 and listening."""
    for port in itertools.islice(_ours()[1], _BLOCK):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
            sock.listen()
        except OSError:
            sock.close()
        else:
            return sock
    raise AssertionError(f"each of the {_BLOCK} ports of this process is in use")


def free_port() -> int:
    """Of a server to start. It is given out again only after all others of this process."""
    with listener() as sock:
        return int(sock.getsockname()[1])


@cache
def _ours() -> tuple[socket.socket, Iterator[int]]:
    """What holds a block for this process, and its ports, again and again."""
    for first in _BLOCKS:
        # An abstract name belongs to the network namespace, as ports do, and the kernel frees it with the process.
        held = socket.socket(socket.AF_UNIX)
        try:
            held.bind(f"\0faxhook-test-ports-{first}")
        except OSError:
            held.close()
        else:
            atexit.register(held.close)  # before the interpreter ends, which would complain
            return held, itertools.cycle(range(first, first + _BLOCK))
    raise AssertionError(f"{len(_BLOCKS)} test processes hold all ports")


if __name__ == "__main__":
    print(*(free_port() for _ in range(int(sys.argv[1]))), flush=True)
    sys.stdin.read()
