"""A port on this machine that leads to a server, until it is cut, frozen, muted or made slow."""

import socket
import threading
import time
from contextlib import suppress

from ports import listener


class Cable:
    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = listener()
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._there, self._back = threading.Event(), threading.Event()
        self.delay = 0.0  # seconds, of what the server says
        self.mend()

    def __enter__(self) -> "Cable":
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def mend(self) -> None:
        """As new; what was frozen goes on."""
        self.delay = 0.0
        self._there.set()
        self._back.set()
        if self._listener.fileno() == -1:
            self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Every connection is lost, and new ones are refused."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._there.set()
        self._back.set()
        self.drop()

    def drop(self) -> None:
        """Every connection is lost."""
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
        """Nothing moves any more, and nobody is told; connections are taken all the same."""
        self._there.clear()
        self._back.clear()

    def mute(self) -> None:
        """What is sent arrives, and no answer comes back."""
        self._back.clear()

    def _accept(self, accepting: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = accepting.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += (near, far)
                for one in ((near, far, self._there, False), (far, near, self._back, True)):
                    threading.Thread(target=self._carry, args=one, daemon=True).start()

    def _carry(self, source: socket.socket, to: socket.socket, moves: threading.Event, is_back: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                moves.wait()
                if is_back and self.delay:
                    time.sleep(self.delay)
                to.sendall(data)
        for sock in (source, to):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        source.close()  # each of the two is the source of one thread
