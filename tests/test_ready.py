"""/readyz is green only while a callback can be committed."""

import time
from pathlib import Path

import psycopg
import pytest
from house import house


@pytest.mark.service("postgresql")
def test_it_turns_red_while_somebody_has_locked_a_table_that_callbacks_need(
    tmp_path: Path, postgresql_url: str
) -> None:
    with house(tmp_path, postgresql_url) as served:
        assert served.ask("GET", "/readyz").status == 200
        time.sleep(1.0)  # what it has seen is good for a second
        with psycopg.connect(postgresql_url.replace("+psycopg", "")) as other:
            other.execute("LOCK TABLE faxhook.events")
            assert served.ask("GET", "/readyz").status == 503
            assert served.post("openfax", "OutTransID=1&AccountID=1&LastStatus=0").status == 503
        time.sleep(1.0)
        assert served.ask("GET", "/readyz").status == 200


def test_it_answers_callbacks_while_it_is_asked_again_and_again(tmp_path: Path, sqlite_url: str) -> None:
    with house(tmp_path, sqlite_url) as served:
        for number in range(30):
            assert served.ask("GET", "/readyz").status == 200
            assert served.post("openfax", f"OutTransID={number}&AccountID=1&LastStatus=0").status == 200
        assert len(served.events()) == 30
