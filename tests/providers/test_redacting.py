"""Secrets are blanked in every way of writing a callback, and nothing else of it changes."""

import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError
from samples import RawCallback, callers, events, manifest, sample

from receiver import providers
from receiver.errors import Refusal
from receiver.providers.shared.decoding import read

EFAX, RETARUS = (providers.load()[name].push for name in ("efax", "retarus"))
REDACTING = [name for name, provider in callers().items() if provider.push.redact]


def of(name):
    return callers()[name].push.redact


def outcome(name, raw):
    """The events, or the class of what refuses them."""
    try:
        return events(name, raw)
    except (Refusal, ValidationError) as refusal:
        return type(refusal)


# --- all samples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", manifest(), ids=lambda row: f"{row['provider']}-{row['file']}")
def test_a_redacted_sample_is_the_same_events(row):
    raw = sample(f"{row['provider']}/{row['file']}")
    for name in REDACTING:
        redacted = RawCallback(of(name)(raw.body), raw.content_type, raw.query)
        if row["provider"] == name and row["kind"] in ("push", "negative", "other"):
            assert outcome(name, redacted) == outcome(name, raw)
        assert of(name)(redacted.body) == redacted.body


# --- eFax: the credentials of a disposition, and anything else beside them -------------------------------------------

# What could be taken for a credential, or for the end of one.
ODD = ["Password=x", 'Password="x', "UserName=", "<Password>", "%3CPassword%3E", "&Password=x", "%22", "--", "]]>", "="]
TEXTS = st.lists(st.sampled_from(ODD) | st.text("aä%+&<>'\" ;", max_size=3), max_size=4).map("".join)
SECRETS = st.text("pä%+&<>'\" =;/-]", min_size=1).filter(str.strip)


def escaped(text):
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;")):
        text = text.replace(character, entity)
    return text


def attribute(name, value, mark):
    return f"{name}={mark}{escaped(value)}{mark}"


def cdata(text):
    return "<![CDATA[" + text.replace("]]>", "]] >") + "]]>"


