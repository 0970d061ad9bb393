"""eFax Developer: XML in a form field, credentials in the XML, one recipient a post."""

import hashlib
import json
import time
from datetime import UTC, datetime
from urllib.parse import quote, quote_plus, unquote_to_bytes, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError
from samples import event, events, multipart, sample

from receiver import providers
from receiver.errors import Undecodable, Unprocessable
from receiver.providers import RawCallback
from receiver.providers.efax.callback import redact
from receiver.providers.shared.decoding import read
from schemas.event import Pages, Recipient, Reference, TimeQuality

EFAX = providers.load()["efax"].push
FIELDS = {"DOCID": "1", "FaxNumber": "19145550168", "FaxStatus": "0"}


def attributes(**fields):
    return " ".join(f'{name}="{value}"' for name, value in fields.items())


def form(xml):
    return urlencode({"xml": xml}).encode()


def disposition(**fields):
    return form(f"<OutboundDisposition {attributes(**{**FIELDS, **fields})}/>")


def credentials(raw):
    return EFAX.credentials(read(raw if isinstance(raw, RawCallback) else RawCallback(raw), EFAX))


# --- what a disposition says ---------------------------------------------------------------------------------------


def test_a_disposition_says_all_it_says():
    found = event("efax", sample("efax/01_success.form"))
    assert (found.account, found.key, found.provider_job_id) == ("me", ("62560658", "19145550168"), "62560658")
    assert (found.status_code, found.status_text, found.provider_fax_id) == ("0", None, None)
    assert found.recipient == Recipient("+19145550168", "19145550168", None, "19145550168")
    assert (found.pages, found.duration_seconds, found.attempts) == (Pages(sent=1), 24, 1)
    assert found.completed_at == datetime(2005, 6, 28, 1, 41, 50, tzinfo=UTC)
    assert found.time_quality is TimeQuality.ASSUMED_ZONE
    assert found.reference == Reference(id="9000")


def test_in_winter_pacific_time_is_eight_hours_behind():
    found = event("efax", disposition(CompletionDate="2026-01-05 12:00:00"))
    assert found.completed_at == datetime(2026, 1, 5, 20, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("minutes", "seconds"),
    [
        ("0.4", 24),
        ("0", 0),
        ("1.5", 90),
        ("0.008", 0),
        ("0.0083334", 1),
        ("0.025", 2),
        ("", None),
        (".5", 30),
        ("0,4", None),
    ],
)
def test_decimal_minutes_become_whole_seconds_half_up(minutes, seconds):
    assert event("efax", disposition(Duration=minutes)).duration_seconds == seconds


def test_recipients_of_one_request_are_two_faxes():
    first, second = (
        event("efax", sample(f"efax/{name}_multi_recipient_{name2}.form"))
        for name, name2 in (("19", "first"), ("20", "second"))
    )
    assert first.key[0] == second.key[0]
    assert first.key != second.key
    assert first.reference == second.reference == Reference(id="9100")


def test_empty_values_are_unknown():
    found = event("efax", sample("efax/21_empty_optional.form"), reference="url")
    assert (found.completed_at, found.duration_seconds, found.attempts, found.pages.sent) == (None, None, None, None)
    assert (found.recipient.station_id, found.reference.id) == (None, "url")


@pytest.mark.parametrize("number", ["", "  ", "Unknown", "Blocked number", "//"])
def test_a_withheld_number_is_named_by_the_digest_of_the_disposition(number):
    stated = {**FIELDS, "FaxNumber": number, "UserName": "u", "Password": "p"}
    found = event("efax", form(f"<OutboundDisposition {attributes(**stated)}/>"))
    del stated["UserName"], stated["Password"]
    canonical = json.dumps(stated, sort_keys=True, separators=(",", ":"))
    assert found.key == ("1", hashlib.sha256(canonical.encode()).hexdigest())
    assert found.recipient.number is None


