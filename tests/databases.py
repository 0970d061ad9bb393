"""Where the shared PostgreSQL is."""

POSTGRESQL = "postgresql://postgres@127.0.0.1:5432"
