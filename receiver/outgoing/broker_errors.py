"""
What a broker's error means: a kind for logs and metrics, and words for operators.

The words are ours. Of what a library or broker says, only the names of exchanges, queues and virtual hosts are taken:
its messages hold user names, and may hold more.
"""

import re
import socket
import ssl
from collections.abc import Iterator

from amqp.exceptions import AccessRefused, AMQPError, ChannelError, NoConsumers, NotAllowed, NotFound, ResourceLocked

from receiver.logs import error_class

# Kind -> what to say where there is no error, or nothing better is known of it.
_WORDS = {
    "timeout": "no answer in time; a firewall in between, a broker that hangs, or another program at this port?",
    "blocked": "it takes nothing at present: a memory or disk alarm; free some, or see `rabbitmqctl status`",
    "unroutable": "events came back: nothing is bound for their routing keys, or the queue rejects them",
    "interrupted": "told to stop",
    "connection": "it cannot be reached, or ended the connection; is it being restarted, and is this its port?",
    "tls": "the TLS handshake failed",
    "forbidden": "the user lacks a right that is needed",
    "missing": "an exchange or queue is not there",
    "refused": "it closed the channel for what was sent",
    "full": "it is full",
    "client": "the client library failed",
    "gone": "it wants no more events",
    "slow": "it asks for fewer events at a time",
    "failing": "it answers with errors of its own",
    "redirected": "it answers from another address, which nobody follows",
    "address": "its address is not a public one",
}

# Class of redis-py, which need not be installed -> kind and words.
_REDIS = {
    "AuthenticationError": ("forbidden", "user or password is wrong, or missing"),
    "AuthenticationWrongNumberOfArgsError": ("forbidden", "user or password is wrong, or missing"),
    "AuthorizationError": ("forbidden", "user or password is wrong, or missing"),
    "NoPermissionError": ("forbidden", "the user's ACL forbids a command or key that is needed"),
    "OutOfMemoryError": ("full", "its memory is full (maxmemory); events wait here"),
    "ReadOnlyError": ("connection", "a replica that is read-only; expected the address of the primary"),
    "MasterDownError": ("connection", "a replica whose primary is away"),
    "BusyLoadingError": ("connection", "it is still loading its data"),
    "InvalidResponse": ("connection", "what answers there is no Redis; is this its port?"),
    "TimeoutError": ("timeout", _WORDS["timeout"]),
    "ResponseError": ("failing", _WORDS["failing"]),
}
# What else Redis begins an error with.
_REDIS_REPLIES = {
    "NOAUTH": ("forbidden", "user or password is wrong, or missing"),
    "WRONGPASS": ("forbidden", "user or password is wrong, or missing"),
    "OOM": ("full", "its memory is full (maxmemory); events wait here"),
    "WRONGTYPE": ("missing", "the key holds something that is no stream"),
    "MISCONF": ("full", "it cannot write to its disk; see its log. Events wait here"),
    "DB index is out of range": ("missing", "the database in the URL's path does not exist there"),
    "max number of clients reached": ("connection", "it has as many clients as it allows (maxclients)"),
}

# Beginning of RabbitMQ's reply after its name, with what is taken from it -> kind and words.
_RABBITMQ = (
    (r"Login was refused", "forbidden", "user or password is wrong; the user guest is allowed from its own host only"),
    (r"vhost (?P<name>.+) not found", "forbidden", "virtual host {name} does not exist"),
    (r"access to vhost '(?P<name>.+?)' refused", "forbidden", "the user has no permissions in virtual host {name}"),
    (r"access to vhost '(?P<name>.+?)' .*limit", "connection", "virtual host {name} allows no further connection"),
    (r".*connection limit", "connection", "it allows no further connection to this user or virtual host"),
    (
        r"(?:read |write |configure )?access to (?P<kind>exchange|queue|topic) '(?P<name>.*?)'",
        "forbidden",
        "the user has no right to do that with the {kind} {name}; see `rabbitmqctl list_permissions`",
    ),
    (r"no (?P<kind>exchange|queue) '(?P<name>.*?)'", "missing", "the {kind} {name} is not there"),
    (
        r"(?:queue|home node) '(?P<name>.*?)' .*(?:down|process is stopped|minority|crashed)",
        "connection",
        "the queue {name} is down",
    ),
    (r"vhost '(?P<name>.*?)' is down", "connection", "virtual host {name} is down"),
)