def test_the_digest_does_not_change_with_password_order_or_way_of_writing():
    variants = [
        '<OutboundDisposition UserName="a" Password="b" DOCID="1" FaxStatus="0" FaxNumber=""/>',
        "<OutboundDisposition FaxNumber='' FaxStatus='0' DOCID='1'/>",
        "<OutboundDisposition><DOCID>1</DOCID><FaxStatus>0</FaxStatus><FaxNumber/><Password>x</Password></OutboundDisposition>",
        redact(form('<OutboundDisposition UserName="a" Password="b" DOCID="1" FaxStatus="0" FaxNumber=""/>')),
    ]
    found = {event("efax", xml if isinstance(xml, bytes) else form(xml)).key for xml in variants}
    assert len(found) == 1


# --- ways of writing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["OutboundDisposition", "WebFaxAPIDisposition"])
@pytest.mark.parametrize(
    "content",
    [
        '<{0} DOCID="1" FaxNumber="19145550168" FaxStatus="301"/>',
        "<{0}><DOCID>1</DOCID><FaxNumber>19145550168</FaxNumber><FaxStatus>301</FaxStatus></{0}>",
        '<n:{0} xmlns:n="x" DOCID="1"><n:FaxNumber>19145550168</n:FaxNumber><n:FaxStatus>301</n:FaxStatus></n:{0}>',
    ],
)
def test_attributes_and_elements_are_the_same_under_both_roots(root, content):
    found = event("efax", form(content.format(root)))
    assert (found.key, found.failure.reason) == (("1", "19145550168"), "busy")


def declared(encoding):
    fields = attributes(**FIELDS, RecipientCSID="Büro")
    return f'<?xml version="1.0" encoding="{encoding}"?><OutboundDisposition {fields}/>'


@pytest.mark.parametrize("encoding", ["UTF-8", "utf-16", "ISO-8859-1", "windows-1252", "x-unknown", "UTF-7"])
def test_an_encoding_declared_inside_the_field_does_not_matter(encoding):
    assert event("efax", form("\ufeff" + declared(encoding))).recipient.station_id == "Büro"


def test_a_field_in_latin_1_is_read():
    xml = quote_plus(declared("ISO-8859-1").encode("latin-1"))
    assert event("efax", f"xml={xml}".encode()).recipient.station_id == "Büro"


def test_multipart_is_read_too():
    raw = multipart(xml=f"<OutboundDisposition {attributes(**FIELDS)}/>")
    assert event("efax", raw).key == ("1", "19145550168")


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"id=1",
        b"xml=",
        b"xml=%20",
        form("<OutboundDisposition"),
        form('<!DOCTYPE a><OutboundDisposition DOCID="1"/>'),
        form('<OutboundDisposition DOCID="1" DOCID="2"/>'),
        form('<OutboundDisposition DOCID="1" FaxStatus="0"><DOCID>2</DOCID></OutboundDisposition>'),
        form(
            "<OutboundDisposition><DOCID>1</DOCID><FaxStatus>0</FaxStatus><FaxStatus>1</FaxStatus></OutboundDisposition>"
        ),
        disposition() + b"&xml=x",
    ],
)
def test_a_field_that_cannot_be_read_is_undecodable(body):
    with pytest.raises(Undecodable):
        events("efax", body)


@pytest.mark.parametrize("fields", [{"DOCID": ""}, {"FaxStatus": ""}, {"FaxStatus": "Success"}, {"FaxStatus": "1e2"}])
def test_a_disposition_without_identity_or_with_a_malformed_status_is_refused(fields):
    with pytest.raises(ValidationError) as caught:
        events("efax", disposition(**fields))
    assert list(caught.value.messages) == list(fields)


def test_another_document_is_refused():
    with pytest.raises(Unprocessable):
        events("efax", form(f"<OutboundStatus {attributes(**FIELDS)}/>"))


# --- credentials ---------------------------------------------------------------------------------------------------


def test_credentials_are_found_in_dispositions_and_in_inbound_faxes():
    assert credentials(sample("efax/01_success.form")) == ("exampleuser", "example-password")
    assert credentials(sample("efax/43_inbound_not_outbound.form")) == ("exampleuser", "example-password")
    assert credentials(
        form("<OutboundDisposition><UserName>a</UserName><Password>b c</Password></OutboundDisposition>")
    ) == ("a", "b c")


@pytest.mark.parametrize(
    "xml",
    [
        "<a/>",
        "<InboundPostRequest/>",
        '<OutboundDisposition UserName="a"/>',
        "<a><UserName><b/></UserName><Password>p</Password></a>",
    ],
)
def test_where_one_is_missing_there_are_none(xml):
    assert credentials(form(xml)) is None


