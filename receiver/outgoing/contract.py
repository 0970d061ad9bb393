"""
What delivery asks of a sink: take a batch of events, and say of each whether it has it.

A sink is one file in ``receiver.outgoing.sinks`` and one line in ``receiver.destinations``; RabbitMQ's is
``receiver.outgoing.publisher``. ``tests/sinks/contract.py`` is what each of them has to pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from receiver.errors import BrokerTrouble
from receiver.system.stopping import Stop

GONE = "gone"  # the kind of trouble that stops a sink until an operator resumes it


@dataclass(frozen=True, slots=True)
class Message:
    """One event as it goes out. body: the envelope, as it is stored."""

    event_id: str
    fax_id: str
    routing_key: str
    body: bytes


@dataclass(slots=True)
class Result:
    """
    What became of a batch. confirmed: ids of the events that the sink has, and will not forget.

    returned: ids of those that it does not take at present, while it takes others: they are tried again later, and
    hold the later events of their faxes. refused: ids of those that it will never take as they are, such as one that
    is too large. trouble: why the rest is not confirmed; what was open is closed then, unless ``blocked``.
    is_about_message: one of the rest is to blame, and it is not known which. wait_seconds: how long the sink has asked
    us to wait; None where it has not.
    """

    confirmed: set[str] = field(default_factory=set)
    returned: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    trouble: BrokerTrouble | None = None
    is_about_message: bool = False
    wait_seconds: float | None = None


class Publisher(Protocol):
    """
    One sink's connection, of one thread. It connects when it first has something to publish, and again after trouble.

    most: events in a batch. largest: bytes of an event that it takes; None where that is not known. longest_delay: the
    seconds after which delivery tries again at the latest.
    """

    most: int
    longest_delay: float

    @property
    def largest(self) -> int | None: ...

    def publish(self, messages: Sequence[Message]) -> Result:
        """
        Send a batch, with at most one event of each fax, and return when something has become of it, or nothing will.

        Ends within about ten seconds after the last sign of the other side, whatever that does. Never raises
        BrokerTrouble.
        """

    def idle(self) -> None:
        """Keep an unused connection alive, and notice here that it is gone. Raises BrokerTrouble."""

    def close(self, stop: Stop) -> None:
        """Say good-bye, unless that takes longer than a second."""
