"""Short ways of a push, held against the general ones: the same entries, the same repairs, the same refusals."""

import random
import sys
import uuid
from types import SimpleNamespace

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from marshmallow import fields as plain_fields
from marshmallow import post_load, validate
from odd_pushes import odd_pushes
from samples import FIXTURES

from receiver import intake, stations
from receiver.errors import Inbound, Refusal
from receiver.providers import RawCallback, Source, load, read
from receiver.providers.retarus import callback as retarus
from receiver.providers.shared import xml_bodies
from receiver.providers.shared.normalising import e164, e164_by_phonenumbers
from schemas import fields, identity
from schemas.encoding import compact
from schemas.fields import Count, Identity, ProviderSchema, Seconds, Text, noting_unreadable
from schemas.repairing import noting_repairs
from schemas.rows import Rows, shortened

PROVIDER = load()["retarus"]


@pytest.fixture
def ways(monkeypatch):
    """Which ways are taken, and how often the short one of XML led somewhere."""
    chosen = SimpleNamespace(short=True, plain=0)
    short_xml, short_number = xml_bodies._plain, fields._is_short_number

    def plain(body, encoding):
        found = short_xml(body, encoding) if chosen.short else None
        chosen.plain += found is not None
        return found

    def number(text, region):
        return e164(text, region) if chosen.short or text is None else e164_by_phonenumbers(text, region)

    def load_rows(rows):
        load = rows._load
        monkeypatch.setattr(rows, "_load", lambda row: load(row) if chosen.short else rows.row.load(row))

    def whole(schema):
        load = shortened(schema)
        return lambda message: load(message) if chosen.short else schema.load(message)

    monkeypatch.setattr(stations, "shortened", whole)
    monkeypatch.setattr(xml_bodies, "_plain", plain)
    monkeypatch.setattr(retarus, "e164", number)
    monkeypatch.setattr(fields, "_is_short_number", lambda value: chosen.short and short_number(value))
    monkeypatch.setattr(retarus, "_leaves", _choosing(chosen, retarus._leaves))
    jobs = PROVIDER.push.schema.fields["jobs"]
    load_rows(jobs)
    load_rows(jobs.row.fields["recipients"])
    return chosen


class _Odd(str):
    """A text whose type the short way does not know."""


def _choosing(chosen, leaves):
    def read(element):
        if chosen.short:
            return leaves(element)
        marked = {**element, "#odd": _Odd()}
        return {name: value for name, value in leaves(marked).items() if name != "#odd"}

    return read


def outcome(raw):
    """All that the stations before the store make of a callback."""
    endpoint = SimpleNamespace(provider=PROVIDER, source=Source("99999TE", None, "DE"))
    arrival = intake.Arrival(endpoint, raw, "receipt", 0)
    with noting_repairs() as repairs:
        try:
            entries, unreadable = intake.understand(arrival)
        except Inbound:
            return "inbound", sorted(repairs)
        except Refusal as refusal:
            said = (type(refusal), refusal.code, refusal.detail, refusal.reason, refusal.fields, refusal.received)
            return "refused", *said, sorted(repairs)
    return "understood", list(entries), list(unreadable), sorted(repairs)


def decoded(raw):
    """What the decoder gives, in its order."""
    try:
        return repr(read(raw, PROVIDER.push))
    except Refusal as refusal:
        return type(refusal), refusal.detail, refusal.fields


def compare(ways, bodies):
    """How many of each kind of outcome there were, all of them the same by both ways."""
    kinds = {}
    for body, content_type in bodies:
        raw = RawCallback(body, content_type)
        ways.short = True
        found, data = outcome(raw), decoded(raw)
        ways.short = False
        assert (found, data) == (outcome(raw), decoded(raw)), body
        kinds[found[0]] = kinds.get(found[0], 0) + 1
    return kinds


def test_no_push_is_understood_otherwise_by_a_short_way(ways):
    kinds = compare(ways, odd_pushes(seed=1, count=2_000))
    assert min(kinds["understood"], kinds["refused"], kinds["inbound"], ways.plain) > 10


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(2, 12))
def test_no_push_of_very_many_is_understood_otherwise_by_a_short_way(ways, seed):
    compare(ways, odd_pushes(seed, count=10_000))


def test_no_sample_is_understood_otherwise_by_a_short_way(ways):
    files = [file for folder in ("retarus", "field") for file in (FIXTURES / folder).iterdir()]
    compare(ways, [(file.read_bytes(), "text/xml") for file in files])
    assert ways.plain > 5


def test_the_default_layout_takes_the_short_ways(ways):
    document = {"faxJobReport": {"@xmlns": "a", "jobId": "1", "faxRecipient": [{"status": "OK"}, {"status": None}]}}
    text = '<faxJobReport xmlns="a"><jobId>1</jobId>{}{}</faxJobReport>'
    rows = "<faxRecipient><status>OK</status></faxRecipient>", "<faxRecipient>\n<status> </status></faxRecipient>\n"
    assert xml_bodies.xml(text.format(*rows).encode()) == document
    assert ways.plain == 1


# --- rows ----------------------------------------------------------------------------------------------------------


class Row(ProviderSchema):
    id = Identity(data_key="ID")
    optional = Identity(required=False, data_key="optional")
    pages = Count(data_key="pages")
    minutes = Seconds(60, data_key="minutes")
    text = Text(data_key="text")
    raw = plain_fields.Raw(data_key="raw", load_default=())


