"""The socket that callbacks come to: bound by ``faxhook serve``, so that it outlives the workers, and its trouble."""

import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from receiver.errors import ConfigurationError

_IN_USE_SECONDS = 2.0  # a server that has just been killed may hold its address for a moment
_AGAIN_SECONDS = 0.2
_LONGEST_UNIX = 107  # bytes of the path of a unix socket, on Linux
_NO_SOCKET = "there is a file of this name, which is no socket"
_NO_RIGHT = (
    "needs a right that this user does not have: choose a port above 1023, or a folder that the user may write to"
)
_ADVICE = {
    errno.EADDRINUSE: "is in use by another process: end it, or choose another address",
    errno.EADDRNOTAVAIL: "is no address of this machine: choose one that is, or 0.0.0.0 for all of them",
    errno.EAFNOSUPPORT: "cannot be used: this machine has no such kind of address",
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.ENOENT: "cannot be made: its folder does not exist",
    errno.ENOTDIR: "cannot be made: its folder does not exist",
    errno.ENAMETOOLONG: f"cannot be made: its path is too long, the system takes {_LONGEST_UNIX} bytes",
    errno.EROFS: "cannot be made: its file system is read-only",
}


class Listener(socket.socket):
    """Bound, and not yet listening: who connects before there is a worker to answer is refused, and does not hang."""

    address: str

    def __str__(self) -> str:  # for gunicorn's log
        return self.address

    @classmethod
    def handed(cls, descriptor: int, address: str) -> "Listener":
        """One that the parent process has bound."""
        listener = cls(fileno=descriptor)
        listener.address = address
        return listener

    def begin(self, backlog: int) -> None:
        """Listen, unless another process has begun."""
        if not self.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            self.listen(backlog)

    def give_up(self) -> None:
        """Close it, and remove the file of a unix socket."""
        if self.address.startswith("unix:"):
            Path(self.address.removeprefix("unix:")).unlink(missing_ok=True)
        self.close()


def bind(address: str) -> Listener:
    """
    address: ``host:port``, ``[v6]:port``, ``unix:path``, or ``fd://number`` for a socket that a supervisor passes.

    Raises ConfigurationError naming the key, the address and what to do.
    """
    _refuse_unused(address)
    make = _inherited if address.startswith("fd://") else _unix if address.startswith("unix:") else _tcp
    deadline = time.monotonic() + _IN_USE_SECONDS
    while True:
        try:
            listener = make(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(_AGAIN_SECONDS)
                continue
            raise _error(address, error) from None
        listener.address = address
        return listener


def _refuse_unused(address: str) -> None:
    """On a socket that a supervisor has opened for us and that we leave alone, callers would wait for ever."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and not address.startswith("fd://"):
        raise ConfigurationError(
            f'{_key()}: {address} leaves the socket unused that systemd passes (LISTEN_FDS): choose "fd://3" to serve'
            " it, or stop and disable the .socket unit"
        )


def obstacle(address: str) -> str | None:
    """
    A sentence if this machine could not bind the address even with no other process on it; nothing is bound.

    In use it may be: by the faxhook that is running.
    """
    try:
        if address.startswith("fd://"):
            _inherited(address).close()
        elif address.startswith("unix:"):
            _look_at_place(address.removeprefix("unix:"))
        else:
            _tcp(address.rpartition(":")[0] + ":0").close()
    except OSError as error:
        return str(_error(address, error))
    return None


def _look_at_place(path: str) -> None:
    """Raise OSError as binding a unix socket there would."""
    if len(os.fsencode(path)) > _LONGEST_UNIX:
        raise OSError(errno.ENAMETOOLONG, "")
    folder = Path(path).parent
    if not folder.is_dir():
        raise OSError(errno.ENOENT, "")
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, "")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, "")
    if Path(path).exists() and not Path(path).is_socket():
        raise OSError(errno.EEXIST, _NO_SOCKET)


def _error(address: str, error: OSError) -> ConfigurationError:
    key = _key()
    if address.startswith("fd://"):
        trouble = "is no socket: it is for one that a supervisor such as systemd passes; otherwise choose host and port"
    elif isinstance(error, socket.gaierror):
        trouble = "names a host that does not exist: choose an address of this machine"
    else:
        trouble = _ADVICE.get(error.errno or 0) or f"cannot be used: {error.strerror or error}"
    return ConfigurationError(f"{key}: {address} {trouble}")


def _key() -> str:
    """Where the address is from."""
    return "variable PORT" if os.environ.get("PORT") else "server.bind"


def _tcp(address: str) -> Listener:
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    return _bound(socket.AF_INET6 if ":" in host else socket.AF_INET, lambda one: one.bind((host, int(port))))


def _unix(address: str) -> Listener:
    path = address.removeprefix("unix:")
    _look_at_place(path)
    if Path(path).is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            if probe.connect_ex(path) != errno.ECONNREFUSED:  # also with a queue that is full
                raise OSError(errno.EADDRINUSE, "")
        os.unlink(path)  # of a server that was killed
    listener = _bound(socket.AF_UNIX, lambda one: one.bind(path))
    os.chmod(path, 0o660)  # a proxy comes in by the group; nobody else does, whatever the umask
    return listener


def _inherited(address: str) -> Listener:
    listener = Listener(fileno=os.dup(int(address.removeprefix("fd://"))))
    if listener.type != socket.SOCK_STREAM or listener.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        listener.close()
        raise OSError(errno.ENOTSOCK, "it is no stream socket, as a supervisor such as systemd passes one")
    listener.setblocking(False)
    return listener


def _bound(family: int, bind_to: Callable[[Listener], None]) -> Listener:
    listener = Listener(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family != socket.AF_UNIX:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # of what it accepts as well
        bind_to(listener)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
