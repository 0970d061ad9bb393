"""Whether PostgreSQL's own log holds what it was given."""

from collections.abc import Iterator

import sqlalchemy as sa

from receiver.doctor.finding import WARNING, Finding
from receiver.store import Store

# A statement is logged with its parameters, which hold callbacks, where one of these is not at its default.
_LOGS_STATEMENTS = {
    "log_statement": frozenset({"none", "ddl"}),
    "log_min_duration_statement": frozenset({"-1"}),
    "log_min_duration_sample": frozenset({"-1"}),
    "log_transaction_sample_rate": frozenset({"0"}),
}


def log_of_the_database(store: Store) -> Iterator[Finding]:
    """Whether PostgreSQL's own log holds callbacks; nothing for SQLite, which has none."""
    if store.file is not None:
        return
    asked = (*_LOGS_STATEMENTS, "log_parameter_max_length", "log_parameter_max_length_on_error")
    with store.reading() as connection:
        query = sa.text("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)")
        found = {row.name: row.setting for row in connection.execute(query, {"names": list(asked)})}
    telling = [name for name, silent in _LOGS_STATEMENTS.items() if found.get(name, min(silent)) not in silent]
    if telling and found.get("log_parameter_max_length") != "0":
        detail = f"{', '.join(telling)} writes callbacks and events into PostgreSQL's log"
        yield Finding("store", WARNING, f"{detail}; set log_parameter_max_length = 0 there")
    if found.get("log_parameter_max_length_on_error", "0") != "0":
        detail = "log_parameter_max_length_on_error writes callbacks into PostgreSQL's log when a statement fails"
        yield Finding("store", WARNING, f"{detail}; set it to 0")
