"""How a response says that its answer comes later, and a server that it goes on with other requests meanwhile."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from receiver.store.writer import Ticket, Writer

# In the environ of such a server: takes a ticket and its writer, and what makes the WSGI response once it is done.
DEFER = "faxhook.defer"
Settled: TypeAlias = Callable[[], Callable[..., Iterable[bytes]]]
Defer: TypeAlias = "Callable[[Writer, Ticket, Settled], Iterable[bytes]]"
