import threading
import unicodedata
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from werkzeug.security import check_password_hash, generate_password_hash

from receiver import errors
from receiver.auth import credentials as module
from receiver.auth.credentials import Credentials, SlowChecks
from receiver.settings import Credential

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)


def hashed(password: str) -> str:
    return generate_password_hash(password, "pbkdf2:sha256:1")


def credential(password, user="me", label=None, not_before=None, not_after=None):
    return Credential(id=label, user=user, password=password, not_before=not_before, not_after=not_after)


def credentials(*configured, now=NOON, slow_checks=None):
    return Credentials(configured, clock=lambda: now, slow_checks=slow_checks or SlowChecks())


@pytest.fixture
def computed(monkeypatch):
    """The stored hashes computed, one entry each time; those of the start are not counted."""
    calls = []

    def counted(stored, password):
        if password:
            calls.append(stored)
        return check_password_hash(stored, password)

    monkeypatch.setattr(module, "check_password_hash", counted)
    return calls


# Salts are random, so the stored texts themselves would be other test names in every xdist worker.
FORMS = ["plain", "sha256", "SHA256", "pbkdf2", "scrypt"]


def stored_forms(password: str) -> list[str]:
    return [
        password,
        "sha256:" + sha256(password.encode()).hexdigest(),
        "sha256:" + sha256(password.encode()).hexdigest().upper(),
        hashed(password),
        generate_password_hash(password, "scrypt:256:8:1"),
    ]


@pytest.mark.parametrize("stored", stored_forms("größe: 1"), ids=FORMS)
def test_every_form_of_a_password_accepts_only_that_user_and_that_password(stored):
    known = credentials(credential(stored, user="jürg"))

    assert known.match("jürg", "größe: 1")
    assert not known.match("jürg", "größe: 2")
    assert not known.match("Jürg", "größe: 1")
    assert not known.match("other", "größe: 1")
    assert not known.match("jürg", "")
    assert not known.match("", "größe: 1")
    assert not known.match("", "")
    assert not known.match("jürg", "größe: 1\n")
    assert not known.match("jürg", "größe: 1 ")


@pytest.mark.parametrize("stored", stored_forms("secret")[1:], ids=FORMS[1:])
def test_the_stored_hash_is_not_the_password(stored):
    known = credentials(credential(stored))

    assert not known.match("me", stored)
    assert not known.match("me", stored.partition(":")[2])


@pytest.mark.parametrize("stored", stored_forms("größe"), ids=FORMS)
def test_another_normal_form_is_another_password(stored):
    assert not credentials(credential(stored)).match("me", unicodedata.normalize("NFD", "größe"))


@pytest.mark.parametrize("stored", stored_forms("secret"), ids=FORMS)
@pytest.mark.parametrize(("user", "password"), [("me", "\ud800"), ("\udfff", "secret")])
def test_a_lone_surrogate_is_wrong_and_no_crash(stored, user, password):
    assert not credentials(credential(stored)).match(user, password)


def test_no_credentials_accept_nobody():
    assert not credentials().match("", "")


@pytest.mark.parametrize("form", range(5), ids=FORMS)
def test_while_rotating_the_old_and_the_new_password_are_right(form):
    old = credential(stored_forms("old")[form], not_after=NOON + SECOND)
    new = credential(stored_forms("new")[form], not_before=NOON)

    def right(now):
        known = credentials(old, new, now=now)
        return known.match("me", "old"), known.match("me", "new")

    assert right(NOON - SECOND) == (True, False)
    assert right(NOON) == (True, True)
    assert right(NOON + SECOND - TICK) == (True, True)
    assert right(NOON + SECOND) == (False, True)


def test_names_and_passwords_of_different_credentials_do_not_mix():
    known = credentials(credential("a", user="first"), credential("b", user="second"), credential(hashed("c"), "third"))

    assert known.match("first", "a")
    assert known.match("second", "b")
    assert known.match("third", "c")
    assert not known.match("first", "b")
    assert not known.match("second", "c")
    assert not known.match("third", "a")


