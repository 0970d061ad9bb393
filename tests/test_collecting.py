"""The garbage collector while modules are imported: it rests, and is as it was afterwards."""

import gc

import pytest

from receiver.system.collecting import importing


@pytest.fixture(autouse=True)
def _as_before():
    yield
    gc.enable()
    gc.unfreeze()


def test_it_rests_meanwhile_and_leaves_alone_what_was_made():
    before = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
        made = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(made)


def test_it_is_back_where_an_import_fails():
    with pytest.raises(ModuleNotFoundError), importing():
        import receiver.absent  # noqa: F401
    assert gc.isenabled()


def test_who_has_turned_it_off_finds_it_off():
    gc.disable()
    with importing():
        pass
    assert not gc.isenabled()
