"""The token buckets of callers, which several servers take from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mm_orch.storage.postgres_database import PostgresDatabase
    from mm_orch.storage.postgres_text import PostgresStatements

# Whoever has not called for a minute has a full bucket again: the same as none.
_FORGET = "DELETE FROM buckets WHERE filled_at < now() - INTERVAL '2 minutes'"
# By the database's clock, whose transactions need not begin in the order in which they get the row.
_FILLED = (
    "LEAST(CAST(:limit AS DOUBLE PRECISION), bucket.level + GREATEST(0,"
    " CAST(EXTRACT(EPOCH FROM now() - bucket.filled_at) AS DOUBLE PRECISION)) * :per_second)"
)
_TAKE = (
    "INSERT INTO buckets AS bucket (caller, level, filled_at, is_allowed)"  # noqa: S608 - our own words
    " VALUES (:caller, CAST(:limit AS DOUBLE PRECISION) - 1, now(), true)"
    " ON CONFLICT (caller) DO UPDATE SET"
    f" level = {_FILLED} - CASE WHEN {_FILLED} >= 1 THEN 1 ELSE 0 END,"
    f" is_allowed = {_FILLED} >= 1, filled_at = GREATEST(now(), bucket.filled_at)"
    " RETURNING level, is_allowed"
)


class Taken(NamedTuple):
    """What is in a bucket after a request was counted, and whether it was let in."""

    level: float
    is_allowed: bool


class SharedBuckets:
    """One bucket a caller, which fills as its limit says; each request is one statement."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    async def take(self, caller: str, *, limit: int, per_second: float) -> Taken:
        """Count a request.

        Args:
            caller: who sent it.
            limit: what the bucket holds.
            per_second: how fast it fills.

        Raises:
            StorageError, OverloadError: as storage.sql.SqlDatabase.
        """
        asked = {"caller": caller, "limit": limit, "per_second": per_second}

        def take(connection: PostgresStatements) -> Taken:
            [row] = connection.execute(_TAKE, asked).fetchall()
            return Taken(*row)

        return await self._database.update(take)

    async def forget(self) -> None:
        """Drop the buckets that are full again; raises as :meth:`take`."""
        await self._database.update(lambda connection: connection.execute(_FORGET))