# OpenSSL's X509_V_ERR_… -> what is wrong with the broker's certificate.
_CERTIFICATES = {
    9: "its certificate is not valid yet; look at both clocks",
    10: "its certificate has expired",
    18: "its certificate is self-signed, and not one of those that are trusted; see ssl_ca_certs",
    19: "its certificate comes from an authority that is not trusted; see ssl_ca_certs",
    20: "its certificate comes from an authority that is not trusted; see ssl_ca_certs",
    21: "its certificate comes from an authority that is not trusted; see ssl_ca_certs",
    62: "its certificate is for another host name",
    64: "its certificate is for another address",
}
_OLD_TLS = "it speaks no TLS that is safe, which begins with 1.2; turn that on there"


def diagnose(error: BaseException, lost: tuple[type[Exception], ...]) -> tuple[str, str]:
    """Its kind, and words. lost: what the transport raises when its connection is."""
    for one in _chain(error):
        if found := _redis(one) or _rabbitmq(one) or _network(one):
            return found
    kind = _kind(error, lost)
    return kind, f"{words(kind)} ({error_class(error)})"


def words(kind: str) -> str:
    """What a kind of trouble is, where nothing better is known; of an unknown one, its name."""
    return _WORDS.get(kind, kind)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Libraries raise errors of their own for the socket's."""
    at: BaseException | None = error
    while at is not None:
        yield at
        at = at.__cause__ or at.__context__


def _redis(error: BaseException) -> tuple[str, str] | None:
    if not type(error).__module__.startswith("redis."):
        return None
    for beginning, found in _REDIS_REPLIES.items():
        if str(error).startswith(beginning):
            return found
    return next((_REDIS[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _REDIS), None)


def _rabbitmq(error: BaseException) -> tuple[str, str] | None:
    if not isinstance(error, AMQPError):
        return None
    _, _, reply = str(error.reply_text or "").partition(" - ")
    for pattern, kind, said in _RABBITMQ:
        if found := re.match(pattern, reply):
            return kind, said.format(**found.groupdict())
    return None


def _network(error: BaseException) -> tuple[str, str] | None:
    match error:
        case ssl.SSLCertVerificationError():
            other = "its certificate cannot be trusted"
            return "tls", _CERTIFICATES.get(error.verify_code, other)
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER" | "RECORD_LAYER_FAILURE" | "HTTP_REQUEST"):
            return "tls", "no TLS at this port"
        case ssl.SSLError(reason=str(reason)) if "PROTOCOL" in reason:
            return "tls", _OLD_TLS
        case ssl.SSLError(reason=str(reason)) if "ALERT" in reason:
            return "tls", "it refuses our side of TLS; does it ask for a client certificate? See ssl_certfile"
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            ended = "it ended the TLS handshake"
            return "tls", f"{ended}; is TLS on at this port, or does it ask for a client certificate? See ssl_certfile"
        case ssl.SSLError(reason=None) if "legacy sigalg" in str(error):  # a reason that Python 3.11.2 has no name for
            return "tls", _OLD_TLS
        case ssl.SSLError(reason=str(reason)):
            return "tls", f"{_WORDS['tls']} (OpenSSL: {reason})"
        case socket.gaierror():
            return "connection", "no such host, or name resolution does not work"
        case ConnectionRefusedError():
            return "connection", "connection refused; is the broker running, and is this its port?"
    return None


def _kind(error: BaseException, lost: tuple[type[Exception], ...]) -> str:
    if isinstance(error, AccessRefused | NotAllowed):
        return "forbidden"
    if isinstance(error, NotFound):
        return "missing"
    if isinstance(error, TimeoutError | BlockingIOError):  # the latter when a write does not get through in time
        return "timeout"
    # A channel is closed for what was sent on it; the others are about who sends, or about what is not there.
    if isinstance(error, ChannelError) and not isinstance(error, NoConsumers | ResourceLocked):
        return "refused"
    return "connection" if isinstance(error, (AMQPError, OSError, *lost)) else "client"
