"""From bytes to data: what is refused and how fast, which encodings are understood, what is never guessed."""

import gzip
import json
import time
from contextlib import suppress
from urllib.parse import quote_from_bytes, quote_plus, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError
from samples import callers, events

from receiver import providers
from receiver.errors import Refusal, TooComplex, Undecodable, UnsupportedBody
from receiver.providers import RawCallback, decode
from receiver.providers.shared import forms
from receiver.providers.shared.contract import BodyKind, Callback
from receiver.providers.shared.decoding import json_object, kind_of, listed, names_in, xml
from receiver.providers.shared.json_bodies import json_value
from schemas.fields import ProviderSchema
from schemas.repairing import noting_repairs

ANY = Callback(
    kinds=frozenset(BodyKind),
    schema=ProviderSchema(),
    normalise=lambda *_: [],
    simulate=lambda _: [],
    setup="",
    once=frozenset({"id"}),
    query=True,
)


def urlencoded(body, charset=""):
    return [(field.name, field.value) for field in forms.urlencoded(body, charset)]


def form_pairs(body, content_type):
    return [(field.name, field.value) for field in forms.form_fields(body, content_type)]


def quickly(function, *arguments):
    """The refusal a function raises, which must not take long."""
    start = time.thread_time()
    with pytest.raises(Refusal) as caught:
        function(*arguments)
    assert time.thread_time() - start < 2
    return caught.value


# --- which kind ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", None),
        (b" \r\n\t" * 200, None),
        (b"\xef\xbb\xbf", None),
        (b"a=1", BodyKind.FORM),
        (b"--x\r\n", BodyKind.FORM),
        (b" \r\n<a/>", BodyKind.XML),
        (b" " * 1000 + b"<a/>", BodyKind.XML),
        (b"\xef\xbb\xbf<a/>", BodyKind.XML),
        ("<a/>".encode("utf-16"), BodyKind.XML),
        ("<a/>".encode("utf-16-be"), BodyKind.XML),
        (b'{"a":1}', BodyKind.JSON),
        (b"[1]", BodyKind.JSON),
        ('{"a":1}'.encode("utf-16"), BodyKind.JSON),
    ],
)
def test_the_kind_is_told_by_the_first_byte_that_means_something(body, kind):
    assert kind_of(body) is kind


@pytest.mark.parametrize(
    ("body", "content_type", "data"),
    [
        (b"<a>1</a>", "application/json", {"a": "1"}),
        (b'{"a": 1}', "text/xml", {"a": 1}),
        (b"a=1", "multipart/form-data; boundary=x", {"a": "1"}),
        (b"a=1", "application/json", {"a": "1"}),
        (b"a=1", "", {"a": "1"}),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--', "text/plain", {"a": "1"}),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--', "multipart/form-data", {"a": "1"}),
    ],
)
def test_a_mislabelled_body_is_read_as_what_it_is(body, content_type, data):
    assert decode(RawCallback(body, content_type), ANY) == data


def test_an_empty_body_is_undecodable_unless_the_query_has_the_fields():
    with pytest.raises(Undecodable):
        decode(RawCallback(b" \n"), ANY)
    assert decode(RawCallback(b"", query=b"a=1"), ANY) == {"a": "1"}


def test_a_query_does_not_count_where_the_provider_has_none():
    with pytest.raises(Undecodable):
        decode(RawCallback(b"", query=b"jobid=1&shortstatus=success"), providers.load()["faxage"].push)


def test_a_kind_the_provider_never_sends_is_unsupported():
    with pytest.raises(UnsupportedBody):
        decode(RawCallback(b"a=1"), providers.load()["retarus"].push)


def test_a_compressed_body_is_no_form_of_anything():
    with pytest.raises((Refusal, ValidationError)):
        events("faxage", gzip.compress(b"jobid=1&shortstatus=success"))


# --- forms ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"a=M%C3%BCller", "Müller"),
        (b"a=M\xc3\xbcller", "Müller"),
        (b"a=M%FCller", "Müller"),
        (b"a=M\xfcller", "Müller"),
        (b"a=%80+1", "€ 1"),  # Windows-1252, not ISO-8859-1
        (b"a=%81", "\x81"),  # a hole of Windows-1252
        (b"a=", ""),
        (b"a", ""),
        (b"\r\na=1\r\n", "1"),
        (b"a=1%262", "1&2"),
    ],
)
def test_an_urlencoded_value_is_read_whatever_its_charset(body, value):
    assert urlencoded(body) == [("a", value)]


