import base64

import pytest

from receiver import errors
from receiver.auth import basic


def encoded(text: str | bytes, charset: str = "utf-8") -> str:
    raw = text if isinstance(text, bytes) else text.encode(charset)
    return base64.b64encode(raw).decode()


@pytest.mark.parametrize("prefix", ["Basic ", "basic ", "BASIC  ", "bAsIc     ", " Basic "])
def test_the_scheme_is_read_in_any_case_and_with_several_spaces(prefix):
    assert basic.parse(prefix + encoded("me:secret")) == ("me", "secret")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("me:a:b:", ("me", "a:b:")),
        (":", ("", "")),
        ("me:", ("me", "")),
        (":secret", ("", "secret")),
        (" me : secret ", (" me ", " secret ")),
    ],
)
def test_the_first_colon_splits_and_nothing_is_trimmed(text, expected):
    assert basic.parse("Basic " + encoded(text)) == expected


@pytest.mark.parametrize("charset", ["utf-8", "latin-1"])
def test_text_is_read_as_utf_8_or_else_as_latin_1(charset):
    assert basic.parse("Basic " + encoded("jürg:größe", charset)) == ("jürg", "größe")


def test_bytes_that_are_no_utf_8_are_no_defect():
    assert basic.parse("Basic " + encoded(b"me:\x80\xff\xfe")) == ("me", "\x80\xff\xfe")


@pytest.mark.parametrize(
    "header", [None, "", "  ", "Bearer abc", "Digest username=me, nonce=x", "Basics bWU6eA==", "Negotiate"]
)
def test_no_header_and_other_schemes_bring_no_credentials(header):
    assert basic.parse(header) is None


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic ",
        "basic   ",
        "Basic =",
        "Basic ====",
        "Basic me:secret",
        "Basic bWU6c2VjcmV0cw",  # no padding
        "Basic bWU6c2VjcmV0cw=",
        "Basic bWU6c2VjcmV0cw===",
        "Basic bWU6c2VjcmV0cw==bWU6",
        "Basic bWU6c2VjcmV0cx==",  # bits under the padding
        "Basic bWU6 c2VjcmV0cw==",
        "Basic bWU6c2Vj\ncmV0cw==",
        "Basic bWU6Pz8_Pz8-",  # URL-safe alphabet
        "Basic bWU6c2VjcmV0cwéé",
        "Basic \tbWU6c2VjcmV0cw==",
        "Basic\tbWU6c2VjcmV0cw==",
        '"Basic" bWU6c2VjcmV0cw==',
        ", Basic bWU6c2VjcmV0cw==",
    ],
)
def test_what_is_not_one_strict_base64_value_is_malformed(header):
    with pytest.raises(errors.MalformedCredentials):
        basic.parse(header)


@pytest.mark.parametrize("glue", [", ", ",", " , "])
@pytest.mark.parametrize("second", ["Basic bWU6c2VjcmV0cw==", "Basic eDp5", "Digest username=me", "Bearer abc", ""])
def test_a_second_header_joined_by_a_comma_is_malformed(glue, second):
    with pytest.raises(errors.MalformedCredentials):
        basic.parse("Basic bWU6c2VjcmV0cw==" + glue + second)


def test_text_without_a_colon_is_malformed():
    with pytest.raises(errors.MalformedCredentials, match="colon"):
        basic.parse("Basic " + encoded("secret"))


@pytest.mark.parametrize("control", ["\0", "\r", "\n", "\t", "\x1f", "\x7f"])
@pytest.mark.parametrize("text", ["me{}:secret", "me:sec{}ret", "me:secret{}", "{}me:secret"])
def test_control_characters_are_malformed(control, text):
    with pytest.raises(errors.MalformedCredentials, match="control"):
        basic.parse("Basic " + encoded(text.format(control)))


@pytest.mark.parametrize("header", ["Basic hunter2", "Basic " + encoded("hunter2"), "Basic " + encoded("me:hunter2\n")])
def test_a_refusal_repeats_and_chains_nothing_of_the_header(header):
    with pytest.raises(errors.MalformedCredentials) as caught:
        basic.parse(header)

    assert "hunter2" not in caught.value.detail
    assert header.split()[1] not in caught.value.detail
    assert caught.value.__context__ is None


def test_the_challenge_names_realm_and_charset():
    assert basic.challenge("fax") == ("WWW-Authenticate", 'Basic realm="fax", charset="UTF-8"')


def test_quotes_and_backslashes_of_the_realm_are_escaped():
    assert basic.challenge('a "b" \\c')[1] == 'Basic realm="a \\"b\\" \\\\c", charset="UTF-8"'


@pytest.mark.parametrize("realm", ["größe", "a\r\nSet-Cookie: x=y", "a\n", "\x7f"])
def test_a_realm_that_a_header_cannot_carry_stops_the_start(realm):
    with pytest.raises(errors.ConfigurationError, match="realm"):
        basic.challenge(realm)
