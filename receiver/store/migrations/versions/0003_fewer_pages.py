"""
Fewer pages for each fax: long rows in tables that grow at their end, and a fax heard of once without an announcement.

Everything is carried over. Older code cannot work on what this leaves behind.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    prefix, schema = ("faxhook_", None) if sqlite else ("", "faxhook")
    row_id: Any = sa.Integer() if sqlite else sa.BigInteger()
    milliseconds = sa.BigInteger

    def full(name: str) -> str:
        return prefix + name if sqlite else f"{schema}.{name}"

    def index(name: str, on: str, column: str, where: str) -> None:
        some = sa.text(where)
        op.create_index(prefix + name, prefix + on, [column], schema=schema, sqlite_where=some, postgresql_where=some)

    def replace(name: str, indexes: tuple[str, ...], rows: str, *columns: Any) -> None:
        """Make the table anew from these rows of the old ones, of which it is ``{old}``."""
        for each in indexes:
            op.drop_index(prefix + each, prefix + name, schema=schema)
        op.rename_table(prefix + name, f"{prefix}{name}_old", schema=schema)
        op.create_table(prefix + name, *columns, schema=schema)
        filled = ", ".join(column.name for column in columns if column.name != "seq" or name == "payloads")
        tables = {each: full(each) for each in ("announcements", "events")}
        op.execute(f"INSERT INTO {full(name)} ({filled}) " + rows.format(old=full(f"{name}_old"), **tables))
        op.drop_table(f"{prefix}{name}_old", schema=schema)

    replace(
        "bodies",
        ("bodies_stored",),
        "SELECT hash, rejected, stored_at_ms, content_type, reference, query, body FROM {old} ORDER BY stored_at_ms",
        sa.Column("seq", row_id, primary_key=True, autoincrement=True),
        sa.Column("hash", sa.Text, nullable=False, unique=True),
        sa.Column("rejected", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("stored_at_ms", milliseconds, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("reference", sa.Text),
        sa.Column("query", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    index("bodies_rejected", "bodies", "stored_at_ms", where="rejected")
    replace(
        "faxes",
        ("faxes_with_facts", "faxes_without_facts"),
        "SELECT f.fax_id, f.provider, f.account, f.outcome, f.revision, f.event_id, f.seen_at_ms,"
        " COALESCE(a.digest, ''), COALESCE(a.outcome, f.outcome), f.facts"
        " FROM {old} f LEFT JOIN {announcements} a ON a.fax_id = f.fax_id AND a.digest ="
        " (SELECT digest FROM {announcements} o WHERE o.fax_id = f.fax_id ORDER BY o.seen_at_ms, o.digest LIMIT 1)"
        " ORDER BY f.seen_at_ms",
        sa.Column("fax_id", sa.Text, primary_key=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("seen_at_ms", milliseconds, nullable=False),
        sa.Column("first_digest", sa.Text, nullable=False),
        sa.Column("first_outcome", sa.Text, nullable=False),
        sa.Column("facts", sa.Text),
    )
    index("faxes_with_facts", "faxes", "seen_at_ms", where="facts IS NOT NULL")
    index("faxes_without_facts", "faxes", "seen_at_ms", where="facts IS NULL")
    faxes, announcements = full("faxes"), full("announcements")
    op.execute(
        f"DELETE FROM {announcements} WHERE EXISTS (SELECT 1 FROM {faxes}"  # noqa: S608 - names of ours
        f" WHERE {faxes}.fax_id = {announcements}.fax_id AND {faxes}.first_digest = {announcements}.digest)"
    )
    replace(
        "payloads",
        ("payloads_stored",),
        "SELECT e.seq, p.checksum, p.stored_at_ms, p.body FROM {old} p JOIN {events} e ON e.id = p.event_id"
        " ORDER BY e.seq",
        sa.Column("seq", row_id, primary_key=True, autoincrement=False),
        sa.Column("checksum", sa.Text, nullable=False),
        sa.Column("stored_at_ms", milliseconds, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