def test_each_field_has_a_charset_of_its_own():
    assert urlencoded(b"a=%C3%BC&b=%FC&c=x") == [("a", "ü"), ("b", "ü"), ("c", "x")]
    assert urlencoded(b"a=B%C3%BCro+Jos%E9") == [("a", "Büro José")]  # put together of two
    assert urlencoded(b"a=%A4+%C9%BB", "iso-8859-15") == [("a", "€ É»")]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"a=%", "%"),
        (b"a=50%25+or+50%", "50% or 50%"),
        (b"a=%G0=", "%G0="),
        (b"a=%%41%3D%", "%A=%"),
        (b"a=%0a=%", "\n=%"),
    ],
)
def test_a_percent_sign_that_begins_no_escape_is_text(body, value):
    with noting_repairs() as repairs:
        assert decode(RawCallback(body), ANY) == {"a": value}
    assert repairs == {"percent"}


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        ("faxage", b"jobid=1158%3&shortstatus=success"),
        ("faxage", b"jobid=1&shortstatus=%73uccess%"),
        ("openfax", b"OutTransID=1&AccountID=%&LastStatus=0"),
        ("openfax", b"OutTransID=1&AccountID=2&LastStatus=%0"),
    ],
)
def test_but_not_where_it_names_the_fax_or_its_result(provider, body):
    with pytest.raises(Undecodable) as caught:
        decode(RawCallback(body), providers.load()[provider].push)
    assert list(caught.value.fields.values()) == ["expected a percent sign to be followed by two hexadecimal digits"]


@given(st.binary())
def test_an_escaped_value_is_read_as_urllib_reads_it(value):
    for written in (quote_from_bytes(value).encode(), quote_plus(value).encode(), value):
        assert forms._unquoted(written) == unquote_to_bytes(written.replace(b"+", b" "))


def test_a_form_has_two_hundred_fields_at_most():
    assert len(urlencoded(b"&".join(b"a%d=1" % number for number in range(200)))) == 200
    assert isinstance(quickly(urlencoded, b"a=1&" * 400_000), TooComplex)
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    assert len(form_pairs(part * 200 + b"--x--", "multipart/form-data; boundary=x")) == 200
    assert isinstance(quickly(form_pairs, part * 20_000 + b"--x--", "multipart/form-data; boundary=x"), TooComplex)


def test_a_name_that_may_occur_once_is_not_repeated():
    assert decode(RawCallback(b"id=1&a=1&a=2"), ANY) == {"id": "1", "a": ["1", "2"]}
    with pytest.raises(Undecodable) as caught:
        decode(RawCallback(b"id=1&id=1"), ANY)
    assert caught.value.fields == {"id": "expected once"}
    with pytest.raises(Undecodable):
        decode(RawCallback(b"id=1", query=b"id=1"), ANY)


MULTIPART = (
    b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nM\xc3\xbcller\r\n'
    b'--x\r\nContent-Disposition: form-data; name="b"; filename="b.txt"\r\nContent-Type: text/plain\r\n\r\n1\r\n2\r\n'
    b"--x--\r\n"
)


@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=x", 'multipart/form-data; boundary="x"', ""])
def test_multipart_fields_and_files_are_fields(content_type):
    assert form_pairs(MULTIPART, content_type) == [("a", "Müller"), ("b", "1\r\n2")]
    assert form_pairs(MULTIPART.replace(b"\xc3\xbc", b"\xfc"), content_type)[0] == ("a", "Müller")
    assert form_pairs(MULTIPART.replace(b"\r\n", b"\n"), content_type)[0] == ("a", "Müller")


def test_every_cut_multipart_is_undecodable():
    for cut in range(3, len(MULTIPART) - 4):
        with pytest.raises(Refusal):
            form_pairs(MULTIPART[:cut], "multipart/form-data; boundary=x")


@pytest.mark.parametrize(
    "body",
    [
        b"--x\r\n\r\n1\r\n--x--",
        b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n",
        b"--\r\n\r\n",
        b"--x\r\n\xff: \xff\r\n\r\n1\r\n--x--",
        b"--x--",
    ],
)
def test_a_broken_multipart_is_refused(body):
    with pytest.raises(Refusal):
        decode(RawCallback(body, "multipart/form-data; boundary=x"), ANY)


def test_a_part_without_a_name_is_a_field_without_a_name():
    body = b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--"
    assert form_pairs(body, "multipart/form-data; boundary=x") == [("", "1")]


# --- XML -----------------------------------------------------------------------------------------------------------