def test_a_remembered_password_ends_with_its_credential():
    now = [NOON]
    known = Credentials(
        [credential(hashed("old"), not_after=NOON + SECOND)], clock=lambda: now[0], slow_checks=SlowChecks()
    )
    assert known.match("me", "old")

    now[0] += SECOND

    assert not known.match("me", "old")


def test_an_unknown_user_costs_as_many_hashes_as_a_wrong_password(computed):
    known = credentials(credential(hashed("a"), user="first"), credential(hashed("b"), user="second"))

    known.match("first", "wrong")
    wrong_password = len(computed)
    known.match("nobody", "wrong")

    assert (wrong_password, len(computed)) == (2, 4)


def test_the_right_credential_does_not_end_the_search(computed):
    credentials(credential(hashed("a")), credential(hashed("b"))).match("me", "a")

    assert len(computed) == 2


def test_fast_comparisons_are_all_made_whatever_was_found(monkeypatch):
    known = credentials(credential("a"), credential("b"), credential("c"))
    compared = []

    def counted(left, right):
        compared.append(right)
        return left == right

    monkeypatch.setattr(module.hmac, "compare_digest", counted)
    for user, password in [("me", "a"), ("me", "c"), ("nobody", "a"), ("me", "wrong")]:
        compared.clear()
        known.match(user, password)
        assert len(compared) == 6
        assert all(type(value) is bytes for value in compared)


def test_a_fast_credential_spares_the_slow_ones(computed):
    assert credentials(credential(hashed("old")), credential("new")).match("me", "new")
    assert computed == []


def test_a_right_slow_password_is_computed_once_in_five_minutes(computed):
    now = [1000.0]
    known = credentials(credential(hashed("secret")), slow_checks=SlowChecks(clock=lambda: now[0]))

    assert known.match("me", "secret")
    now[0] += 299
    assert known.match("me", "secret")
    assert len(computed) == 1
    now[0] += 1
    assert known.match("me", "secret")
    assert len(computed) == 2


def test_wrong_credentials_are_never_remembered(computed):
    known = credentials(credential(hashed("secret")))

    for _ in range(2):
        assert not known.match("me", "wrong")
        assert not known.match("nobody", "secret")

    assert len(computed) == 4


def test_a_right_password_under_a_wrong_name_is_computed_though_the_password_is_remembered(computed):
    known = credentials(credential(hashed("secret")))
    known.match("me", "secret")

    assert not known.match("nobody", "secret")
    assert len(computed) == 2


def test_a_changed_credential_forgets_what_was_right_before():
    shared, stored = SlowChecks(), hashed("old")
    assert credentials(credential(stored), slow_checks=shared).match("me", "old")

    assert not credentials(credential(hashed("new")), slow_checks=shared).match("me", "old")
    assert not credentials(credential(stored, user="you"), slow_checks=shared).match("me", "old")


def test_the_oldest_of_too_many_entries_is_forgotten(computed):
    known = credentials(
        *(credential(hashed("secret"), user=str(number)) for number in range(3)), slow_checks=SlowChecks(entries_max=2)
    )
    for number in range(3):
        known.match(str(number), "secret")
    computed.clear()

    known.match("2", "secret")
    known.match("1", "secret")
    assert computed == []
    known.match("0", "secret")
    assert len(computed) == 3


def test_the_cache_holds_nothing_plain_and_no_key_of_another_process():
    one, other = SlowChecks(), SlowChecks()
    configured = credential(hashed("secret"))
    for checks in (one, other):
        credentials(configured, slow_checks=checks).match("me", "secret")

    assert one._expiries.keys().isdisjoint(other._expiries)
    assert b"secret" not in b"".join(one._expiries)


