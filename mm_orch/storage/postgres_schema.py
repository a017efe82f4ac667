"""The schema in PostgreSQL, version by version; a version once released never changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

SCHEMA = "muai"
"""Everything stands in a schema of its own, whatever else the database holds."""
# With identity columns, and extensions that the owner of a database may add.
_OLDEST_SERVER = 130000
# Of the lock that whoever migrates takes; any number that nobody else takes.
_MIGRATION_LOCK = 0x6D756169_00000001
_HAS_VERSION = "SELECT 1 FROM pg_tables WHERE schemaname = 'muai' AND tablename = 'schema_version'"
_OTHER_TOKENS = (
    "email, url, host, sfloat, version, hword_numpart, hword_part, hword_asciipart, protocol,"
    " numhword, asciihword, hword, url_path, file, float, int, uint, entity"
)

_VERSION_1 = (
    """
    CREATE TABLE muai.sessions (
        number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        owner TEXT NOT NULL,
        session_id TEXT NOT NULL,
        created_at DOUBLE PRECISION NOT NULL,
        updated_at DOUBLE PRECISION NOT NULL,
        num_turns BIGINT NOT NULL CHECK (num_turns > 0),
        num_bytes BIGINT NOT NULL CHECK (num_bytes >= 0),
        UNIQUE (owner, session_id)
    )
    """,
    "CREATE INDEX sessions_by_change ON muai.sessions (owner, updated_at)",
    """
    CREATE TABLE muai.messages (
        session BIGINT NOT NULL REFERENCES muai.sessions (number) ON DELETE CASCADE,
        turn BIGINT NOT NULL CHECK (turn >= 0),
        role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
        message_id TEXT NOT NULL,
        content TEXT NOT NULL,
        created_at DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (session, turn, role)
    )
    """,
    """
    CREATE TABLE muai.documents (
        number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        owner TEXT NOT NULL,
        document_id TEXT NOT NULL,
        name TEXT NOT NULL,
        media_type TEXT NOT NULL,
        num_bytes BIGINT NOT NULL CHECK (num_bytes >= 0),
        digest TEXT NOT NULL,
        metadata TEXT NOT NULL,
        chunk_size BIGINT NOT NULL CHECK (chunk_size > 0),
        chunk_overlap BIGINT NOT NULL CHECK (chunk_overlap >= 0),
        embedding_model TEXT,
        created_at DOUBLE PRECISION NOT NULL,
        num_chunks BIGINT NOT NULL CHECK (num_chunks >= 0),
        num_stored_bytes BIGINT NOT NULL CHECK (num_stored_bytes >= 0),
        UNIQUE (owner, document_id),
        UNIQUE (owner, name, digest)
    )
    """,
    "CREATE INDEX documents_by_age ON muai.documents (owner, created_at)",
    # Words are found in any form that the stemmer brings together; none is too common to count.
    "CREATE TEXT SEARCH DICTIONARY muai.stem (TEMPLATE = pg_catalog.snowball, LANGUAGE = english)",
    'CREATE TEXT SEARCH CONFIGURATION muai.words (PARSER = pg_catalog."default")',
    "ALTER TEXT SEARCH CONFIGURATION muai.words ADD MAPPING FOR asciiword, word, numword"
    " WITH muai.stem",
    f"ALTER TEXT SEARCH CONFIGURATION muai.words ADD MAPPING FOR {_OTHER_TOKENS}"
    " WITH pg_catalog.simple",
    """
    CREATE TABLE muai.chunks (
        number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        document BIGINT NOT NULL REFERENCES muai.documents (number) ON DELETE CASCADE,
        place BIGINT NOT NULL CHECK (place >= 0),
        heading TEXT NOT NULL,
        content TEXT NOT NULL,
        begins_at BIGINT NOT NULL CHECK (begins_at >= 0),
        ends_at BIGINT NOT NULL CHECK (ends_at >= begins_at),
        page BIGINT,
        words TSVECTOR NOT NULL,
        UNIQUE (document, place)
    )
    """,
    "CREATE INDEX chunks_by_words ON muai.chunks USING gin (words)",
    """
    CREATE TABLE muai.vectors (
        chunk BIGINT PRIMARY KEY REFERENCES muai.chunks (number) ON DELETE CASCADE,
        vector BYTEA NOT NULL
    )
    """,
    # One row each, which has the number 1.
    """
    CREATE TABLE muai.mood (
        number INTEGER PRIMARY KEY CHECK (number = 1),
        valence DOUBLE PRECISION NOT NULL CHECK (valence BETWEEN -1 AND 1),
        arousal DOUBLE PRECISION NOT NULL CHECK (arousal BETWEEN -1 AND 1),
        at_s DOUBLE PRECISION NOT NULL
    )
    """,
    """
    CREATE TABLE muai.stage (
        number INTEGER PRIMARY KEY CHECK (number = 1),
        stage BIGINT NOT NULL CHECK (stage >= 0),
        num_runs BIGINT NOT NULL CHECK (num_runs >= 0),
        num_successes BIGINT NOT NULL CHECK (num_successes BETWEEN 0 AND num_runs)
    )
    """,
    """
    CREATE TABLE muai.outcomes (
        number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('run', 'generation')),
        request_id TEXT NOT NULL,
        caller TEXT NOT NULL,
        workflow TEXT NOT NULL,
        model TEXT NOT NULL,
        at_s DOUBLE PRECISION NOT NULL,
        is_success BOOLEAN NOT NULL,
        latency_s DOUBLE PRECISION NOT NULL,
        num_tokens BIGINT NOT NULL,
        confidence DOUBLE PRECISION,
        feedback DOUBLE PRECISION CHECK (feedback BETWEEN -1 AND 1),
        belief_by_workflow TEXT NOT NULL
    )
    """,
    "CREATE INDEX outcomes_by_key ON muai.outcomes (kind, workflow, model, number)",
    "CREATE INDEX outcomes_by_request ON muai.outcomes (caller, request_id)",
    # Not logged: nobody waits for the disk, and after a crash of the database all are full.
    """
    CREATE UNLOGGED TABLE muai.buckets (
        caller TEXT PRIMARY KEY,
        level DOUBLE PRECISION NOT NULL,
        filled_at TIMESTAMPTZ NOT NULL,
        is_allowed BOOLEAN NOT NULL
    )
    """,
    "CREATE INDEX buckets_by_age ON muai.buckets (filled_at)",
    """
    CREATE TABLE muai.tuned_settings (
        rate BIGINT NOT NULL,
        concurrency BIGINT NOT NULL,
        setting TEXT NOT NULL,
        PRIMARY KEY (rate, concurrency)
    )
    """,
    """
    CREATE TABLE muai.caller_usage (
        caller TEXT PRIMARY KEY,
        since DOUBLE PRECISION NOT NULL,
        num_requests BIGINT NOT NULL,
        num_refused BIGINT NOT NULL,
        num_prompt_tokens BIGINT NOT NULL,
        num_cached_tokens BIGINT NOT NULL,
        num_generated_tokens BIGINT NOT NULL
    )
    """,
)
POSTGRES_MIGRATIONS: tuple[Sequence[str], ...] = (_VERSION_1,)
"""The statements that lead from each version to the next; the first from an empty database."""


def migrate(
    connection: psycopg.Connection,
    migrations: Sequence[Sequence[str]] = POSTGRES_MIGRATIONS,
) -> None:
    """Bring the database to the newest version, at once or not at all.

    Servers that start at the same time wait for the one that does it.

    Args:
        connection: in autocommit mode.
        migrations: statements by version.

    Raises:
        StorageError: the server is too old, keeps texts in another encoding than UTF-8, or a newer
            program has written the database.
        psycopg.Error: it cannot be read or written.
    """
    _check_server(connection)
    if _version_of(connection) == len(migrations):
        return
    with connection.transaction():
        # As long as it takes, here and for whoever waits.
        connection.execute("SET LOCAL statement_timeout = 0")
        connection.execute("SET LOCAL lock_timeout = 0")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
        version = _version_of(connection)
        if version > len(migrations):
            raise StorageError(
                f"What the database of storage.url holds is of version {version}; this program"
                f" knows versions up to {len(migrations)}.",
                remedy="Use the newer program, or another database.",
            )
        if version == 0:
            _make_schema(connection)
        for statements in migrations[version:]:
            for statement in statements:
                connection.execute(statement.encode())
        connection.execute("UPDATE muai.schema_version SET version = %s", (len(migrations),))


def _make_schema(connection: psycopg.Connection) -> None:
    # Somebody else may have made it for us, who may.
    if _find(connection, "SELECT 1 FROM pg_namespace WHERE nspname = 'muai'") is None:
        connection.execute("CREATE SCHEMA muai")
    connection.execute("CREATE TABLE muai.schema_version (version BIGINT NOT NULL)")
    connection.execute("INSERT INTO muai.schema_version VALUES (0)")


def _check_server(connection: psycopg.Connection) -> None:
    if connection.info.server_version < _OLDEST_SERVER:
        raise StorageError(
            f"The server of storage.url is PostgreSQL {connection.info.server_version // 10000};"
            " 13 or newer is needed."
        )
    encoding = _find(connection, "SHOW server_encoding")
    if encoding != "UTF8":
        raise StorageError(
            f"The database of storage.url keeps texts as {encoding}; UTF8 is needed.",
            remedy="Make one with: CREATE DATABASE muai ENCODING 'UTF8' TEMPLATE template0.",
        )


def _version_of(connection: psycopg.Connection) -> int:
    # Not to_regclass: what it once did not find it may go on not to find in this transaction.
    if _find(connection, _HAS_VERSION) is None:
        return 0
    return int(str(_find(connection, "SELECT version FROM muai.schema_version")))


def _find(connection: psycopg.Connection, question: str) -> object:
    row = connection.execute(question.encode()).fetchone()
    return None if row is None else row[0]
