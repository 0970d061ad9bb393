"""store.url as services, frameworks and people write it: it works, or the message says what to write instead."""

import pytest
from sqlalchemy.engine import make_url

from receiver import settings
from receiver.errors import ConfigurationError
from receiver.store import Store
from receiver.store.postgresql import where

ENDPOINT = """
[endpoints.openfax]
provider = "openfax"
auth = { mode = "none" }
tokens = ["uX2mFfN0Q2v6c4Yw8bJ1kZ5tR7sD9gH3"]
"""
HEROKU, NEON, SUPABASE = "ec2-1-2-3-4.amazonaws.com:5432", "ep-x.aws.neon.tech", "aws-0-eu.pooler.supabase.com:6543"


def loaded(url: str) -> str:
    return settings.load(None, {"FAXHOOK_CONFIG_TOML": ENDPOINT, "DATABASE_URL": url}).store.url


@pytest.mark.parametrize(
    ("given", "user", "password", "place"),
    [
        ("postgresql://u:p@h/d", "u", "p", "h:5432"),
        ("postgres://u:p@h:6543/d", "u", "p", "h:6543"),
        ("postgresql+psycopg://u@[::1]:5433/d", "u", None, "[::1]:5433"),
        # Heroku, Neon, Supabase, Prisma
        (f"postgres://uabc:p0123@{HEROKU}/d", "uabc", "p0123", HEROKU),
        (f"postgresql://u:p@{NEON}/d?sslmode=require&channel_binding=require", "u", "p", f"{NEON}:5432"),
        (f"postgresql://postgres.ab:p@{SUPABASE}/d?pgbouncer=true&connection_limit=1", "postgres.ab", "p", SUPABASE),
        ("postgresql://u:p@h/d?options=endpoint%3Dep-x", "u", "p", "h:5432"),
        # libpq
        ("postgresql://u:p@h1:5432,h2:5433/d?target_session_attrs=read-write", "u", "p", "h1:5432,h2:5433"),
        ("postgresql://u:p@h1,h2/d", "u", "p", "h1:5432,h2:5432"),
        ("postgresql://u:p@h1,[::2]:5433/d", "u", "p", "h1:5432,[::2]:5433"),
        ("postgresql://u@%2Fvar%2Frun%2Fpostgresql/d", "u", None, "/var/run/postgresql"),
        ("postgresql:///d?host=/var/run/postgresql&user=u", "u", None, "/var/run/postgresql"),
        ("postgresql:///d?host=h1,h2&port=5433&user=u&password=p", "u", "p", "h1:5433,h2:5433"),
        ("postgresql:///d", None, None, "the local socket"),
        # passwords
        ("postgresql://u:p%40%2F%3A%25@h/d", "u", "p@/:%", "h:5432"),
        ("postgresql://u:p@ss@h/d", "u", "p@ss", "h:5432"),
        ("postgresql://u:p#a/b?c:d@h/d", "u", "p#a/b?c:d", "h:5432"),
        ("postgresql://u:p@a?b=c@h/d", "u", "p@a?b=c", "h:5432"),
        ("postgresql://u:100%@h/d", "u", "100%", "h:5432"),
        ("postgresql://u:a+b c@h/d", "u", "a+b c", "h:5432"),
        ("postgresql://user%40server:p@h/d", "user@server", "p", "h:5432"),
    ],
)
def test_a_url_leads_to_its_hosts_with_its_password(given: str, user: str, password: str, place: str) -> None:
    store = Store(loaded(given))
    _, taken = store.engine.dialect.create_connect_args(store.url)
    assert (taken.get("user"), taken.get("password"), taken["dbname"]) == (user, password, "d")
    assert where(store.url) == f"PostgreSQL at {place}, database d" + (f", user {user}" if user else "")
    assert "pgbouncer" not in taken
    store.close()


def test_parameters_of_libpq_are_passed_on() -> None:
    url = make_url(loaded("postgresql://u:p@h/d?sslmode=verify-full&sslrootcert=system&options=-c%20search_path%3Dx"))
    assert url.query == {"sslmode": "verify-full", "sslrootcert": "system", "options": "-c search_path=x"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("postgresql://u:hidden@h/d?ssl=true", "sslmode=require"),
        ("postgresql://u:hidden@h/d?sslmode=no-verify", "sslmode: expected disable, allow, prefer, require"),
        ("postgresql://u:hidden@h/d?load_balance_hosts=maybe", "load_balance_hosts: expected disable, random"),
        ("postgresql://u:hidden@h/d?schema=public", "schema faxhook"),
        ("postgresql://u:hidden@h/d?client_encoding=latin1", "UTF-8"),
        ("postgresql://u:hidden@h/d?service=prod", "write host, user and database"),
        ("postgresql://u:hidden@h/d?nonsense=1", "parameter nonsense"),
        ("postgresql://u:hidden@h", "the database is missing"),
        ("postgresql://u:hidden@h/", "the database is missing"),
        ("postgresql://u:hidden@h:port/d", "<host>:<port>"),
        ("postgresql://u:hidden@h:0/d", "<host>:<port>"),
        ("postgresql://u@server:hidden@h/d", "percent-encoded"),
        ("postgresql://u:hidden@h/d?application_name=a@b", "the database is missing"),
        ("postgresql:///d?host=a,b&port=1,2,3", "one for each host"),
        ("mysql://u:hidden@h/d", "postgresql"),
    ],
)
def test_a_url_that_cannot_be_meant_is_named_with_what_to_write(given: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        loaded(given)
    assert said in str(refused.value)
    assert "DATABASE_URL" in str(refused.value)
    assert "hidden" not in str(refused.value)
