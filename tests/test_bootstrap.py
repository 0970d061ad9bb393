"""A worker that begins while the store is away: it waits, since nothing may be taken before the store is checked."""

import subprocess
import sys

import pytest
from stock import environment

from receiver import bootstrap, settings
from receiver.errors import ConfigurationError
from receiver.store.sqlite import SQLITE


def begin(made):
    """A process that builds the application as gunicorn's workers do."""
    return subprocess.Popen(
        [sys.executable, "-c", "import receiver.wsgi"],
        env=environment() | {"FAXHOOK_CONFIG": str(made.config)},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_worker_that_begins_while_the_store_is_away_waits_for_it(filled):
    holder = SQLITE.connect(filled.runtime.store.file.path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    worker = begin(filled)
    assert "store_unavailable" in worker.stderr.readline()
    assert worker.poll() is None
    holder.execute("ROLLBACK")
    worker.communicate(timeout=120)
    assert worker.returncode == 0


def test_a_worker_with_another_account_than_the_store_knows_never_begins(filled):
    filled.config.write_text(filled.config.read_text().replace('account = "acme"', 'account = "other"'))
    worker = begin(filled)
    assert "endpoints.faxage" in worker.communicate(timeout=120)[1]
    assert worker.returncode != 0


def test_an_account_that_the_payloads_named_can_be_written_out_later_and_then_stays(filled):
    """As reports and registered faxes need it; the faxes had it from their payloads."""
    text = filled.config.read_text()
    for account, is_refused in (("123456789", False), ("123456789", False), ("987654321", True)):
        given = text.replace('provider = "openfax"\n', f'provider = "openfax"\naccount = "{account}"\n')
        filled.config.write_text(given)
        chosen = settings.load(filled.config, {})
        if is_refused:
            with pytest.raises(
                ConfigurationError,
                match='the store has it as openfax "123456789", the configuration as openfax "987654321"',
            ):
                bootstrap.build(chosen)
        else:
            bootstrap.build(chosen).close()
