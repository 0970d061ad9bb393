"""
Secrets of a provider's callback, blanked in its raw body before that is stored.

What is secret is known by name: an XML attribute or element, a JSON member or a form field. The body is not parsed and
written again, since every other byte stays as it was, and since broken bodies are kept too. Everything takes linear
time, and no expression here backtracks or is possessive: early Pythons 3.11 get the latter wrong.
"""

import json
import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

_LEVELS = 4  # of percent-encoding within percent-encoding
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
# What XML forbids. A document is read without it where it cannot be read with it, so a name may be written with it.
_FORBIDDEN = bytes({*range(0x20)} - set(b"\t\n\r"))
_FORBIDDEN_RUN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]+")

_BLANK = r"[ \t\r\n+]"  # a form writes + for a blank
_NAME = r"""[^ \t\r\n+<>/="'&]+"""
_TAG = re.compile(rf"</?(?P<name>{_NAME})")
_TAG_END = re.compile(rf"{_BLANK}*(?P<empty>/?)>")
_ATTRIBUTE = re.compile(rf"""{_BLANK}+(?P<name>{_NAME}){_BLANK}*={_BLANK}*(?:"(?P<a>[^"<]*)"|'(?P<b>[^'<]*)')""")
_OTHER_MARKUP = (("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>"))

_JSON_TOKEN = re.compile(r'[{}\[\]:,"]|[^{}\[\]:,"\s]+')
_COLON = re.compile(r"\s*:")
_JSON_QUOTE = re.compile(r'["\\]')
_WORD = re.compile(r"[A-Za-z0-9_-]{0,32}")

_Span = tuple[int, int, str]  # where a secret starts and ends, and what is put in its place


@dataclass(slots=True)
class _Found:
    """
    What was found in a text. exact: secrets where the text could be read. settled: what was read, so that nothing else
    in there is secret. loose: what looks like a secret elsewhere.
    """

    exact: list[_Span] = field(default_factory=list)
    settled: list[_Span] = field(default_factory=list)
    loose: list[_Span] = field(default_factory=list)

    def at(self, original: "_Original") -> "_Found":
        """The same by the places of the text this one was made of."""
        found = ([(original(a), original(b), instead) for a, b, instead in spans] for spans in self._lists())
        return _Found(*found)

    def _lists(self) -> "tuple[list[_Span], ...]":
        return self.exact, self.settled, self.loose


class _Original:
    """Where a place of a text was before each match of a pattern in it was replaced by ``width`` characters."""

    def __init__(self, text: str, pattern: re.Pattern[str], width: int) -> None:
        self._places: list[int] = []
        self._shifts = [0]
        for match in pattern.finditer(text):
            self._places.append(match.start() - self._shifts[-1])
            self._shifts.append(self._shifts[-1] + match.end() - match.start() - width)

    def __call__(self, place: int) -> int:
        return place + self._shifts[bisect_left(self._places, place)]


def _outside(spans: list[_Span], settled: list[_Span]) -> list[_Span]:
    """The spans that touch nothing settled."""
    starts: list[int] = []
    ends: list[int] = []
    for start, stop, _ in sorted(settled):
        if ends and start <= ends[-1]:
            ends[-1] = max(ends[-1], stop)
        else:
            starts.append(start)
            ends.append(stop)
    before = ((span, bisect_left(starts, span[1])) for span in spans)
    return [span for span, count in before if not count or ends[count - 1] <= span[0]]


def redacting(*names: str, keep: str = "") -> Callable[[bytes], bytes]:
    """
    The function that gives a body back with everything of these names blanked: their text and all that is inside them.

    Letter case, namespaces and JSON's escapes make no other name of one. keep: the name whose value stays where it is a
    plain word.
    """
    secrets = _Secrets(names, keep)
    spelt = [name.lower().encode() for name in names]

    def redact(body: bytes) -> bytes:
        # UTF-16 has a NUL in each letter.
        bare = body.translate(None, _FORBIDDEN).lower()
        if not (b"%" in bare or b"\\u" in bare or any(name in bare for name in spelt)):
            return body
        encoding = _one_to_one(body)
        whole = len(body) - len(body) % 2 if encoding != "latin-1" else len(body)  # a cut body may end in half a unit
        text = body[:whole].decode(encoding, "surrogatepass")
        kept: list[str] = []
        end = 0
        for start, stop, instead in sorted(secrets.of(text, _LEVELS if encoding == "latin-1" else 0)):
            if stop > end:
                kept += (text[end:start], instead)
                end = stop
        kept.append(text[end:])
        return "".join(kept).encode(encoding, "surrogatepass") + body[whole:]

    return redact