DOCTYPES = {
    "billion laughs": '<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "' + "&b;" * 1000 + '">]><a>&c;</a>',
    "external entity": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "entity chain": '<!DOCTYPE a [<!ENTITY e0 "x">'
    + "".join(f'<!ENTITY e{number + 1} "&e{number};">' for number in range(200_000))
    + ']><a b="&e200000;"/>',
    "parameter entity": '<!DOCTYPE a [<!ENTITY % p SYSTEM "http://example.com/x">%p;]><a/>',
    "injected attribute": '<!DOCTYPE a [<!ATTLIST a status CDATA "OK">]><a/>',
    "plain": "<!DOCTYPE a><a/>",
    "external": '<!DOCTYPE a SYSTEM "http://example.com/a.dtd"><a>&undefined;</a>',
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("document", DOCTYPES.values(), ids=DOCTYPES)
def test_any_doctype_is_refused_before_it_can_do_anything(document, encoding):
    assert isinstance(quickly(xml, document.encode(encoding)), Undecodable)
    if encoding == "utf-8":
        assert isinstance(quickly(xml, document), Undecodable)


@pytest.mark.parametrize(
    "document",
    [
        "<a>" * 41 + "</a>" * 41,
        "<a>" * 1_000_000,
        "<a>" + "<b/>" * 200_000 + "</a>",
        "<a " + " ".join(f'a{number}=""' for number in range(65)) + "/>",
    ],
)
def test_more_than_any_provider_sends_is_too_complex(document):
    assert isinstance(quickly(xml, document.encode()), TooComplex)


def test_the_caps_themselves_are_allowed():
    assert xml(b"<a>" * 40 + b"</a>" * 40)
    assert xml(("<a " + " ".join(f'a{number}=""' for number in range(64)) + "/>").encode())


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\x00\x01",
        b"<a",
        b"<a>",
        b"<a></b>",
        b"<a/><b/>",
        b"<a>&x;</a>",
        b"<a\x00/>",
        b"<\x01a/>",
        b"<a b\x00='1'/>",
        b"<a><!\x00-- --></a>",
        b"<a/>\x00<b/>",
        b"<a b=1/>",
        b"<a b='1' b='2'/>",
        b"<a><b>\xff</a>",
    ],
)
def test_xml_that_is_not_well_formed_is_undecodable(document):
    with pytest.raises(Undecodable):
        xml(document)


@pytest.mark.parametrize(
    ("document", "charset"),
    [
        ("<a>Büro €</a>".encode(), ""),
        ("<a>Büro €</a>".encode("utf-8-sig"), ""),
        ("<a>Büro €</a>".encode("utf-16"), ""),
        ('<?xml version="1.0" encoding="UTF-16"?><a>Büro €</a>'.encode("utf-16"), "iso-8859-1"),
        ('<?xml version="1.0" encoding="windows-1252"?><a>Büro €</a>'.encode("cp1252"), "utf-8"),
        ("<a>Büro €</a>".encode("cp1252"), "windows-1252"),
        ("<a>Büro €</a>".encode(), "nonsense"),
        ("<?xml version='1.0' encoding='UTF-7'?><a>Büro €</a>", ""),
        (" \n<a>Büro €</a>", "iso-8859-1"),
    ],
)
def test_xml_is_read_in_the_encoding_it_is_in(document, charset):
    assert xml(document, charset=charset) == {"a": "Büro €"}


@pytest.mark.parametrize("encoding", ["utf-7", "shift_jis", "x-unknown", "utf-32", "cp500", "utf-8x", "idna", ""])
def test_an_encoding_no_provider_uses_is_undecodable(encoding):
    with pytest.raises(Undecodable):
        xml(f'<?xml version="1.0" encoding="{encoding}"?><a/>'.encode())


def test_names_are_local_and_a_repeated_child_is_a_list():
    assert xml(b'<n:a xmlns:n="x" b="1"><n:c>1</n:c><c>2</c></n:a>') == {
        "a": {"@xmlns:n": "x", "@b": "1", "c": ["1", "2"]}
    }


# --- JSON ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        '{"a":1,"a":1}',
        '{"b":{"a":1,"\\u0061":2}}',
        '{"a":NaN}',
        '{"a":Infinity}',
        '{"a":-Infinity}',
        '{"a":1e99999999999999999999}',
        '{"a":' + "1" * 5000 + "}",
        "{",
        '{"a":"',
        '{"a":1}x',
        '{"a":1}\x00x',
        '{"a"\x01:1}',
        "[1]",
    ],
)
def test_json_that_could_mean_two_things_or_none_is_undecodable(document):
    with pytest.raises(Undecodable):
        json_object(document.encode())


@pytest.mark.parametrize("opening", ['{"a":', "[", '{"a":['])
def test_deep_json_is_too_complex(opening):
    assert isinstance(quickly(json_object, (opening * 1_000_000).encode()), TooComplex)


