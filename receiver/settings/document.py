"""
A configuration as it was read, and its sealed copy for the processes that are to work with just that.

Children of ``faxhook serve`` do not read the file: somebody may be editing it, or have edited what nobody has checked.
"""

import json
import os
import re
import tempfile
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from receiver.errors import ConfigurationError

try:
    from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE, fcntl

    _SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE
except ImportError:  # not on Linux
    _SEALS = 0

SEALED = "FAXHOOK_SEALED"  # the variable with the file descriptor of a sealed document


@dataclass(frozen=True, slots=True)
class Document:
    """
    path: None when the text came from FAXHOOK_CONFIG_TOML. folder: where relative paths begin.

    files: the contents of ``{ file = … }``, each read when it is first asked for, and then no more.
    """

    label: str  # the file, as error messages name it
    path: Path | None
    folder: Path
    text: str = field(repr=False)
    files: dict[str, str] = field(repr=False, default_factory=dict)

    def content(self, path: Path) -> str:
        """Raises OSError, and ValueError for what is not UTF-8."""
        name = str(path)
        if name not in self.files:
            self.files[name] = path.read_bytes().decode("utf-8-sig")  # some editors begin a file with a mark
        return self.files[name]

    def seal(self) -> int:
        """A file descriptor to hand to children. In memory where the system can: its secrets must reach no disk."""
        values = {"label": self.label, "path": self.path and str(self.path), "folder": str(self.folder)}
        data = json.dumps({**values, "text": self.text, "files": self.files}).encode()
        if _SEALS:
            descriptor = os.memfd_create("faxhook-configuration", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        while data:
            data = data[os.write(descriptor, data) :]
        if _SEALS:
            fcntl(descriptor, F_ADD_SEALS, _SEALS)
        return descriptor


def parsed(document: Document) -> dict[str, Any]:
    """Its text as TOML; raises ConfigurationError with the place where it is none."""
    try:
        return tomllib.loads(document.text)
    except tomllib.TOMLDecodeError as error:
        # Its message has the place; the exception itself would carry the whole text.
        raise ConfigurationError(
            f"{document.label}: expected TOML: {error}{_hint(document.text, str(error))}"
        ) from None
    except ValueError:  # the parser's own of an integer with thousands of digits
        raise ConfigurationError(f"{document.label}: expected TOML, in which no number is that long") from None
    except RecursionError:
        raise ConfigurationError(f"{document.label}: expected TOML that nests less deeply") from None


def _hint(text: str, message: str) -> str:
    """What is odd at the place that the message names: a character that a web page or word processor has put there."""
    place = re.search(r"at line (\d+), column (\d+)", message)
    line = text.split("\n")[int(place[1]) - 1] if place else ""
    odd = next((one for one in line[int(place[2]) - 1 :] if not one.isascii()), None) if place else None
    if odd is None:
        return ""
    name = unicodedata.name(odd, f"U+{ord(odd):04X}").lower()
    return f'; there is a {name}: type a plain blank or " in its place, or put the text into straight quotes'


def unsealed(environ: Mapping[str, str]) -> Document:
    """The document whose file descriptor the variable SEALED names."""
    try:
        descriptor = int(environ[SEALED])
        values = json.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    except (OSError, ValueError):
        raise ConfigurationError(
            f"variable {SEALED}: made by `faxhook serve` for its own processes; unset it"
        ) from None
    path = values["path"] and Path(values["path"])
    return Document(values["label"], path, Path(values["folder"]), values["text"], values["files"])
