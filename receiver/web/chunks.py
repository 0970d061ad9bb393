"""Chunked bodies, decoded piece by piece as they arrive. What is well-formed, gunicorn decides."""

import re
from typing import Any

from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import ParseException
from gunicorn.http.unreader import IterUnreader

_PLAIN = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_LONGEST_LINE = 8190  # bytes, as of a header
_LONGEST_TRAILERS = 64 * 1024  # bytes
_LAST = re.compile(rb"0+[ \t]*")


class MalformedError(Exception):
    """Nobody knows where this body ends."""


class Chunks:
    """One body. request: gunicorn's, whose head announced it."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._left = 0  # bytes of the current chunk that are still to come
        self._is_inside = False  # a chunk, whose line end is still to come
        self.is_complete = False

    def take(self, buffer: bytearray) -> bytes:
        """What is decoded of the buffer, and taken out of it; what follows the body stays. Raises MalformedError."""
        parts: list[bytes] = []
        at = 0
        try:
            while not self.is_complete:
                if self._is_inside:
                    end = at + self._left
                    parts.append(bytes(buffer[at:end]))
                    self._left -= len(parts[-1])
                    at += len(parts[-1])
                    if self._left or not self._ends(buffer, at):
                        break
                    at += 2
                    self._is_inside = False
                following = self._begin(buffer, at)
                if following is None:
                    break
                at = following
        finally:
            del buffer[:at]
        return b"".join(parts)

    @staticmethod
    def _ends(buffer: bytearray, at: int) -> bool:
        """Whether the line end behind a chunk is there."""
        if not b"\r\n".startswith(bytes(buffer[at : at + 2])):
            raise MalformedError
        return len(buffer) >= at + 2

    def _begin(self, buffer: bytearray, at: int) -> int | None:
        """Read a chunk's line, and behind the last one the trailers; where what follows begins, None if not yet."""
        plain = _PLAIN.match(buffer, at)
        if plain is not None and (size := int(plain[1], 16)):
            self._left, self._is_inside = size, True
            return plain.end()
        end = buffer.find(b"\r\n", at)
        if (end if end >= 0 else len(buffer)) - at > _LONGEST_LINE:
            raise MalformedError
        if end < 0:
            return None
        line = bytes(buffer[at : end + 2])
        if _LAST.fullmatch(line[:-2].partition(b";")[0]) is None:
            self._left, self._is_inside = self._judged(line), True
            return end + 2
        after = self._end_of_trailers(buffer, end + 2)
        if after is not None:
            self._judged(bytes(buffer[at:after]))
            self.is_complete = True
        return after

    @staticmethod
    def _end_of_trailers(buffer: bytearray, at: int) -> int | None:
        if buffer.startswith(b"\r\n", at):
            return at + 2
        end = buffer.find(b"\r\n\r\n", at)
        if end >= 0:
            return end + 4
        if len(buffer) - at > _LONGEST_TRAILERS or buffer.count(b"\n", at) != buffer.count(b"\r\n", at):
            raise MalformedError
        return None

    def _judged(self, line: bytes) -> int:
        """The size in a chunk's line, by gunicorn; of the last one with all trailers."""
        nothing = IterUnreader(())
        try:
            size, _ = ChunkedReader(self._request, nothing).parse_chunk_size(nothing, data=line)
        except ParseException:
            raise MalformedError from None  # it quotes what was sent
        return int(size)
