"""
The request body as raw bytes, whole or not at all.

Flask and Werkzeug behind gunicorn accept a body cut short and answer 200, and silently truncate chunked bodies at
``MAX_CONTENT_LENGTH``; so nothing in faxhook calls ``get_data``, ``form`` or ``json`` of a request. It all comes from
here.
"""

import io
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from gunicorn.http.errors import ParseException

from receiver import errors
from receiver.system.deadline import watchdog

DEADLINE_SECONDS = 10.0
LARGE = 32 * 1024  # bytes, about a hundred recipients: more takes long enough to be a thread's work
UNASKED = 64 * 1024  # bytes that are kept of anybody's body, while nothing is known of its sender
_STEP = 256 * 1024  # between two looks at the clock; gunicorn copies what it has read ahead once per step
_DRAINED_AT_LEAST = 64 * 1024 * 1024
_DRAINED_TIMES_MAX = 4


@dataclass(frozen=True, slots=True)
class Expected:
    """What a server has to know that reads bodies to their end before it calls the application: see ``read``."""

    max_body: int = 8 * 1024 * 1024
    is_wanted: Callable[[Mapping[str, Any]], bool] = lambda _environ: True


EXPECTED = "faxhook.bodies"  # where the application has it, among its extensions


class Arrived(io.BytesIO):
    """
    A body that our server has read to its end, or as far as it got.

    size: how many bytes came. is_kept: whether they are here. trouble: why no more came, or why they are not here.
    seconds: that it was given. failed: the connection cannot serve another request.
    """

    SLOW = "slow"
    CUT = "cut"  # short, or malformed
    ENDLESS = "endless"
    CROWDED = "crowded"

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self.is_kept = True
        self.trouble = ""
        self.seconds = 0.0
        self.failed = False

    def whole(self, announced: int | None, max_body: int, is_wanted: Callable[[], bool]) -> bytes:
        """As ``_read_to_end``; and raises Unavailable for what is not kept since there was too much at once."""
        is_unclear = self.trouble in (self.SLOW, self.CUT)
        if not (is_unclear and announced is None) and (self.size > max_body or (announced or 0) > max_body):
            raise _too_large(max_body)
        if self.trouble == self.SLOW:
            raise TimeoutError
        if is_unclear:
            raise EOFError
        if self.trouble == self.CROWDED or (not self.is_kept and is_wanted()):
            raise errors.Unavailable("Too many large bodies are being received at once; try again.")
        return self.getvalue()


def read(
    environ: Mapping[str, Any],
    max_body: int,
    *,
    is_wanted: Callable[[], bool] = lambda: True,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> bytes:
    """
    The whole body, exactly as sent and as long as announced; empty where the request has none.

    is_wanted: asked once for a body of more than 64 KiB; one that is not is read to its end and thrown away, and b""
    returned: its sender is refused next.

    The body is read to its end before any answer, and one that is too long is read and thrown away up to four times
    max_body (64 MiB at least): many clients send everything before they look at an answer, and one that is cut off
    while sending sees a broken connection instead of our 413 or 401.

    Raises BadFraming when the body is shorter than announced, its chunks are malformed or it took longer than
    deadline_seconds; TooLarge above max_body bytes; UnsupportedEncoding for any coding but identity. The connection is
    closed after the first two, because nobody knows where the next request begins.
    """
    announced = _announced_length(environ)
    stream = environ["wsgi.input"]
    if announced == 0 or (announced is None and not environ.get("wsgi.input_terminated")):
        body = b""
    else:
        try:
            if isinstance(stream, Arrived):
                deadline_seconds = stream.seconds
                body = stream.whole(announced, max_body, is_wanted)
            else:
                with _guarded(environ, deadline_seconds) as deadline:
                    body = _read_to_end(stream, announced, max_body, deadline, is_wanted)
        except errors.TooLarge:
            _close_after_answer(environ)
            raise
        except TimeoutError:
            _close_after_answer(environ)
            raise errors.BadFraming(f"The body was slower than {deadline_seconds:g} s.") from None
        except (EOFError, OSError, ParseException):
            # From None: gunicorn's exceptions quote the bytes they stumbled over.
            _close_after_answer(environ)
            raise errors.BadFraming("The body is shorter than announced, or its chunks are malformed.") from None
    _refuse_codings(environ)
    return body


@contextmanager
def _guarded(environ: Mapping[str, Any], seconds: float) -> Iterator[float]:
    """For a server whose threads wait for senders. Raises TimeoutError for what fails once the deadline has passed."""
    deadline = time.monotonic() + seconds
    sock = environ.get("gunicorn.socket")
    if sock is not None:
        watchdog.guard(sock, deadline)
    try:
        yield deadline
    except (EOFError, OSError, ParseException):
        if time.monotonic() >= deadline:
            raise TimeoutError from None
        raise
    finally:
        watchdog.release()


def _announced_length(environ: Mapping[str, Any]) -> int | None:
    """Content-Length; None without one, where the body is chunked or absent."""
    text = environ.get("CONTENT_LENGTH")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        _close_after_answer(environ)
        raise errors.BadFraming("Content-Length is not a number.")
    return int(text)


def most_drained(max_body: int) -> int:
    """How many bytes of a body that is too long are read."""
    return max(_DRAINED_TIMES_MAX * max_body, _DRAINED_AT_LEAST)


def _read_to_end(
    stream: Any, announced: int | None, max_body: int, deadline: float, is_wanted: Callable[[], bool]
) -> bytes:
    drained = most_drained(max_body)
    kept = min(max_body, UNASKED)
    if announced is not None and announced > drained:
        raise _too_large(max_body)
    parts: list[bytes] = []
    size = 0
    part = b""
    while size != announced:
        part = stream.read(_STEP if announced is None else min(_STEP, announced - size))
        if not part:
            break
        size += len(part)
        if size > kept == UNASKED:
            kept = max_body if is_wanted() else 0
        if size <= kept:
            parts.append(part)
        else:
            parts.clear()
        if size > drained:
            break
        # The watchdog ends reads that wait; a sender that never lets us wait is stopped here.
        if size != announced and time.monotonic() >= deadline:
            break
    if size > max_body or (announced or 0) > max_body:
        raise _too_large(max_body)
    if size != announced and (part or announced is not None):
        raise EOFError  # cut short, by the sender or by the deadline
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(max_body: int) -> errors.TooLarge:
    return errors.TooLarge(f"The body is longer than {max_body} bytes.", headers=(("Connection", "close"),))


def _close_after_answer(environ: Mapping[str, Any]) -> None:
    """
    What is still on the wire belongs to this body and must not be read as a request.

    ``failed`` is gunicorn's own mark for that; its own workers heed it only when they have answered.
    """
    with suppress(AttributeError):  # another server's stream
        environ["wsgi.input"].failed = True


def _refuse_codings(environ: Mapping[str, Any]) -> None:
    if environ.get("HTTP_CONTENT_ENCODING", "").strip().lower() not in ("", "identity"):
        raise errors.UnsupportedEncoding("The body must be sent without Content-Encoding.")
    # gunicorn takes "gzip, chunked" but undoes only the chunks.
    for coding in environ.get("HTTP_TRANSFER_ENCODING", "").split(","):
        if coding.strip().lower() not in ("", "identity", "chunked"):
            raise errors.UnsupportedEncoding("The body must be sent without a transfer coding other than chunked.")
