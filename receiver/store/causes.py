"""
What PostgreSQL, its client library and the poolers in between refuse, in words for operators.

Each cause has a name, for logs, and a sentence part that says what is wrong and what to do. Messages are matched and
never shown, since that of a statement may quote what was stored. An error of a statement has an SQLSTATE; one of
connecting has only a message, in the server's language: what is not matched is told as the last cause.
"""

import re

# SQLSTATE, or the first characters of it -> what to do. The longest that fits counts.
_BY_STATE = {
    "08": "the connection was lost; is the server, or what stands in between, being restarted?",
    "22P05": "the database's encoding cannot hold a character; faxhook needs one in UTF-8",
    "25P03": "a transaction was idle for longer than idle_in_transaction_session_timeout allows; a process that"
    " hangs, or a very short limit",
    "25006": "it takes no writes: a standby, or a database that is set read-only, as some services do when its disk is"
    " full; store.url must lead to the primary (with several hosts: ?target_session_attrs=read-write)",
    "28": "user or password are not accepted; check both in store.url, with / @ : % in them percent-encoded",
    "3D000": "there is no such database; check its name in store.url, or create it",
    "3F000": "the tables of faxhook are not there; is this the right database? If it is: faxhook migrate",
    "40": "another transaction was in the way each time; it works when tried again",
    "42501": "the user lacks a right; let it own the schema faxhook, or grant it USAGE on that and ALL on its tables"
    " and sequences",
    "42P01": "the tables of faxhook are not there; is this the right database? If it is: faxhook migrate",
    "42703": "the tables are of another version; run: faxhook migrate",
    "53100": "its disk is full; make room there",
    "53200": "it is out of memory",
    "53300": "it has no connection left for us; raise max_connections, run fewer processes, or put a pooler in between",
    "53400": "a limit of its configuration is reached; its log says which",
    "55P03": "another transaction held a lock for too long; `SELECT * FROM pg_stat_activity` shows which",
    "57014": "it took too long, and was given up",
    "57P01": "it is being shut down or restarted",
    "57P02": "it is being restarted after a crash",
    "57P03": "it is starting, stopping or recovering, and takes no connections yet",
    "57P04": "the database was dropped",
    "58": "it cannot use its own files; its log says why",
    "XX": "it has trouble with its own data or code; its log says which. Think of a backup before anything else",
}

# Causes without an SQLSTATE: name -> what to do.
_BY_NAME = {
    "ChannelBinding": "?channel_binding=require needs TLS and a server that stores passwords as SCRAM; leave it out"
    " where one is missing",
    "ConnectionRefused": "nothing listens there; does the server run, and are host and port right?",
    "HostNotFound": "there is no such host name; check store.url, and whether this machine can resolve it",
    "NoAnswer": "no answer in time; a firewall in between, or a server that hangs",
    "NoPostgresql": "what answers there does not speak PostgreSQL; are host and port right?",
    "NoSocket": "no server has its socket there; does it run on this machine?",
    "NotAllowed": "its pg_hba.conf admits no such combination of user, database, address and TLS; add a line there, or"
    " ?sslmode=require to store.url if only TLS is missing",
    "ParameterValue": "a parameter of store.url, after the question mark, has a value that it cannot have; compare them"
    " with the list of PostgreSQL's client library (libpq)",
    "PasswordMissing": "it wants a password and store.url has none: postgresql://user:password@host/database",
    "PoolBusy": "all connections of this process are in use",
    "StartupParameter": "the pooler in between refuses a parameter of store.url, probably options=; leave it out",
    "StatementPooling": "the pooler in between is in statement mode, which has no transactions; faxhook needs"
    " pool_mode = transaction, or session",
    "TlsFile": "a file that the ssl… parameters of store.url name cannot be read; for the system's authorities write"
    " ?sslmode=verify-full&sslrootcert=system",
    "TlsHostName": "its certificate is for another host name; use the name that stands in it, or ?sslmode=verify-ca",
    "TlsMissing": "it offers no TLS, and sslmode asks for it; switch it on there, or write ?sslmode=prefer",
    "TlsTrouble": "TLS could not be agreed on; compare the ssl… parameters of the URL with the server",
    "TlsUntrusted": "its certificate is not signed by an authority that we know; name it: ?sslrootcert=/path/to/ca.pem",
    "Unreachable": "there is no way to that host from this machine; check network and firewall",
    "UserMissing": "there is no such user, or it may not log in; check it in store.url, or create it",
    "WrongServer": "no host is what target_session_attrs asks for, such as a primary that takes writes",
}
_UNKNOWN = "it refused what was asked; psql with the same URL, and its log, say why"

