"""Ids are what the design says, to the last digit: everything stored and published depends on it."""

import uuid

import pytest

from schemas.identity import NAMESPACE, amended_id, completed_id, fax_id

OPENFAX = "d0fbe9d4-3aab-5a4e-8862-dee22a10cd24"


@pytest.mark.parametrize(
    ("provider", "account", "key", "expected"),
    [
        ("openfax", "123456789", ["779029"], OPENFAX),
        (
            "retarus",
            "99999TE",
            ["FJIJPNJYN906EDIJNFGI5S", "498912504001710", "0"],
            "70330dd6-f035-5d0a-be7f-b87a3545630b",
        ),
        ("faxage", "acme", ["115893796"], "4a9cbe71-22e0-5567-8e56-1bb4777f21c8"),
    ],
)
def test_a_fax_id_is_the_designs_vector(provider, account, key, expected):
    assert str(fax_id(provider, account, key)) == expected


def test_a_completed_id_is_the_designs_vector():
    assert str(completed_id(uuid.UUID(OPENFAX), "delivered")) == "5ff6bb1e-405b-554b-829c-04e250504ee3"


def test_the_name_is_json_so_that_keys_cannot_run_together():
    assert fax_id("p", "a", ["b", "c"]) != fax_id("p", "a", ["b,c"])
    assert fax_id("p", "a", ['b","c']) != fax_id("p", "a", ["b", "c"])


def test_text_beyond_ascii_is_named_as_it_is():
    assert fax_id("p", "Müller", ["1"]) == uuid.uuid5(NAMESPACE, '["v1","p","Müller","1"]')


def test_a_salt_gives_other_ids_and_the_same_ones_every_time():
    salted = fax_id("p", "a", ["1"], salt=b"s")
    assert salted == fax_id("p", "a", ["1"], salt=b"s")
    assert salted not in (fax_id("p", "a", ["1"]), fax_id("p", "a", ["1"], salt=b"t"))


def test_an_amendment_is_named_by_its_facts():
    fax = uuid.UUID(OPENFAX)
    assert amended_id(fax, "ab") == uuid.uuid5(fax, '["amended","ab"]')
    assert amended_id(fax, "ab") != amended_id(fax, "cd")
    assert amended_id(fax, "ab", revision=4) != amended_id(fax, "ab")
