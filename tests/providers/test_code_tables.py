"""The code tables and ``failure_mapping.csv`` say the same, row by row, in both directions."""

import csv

import pytest
from samples import FIXTURES, verdict

from receiver import providers
from receiver.providers.shared.normalising import DELIVERED, UNLISTED, table

ANY_OTHER = "(any other)"


# Where the mapping calls a table otherwise: (provider, field) there.
NAMED = {("openfax-broadcast", "ErrorCode"): ("openfax", "Broadcast ErrorCode")}


def mapping(name, field):
    with (FIXTURES / "failure_mapping.csv").open(newline="") as file:
        return {
            ANY_OTHER if row["code"] == "6 and up" else row["code"]: row
            for row in csv.DictReader(file)
            if (row["provider"], row["field"]) == NAMED.get((name, field), (name, field))
        }


def tables():
    """A provider's own table, and those of its reports that the mapping has too."""
    for provider in providers.load().values():
        reports = provider.reports.records if provider.reports else ()
        of_reports = {report.codes.field: report.codes for report in reports}
        for field, codes in of_reports.items():
            if field != provider.codes.field and mapping(provider.name, field):
                yield pytest.param(provider.name, codes, id=f"{provider.name} {field}")
        yield pytest.param(provider.name, provider.codes, id=provider.name)


TABLES = pytest.mark.parametrize(("name", "codes"), list(tables()))


@TABLES
def test_every_row_of_the_mapping_is_in_the_table(name, codes):
    rows = mapping(name, codes.field)
    assert rows
    for code, row in rows.items():
        assert (codes.unknown if code == ANY_OTHER else codes.verdicts[code]) == verdict(row)


@TABLES
def test_every_code_of_the_table_is_in_the_mapping(name, codes):
    assert set(codes.verdicts) == set(mapping(name, codes.field)) - {ANY_OTHER}
    assert set(codes.texts) == set(codes.verdicts)


def test_efax_has_all_of_its_codes():
    assert len(mapping("efax", "FaxStatus")) == 232  # one of them is "any other"


@pytest.mark.parametrize(("name", "code"), [("openfax", "77"), ("retarus", "JOB_EXPIRED"), ("efax", "7777")])
def test_an_unlisted_code_is_a_failure_for_an_unknown_reason(name, code):
    codes = providers.load()[name].codes
    assert codes.verdict(code) == UNLISTED
    assert not codes.lists(code)


@pytest.mark.parametrize(
    ("name", "code"), [("openfax", "00"), ("efax", "+0"), ("retarus", "ok"), ("faxage", "SUCCESS")]
)
def test_another_spelling_of_a_code_is_the_same_code(name, code):
    codes = providers.load()[name].codes
    assert codes.verdict(code) is DELIVERED
    assert codes.lists(code)


def test_a_code_listed_twice_is_a_mistake():
    with pytest.raises(ValueError, match="code 2 is listed twice"):
        table("x", [("1 2", DELIVERED, "a"), ("2", None, "b")])