@pytest.mark.parametrize("body", [b"id=1", form("<a")])
def test_credentials_of_what_cannot_be_read_are_undecodable(body):
    with pytest.raises(Undecodable):
        credentials(body)


def test_a_password_given_twice_is_undecodable():
    with pytest.raises(Undecodable):
        credentials(form('<a UserName="a" Password="b"><Password>c</Password></a>'))


def test_nothing_behind_authentication_sees_them():
    message = EFAX.shape(read(sample("efax/01_success.form"), EFAX))
    assert not any("password" in str(part).lower() for part in (*message, *message.values()))


# --- redact --------------------------------------------------------------------------------------------------------

PASSWORD = "s3cr%t+&\"'<ä>pw"
AS_XML = PASSWORD.replace("&", "&amp;").replace('"', "&quot;").replace("'", "&apos;").replace("<", "&lt;")
ALL = attributes(**FIELDS)
DOCUMENTS = [
    f'<OutboundDisposition UserName="top-user" Password="{AS_XML}" {ALL}/>',
    f"<OutboundDisposition Password = '{AS_XML}' UserName\n=\n'top-user' {ALL}/>",
    f"""<OutboundDisposition {ALL}>
        <UserName>top-user</UserName><Password a='b'>{AS_XML}</Password></OutboundDisposition>""",
    f"""<n:OutboundDisposition xmlns:n='x' {ALL}><n:UserName>top-user</n:UserName>
        <n:Password><![CDATA[</Password>{PASSWORD}]]></n:Password></n:OutboundDisposition>""",
    f"""<InboundPostRequest><AccessControl>
        <Password>{AS_XML}</Password><UserName>top-user</UserName></AccessControl></InboundPostRequest>""",
]


def percent_lower(text):
    return "".join(f"%{byte:02x}" for byte in text.encode())


ENCODERS = {
    "form": quote_plus,
    "percent": quote,
    "every byte": percent_lower,
    "latin-1": lambda text: quote_plus(text.encode("latin-1")),
    "twice": lambda text: quote_plus(quote_plus(text)),
    "not at all": str,
}


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_credential_stays_in_any_encoding_even_where_the_body_is_cut(document, encode):
    body = b"a=b&xml=" + encode(document).encode() + b"&z=1"
    for cut in range(len(body) + 1):
        redacted = redact(body[:cut])
        for level in range(3):
            for part in ("s3cr", "top-u", "pw"):
                assert part.encode() not in redacted, (cut, level)
            redacted = unquoted(redacted)


def unquoted(body):
    return unquote_to_bytes(body.replace(b"+", b" "))


@pytest.mark.parametrize("document", DOCUMENTS[:4])
def test_a_redacted_disposition_is_the_same_event(document):
    body = form(document)
    assert events("efax", redact(body)) == events("efax", body)
    assert credentials(redact(body)) == ("", "")


def test_every_other_byte_is_kept():
    body = sample("efax/01_success.form").body
    assert redact(body) == body.replace(b"exampleuser", b"").replace(b"example-password", b"")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_multipart_is_redacted_too(document):
    body = multipart(xml=document).body
    assert b"s3cr" not in redact(body)
    assert redact(body).endswith(b"\r\n--x--\r\n")


@given(st.binary())
def test_redacting_gives_any_other_body_back(body):
    assert redact(body) == body


def test_redacting_takes_linear_time_on_hostile_bodies():
    for piece in (
        b"<Password>",
        b"Password=",
        b'Password="',
        b"<Password ",
        b"%25",
        b"%",
        b"<![CDATA[",
        b"<Password><!--",
        b"<a",
    ):
        start = time.thread_time()
        redact(piece * (1_000_000 // len(piece)))
        assert time.thread_time() - start < 10


# --- answer and set-up ---------------------------------------------------------------------------------------------


def test_the_answer_is_what_efax_looks_for():
    assert EFAX.success.body == b"Post Successful"
    assert EFAX.success.content_type.startswith("text/plain")


def test_the_set_up_has_the_disposition_control():
    setup = providers.load()["efax"].push.setup
    assert "<DispositionURL>{url}</DispositionURL>" in setup
    assert "BOTH" in setup
