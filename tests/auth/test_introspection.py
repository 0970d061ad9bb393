import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from identity_provider import Signer, identity_providers

from receiver import errors
from receiver.auth.introspection import Introspection
from receiver.settings import Introspection as Options

SIGNER = Signer("EdDSA")
SECRET = "s&cret: with = odd %41 signs"


@pytest.fixture(scope="module")
def house():
    with identity_providers() as found:
        yield found


@pytest.fixture
def idp(house):
    found = house.add(secrets.token_hex(4), SIGNER)
    found.login = "faxhook:s%26cret%3A+with+%3D+odd+%2541+signs"
    found.answers = {"good": {"active": True, "sub": "retarus"}}
    return found


class Clock:
    now = 1_800_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def introspection(idp, clock=time.time):
    return Introspection(Options(f"{idp.issuer}/introspect", "faxhook", SECRET), clock=clock)


def test_an_active_token_gives_what_its_issuer_says(idp):
    assert introspection(idp).claims("good") == {"active": True, "sub": "retarus"}


@pytest.mark.parametrize("active", [False, "true", 1, None, "no such key"])
def test_only_true_is_active(idp, active):
    idp.answers["good"] = {"sub": "retarus"} if active == "no such key" else {"active": active}
    assert introspection(idp).claims("good") is None


def test_what_was_right_is_asked_again_after_a_minute(idp, clock):
    asking = introspection(idp, clock)
    for _ in range(5):
        assert asking.claims("good")
    clock.now += 59
    idp.answers.clear()
    assert asking.claims("good")
    assert idp.asked == {"introspect": 1}
    clock.now += 1
    assert asking.claims("good") is None


def test_what_ends_earlier_is_asked_again_when_it_ends(idp, clock):
    idp.answers["good"]["exp"] = clock.now + 5
    asking = introspection(idp, clock)
    assert asking.claims("good")
    clock.now += 5
    assert asking.claims("good")
    assert idp.asked == {"introspect": 2}


def test_what_was_wrong_is_asked_again_after_ten_seconds(idp, clock):
    asking = introspection(idp, clock)
    assert asking.claims("bad") is None
    clock.now += 9
    idp.answers["bad"] = {"active": True}
    assert asking.claims("bad") is None
    clock.now += 1
    assert asking.claims("bad")


def test_what_is_remembered_is_bounded_and_holds_no_token(idp, monkeypatch):
    monkeypatch.setattr("receiver.auth.introspection._ENTRIES_MAX", 10)
    asking = introspection(idp)
    for number in range(30):
        asking.claims(f"token-{number}")
    assert len(asking._answers) == 10
    assert not any(b"token-" in name for name in asking._answers)
    asked = idp.asked["introspect"]
    asking.claims("token-29")
    assert idp.asked["introspect"] == asked


@pytest.mark.parametrize("fault", ["down", "hanging", "dripping", "html", "huge", "redirect", "error"])
def test_an_issuer_that_does_not_say_is_unavailable_within_four_seconds(idp, clock, fault):
    idp.fault = fault
    asking = introspection(idp, clock)
    began = time.monotonic()
    with pytest.raises(errors.Unavailable):
        asking.claims("good")
    assert time.monotonic() - began < 60
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(errors.Unavailable):
            asking.claims("good")
    assert time.monotonic() - began < 60
    idp.fault = ""
    clock.now += 2
    assert asking.claims("good")


def test_slow_answers_do_not_hold_every_thread(idp):
    idp.fault = "hanging"
    asking = introspection(idp)

    def ask(number):
        began = time.monotonic()
        with pytest.raises(errors.Unavailable):
            asking.claims(f"made-up-{number}")
        return time.monotonic() - began

    with ThreadPoolExecutor(12) as threads:
        spent = sorted(threads.map(ask, range(12)))
    assert sum(seconds > 1.5 for seconds in spent) <= 2


def test_our_own_wrong_secret_is_our_trouble_and_not_the_callers(idp):
    idp.login = "faxhook:another"
    asking = introspection(idp)
    assert asking.trouble() == "status 401"
    with pytest.raises(errors.Unavailable):
        asking.claims("good")


def test_a_check_asks_about_nobodys_token(idp):
    assert introspection(idp).trouble() is None
    assert idp.asked == {"introspect": 1}
