import json
import os
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from identity_provider import Signer, identity_providers

from receiver import errors
from receiver.auth.jwks import KeySet

SIGNER = Signer()
ANOTHER = Signer()


@pytest.fixture(scope="module")
def house():
    with identity_providers() as found:
        yield found


@pytest.fixture
def idp(house):
    return house.add(secrets.token_hex(4), SIGNER)


class Clock:
    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def key_set(idp, clock=time.time, folder=None, *, discover=False):
    return KeySet(idp.issuer, None if discover else f"{idp.issuer}/jwks", folder, clock=clock)


def is_his(key, signer=SIGNER):
    return key is not None and key.public_numbers() == signer.key.public_key().public_numbers()


def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


# --- while all is well ----------------------------------------------------------------------------------------------


def test_keys_are_fetched_once_and_stay_the_same_objects(idp):
    keys = key_set(idp)

    first = keys.find(SIGNER.kid, "RS256")

    assert is_his(first)
    assert all(keys.find(SIGNER.kid, "RS256") is first for _ in range(10))
    assert idp.asked == {"jwks": 1}


def test_many_threads_that_come_first_cause_one_fetch(idp):
    keys = key_set(idp)
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: keys.find(SIGNER.kid, "RS256"), range(16)))
    assert all(map(is_his, found))
    assert idp.asked == {"jwks": 1}


def test_after_ten_minutes_one_thread_renews_while_the_old_keys_serve(idp, clock):
    keys = key_set(idp, clock)
    keys.find(SIGNER.kid, "RS256")
    idp.jwks = [ANOTHER.jwk()]
    clock.now += 601

    began = time.monotonic()
    idp.fault = "hanging"
    assert all(is_his(keys.find(SIGNER.kid, "RS256")) for _ in range(100))
    assert time.monotonic() - began < 3
    until(lambda: idp.asked == {"jwks": 2})


def test_a_key_that_the_issuer_has_removed_is_gone_after_the_renewal(idp, clock):
    keys = key_set(idp, clock)
    keys.find(SIGNER.kid, "RS256")
    idp.jwks = [ANOTHER.jwk()]
    clock.now += 599
    assert is_his(keys.find(SIGNER.kid, "RS256"))
    clock.now += 2
    keys.find(SIGNER.kid, "RS256")
    until(lambda: keys.find(SIGNER.kid, "RS256") is None)
    assert is_his(keys.find(ANOTHER.kid, "RS256"), ANOTHER)


def test_an_unknown_kid_causes_one_fetch_in_thirty_seconds(idp, clock):
    keys = key_set(idp, clock)
    keys.find(SIGNER.kid, "RS256")
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda n: keys.find(f"made-up-{n}", "RS256"), range(50))) == {None}
    assert idp.asked == {"jwks": 2}
    clock.now += 29
    assert keys.find("made-up", "RS256") is None
    assert idp.asked == {"jwks": 2}
    clock.now += 2
    assert keys.find("made-up", "RS256") is None
    assert idp.asked == {"jwks": 3}


def test_all_who_come_with_a_new_kid_at_once_get_in(idp):
    keys = key_set(idp)
    keys.find(SIGNER.kid, "RS256")
    idp.jwks = [ANOTHER.jwk()]
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: keys.find(ANOTHER.kid, "RS256"), range(16)))
    assert all(is_his(one, ANOTHER) for one in found)
    assert idp.asked == {"jwks": 2}


# --- which keys -----------------------------------------------------------------------------------------------------


