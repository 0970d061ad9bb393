"""Digests that stores hold stay what they are: else each known announcement would be taken for a new one."""

import json

import pytest
from samples import FIXTURES, events, sample

from receiver import facts

# Of the faxes of each sample in order, computed by the code before the first field was added that is never compared.
KNOWN = json.loads((FIXTURES / "digests.json").read_text())


@pytest.mark.parametrize("path", KNOWN)
def test_a_digest_that_was_stored_is_that_of_the_same_announcement_still(path):
    found = events(path.partition("/")[0], sample(path))
    assert [facts.digest(facts.of(event)) for event in found] == KNOWN[path]


def test_what_is_never_compared_is_in_no_digest_and_alone_no_news():
    (found,) = events("faxage", sample("faxage/01_success.form"))
    stated = facts.of(found)
    assert stated["provider_call_id"]
    other = {**stated, "provider_call_id": "other", "recipient": {**stated["recipient"], "country": "US"}}
    assert facts.digest(other) == facts.digest(stated)
    merged = facts.merge(stated, other)
    assert (merged.changed, merged.news, merged.differing) == ((), False, ())
    assert merged.facts["recipient"]["country"] == "US"
    assert merged.facts["provider_call_id"] == stated["provider_call_id"]


def test_facts_that_were_stored_before_lack_them_and_merge():
    (found,) = events("faxage", sample("faxage/01_success.form"))
    stated = facts.of(found)
    before = {name: value for name, value in stated.items() if name != "provider_call_id"}
    before["recipient"] = {name: value for name, value in stated["recipient"].items() if name != "country"}
    merged = facts.merge(before, stated)
    assert not merged.news
    assert merged.facts["provider_call_id"] == stated["provider_call_id"]
