"""The code tables and ``failure_mapping.csv`` say the same, row by row, in both directions."""

import csv

import pytest
from samples import FIXTURES

from receiver import providers
from receiver.providers._normalising import DELIVERED, UNLISTED, table
from schemas.event import Failure, Outcome, Verdict

ANY_OTHER = "(any other)"


def mapping(provider, field):
    with (FIXTURES / "failure_mapping.csv").open(newline="") as file:
        return {
            row["code"]: row
            for row in csv.DictReader(file)
            if row["provider"] == provider.name and row["field"] == field
        }


def verdict(row):
    """A row of the CSV as a verdict; its classes ``canceled`` and ``unconfirmed`` are outcomes here."""
    if row["outcome"] == "pending":
        return None
    if row["outcome"] != "failed":
        return Verdict(Outcome(row["outcome"]))
    return Verdict(Outcome.FAILED, Failure(row["failure_class"], row["retryable"], row["confidence"]))


PROVIDERS = pytest.mark.parametrize("provider", providers.load().values(), ids=lambda provider: provider.name)


@PROVIDERS
def test_every_row_of_the_mapping_is_in_the_table(provider):
    rows = mapping(provider, provider.codes.field)
    assert rows
    for code, row in rows.items():
        assert (provider.codes.unknown if code == ANY_OTHER else provider.codes.verdicts[code]) == verdict(row)


@PROVIDERS
def test_every_code_of_the_table_is_in_the_mapping(provider):
    assert set(provider.codes.verdicts) == set(mapping(provider, provider.codes.field)) - {ANY_OTHER}
    assert set(provider.codes.texts) == set(provider.codes.verdicts)


def test_efax_has_all_of_its_codes():
    assert len(mapping(providers.load()["efax"], "FaxStatus")) == 232  # one of them is "any other"


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