def test_without_kid_the_only_fitting_key_counts(idp, clock):
    elliptic = Signer("ES256")
    idp.jwks = [SIGNER.jwk(), elliptic.jwk()]
    keys = key_set(idp, clock)
    assert is_his(keys.find(None, "RS256"))
    assert is_his(keys.find(None, "ES256"), elliptic)
    assert keys.find(None, "EdDSA") is None

    idp.jwks = [SIGNER.jwk(), ANOTHER.jwk()]
    assert key_set(idp, clock).find(None, "RS256") is None


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0", "kid": "k"},
        Signer(bits=1024).jwk(kid="k"),
        SIGNER.jwk(kid="k", use="enc"),
        SIGNER.private_jwk() | {"kid": "k"},
        {name: value for name, value in (SIGNER.private_jwk() | {"kid": "k"}).items() if name != "d"},
        SIGNER.jwk(kid="k", alg="RS512"),
        SIGNER.jwk(kid="k", key_ops=["encrypt"]),
        SIGNER.jwk(kid="k", key_ops=5),
        SIGNER.jwk(kid=["k"]),
        SIGNER.jwk(kid="k", alg={"x": 1}),
        SIGNER.jwk(kid="k", n="!"),
        SIGNER.jwk(kid="k", n=5),
        Signer("ES256").jwk(kid="k"),
        Signer("ES256").jwk(kid="k", crv="secp256k1"),
        Signer("EdDSA").jwk(kid="k", crv="X25519"),
        {"kty": "RSA", "kid": "k"},
        {"kid": "k"},
        "k",
        None,
    ],
)
def test_a_key_of_another_use_kind_or_size_is_not_there(idp, jwk):
    idp.jwks = [jwk, SIGNER.jwk()]
    keys = key_set(idp)
    assert keys.find("k", "RS256") is None
    assert keys.find("k", "HS256") is None
    assert is_his(keys.find(SIGNER.kid, "RS256"))


def test_a_key_without_alg_serves_the_algorithms_of_its_kind(idp):
    edwards, elliptic = Signer("EdDSA"), Signer("ES384")
    idp.jwks = [SIGNER.jwk(), edwards.jwk(), elliptic.jwk()]
    keys = key_set(idp)
    assert is_his(keys.find(SIGNER.kid, "PS384"))
    assert keys.find(SIGNER.kid, "ES256") is None
    assert keys.find(edwards.kid, "EdDSA") is not None
    assert keys.find(elliptic.kid, "ES384") is not None
    assert keys.find(elliptic.kid, "ES256") is None


# --- discovery ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_rfc8414", [False, True])
def test_the_issuers_document_says_where_its_keys_are(idp, is_rfc8414):
    idp.is_rfc8414 = is_rfc8414
    assert is_his(key_set(idp, discover=True).find(SIGNER.kid, "RS256"))


def test_the_document_of_another_issuer_is_no_use(idp):
    idp.fault = "other issuer"
    keys = key_set(idp, discover=True)
    with pytest.raises(errors.Unavailable):
        keys.find(SIGNER.kid, "RS256")
    assert keys.trouble() == "another issuer"


# --- trouble --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["down", "hanging", "dripping", "html", "huge", "redirect", "error"])
def test_without_any_keys_it_is_unavailable_within_four_seconds_and_the_next_do_not_wait(house, idp, fault):
    house.providers.setdefault("main", idp)  # where the redirect leads
    idp.fault = fault
    keys = key_set(idp)
    began = time.monotonic()
    with pytest.raises(errors.Unavailable) as refused:
        keys.find(SIGNER.kid, "RS256")
    assert time.monotonic() - began < 60
    assert ("Retry-After", "5") in refused.value.headers
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(errors.Unavailable):
            keys.find(SIGNER.kid, "RS256")
    assert time.monotonic() - began < 60
    assert idp.asked == {"jwks": 1}


def test_it_tries_again_after_five_seconds(idp, clock):
    idp.fault = "error"
    keys = key_set(idp, clock)
    with pytest.raises(errors.Unavailable):
        keys.find(SIGNER.kid, "RS256")
    idp.fault = ""
    clock.now += 5
    assert is_his(keys.find(SIGNER.kid, "RS256"))


@pytest.mark.parametrize("jwks", [[], [None], [{"kty": "oct", "k": "c2VjcmV0"}], {"no": "list"}])
def test_a_set_without_a_usable_key_replaces_none_that_has_some(idp, clock, jwks):
    keys = key_set(idp, clock)
    keys.find(SIGNER.kid, "RS256")
    idp.jwks = jwks
    clock.now += 601
    keys.find(SIGNER.kid, "RS256")
    until(lambda: keys._flight is None)
    assert is_his(keys.find(SIGNER.kid, "RS256"))
    assert idp.asked == {"jwks": 2}