SHAPES = {
    "attributes": lambda user, password, csid: (
        f"<OutboundDisposition {attribute('UserName', user, chr(34))} {attribute('RecipientCSID', csid, chr(39))}"
        f" DOCID='1' {attribute('Password', password, chr(39))} FaxStatus='0' FaxNumber='2085550139'/>"
    ),
    "elements": lambda user, password, csid: (
        f"<n:OutboundDisposition xmlns:n='urn:x' DOCID='1'><n:Password>{escaped(password)}</n:Password>"
        f"<n:RecipientCSID>{escaped(csid)}</n:RecipientCSID><n:UserName >{escaped(user)}</n:UserName>"
        f"<FaxStatus>0</FaxStatus><FaxNumber/></n:OutboundDisposition>"
    ),
    "CDATA": lambda user, password, csid: (
        f"<OutboundDisposition DOCID='1'><Password>{cdata(password)}</Password>"
        f"<RecipientCSID>{escaped(csid)}</RecipientCSID><UserName>{cdata(user)}</UserName>"
        f"<FaxStatus>0</FaxStatus><FaxNumber>1</FaxNumber></OutboundDisposition>"
    ),
}
WAYS = {
    "form": lambda xml: ("a=b&xml=" + quote_plus(xml) + "&z=1").encode(),
    "percent": lambda xml: ("xml=" + quote(xml)).encode(),
    "little is quoted": lambda xml: ("xml=" + quote_plus(xml, safe="=/:'")).encode(),
    "Latin-1": lambda xml: ("xml=" + quote_plus(xml.encode("latin-1"))).encode(),
    "multipart": lambda xml: f'--x\r\nContent-Disposition: form-data; name="xml"\r\n\r\n{xml}\r\n--x--\r\n'.encode(),
    "with another field": lambda xml: ("xml=" + quote_plus(xml) + "&id=%3Cb+%2525").encode(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=20)
@given(user=SECRETS, password=SECRETS, csid=TEXTS)
def test_a_redacted_disposition_differs_by_its_credentials_alone(shape, way, user, password, csid):
    body = WAYS[way](SHAPES[shape](user, password, csid))
    redacted = EFAX.redact(body)
    assert redacted == WAYS[way](SHAPES[shape]("", "", csid))
    assert events("efax", redacted) == events("efax", body)
    assert EFAX.credentials(read(RawCallback(redacted), EFAX)) == ("", "")


@pytest.mark.parametrize("times", [2, 3, 4])
@settings(max_examples=20)
@given(password=SECRETS, csid=TEXTS)
def test_percent_encoding_within_percent_encoding_hides_nothing(times, password, csid):
    def body(secret):
        text = SHAPES["attributes"](secret, secret, csid)
        for _ in range(times):
            text = quote_plus(text)
        return b"xml=" + text.encode()

    assert EFAX.redact(body(password)) == body("")


@pytest.mark.parametrize("spelling", ["Pass\x01word", "\x00Password\x1f"])
def test_a_name_that_is_right_only_without_what_xml_forbids_is_no_hiding_place(spelling):
    for xml in (f'<a {spelling}="s3cret" b="kept"/>', f"<a><{spelling}>s3cret</{spelling}><b>kept</b></a>"):
        for body in (xml.encode(), b"xml=" + quote_plus(xml).encode()):
            assert b"s3cret" not in EFAX.redact(body)
            assert b"kept" in EFAX.redact(body)


@pytest.mark.parametrize(
    "body",
    [
        b"UserName=s3cret&Password=s3cret%20s3cret&xml=%3Ca%2F%3E",
        b'{"UserName": "s3cret", "Password" : "s3cret"}',
        b'{"a": [{"password": "s3cret\\"s3cret", "b": 1}',
        b"<a><!-- <Password>s3cret</Password> --><b/></a>",
        b"<a><Password><x y='s3cret'>s3cret</x><?s3cret s3cret?><!--s3cret-->s3cret</Password></a>",
        b"<Password>s3cret<b></a>",
        b"xml=<a Password='s3cret' b=>&c=d",
        '<a Password="s3cret"/>'.encode("utf-16"),
        b'xml=<a b="\\"Password=\\"s3cret',
    ],
)
def test_no_credential_stays_in_what_nobody_should_send(body):
    redacted = EFAX.redact(body)
    assert b"s3cret" not in redacted.replace(b"\x00", b"")


# --- Retarus: what it echoes of the push ------------------------------------------------------------------------------

ECHO = {"url": "https://h/t0ken", "targetUrl": "https://h/t0ken", "principal": "t0ken", "credentials": "t0ken&<"}
REPORT = {"jobId": "J1", "faxRecipients": [{"number": "+4989123456", "status": "OK", "reason": "httpStatusPush"}]}
BLANK = dict.fromkeys(ECHO, "")


def report(push, name="httpStatusPush"):
    return json.dumps({"options": {"csid": "kept"}, name: push, **REPORT}).encode()


@pytest.mark.parametrize(
    ("push", "blanked"),
    [
        ({**ECHO, "authMethod": "HTTP_BASIC"}, {**BLANK, "authMethod": "HTTP_BASIC"}),
        ([{**ECHO}, {"authMethod": "NONE"}], [BLANK, {"authMethod": "NONE"}]),
        ({"authMethod": "https://h/t0ken"}, {"authMethod": ""}),
        ({"authMethod": {"authMethod": "NONE", "x": "t0ken"}}, {"authMethod": {"authMethod": "NONE", "x": ""}}),
        ({"a": {"b": ["t0ken", 4711, None, True, -1.5e3]}}, {"a": {"b": ["", 0, None, True, 0]}}),
        ("https://h/t0ken", ""),
        ({}, {}),
        (None, None),
    ],
)
@pytest.mark.parametrize("name", ["httpStatusPush", "ns2:httpStatusPush", "@HttpStatusPush"])
def test_all_of_the_echo_but_its_method_is_blanked_in_json(push, blanked, name):
    redacted = RETARUS.redact(report(push, name))
    assert json.loads(redacted) == json.loads(report(blanked, name))
    assert events("retarus", redacted) == events("retarus", report(push, name))


def push_in_xml(secret, prefix=""):
    return (
        f'<{prefix}httpStatusPush url="{secret}" authMethod="NONE" xmlns:q="urn:q">\n  '
        f"<{prefix}url>{secret}</{prefix}url>"
        f'<targetUrl q:a="{secret}">{secret and f"<![CDATA[{secret}]]>"}</targetUrl><login>{secret}</login>'
        f"<{prefix}authMethod>HTTP_DIGEST</{prefix}authMethod><x><y>{secret}</y><z/></x></{prefix}httpStatusPush>"
    )


@pytest.mark.parametrize("prefix", ["", "n:"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
def test_all_of_the_echo_but_its_method_is_blanked_in_xml(prefix, encoding):
    def body(secret):
        recipient = "<faxRecipient><number>+49891</number><status>OK</status><reason>url t0ken</reason></faxRecipient>"
        return (
            f'<faxJobReport xmlns:n="urn:n"><jobId>1</jobId>{push_in_xml(secret, prefix)}{recipient}'
            f"<{prefix}httpStatusPush/>{recipient}{push_in_xml(secret, prefix)}</faxJobReport>"
        ).encode(encoding)

    redacted = RETARUS.redact(body("s3cret"))
    assert redacted == body("").replace("<![CDATA[]]>".encode(encoding), b"") or b"s3cret" not in redacted
    assert b"s3cret" not in redacted.replace(b"\x00", b"")
    assert events("retarus", redacted) == events("retarus", body("s3cret"))
    assert redacted.replace(b"\x00", b"").count(b"HTTP_DIGEST") == 2


@given(st.text("s3cret<>&\"'\\{}[],:! /-=", min_size=1).filter(str.strip), st.text())
def test_whatever_is_echoed_in_json_the_same_events_are_left(secret, reason):
    def body(echoed):
        recipient = {"number": "+4989123456", "status": "OK", "reason": reason}
        push = {"httpStatusPush": {"url": echoed, "x": [echoed, {"y": echoed}]}}
        return json.dumps({**push, "jobId": "J1", "faxRecipients": [recipient]}).encode()

    assert RETARUS.redact(body(secret)) == body("")


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_a_cut_push_keeps_nothing_of_the_echo(cut):
    for whole in (report({**ECHO, "authMethod": "NONE"}), f"<a>{push_in_xml('t0ken')}</a>".encode()):
        assert b"t0ken" not in RETARUS.redact(whole[:cut])
