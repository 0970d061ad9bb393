"""
One request as it arrives: head and body, in whatever pieces they come, to their end and never beyond.

Nothing here waits. What is well-formed gunicorn's own parser decides, which is given the whole head at once.
"""

from collections.abc import Callable
from typing import Any

from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import LimitRequestHeaders, NoMoreData
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader

from receiver.body import DEADLINE_SECONDS, UNASKED, Arrived, most_drained
from receiver.web.chunks import Chunks, MalformedError

# From the first byte of the head, and of the body, on: with these the rate has a lower limit as well.
HEAD_SECONDS = 10.0
BODY_SECONDS = DEADLINE_SECONDS

_LONGEST_HEAD = 64 * 1024  # bytes
_END = b"\r\n\r\n"


class Room:
    """How many bytes the large bodies of all connections may take together, in this process."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int) -> bool:
        """Whether there is so much left; it is then taken."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        self._left += size


class Arriving:
    """
    buffer: what was received and is not yet read. is_wanted: whether the sender of a large body is known; asked once.

    ``request`` is gunicorn's, once the head is there; ``body`` is what came behind it.
    """

    def __init__(self, cfg: Any, peer: Any, number: int, buffer: bytearray) -> None:
        self._cfg = cfg
        self._peer = peer
        self._number = number
        self._buffer = buffer
        self._searched = 0
        self._has_line = False
        self._announced: int | None = None
        self._chunks: Chunks | None = None
        self._taken = 0  # of the room
        self.request: Any = None
        self.body = Arrived()

    def read_head(self) -> bool:
        """Whether the head is there. Raises ParseException for one that is wrong."""
        end = self._buffer.find(_END, max(0, self._searched - 3))
        if end < 0:
            self._refuse_bad_beginning()
            self._searched = len(self._buffer)
            return False
        self.request = self._parsed(bytes(self._buffer[: end + 4]))
        del self._buffer[: end + 4]
        reader = self.request.body.reader
        if isinstance(reader, ChunkedReader):
            self._chunks = Chunks(self.request)
        else:
            self._announced = reader.length
        self.request.body = self.body
        return True

    def _refuse_bad_beginning(self) -> None:
        """gunicorn does not wait for the end of a head that is wrong already."""
        new = self._buffer[max(0, self._searched - 1) :]
        had_line, self._has_line = self._has_line, self._has_line or b"\r\n" in self._buffer[2:]
        is_line_long = len(self._buffer) > self._cfg.limit_request_line and not self._has_line
        is_new_line = self._has_line and not had_line
        is_long = len(self._buffer) > _LONGEST_HEAD
        if is_new_line or is_line_long or is_long or new.count(b"\n") != new.count(b"\r\n"):
            try:
                self._parsed(bytes(self._buffer))
            except NoMoreData:
                if is_long:
                    raise LimitRequestHeaders("head") from None

    def _parsed(self, head: bytes) -> Any:
        return Request(self._cfg, IterUnreader((head,)), self._peer, self._number)

    @property
    def is_plain(self) -> bool:
        """Whether a Content-Length says how long the body is; also where there is none."""
        return self._chunks is None

    def read_body(self, max_body: int, is_wanted: Callable[[Any], bool], room: Room) -> bool:
        """Whether the body is there, or no more of it is to be read: its ``trouble`` says why."""
        body, buffer = self.body, self._buffer
        if self._chunks is None:
            assert self._announced is not None
            if self._announced > most_drained(max_body):
                return self.end(Arrived.ENDLESS)
            left = self._announced - body.size
            data = bytes(buffer[:left])
            del buffer[:left]
            is_complete = len(data) == left
        else:
            try:
                data = self._chunks.take(buffer)
            except MalformedError:
                return self.end(Arrived.CUT)
            is_complete = self._chunks.is_complete
        if data:
            self._keep(data, max_body, is_wanted, room)
        if body.size > most_drained(max_body):
            return self.end(Arrived.ENDLESS)
        if is_complete:
            body.seek(0)
        return is_complete

    def end(self, trouble: str) -> bool:
        """No more of the body is read. True."""
        self.body.trouble = self.body.trouble or trouble
        self.body.seconds = BODY_SECONDS
        self.body.failed = True
        self.body.seek(0)
        return True

    def _keep(self, data: bytes, max_body: int, is_wanted: Callable[[Any], bool], room: Room) -> None:
        body = self.body
        is_first_look = body.size <= UNASKED < body.size + len(data)
        body.size += len(data)
        if not body.is_kept:
            return
        if max(body.size, self._announced or 0) > max_body or (is_first_look and not is_wanted(self.request)):
            self._drop(room)
        elif body.size > UNASKED and not self._take(room, body.size):
            body.trouble = Arrived.CROWDED
            self._drop(room)
        else:
            body.write(data)

    def _take(self, room: Room, size: int) -> bool:
        is_there = room.take(size - self._taken)
        if is_there:
            self._taken = size
        return is_there

    def _drop(self, room: Room) -> None:
        self.body.is_kept = False
        self.body.seek(0)
        self.body.truncate()
        self.release(room)

    def release(self, room: Room) -> None:
        """The body is not needed any more."""
        room.give_back(self._taken)
        self._taken = 0
