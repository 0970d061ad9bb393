"""Stores whose rows are carried to another place, and what is in them."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from stock import Stock

from receiver.cli import main
from receiver.store import Store
from receiver.store.carrying import carried
from receiver.store.types import Id, Pairs, Sha256

SERVICE = pytest.mark.service("postgresql")
_BOTH = [
    pytest.param("sqlite", "postgresql", marks=SERVICE),
    pytest.param("postgresql", "sqlite", marks=SERVICE),
]
# What does not depend on it is tried one way, and back in the campaign.
BOTH_WAYS = pytest.mark.parametrize(
    ("old_kind", "new_kind"),
    [_BOTH[0], pytest.param("postgresql", "sqlite", marks=[SERVICE, pytest.mark.campaign])],
)
ALL_WAYS = pytest.mark.parametrize(("old_kind", "new_kind"), [("sqlite", "sqlite"), *_BOTH])
ID = "5ff6bb1e-405b-554b-829c-04e2505{:05}"
VALUES: dict[type, Callable[[int], Any]] = {
    sa.Integer: lambda number: number,
    sa.BigInteger: lambda number: 2**40 + number,
    sa.Boolean: lambda number: number % 2 == 1,
    sa.Double: lambda number: number / 3,
    sa.Text: lambda number: f"Zoë’s {number} 📠",
    sa.LargeBinary: lambda number: bytes(range(256)) + b"%d" % number,
    Sha256: lambda number: f"{number:064x}",
    Pairs: lambda number: [(ID.format(number), None), (ID.format(number + 1), ID.format(number + 2))],
    Id: ID.format,
}


StoreOf = Callable[..., str]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def told(made: Stock, *arguments: object) -> Result:
    return run(*arguments, "--config", made.config)


def path_of(made: Stock) -> Path:
    assert made.runtime.store.file is not None
    return made.runtime.store.file.path


def rows_of(url: str) -> dict[str, list[Any]]:
    """All that a store holds, table by table; of its own, how it was migrated."""
    with closing(Store(url)) as store, store.reading() as connection:
        return {
            name: sorted(tuple(row) for row in connection.execute(sa.select(table)))
            for name, table in carried(store.tables).items()
        }


def fill_every_table(url: str) -> None:
    with closing(Store(url)) as store, store.writing() as connection:
        for table in carried(store.tables).values():
            for number in range(3):
                values = {column.name: VALUES[type(column.type)](number) for column in table.c}
                if number == 2:
                    values = {name: None if table.c[name].nullable else value for name, value in values.items()}
                connection.execute(table.insert().values(values))


def configured(folder: Path, url: str, key: str = "the first secret key of them all") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "faxhook.toml"
    config.write_text(
        f"""
[server]
state_dir = "state"
secret_key = "{key}"
[store]
url = "{url}"
[endpoints.openfax]
provider = "openfax"
auth = {{ mode = "none" }}
tokens = ["uX2mFfN0Q2v6c4Yw8bJ1kZ5tR7sD9gH3"]
"""
    )
    return config