# What the messages of connecting say, the more telling ones first -> SQLSTATE or name.
_MESSAGES = tuple(
    (re.compile(pattern), cause)
    for pattern, cause in (
        (r"not allowed in statement pooling", "StatementPooling"),
        (r"unsupported startup parameter", "StartupParameter"),
        (r"bad value for|invalid .*value .*for connection option", "ParameterValue"),
        (r"received invalid response|expected authentication request|unrecognized .*protocol", "NoPostgresql"),
        (r"no pg_hba\.conf entry|pg_hba\.conf rejects", "NotAllowed"),
        (r"no password supplied|empty password", "PasswordMissing"),
        (r'role ".*" does not exist|no such user|is not permitted to log in', "UserMissing"),
        (r"authentication failed|SASL|wrong password", "28P01"),
        (r'database ".*" does not exist|no such database', "3D000"),
        (r"permission denied for database", "42501"),
        (r"too many (clients|connections)|connection slots|no more connections allowed|max_client_conn", "53300"),
        (r"is (starting up|shutting down)|not yet accepting|not (currently )?accepting connections|paused", "57P03"),
        (r"terminating connection", "57P01"),
        (r"session is (not )?read-only|server is (not )?in hot standby", "WrongServer"),
        (r"channel binding", "ChannelBinding"),
        (r"certificate verify failed|self-signed certificate", "TlsUntrusted"),
        (r"does not match host name", "TlsHostName"),
        (r"does not support SSL|SSL was required|SSL required", "TlsMissing"),
        (r"root certificate|certificate file|private key file|certificate present", "TlsFile"),
        (r"resolve host|could not translate|Name or service not known|name resolution", "HostNotFound"),
        (r"Connection refused", "ConnectionRefused"),
        (r"No such file or directory", "NoSocket"),
        (r"[Uu]nreachable|No route to host", "Unreachable"),
        (r"timeout|timed out", "NoAnswer"),
        (r"SSL|TLS|ssl|tls", "TlsTrouble"),
        (r"closed|reset|lost|[Bb]roken pipe|EOF|query_wait|server login|cannot connect", "08006"),
    )
)


def explain(cause: BaseException) -> tuple[str, str]:
    """The cause's name, and what is wrong and what to do."""
    state = getattr(cause, "sqlstate", None)
    found = next((one for pattern, one in _MESSAGES if pattern.search(str(cause))), None)
    # Poolers give their own refusals the general state of a broken protocol.
    if state is None or (state == "08P01" and found is not None):
        state = found
    if state is None:
        return type(cause).__name__, _UNKNOWN
    if state in _BY_NAME:
        return state, _BY_NAME[state]
    known = max((one for one in _BY_STATE if state.startswith(one)), key=len, default=None)
    return _name(state, cause), _BY_STATE[known] if known else _UNKNOWN


def busy() -> tuple[str, str]:
    """The same for a process whose own connections are all in use."""
    return "PoolBusy", _BY_NAME["PoolBusy"]


def _name(state: str, cause: BaseException) -> str:
    """The driver's name of an SQLSTATE, such as ``InvalidPassword``."""
    from psycopg import errors  # loaded by now, and not where the store is SQLite

    try:
        return errors.lookup(state).__name__
    except KeyError:
        return type(cause).__name__