@contextmanager
def a_check_under_way(monkeypatch, known):
    """Somebody's wrong password is being computed; yields what lets it end."""
    started, may_end = threading.Event(), threading.Event()

    def held(stored, password):
        if password == "slow":
            started.set()
            may_end.wait(60)
        return check_password_hash(stored, password)

    monkeypatch.setattr(module, "check_password_hash", held)
    thread = threading.Thread(target=known.match, args=("me", "slow"))
    thread.start()
    try:
        assert started.wait(60)
        yield may_end
    finally:
        may_end.set()
        thread.join(60)


def test_who_waits_too_long_for_a_slow_check_is_told_to_come_again(monkeypatch):
    known = credentials(credential(hashed("secret")), slow_checks=SlowChecks(wait_seconds=0.02))

    with a_check_under_way(monkeypatch, known), pytest.raises(errors.Unavailable) as caught:
        known.match("me", "secret")

    assert ("Retry-After", "5") in caught.value.headers
    assert known.match("me", "secret")


def test_remembered_credentials_do_not_wait_for_slow_checks(monkeypatch):
    known = credentials(credential(hashed("secret")), slow_checks=SlowChecks(wait_seconds=0))
    assert known.match("me", "secret")

    with a_check_under_way(monkeypatch, known):
        assert known.match("me", "secret")


def test_who_waits_a_little_is_served(monkeypatch):
    known = credentials(credential(hashed("secret")), slow_checks=SlowChecks(wait_seconds=10))

    with a_check_under_way(monkeypatch, known) as may_end:
        threading.Timer(0.02, may_end.set).start()
        assert known.match("me", "secret")


def test_two_slow_checks_never_run_at_once_and_the_same_right_one_is_computed_once(monkeypatch):
    known = credentials(credential(hashed("secret")), slow_checks=SlowChecks(wait_seconds=10))
    running, most, right_computed = [], [], []

    def watched(stored, password):
        running.append(password)
        most.append(len(running))
        threading.Event().wait(0.002)
        right_computed.extend([password] * (password == "secret"))
        running.pop()
        return check_password_hash(stored, password)

    monkeypatch.setattr(module, "check_password_hash", watched)
    answers = []
    threads = [
        threading.Thread(target=lambda password=password: answers.append(known.match("me", password)))
        for password in ["secret", "wrong"] * 10
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert max(most) == 1
    assert right_computed == ["secret"]
    assert sorted(answers) == [False] * 10 + [True] * 10


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "sha256:",
        "sha256:abcdef",
        "sha256:" + "g" * 64,
        "sha256:" + "0" * 65,
        "sha256:" + "0" * 64 + "\n",
        "scrypt:",
        "scrypt:2:1:1",
        "scrypt:2:1:1$salt",
        "scrypt:2:1:1$salt$",
        "scrypt:2:1:1$salt$XYZ",
        "scrypt:2:1:1$salt$" + "0" * 128,  # well-formed, but its memory limit is below what OpenSSL needs
        "scrypt:2:1$salt$ab",
        "scrypt:3:1:1$salt$ab",
        "scrypt:a:b:c$salt$ab",
        "pbkdf2:nohash:1$salt$ab",
        "pbkdf2:sha256:0$salt$ab",
        "pbkdf2:sha256:1:1$salt$ab",
        "pbkdf2:sha256:99999999999999999999$salt$ab",
        "pbkdf2:sha256:1$sält$ab",
    ],
)
def test_a_password_that_nobody_could_ever_match_stops_the_start_and_is_not_shown(stored):
    with pytest.raises(errors.ConfigurationError) as caught:
        credentials(credential(stored, label="2026"))

    assert "2026" in str(caught.value)
    assert not stored or stored.partition(":")[2] == "" or stored not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize("stored", stored_forms("secret"), ids=FORMS)
def test_no_secret_is_in_any_text_form(stored):
    known = credentials(credential(stored))
    known.match("me", "secret")

    for text in (repr(known), repr(known._known), repr(known._slow_checks)):
        assert "secret" not in text
        assert stored not in text
        assert sha256(b"secret").hexdigest() not in text
        assert str(sha256(b"secret").digest()) not in text
