"""The schema of the database, version by version; a version once released never changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.errors import StorageError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

# Statement by statement: sqlite3's own script call would commit before the first of them.
_VERSION_1 = (
    """
    CREATE TABLE sessions (
        number INTEGER PRIMARY KEY,
        owner TEXT NOT NULL,
        session_id TEXT NOT NULL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        num_turns INTEGER NOT NULL CHECK (num_turns > 0),
        num_bytes INTEGER NOT NULL CHECK (num_bytes >= 0),
        UNIQUE (owner, session_id)
    ) STRICT
    """,
    "CREATE INDEX sessions_by_change ON sessions (owner, updated_at)",
    """
    CREATE TABLE messages (
        session INTEGER NOT NULL REFERENCES sessions (number) ON DELETE CASCADE,
        turn INTEGER NOT NULL CHECK (turn >= 0),
        role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
        message_id TEXT NOT NULL,
        content TEXT NOT NULL,
        created_at REAL NOT NULL,
        PRIMARY KEY (session, turn, role)
    ) STRICT, WITHOUT ROWID
    """,
)
_VERSION_2 = (
    """
    CREATE TABLE documents (
        number INTEGER PRIMARY KEY,
        owner TEXT NOT NULL,
        document_id TEXT NOT NULL,
        name TEXT NOT NULL,
        media_type TEXT NOT NULL,
        num_bytes INTEGER NOT NULL CHECK (num_bytes >= 0),
        digest TEXT NOT NULL,
        metadata TEXT NOT NULL,
        chunk_size INTEGER NOT NULL CHECK (chunk_size > 0),
        chunk_overlap INTEGER NOT NULL CHECK (chunk_overlap >= 0),
        embedding_model TEXT,
        created_at REAL NOT NULL,
        num_chunks INTEGER NOT NULL CHECK (num_chunks >= 0),
        num_stored_bytes INTEGER NOT NULL CHECK (num_stored_bytes >= 0),
        UNIQUE (owner, document_id),
        UNIQUE (owner, name, digest)
    ) STRICT
    """,
    "CREATE INDEX documents_by_age ON documents (owner, created_at)",
    # Owner and pairs are words for the index alone: whose text it is, and Chinese in pairs.
    """
    CREATE TABLE chunks (
        number INTEGER PRIMARY KEY,
        document INTEGER NOT NULL REFERENCES documents (number) ON DELETE CASCADE,
        place INTEGER NOT NULL CHECK (place >= 0),
        owner_word TEXT NOT NULL,
        heading TEXT NOT NULL,
        content TEXT NOT NULL,
        pairs TEXT NOT NULL,
        begins_at INTEGER NOT NULL CHECK (begins_at >= 0),
        ends_at INTEGER NOT NULL CHECK (ends_at >= begins_at),
        page INTEGER,
        UNIQUE (document, place)
    ) STRICT
    """,
    """
    CREATE TABLE vectors (
        chunk INTEGER PRIMARY KEY REFERENCES chunks (number) ON DELETE CASCADE,
        vector BLOB NOT NULL
    ) STRICT
    """,
    """
    CREATE VIRTUAL TABLE chunk_words USING fts5 (
        owner_word, heading, content, pairs,
        content = 'chunks', content_rowid = 'number',
        tokenize = 'porter unicode61 remove_diacritics 2'
    )
    """,
    """
    CREATE TRIGGER chunk_is_added AFTER INSERT ON chunks BEGIN
        INSERT INTO chunk_words (rowid, owner_word, heading, content, pairs)
        VALUES (new.number, new.owner_word, new.heading, new.content, new.pairs);
    END
    """,
    """
    CREATE TRIGGER chunk_is_deleted AFTER DELETE ON chunks BEGIN
        INSERT INTO chunk_words (chunk_words, rowid, owner_word, heading, content, pairs)
        VALUES ('delete', old.number, old.owner_word, old.heading, old.content, old.pairs);
    END
    """,
)
MIGRATIONS: tuple[Sequence[str], ...] = (_VERSION_1, _VERSION_2)
"""The statements that lead from each version to the next; the first from an empty file."""


def migrate(
    connection: sqlite3.Connection,
    migrations: Sequence[Sequence[str]] = MIGRATIONS,
    *,
    content: str = "stored sessions",
) -> None:
    """Bring a database to the newest version, at once or not at all.

    Args:
        connection: in autocommit mode.
        migrations: statements by version.
        content: what is in it, in words.

    Raises:
        StorageError: a newer program has written it.
        sqlite3.Error: it is damaged, or cannot be written.
    """
    if _version_of(connection) == len(migrations):
        return
    # Only one process migrates: what the version is counts once nobody else can change it.
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version_of(connection)
        if version > len(migrations):
            raise StorageError(
                f"The {content} are of version {version}; this program knows versions up to"
                f" {len(migrations)}.",
                remedy="Use the newer program, or another system.data_dir.",
            )
        for statements in migrations[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version_of(connection: sqlite3.Connection) -> int:
    [version] = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
