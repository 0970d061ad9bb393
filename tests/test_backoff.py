"""How long to wait before trying again."""

from receiver.system.backoff import Backoff


def test_each_wait_is_longer_up_to_the_longest_and_varies_by_a_quarter() -> None:
    backoff = Backoff(1, 5)
    for expected in (1, 2, 4, 5, 5):
        assert 0.75 * expected <= backoff.next() <= 1.25 * expected
    assert len({Backoff(1, 5).next() for _ in range(50)}) > 10


def test_it_begins_anew_after_a_success() -> None:
    backoff = Backoff(0.1, 60, factor=4)
    for _ in range(3):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= 0.125