ROWS = st.dictionaries(
    st.sampled_from(["ID", "optional", "pages", "minutes", "text", "raw", "other"]),
    st.none() | st.text(max_size=5) | st.integers() | st.floats() | st.sampled_from(["12", "0.5", "a\x00", ["1", "2"]]),
)


def loaded(load, row):
    with noting_unreadable() as unreadable, noting_repairs() as repairs:
        try:
            return load(row), unreadable, repairs
        except plain_fields.ValidationError as error:
            return error.messages, unreadable, repairs


@example({"ID": "1", "raw": None})
@example({"ID": "1", "optional": None, "text": None})
@given(ROWS | st.none() | st.text() | st.lists(ROWS))
def test_a_row_is_what_its_schema_loads(row):
    schema = Row()
    assert shortened(schema) != schema.load
    short, general = loaded(shortened(schema), row), loaded(schema.load, row)
    assert short == general


def messages(schema):
    """What may come as a message of a schema, right and wrong."""
    values = st.none() | st.text(max_size=5) | st.integers() | st.sampled_from(["success", "00:00:31", ["1", "2"], "0"])
    keys = {}
    for name, field in schema.fields.items():
        rows = st.lists(messages(field.row), max_size=3) if isinstance(field, Rows) else values
        keys[field.data_key or name] = rows | values
    return st.fixed_dictionaries({}, optional=keys) | values


SCHEMAS = {name: provider.push.schema for name, provider in load().items() if provider.callback}


@pytest.mark.parametrize("provider", SCHEMAS)
@given(st.data())
def test_a_message_is_what_its_providers_schema_loads(provider, data):
    schema = SCHEMAS[provider]
    assert shortened(schema) != schema.load
    message = data.draw(messages(schema))
    assert loaded(shortened(schema), message) == loaded(schema.load, message)


def test_a_schema_that_is_more_than_fields_has_no_shorter_way():
    class Hooked(Row):
        @post_load
        def more(self, data, **_):
            return data

    class Validated(Row):
        pages = Count(validate=validate.Range(max=3))

    class LeftOut(Row):
        raw = plain_fields.Raw()

    for schema in (Hooked(), Validated(), LeftOut(), Row(partial=True), Row(unknown="raise"), Row(many=True)):
        assert shortened(schema) == schema.load


def test_what_a_text_may_not_hold_is_never_printable():
    for character in map(chr, range(sys.maxunicode + 1)):
        if fields._NOT_OF_A_TEXT.search(character):
            assert not character.isprintable()


# --- numbers -------------------------------------------------------------------------------------------------------


def numbers(seed, count):
    """Random numbers of all regions, as they are and a little wrong, in the spellings of the samples, with a region."""
    draw = random.Random(seed)
    regions, codes = sorted(phonenumbers.SUPPORTED_REGIONS), sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
    for _ in range(count):
        kind = draw.random()
        if kind < 0.5:
            digits = str(draw.choice(codes)) + _digits(draw, draw.choice((8, 9, 10, draw.randint(1, 17))))
        elif kind < 0.9:
            example = phonenumbers.example_number_for_type(region := draw.choice(regions), draw.randrange(11))
            example = example or phonenumbers.example_number(region)
            digits = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)[1:]
            if draw.random() < 0.5:
                at = draw.randrange(len(digits))
                digits = digits[:at] + _digits(draw, draw.randint(0, 2)) + digits[at + 1 :]
        else:
            digits = _digits(draw, draw.randint(0, 20))
        mark = draw.choice(("", "", "", " ", "-", "/", "."))
        written = "".join(digit + (mark if draw.random() < 0.3 else "") for digit in digits)
        prefix = draw.choice(("+", "+", "+", "00", "00", "", "+ ", " +", "++", "011", "+(0)"))
        yield prefix + written, draw.choice((None, "DE", "US", "GB", "IT", draw.choice(regions)))


def _digits(draw, count):
    return "".join(draw.choices("0123456789", k=count))


def differing(seed, count):
    asked = e164_by_phonenumbers.__wrapped__
    return [one for one in numbers(seed, count) if e164(*one) != asked(*one)]


def test_no_number_is_another_one_than_phonenumbers_says():
    assert differing(seed=1, count=5_000) == []


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(2, 6))
def test_no_number_of_very_many_is_another_one_than_phonenumbers_says(seed):
    assert differing(seed, count=50_000) == []


def test_phonenumbers_is_asked_where_a_number_may_be_changed_and_else_it_is_not():
    e164_by_phonenumbers.cache_clear()
    for number in ("+498912504001710", "0012012051598", "+49 89 1234567-8900", "+390612345678"):
        assert e164(number, None)
    assert e164_by_phonenumbers.cache_info().misses == 0
    assert e164("+4908912345678", None) == "+498912345678"
    assert e164_by_phonenumbers.cache_info().misses == 1


# --- ids -----------------------------------------------------------------------------------------------------------


TEXT = st.text(st.characters(codec="utf-8"))


@given(TEXT, st.lists(TEXT))
def test_a_fax_id_is_the_uuid5_of_its_json(account, key):
    name = compact(["v1", "p", account, *key])
    assert identity.fax_id("p", account, key) == uuid.uuid5(identity.NAMESPACE, name)
