"""
The way to a message broker over kombu: a connection with a limit on every wait, and the queue at its end.

Every rule here was measured by stopping, freezing and filling brokers. The one above all: after any error the
connection is thrown away (``discard``) and never closed in good order, because py-amqp matches confirms by arrival, so
that a late one would be taken for another message's, and because closing waits for a broker that may not answer.
"""

import os
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from amqp.exceptions import NotFound
from kombu import entity
from kombu.connection import Connection

from receiver import transports
from receiver.errors import BadValue, BrokerTrouble
from receiver.outgoing.broker_errors import diagnose, words
from receiver.settings import Queue
from receiver.system.stopping import Interrupted

CONNECT_SECONDS = 3.0
SOCKET_SECONDS = 3.0  # one read or write, where nothing shorter is asked for
HEARTBEAT_SECONDS = 10.0
VISIBILITY_SECONDS = 60  # outside AMQP, a consumer that died gives its events back after this
DEAD = ".dead"  # what this is added to holds the messages that consumers have rejected

# Scheme -> what may be the matter where the connection is closed at once: who expects TLS takes our first words for
# nonsense, and who misses a certificate may reset the connection before its alert has been read.
_IF_IT_CLOSES = {
    "amqp": "Where TLS is on at this port, the URL begins with amqps://",
    "redis": "Where TLS is on at this port, the URL begins with rediss://",
    **dict.fromkeys(("amqps", "rediss"), "It may ask for a client certificate: see ssl_certfile"),
}
_QUORUM = {"x-queue-type": "quorum"}
REDIS_SETTINGS = {"appendonly": "appendonly", "appendfsync": "appendfsync", "eviction": "maxmemory-policy"}
KEPT = {"appendonly": "yes", "appendfsync": "always", "eviction": "noeviction"}  # ``durability`` that forgets nothing


