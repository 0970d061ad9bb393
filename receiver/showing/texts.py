"""Bytes that somebody has sent, as text that can be shown."""

import re


def readable(content: bytes) -> str:
    """Bytes that are no text, and what a terminal might obey, as \\x1b."""
    text = content.decode("utf-8", "backslashreplace")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)
