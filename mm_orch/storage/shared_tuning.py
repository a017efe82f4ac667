"""What the tuners of several servers found to work, by level of load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mm_orch.storage.sql import SqlConnection, SqlDatabase

Level = tuple[int, int]
"""Rate and concurrency, as the tuner counts them."""
# Exchanges follow one another.
_OWNER = "tuner"
_PUT = (
    "INSERT INTO tuned_settings (rate, concurrency, setting) VALUES (?, ?, ?)"
    " ON CONFLICT (rate, concurrency) DO UPDATE SET setting = excluded.setting"
)


class SharedTuning:
    """Settings by level; of a level that two servers have found something for, the last counts."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def exchange(
        self, changed: Mapping[Level, Mapping[str, int]], forgotten: Collection[Level]
    ) -> dict[Level, dict[str, int]]:
        """Store what has changed, and return all that is stored then.

        Raises:
            StorageError, OverloadError: as storage.sql.SqlDatabase.
        """

        def work(connection: SqlConnection) -> dict[Level, dict[str, int]]:
            connection.executemany(
                "DELETE FROM tuned_settings WHERE rate = ? AND concurrency = ?", forgotten
            )
            connection.executemany(
                _PUT,
                [(*level, msgspec.json.encode(one).decode()) for level, one in changed.items()],
            )
            rows = connection.execute("SELECT rate, concurrency, setting FROM tuned_settings")
            return {
                (rate, concurrency): msgspec.json.decode(setting, type=dict[str, int])
                for rate, concurrency, setting in rows
            }

        return await self._database.write(work, owner=_OWNER)