def test_forty_levels_of_json_are_allowed_and_brackets_in_text_do_not_count():
    assert json_object(('{"a":' * 39 + "{}" + "}" * 39).encode())
    assert json_object(json.dumps({"a": "[" * 100 + '\\"{' * 100}).encode())


@pytest.mark.parametrize(
    "hostile", [b'{"' + b'\\"' * 500_000, b'{"a":"' + b"\\" * 999_999, b'"' * 1_000_001, b'{"a' + b'"\\' * 400_000]
)
def test_strings_that_never_end_take_linear_time(hostile):
    assert isinstance(quickly(json_object, hostile), Undecodable)


def seconds(function, *arguments):
    """What it takes of this thread."""
    start = time.thread_time()
    with suppress(TooComplex):
        function(*arguments)
    return time.thread_time() - start


MANY = 3 * 1024**2  # bytes


@pytest.mark.parametrize("piece", ["{},", "[],", "1.5,", '{"a":1},'])
def test_more_values_than_a_callback_holds_are_refused_before_they_are_parsed(piece):
    document = f'{{"a":[{piece * (MANY // len(piece))}0]}}'.encode()
    with pytest.raises(TooComplex):
        json_object(document)
    assert seconds(json_object, document) < seconds(json_value, document)


def test_the_largest_json_with_as_many_values_as_are_allowed_is_read():
    values = '"+498912504001710",' * 399_990
    assert len(json_object(f'{{"a":[{values}0]}}')["a"]) == 399_991
    assert len(json_value("[" + "0," * 500_000 + "0]")) == 500_001  # an answer may have more


@pytest.mark.parametrize("piece", [b"%41", b"%41a", b"%", b"%%%41", b"\xfc", b"+"])
def test_escapes_are_read_faster_than_urllib_does(piece):
    body = b"a=" + piece * (MANY // len(piece))
    plain = b"%41" * (MANY // 3)
    assert seconds(urlencoded, body) < seconds(unquote_to_bytes, plain) / 2


def test_a_key_that_is_repeated_in_an_answer_has_both_values():
    assert json_value(b'[{"a": 1, "b": 2, "a": 3}, {"a": NaN}]')[0] == {"a": [1, 3], "b": 2}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
def test_json_is_read_in_the_encoding_it_is_in(encoding):
    assert json_object('{"a": "Büro €"}'.encode(encoding)) == {"a": "Büro €"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"0": "a", "2": "b"}, ["a", "b"]),
        ({"10": "b", "9": "a"}, ["a", "b"]),
        ({"0": "a", "x": "b"}, {"0": "a", "x": "b"}),
        ({"9" * 5000: "a"}, {"9" * 5000: "a"}),
        ({}, {}),
        (["a"], ["a"]),
        (None, None),
    ],
)
def test_an_object_with_indexes_as_keys_is_a_list(value, expected):
    assert listed(value) == expected


# --- names ---------------------------------------------------------------------------------------------------------


def test_only_what_can_be_a_field_name_is_told():
    data = {
        "@DOCID": "1",
        "#text": "x",
        "faxRecipient": [{"number": "2"}],
        "+4989125": 1,
        "Zq7a": 1,
        "a" * 42: 1,
        "": 1,
    }
    assert names_in(data) == ["DOCID", "faxRecipient", "faxRecipient.number"]
    assert names_in({f"field{number}": {"x": 1} for number in range(50)}) == [f"field{number}" for number in range(20)]
    assert names_in("text") == names_in([]) == []


# --- everything ----------------------------------------------------------------------------------------------------

PIECES = """
    xml= jobid=1 shortstatus=success OutTransID=1&AccountID=2&LastStatus=0 & %3C < > / /> null [ { " --x\r\n
    <faxJobReport> </faxJobReport> <jobId>1</jobId> <faxRecipient> </faxRecipient> <status>OK</status>
    {"jobId":"1","faxRecipients":[ {"status":"OK"} ]} <OutboundDisposition DOCID="1" FaxStatus="0" \x00 \xff
"""
BODIES = st.binary() | st.lists(st.sampled_from(PIECES.split(" "))).map(lambda pieces: " ".join(pieces).encode())


@given(
    BODIES,
    st.sampled_from(["", "text/xml", "multipart/form-data; boundary=x"]),
    st.sampled_from(sorted(callers())),
)
def test_any_body_is_events_or_a_refusal(body, content_type, name):
    with suppress(Refusal, ValidationError):
        events(name, RawCallback(body, content_type, query=body[:50]))