def test_known_keys_serve_for_a_day_while_the_issuer_is_down(idp, clock):
    keys = key_set(idp, clock)
    keys.find(SIGNER.kid, "RS256")
    idp.fault = "down"
    clock.now += 86_399
    assert is_his(keys.find(SIGNER.kid, "RS256"))
    until(lambda: keys._flight is None)
    asked = idp.asked["jwks"]
    clock.now += 10
    with pytest.raises(errors.Unavailable):
        keys.find(SIGNER.kid, "RS256")
    idp.fault = ""
    assert asked == 2


def test_while_the_issuer_is_down_an_unknown_kid_is_unavailable_and_not_wrong(idp, clock):
    keys = key_set(idp, clock)
    keys.find(SIGNER.kid, "RS256")
    idp.fault = "down"
    for _ in range(3):
        with pytest.raises(errors.Unavailable):
            keys.find(ANOTHER.kid, "RS256")
    assert is_his(keys.find(SIGNER.kid, "RS256"))
    assert idp.asked == {"jwks": 2}


def test_a_clock_set_back_renews_instead_of_waiting_for_it(idp, clock):
    keys = key_set(idp, clock)
    keys.find(SIGNER.kid, "RS256")
    clock.now -= 100_000
    assert is_his(keys.find(SIGNER.kid, "RS256"))
    until(lambda: idp.asked == {"jwks": 2})


# --- the copy -------------------------------------------------------------------------------------------------------


def test_a_restart_needs_no_issuer_for_a_day(idp, clock, tmp_path):
    key_set(idp, clock, tmp_path / "state").find(SIGNER.kid, "RS256")
    (kept,) = (tmp_path / "state").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600

    idp.fault = "down"
    clock.now += 500
    assert is_his(key_set(idp, clock, tmp_path / "state").find(SIGNER.kid, "RS256"))
    assert idp.asked == {"jwks": 1}  # as fresh as it was
    clock.now += 85_000
    keys = key_set(idp, clock, tmp_path / "state")
    assert is_his(keys.find(SIGNER.kid, "RS256"))
    until(lambda: keys._flight is None)
    assert idp.asked == {"jwks": 2}
    clock.now += 1_000
    with pytest.raises(errors.Unavailable):
        key_set(idp, clock, tmp_path / "state").find(SIGNER.kid, "RS256")


def test_only_public_keys_are_kept(idp, clock, tmp_path):
    idp.jwks = [SIGNER.jwk(), SIGNER.private_jwk(), {"kty": "oct", "k": "c2VjcmV0"}]
    key_set(idp, clock, tmp_path).find(SIGNER.kid, "RS256")
    (kept,) = tmp_path.iterdir()
    assert json.loads(kept.read_text())["keys"] == [SIGNER.jwk()]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"keys": []}', '{"fetched_at": "x", "keys": [{}]}', "\xff"])
def test_a_copy_that_cannot_be_read_is_replaced(idp, tmp_path, text):
    key_set(idp, folder=tmp_path).find(SIGNER.kid, "RS256")
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(text.encode("latin-1"))
    assert is_his(key_set(idp, folder=tmp_path).find(SIGNER.kid, "RS256"))
    assert json.loads(kept.read_text())["keys"]


def test_a_folder_that_cannot_be_written_does_not_matter(idp, tmp_path):
    (tmp_path / "state").write_text("a file")
    assert is_his(key_set(idp, folder=tmp_path / "state").find(SIGNER.kid, "RS256"))


# --- processes ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_fetches_in_several_threads(idp, clock):
    keys = key_set(idp, clock)
    keys.find(SIGNER.kid, "RS256")
    clock.now += 90_000
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        found = []
        threads = [threading.Thread(target=lambda: found.append(keys.find(SIGNER.kid, "RS256"))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        os.write(writing, b"right" if len(found) == 4 and all(map(is_his, found)) else b"wrong")
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        assert told.read() == b"right"
    os.waitpid(child, 0)
    assert idp.asked == {"jwks": 2}