def _one_to_one(body: bytes) -> str:
    """An encoding that gives the body's ASCII as text and every byte back."""
    start = body.lstrip(b"\xff\xfe")[:2]
    if body[:2] == b"\xff\xfe" or (start[1:] == b"\x00" and start[:1] != b"\x00"):
        return "utf-16-le"
    if body[:2] == b"\xfe\xff" or (start[:1] == b"\x00" and start[1:] != b"\x00"):
        return "utf-16-be"
    return "latin-1"


class _Secrets:
    """The secrets of these names in a text."""

    def __init__(self, names: tuple[str, ...], keep: str) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._keep = keep.lower() or None
        either = "|".join(names)
        self._name = re.compile(either, re.IGNORECASE)
        self._field = re.compile(rf"&(?:{either})=(?P<field>[^&<]*)", re.IGNORECASE)
        escaped = "|".join(map(_escaped_or_not, names))
        self._member = re.compile(rf'(?<!\\)"(?:[^"\\:]*:)?@?(?:{escaped})"\s*:\s*', re.IGNORECASE)
        # Fields of a form; values between quotes, backslashed ones too, or without any; elements.
        self._loose = re.compile(
            rf"""
            (?:\A|&)(?:{either})=(?P<field>[^&]*)
            |
            \b(?:{either})\\?"?{_BLANK}*[=:]{_BLANK}*
            (?:\\?"(?P<double>[^"]*)|\\?'(?P<single>[^']*)|(?P<bare>[^\s"'<>&+%]+))
            |
            <(?:[^\s<>/:]*:)?(?P<element>{either})(?:[\s+][^<>]*)?(?<!/)>
            """,
            re.VERBOSE | re.IGNORECASE,
        )
        self._closing = {
            name: re.compile(rf"</(?:[^\s<>/:]*:)?{name}\b|<!\[CDATA\[|<!--", re.IGNORECASE) for name in self._names
        }

    def of(self, text: str, levels: int) -> list[_Span]:
        """All of them. levels: how often what the text says once unquoted is looked at too."""
        found = self._at_all_levels(text, levels)
        return found.exact + _outside(found.loose, found.settled)

    def _at_all_levels(self, text: str, levels: int) -> _Found:
        found = _Found()
        bare = _FORBIDDEN_RUN.sub("", text)
        if self._name.search(bare) or "\\u" in bare:
            found = self._in(bare)
            if len(bare) < len(text):
                found = found.at(_Original(text, _FORBIDDEN_RUN, 0))
        if levels and _ESCAPE.search(text):
            unquoted = unquote_to_bytes(text.encode("latin-1")).decode("latin-1")
            inner = self._at_all_levels(unquoted, levels - 1)
            if inner.exact or inner.loose:
                inner = inner.at(_Original(text, _ESCAPE, 1))
                if inner.settled or not found.settled:  # nothing is taken out of what can be read for what cannot
                    found.exact += _outside(inner.exact, found.settled)
                found.loose += inner.loose
                found.settled += inner.settled
        return found

    def _in(self, text: str) -> _Found:
        found = _Found()
        if text.lstrip("\xef\xbb\xbf\ufeff \t\r\n")[:1] in ("{", "["):
            self._in_json(text, found)
        else:
            self._in_xml(text, found)
        for match in self._loose.finditer(text):
            if match["element"] is None:
                name = next(name for name in ("field", "double", "single", "bare") if match[name] is not None)
                found.loose.append((*match.span(name), ""))
            elif not (found.loose and match.end() <= found.loose[-1][1]):
                found.loose.append((match.end(), self._end_of_element(text, match.end(), match["element"]), ""))
        return found

    def _end_of_element(self, text: str, at: int, name: str) -> int:
        while match := self._closing[name.lower()].search(text, at):
            closing = {"<!--": "-->", "<![CDATA[": "]]>"}.get(match[0])
            if closing is None:
                return match.start()
            if (end := text.find(closing, match.end())) < 0:
                break
            at = end
        return len(text)

    # --- XML ---

    def _in_xml(self, text: str, found: _Found) -> None:
        """
        The secrets as the markup has them, from the first of the names to the last: the recipients, nearly all of a
        large document, stand elsewhere. Ends where the markup cannot be read; what follows is found loosely.
        """
        places = [match.start() for match in self._name.finditer(text)]
        if not places or (start := self._first_markup(text, places[0])) < 0:
            return
        at = markup = start
        inside, depth, is_kept = "", 0, False  # the hidden element, how many of its name are open, a name to keep
        # What is quoted in the text is looked at after this, so that all of it must be known.
        last = len(text) if _ESCAPE.search(text) else places[-1]
        while inside or at <= last:
            markup = text.find("<", at)
            end = len(text) if markup < 0 else markup
            if inside:
                self._hide(text, at, end, found, is_kept=is_kept)
            else:
                found.exact += [(*match.span("field"), "") for match in self._field.finditer(text, at, end)]
            if markup < 0:
                break
            other = next((pair for pair in _OTHER_MARKUP if text.startswith(pair[0], markup)), None)
            if other:
                opening, closing = other
                begin, end = markup + len(opening), text.find(closing, markup + len(opening))
                end = len(text) if end < 0 else end
                if inside or (opening == "<!--" and self._name.search(text, begin, end)):
                    whole = opening == "<?"  # no instruction is left without a name
                    found.exact.append((markup, end + 2, "") if whole else (begin, end, ""))
                at = end + len(closing)
                continue
            tag = _TAG.match(text, markup)
            if tag is None:
                break
            name, end = _local(tag["name"]), tag.end()
            hides = inside or (name if name in self._names else "")
            while attribute := _ATTRIBUTE.match(text, end):
                end = attribute.end()
                self._attribute(text, attribute, found, hides=bool(hides))
            closed = _TAG_END.match(text, end)
            if closed is None:
                break
            at = closed.end()
            is_opening = text[markup + 1] != "/" and not closed["empty"]
            is_kept = is_opening and name == self._keep
            if hides and name == hides and not closed["empty"]:
                inside, depth = hides, depth + (1 if is_opening else -1)
                inside = inside if depth > 0 else ""
            depth = depth if inside else 0
        if not inside and (markup < 0 or at > places[-1]):
            found.settled.append((start, min(at, len(text)), ""))

    def _first_markup(self, text: str, name: int) -> int:
        """Where the markup with the first name in it begins, or a comment or CDATA around; -1: there is none."""
        start = text.rfind("<", 0, name)
        for opening, closing in _OTHER_MARKUP:
            begin = text.rfind(opening, 0, name)
            if begin >= 0 and text.find(closing, begin, name) < 0:
                start = min(start, begin)
        return start if start >= 0 else text.find("<")

    def _attribute(self, text: str, attribute: re.Match[str], found: _Found, *, hides: bool) -> None:
        name = _local(attribute["name"])
        if (hides or name in self._names) and not attribute["name"].lower().startswith("xmlns"):
            start, stop = attribute.span("a" if attribute["a"] is not None else "b")
            self._hide(text, start, stop, found, is_kept=name == self._keep)

    def _hide(self, text: str, start: int, stop: int, found: _Found, *, is_kept: bool) -> None:
        """Blanks between elements stay, and so does the word to keep."""
        written = text[start:stop].strip()
        if written and not (is_kept and _WORD.fullmatch(written)):
            found.exact.append((start, stop, ""))

    # --- JSON ---

    def _in_json(self, text: str, found: _Found) -> None:
        end = 0
        for member in self._member.finditer(text):
            if member.start() >= end:
                end = self._value(text, member.end(), found)
                found.settled.append((member.start(), end, ""))

    def _value(self, text: str, at: int, found: _Found) -> int:
        """Where the value that begins here ends; all in it is found but member names, true, false, null."""
        name, depth = "", 0
        while token := _JSON_TOKEN.search(text, at):
            at = token.end()
            match token[0]:
                case '"':
                    start, at = at, _end_of_string(text, at)
                    if colon := _COLON.match(text, at):
                        name, at = _local(_unescaped(text[start - 1 : at])), colon.end()
                        continue
                    self._hide(text, start, at - text.startswith('"', at - 1), found, is_kept=name == self._keep)
                case "{" | "[":
                    name, depth = "", depth + 1
                case "}" | "]":
                    name, depth = "", depth - 1
                case ",":
                    name = ""
                case ":" | "true" | "false" | "null":
                    pass
                case _:
                    found.exact.append((*token.span(), "0"))
            if depth <= 0:
                return at
        return len(text)


def _escaped_or_not(name: str) -> str:
    """An expression for the name, any letter of which may be written as JSON's escape."""
    return "".join(rf"(?:{c}|\\u00{ord(c.lower()):02x}|\\u00{ord(c.upper()):02x})" for c in name)


def _local(name: str) -> str:
    return name.rpartition(":")[2].lstrip("@").lower()


def _end_of_string(text: str, at: int) -> int:
    """Behind the closing quotation mark of a JSON string; the end of the text where there is none."""
    while match := _JSON_QUOTE.search(text, at):
        if match[0] == '"':
            return match.end()
        at = match.end() + 1
    return len(text)


def _unescaped(string: str) -> str:
    try:
        return str(json.loads(string))
    except ValueError:
        return string.strip('"')
