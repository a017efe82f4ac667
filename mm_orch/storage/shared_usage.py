"""What callers have used of several servers together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.observations import CallerUsage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.storage.sql import SqlConnection, SqlDatabase

_ADD = """
    INSERT INTO caller_usage AS kept (caller, since, num_requests, num_refused, num_prompt_tokens,
        num_cached_tokens, num_generated_tokens) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (caller) DO UPDATE SET
        num_requests = kept.num_requests + excluded.num_requests,
        num_refused = kept.num_refused + excluded.num_refused,
        num_prompt_tokens = kept.num_prompt_tokens + excluded.num_prompt_tokens,
        num_cached_tokens = kept.num_cached_tokens + excluded.num_cached_tokens,
        num_generated_tokens = kept.num_generated_tokens + excluded.num_generated_tokens
"""
_READ = (
    "SELECT caller, num_requests, num_refused, num_prompt_tokens, num_cached_tokens,"
    " num_generated_tokens FROM caller_usage ORDER BY caller"
)
_OWNER = "usage"


class SharedUsage:
    """Counts by caller, of all servers since the first of them began to count."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def add(self, used: Sequence[CallerUsage], *, since_s: float) -> None:
        """Add what callers have used; all of it, or nothing.

        Args:
            used: since it was last added.
            since_s: when this server began to count, seconds since 1970.

        Raises:
            StorageError, OverloadError: as storage.sql.SqlDatabase.
        """
        rows = [(one.name, since_s, *msgspec.structs.astuple(one)[1:]) for one in used]
        await self._database.write(
            lambda connection: connection.executemany(_ADD, rows), owner=_OWNER
        )

    async def read(self) -> tuple[float | None, tuple[CallerUsage, ...]]:
        """Return since when, in seconds since 1970, and what every caller has used since.

        None where nobody has used anything. Raises as :meth:`add`.
        """

        def work(connection: SqlConnection) -> tuple[float | None, tuple[CallerUsage, ...]]:
            [[since_s]] = connection.execute("SELECT min(since) FROM caller_usage").fetchall()
            return since_s, tuple(
                CallerUsage(**dict(zip(CallerUsage.__struct_fields__, row, strict=True)))
                for row in connection.execute(_READ)
            )

        return await self._database.read(work)
