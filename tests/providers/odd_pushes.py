"""Pushes as Retarus sends them, and as it should not: valid, odd, broken and hostile ones, the same for each seed."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

NAMES = ("number", "numId", "status", "reason", "sentTS", "durationInSecs", "sentToNumber", "remoteCsid")
VALUES = {
    "number": ["+498912504001710", "+49 89 1234567-8900", "0012012051598", "089 1234567", "+390612345678", "12", "fax"],
    "numId": ["FNIJPNJYNA06EDIJNFUO1Q", "FN1", " FN2 "],
    "status": ["OK", "ok", "BUSY", "PENDING", "NOFAX_DIS", "CANCELLED", "EOD_FAILED", "NEW_CODE", "O K", "a" * 256],
    "reason": ["OK", "simulated", "besetzt (München)", "a &lt; b &amp; c", "x" * 4097, "&#8206;", "￾"],
    "sentTS": ["2018-11-08T15:38:08Z", "2018-11-03T20:14:37.098+02:00", "2018-11-08 15:38:08", "2018-11-08",
               "0000-00-00", "2018-11-08T24:00:00Z", "/Date(1783459153000)/", "Jul  7 2026  3:19PM"],
    "durationInSecs": ["26", "0", "007", "26.5", "1E2", "-1", "1000000000", "9999999999", "٣", "half a minute"],
    "sentToNumber": ["00498912504001710", "+498912504001710", "00391234"],
    "remoteCsid": ["+49/89/1250400-1710", "Retarus Faxolution", "\xa0", "FAX\u202801", "\x85"],
}  # fmt: skip
MARKUP = ["<![CDATA[a<b]]>", "a<!-- b -->c", "<?pi?>", "<a/>", "&#13;", "a&b", "&#0;"]
ANYWHERE = ["", " ", "\n", "0", "-", "\u00e9", *MARKUP]
MORE = ["<direction>in</direction>", "<type>inbound</type>", "text", "<jobId>FJ3</jobId>", "<reference><billingCode>a"]
MORE += ["<reference><customerDefinedId>a</customerDefinedId></reference>"]
WRAPPERS = ["faxJobReport", "ReportResponse", "reports", "job", "soap:Envelope"]
LISTS = ["faxRecipient"] * 12 + ["faxRecipients", "recipientStatus", "faxNumbers", "recipient"]
DOCTYPE = '<!DOCTYPE a [<!ENTITY b "c"><!ATTLIST status d CDATA "e">]>'
TYPES = ["text/xml; charset=utf-8"] * 6 + ["text/xml", "text/xml; charset=iso-8859-1", "text/xml; charset=utf-7", ""]


def odd_pushes(seed: int, count: int) -> Iterator[tuple[bytes, str]]:
    """So many bodies, each with its Content-Type."""
    draw = random.Random(seed)
    for _ in range(count):
        if draw.random() < 0.2:
            yield _broken(json.dumps(_json(draw), ensure_ascii=draw.random() < 0.5).encode(), draw), "application/json"
        else:
            yield _broken(_xml(draw), draw), draw.choice(TYPES)


# --- XML -----------------------------------------------------------------------------------------------------------


def _xml(draw: random.Random) -> bytes:
    oddity = draw.choice((0, 0, 0.02, 0.02, 0.1, 0.3))  # how likely each part of the document is an odd one
    between = draw.choice(("", "", "\n  ", "\r\n", "\t"))
    jobs = "".join(_job(draw, oddity, between) for _ in range(draw.choice((1, 1, 1, 1, 2, 3))))
    if _is_odd(draw, oddity) or jobs.count("<jobId") > 1:
        jobs = _element(draw.choice(WRAPPERS), jobs, draw, oddity)
    start = draw.choice(("", '<?xml version="1.0"?>', *['<?xml version="1.0" encoding="UTF-8"?>'] * 4))
    if _is_odd(draw, oddity):
        start += draw.choice((DOCTYPE, "<!-- a -->", "<?pi?>", "\n\n", "text", "<!DOCTYPE a>"))
    text = start + draw.choice(("", "", "\n")) + jobs + draw.choice(("", "", "\n", "\x00", " \x00 "))
    if not _is_odd(draw, oddity):
        return text.encode("utf-8", "surrogatepass")
    encoding = draw.choice(("utf-8-sig", "utf-16", "utf-16-le", "cp1252", "iso-8859-15", "utf-32"))
    declared = draw.choice(("UTF-8", "utf-16", "iso-8859-1", "windows-1252", "us-ascii", "utf-7", "EBCDIC", "x"))
    return text.replace("UTF-8", declared).encode(encoding, "replace")


def _job(draw: random.Random, oddity: float, between: str) -> str:
    parts = [_element("jobId", draw.choice(("FJIJPNJYN906EDIJNFGI5S", "FJ2")), draw, oddity)]
    name = draw.choice(LISTS)
    for _ in range(draw.choice((0, 1, 1, 2, 2, 3, 6))):
        fields = [
            _element(field, draw.choice(VALUES[field][: 3 if draw.random() < 0.6 else None]), draw, oddity)
            for field in NAMES
            if not _is_odd(draw, oddity)
        ]
        if _is_odd(draw, oddity):
            fields.append(draw.choice(fields or ["<status/>"]))
            draw.shuffle(fields)
        parts.append(_element(name, between + between.join(fields) + between, draw, oddity))
    parts.append(_element("document", "<name>a.pdf</name><isText>false</isText>", draw, oddity))
    parts.append(_element("options", "<jobReference>order-4711</jobReference>", draw, oddity))
    parts.append(_element("pages", draw.choice(("1", "0", "12", "", "1.0", "many")), draw, oddity))
    if _is_odd(draw, oddity):
        draw.shuffle(parts)
    if _is_odd(draw, oddity):
        parts.append(draw.choice(MORE))
    opening = "faxJobReport" + draw.choice(("", ' xmlns="http://retarus.com/fax4ba/faxws/3/0"'))
    return f"<{opening}>{between}{between.join(parts)}{between}</faxJobReport>"


def _element(name: str, inside: str, draw: random.Random, oddity: float) -> str:
    if not _is_odd(draw, oddity):
        return f"<{name}>{inside}</{name}>"
    ways: list[Callable[[], str]] = [
        lambda: "",
        lambda: f"<{name}/>",
        lambda: f"<{name}></{name}>",
        lambda: f"<{name}>{inside}",
        lambda: f"<{name}> {inside}\n</{name}>",
        lambda: f"<{name}>{inside}</{name}>" * 2,
        lambda: f"<{name}>{inside}</{name}> <{name}/>",
        lambda: f"<a:{name}>{inside}</a:{name}>",
        lambda: f'<{name} xsi:nil="true">{inside}</{name}>',
        lambda: f"<{name}{_attributes(draw.choice((1, 64, 65)))}/>",
        lambda: f"<{name}>{draw.choice(ANYWHERE)}</{name}>",
        lambda: f"<{name}>{inside}{draw.choice(ANYWHERE)}</{name}>",
        lambda: f"<{name}>{draw.choice(ANYWHERE)}{inside}</{name}>",
        lambda: f"<{name}>{inside}\x00</{name}>",
        lambda: f"<{name}>{inside}\x07</{name}>",
        lambda: f"<{name}>{inside}\ud83d</{name}>",
        lambda: f"<{name}>{'<a>' * (depth := draw.choice((1, 36, 38, 40, 50)))}{inside}{'</a>' * depth}</{name}>",
        lambda: f"<{name}>{'&amp;' * draw.choice((1, 9000))}{inside}</{name}>",
        lambda: f"<{name}>{'x' * draw.choice((4000, 8192, 20000))}</{name}>",
        lambda: f"<{name.upper()}>{inside}</{name.upper()}>",
    ]
    return draw.choice(ways)()


def _attributes(count: int) -> str:
    return "".join(f" a{number}=''" for number in range(count))


# --- JSON ----------------------------------------------------------------------------------------------------------


def _json(draw: random.Random) -> Any:
    oddity = draw.choice((0, 0, 0.05, 0.2))
    rows = []
    for _ in range(draw.choice((0, 1, 2, 3))):
        row: dict[str, Any] = {field: draw.choice(VALUES[field]) for field in NAMES if not _is_odd(draw, oddity)}
        for field in row:
            if _is_odd(draw, oddity):
                row[field] = draw.choice((None, "", 0, 26, -1, 2.5, True, [], [1, 2], ["OK", "OK"], {"a": 1}, "OK\x00"))
        rows.append(draw.choice((None, "row", [], {})) if _is_odd(draw, oddity) else row)
    job = {"jobId": draw.choice(("FJ1", 12, "")), draw.choice(LISTS): rows, "pages": draw.choice((1, "2", None, -1))}
    return draw.choice((job, {"reports": [job, job]}, [job])) if _is_odd(draw, oddity) else job


# --- both ----------------------------------------------------------------------------------------------------------


def _is_odd(draw: random.Random, oddity: float) -> bool:
    return draw.random() < oddity


def _broken(body: bytes, draw: random.Random) -> bytes:
    """Most as they are; of the others some bytes are lost, doubled or changed."""
    if draw.random() < 0.8:
        return body
    for _ in range(draw.choice((1, 1, 3))):
        at, width = draw.randrange(len(body) + 1), draw.choice((1, 1, 2, 40))
        body = draw.choice(
            (
                body[:at],
                body[:at] + body[at + width :],
                body[: at + width] + body[at:],
                body[:at] + bytes([draw.randrange(256)]) + body[at + 1 :],
                body[:at] + draw.choice((b"<", b">", b"&", b"&#0;", b"<!--", b"]]>", b"\x00", b"\xff")) + body[at:],
            )
        )
    return body