class Broker:
    """
    A connection to the broker of ``queue``, opened by ``open()``. Not for several threads, and not over a fork.

    Every method but ``discard`` raises BrokerTrouble, and has discarded the connection then.
    """

    def __init__(self, queue: Queue, name: str, state_dir: Path) -> None:
        """name: what the broker's own lists show."""
        self.queue = queue
        self.transport = transports.find(queue.url)
        self.is_blocked = False  # the broker takes nothing at present: a memory or disk alarm
        self._name = name
        self._state_dir = state_dir
        self._place = transports.place(queue.url)  # of the host that was asked last
        self._connection: Any = None
        self.channel: Any = None

    @property
    def _is_redis(self) -> bool:
        return transports.scheme(self.queue.url) in ("redis", "rediss")

    @property
    def _is_sqs(self) -> bool:
        return transports.scheme(self.queue.url) == "sqs"

    @property
    def is_open(self) -> bool:
        return self.channel is not None

    def open(self) -> None:
        """Connect to the first host that answers, and find or make the queue."""
        try:
            first, *others = transports.addresses(self.queue.url)
        except BadValue as error:  # a file of certificates that was there at the start, and may be there again
            raise BrokerTrouble("tls", error, f"{self._place}: {error}") from None
        try:
            self._connect(first)
        except BrokerTrouble as trouble:
            self._connect_one_of(others, trouble)
        with self.trouble():
            self.channel = self._prepare()

    def _connect_one_of(self, addresses: Sequence[transports.Address], trouble: BrokerTrouble) -> None:
        """trouble: with the host before them."""
        details = [trouble.detail]
        for address in addresses:
            try:
                return self._connect(address)
            except BrokerTrouble as another:
                trouble = another
                details.append(another.detail)
        raise BrokerTrouble(trouble.kind, trouble.error, "; ".join(details)) from None

    def _connect(self, address: transports.Address) -> None:
        self._place = transports.place(address.url)
        try:
            self._begin(address)
        except BrokerTrouble as trouble:
            hint = _IF_IT_CLOSES.get(transports.scheme(address.url))
            if hint is None or words("connection") not in trouble.detail:
                raise
            raise BrokerTrouble(trouble.kind, trouble.error, f"{trouble.detail}. {hint}") from None

    def _begin(self, address: transports.Address) -> None:
        with self.trouble():
            self._connection = Connection(
                address.url,
                connect_timeout=CONNECT_SECONDS,
                heartbeat=HEARTBEAT_SECONDS if self.transport.speaks_amqp else 0,
                ssl=_tls(address, is_redis=self._is_redis),
                transport_options=self._options(),
            )
            self._connection.ensure_connection(
                max_retries=0,  # connect() would sleep 2 s at a port that refuses. Waiting is the caller's.
                reraise_as_library_errors=False,  # which hide what happened
            )

    def wait(self, seconds: float) -> bool:
        """Take in what the broker sends, for so long at most; whether it has sent anything. Keeps heartbeats going."""
        with self.trouble():
            try:
                self._connection.drain_events(timeout=seconds or 0.0001)  # 0 means "for ever" to some transports
            except TimeoutError:
                if self.transport.speaks_amqp:
                    self._connection.heartbeat_check()
                return False
            return True

    def durability(self) -> dict[str, str] | None:
        """Redis only: how its commands are kept, and whether it evicts; each "unknown" where we may not ask."""
        if not self._is_redis:
            return None
        with self.trouble():
            return {key: self._configured(name) for key, name in REDIS_SETTINGS.items()}

    def close(self) -> None:
        """Say good-bye to a broker that is well."""
        if self._connection is not None and not self.is_blocked:  # which would not answer until its alarm is over
            with suppress(BrokerTrouble), self.trouble():
                self._connection.release()
        self.discard()

    def discard(self) -> None:
        """Drop the connection, with everything that is under way on it. Never waits."""
        if self._connection is not None:
            if self.channel is not None:
                self.channel.do_restore = False  # Redis: it would ask for it, and wait, when this is collected
            with suppress(Exception):  # the connection is broken, and so may be what takes it down
                self._connection.collect(socket_timeout=0.1)
        self._connection = self.channel = None
        self.is_blocked = False

    @contextmanager
    def trouble(self) -> Iterator[None]:
        """Whatever goes wrong in the block ends the connection, and becomes BrokerTrouble."""
        try:
            yield
        except (BrokerTrouble, Interrupted):  # after a signal the connection is in the middle of something
            self.discard()
            raise
        except Exception as error:  # noqa: BLE001 - transports raise what their libraries do, and AttributeError too
            kind, said = diagnose(error, self._connection.connection_errors if self._connection else ())
            self.discard()
            # from None: it may hold a message's properties, or the URL
            raise BrokerTrouble(kind, error, f"{self._place}: {said}") from None

    def fault(self, kind: str, error: Exception | None = None) -> BrokerTrouble:
        """A trouble to be raised for what no library has raised."""
        return BrokerTrouble(kind, error, f"{self._place}: {words(kind)}")

    def _options(self) -> dict[str, Any]:
        if self.transport.speaks_amqp:
            return {
                "read_timeout": SOCKET_SECONDS,
                "write_timeout": SOCKET_SECONDS,
                "client_properties": {"connection_name": self._name},
                "on_blocked": lambda _reason: self._block(True),
                "on_unblocked": lambda: self._block(False),
            }
        if self._is_redis:
            return {
                "socket_timeout": SOCKET_SECONDS,
                "socket_connect_timeout": CONNECT_SECONDS,
                "visibility_timeout": VISIBILITY_SECONDS,
            }
        if self._is_sqs:
            return {
                "region": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
                "is_secure": not transports.is_plain_http(self.queue.url),
                "visibility_timeout": VISIBILITY_SECONDS,  # of a queue that is made here
                "wait_time_seconds": 1,
                "client-config": {
                    "connect_timeout": CONNECT_SECONDS,
                    "read_timeout": 1 + SOCKET_SECONDS,
                    "retries": {"total_max_attempts": 1},
                },
            }
        if transports.scheme(self.queue.url) == "filesystem":
            folder = self._state_dir / "queue"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return {
                "data_folder_in": str(folder),
                "data_folder_out": str(folder),
                "control_folder": f"{folder}/control",
            }
        return {}

    def _configured(self, name: str) -> str:
        try:
            return str(self.channel.client.config_get(name).get(name, "unknown"))
        except self.channel.ResponseError:
            return "unknown"

    def _block(self, blocked: bool) -> None:
        self.is_blocked = blocked

    def declare(self, *, durable: bool, auto_delete: bool, **others: Any) -> None:
        """Make the queue so; one that is there stays as it is, and RabbitMQ's error names a difference."""
        channel = self._connection.channel()
        channel.queue_declare(self.queue.queue, durable=durable, auto_delete=auto_delete, arguments=others)
        channel.close()

    # --- the queue ---------------------------------------------------------------------------------------------------

    def _prepare(self) -> Any:
        """The channel to work on, with the queue known to be there."""
        if not self.transport.speaks_amqp:
            return self._prepare_queue_alone()
        exchange, name = self.queue.exchange, self.queue.queue
        if not self._is_there(lambda channel: channel.exchange_declare(exchange, "topic", passive=True)):
            self._may_declare("exchange")
            self._connection.channel().exchange_declare(exchange, "topic", durable=True, auto_delete=False)
        if not self._is_there(lambda channel: channel.queue_declare(name, passive=True)):
            self._may_declare("queue")
            self._make_queue()
        channel = self._connection.channel()
        if self.queue.declare:
            for routing_key in ("fax.completed.*", "fax.amended.*"):
                channel.queue_bind(name, exchange, routing_key)
        return channel

    def _prepare_queue_alone(self) -> Any:
        """
        Outside AMQP: a queue and no exchange, and known anew at each connection.

        kombu drops, without a word, what an exchange of its own has no binding for.
        """
        channel = self._connection.channel()
        channel.do_restore = self._is_redis  # others write messages they cannot give back into a file in /tmp
        if self._is_sqs and not self.queue.declare:  # kombu would make it
            try:
                channel.sqs().get_queue_url(QueueName=channel.canonical_queue_name(self.queue.queue))
            except channel.sqs().exceptions.QueueDoesNotExist:
                raise self._missing("queue") from None
        # Not passive in Redis: a list without entries is none.
        passive = not (self.queue.declare or self._is_redis)
        entity.Queue(self.queue.queue, channel=channel).queue_declare(passive=passive)
        return channel

    def _is_there(self, ask: Callable[[Any], object]) -> bool:
        """Whether a passive declaration, which changes nothing, is answered well."""
        channel = self._connection.channel()
        try:
            ask(channel)
        except NotFound:
            return False  # and the broker has closed the channel
        channel.close()
        return True

    def _may_declare(self, what: str) -> None:
        if not self.queue.declare:
            raise self._missing(what)

    def _missing(self, what: str) -> BrokerTrouble:
        name = self.queue.queue if what == "queue" else self.queue.exchange
        detail = f"{self._place}: the {what} {name} does not exist, and with queue.declare = false it is not made here"
        return BrokerTrouble(f"{what}_missing", None, detail)

    def _make_queue(self) -> None:
        channel = self._connection.channel()
        dead_exchange, dead_queue = self.queue.exchange + DEAD, self.queue.queue + DEAD
        channel.exchange_declare(dead_exchange, "fanout", durable=True, auto_delete=False)
        channel.queue_declare(dead_queue, durable=True, auto_delete=False, arguments=_QUORUM)
        channel.queue_bind(dead_queue, dead_exchange)
        channel.close()
        self.declare(durable=True, auto_delete=False, **arguments(self.queue))


def arguments(queue: Queue) -> dict[str, Any]:
    """What a queue of RabbitMQ is made with."""
    return {**_QUORUM, "x-dead-letter-exchange": queue.exchange + DEAD}


def _tls(address: transports.Address, *, is_redis: bool) -> dict[str, Any] | bool:
    """What the client library checks certificates by; never empty, which kombu takes for no TLS."""
    tls = address.tls
    if tls is None:
        return False
    required = ssl.CERT_REQUIRED if tls.is_checked else ssl.CERT_NONE
    is_host_checked = tls.is_checked and tls.is_host_checked
    if is_redis:
        return {
            "ssl_cert_reqs": required,
            "ssl_check_hostname": is_host_checked,
            "ssl_ca_certs": tls.ca_file,
            "ssl_certfile": tls.certificate,
            "ssl_keyfile": tls.key,
        }
    # py-amqp checks the name that it is given, or none; without this one kombu would say 127.0.0.1 for localhost.
    name = {"server_hostname": address.host} if is_host_checked else {}
    return {
        "cert_reqs": required,
        "ca_certs": tls.ca_file,
        "certfile": tls.certificate,
        "keyfile": tls.key,
        **name,
    }
