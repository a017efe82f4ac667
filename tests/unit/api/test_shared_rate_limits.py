"""Rates that two servers keep in one database, and each by itself while that is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.api.rate_limits import RateLimits
from mm_orch.api.shared_rate_limits import SharedRateLimits
from mm_orch.storage.postgres_database import PostgresDatabase
from mm_orch.storage.shared_buckets import SharedBuckets

if TYPE_CHECKING:
    from pathlib import Path


def make_limits(database: PostgresDatabase) -> SharedRateLimits:
    # The clock of the server's own buckets stands still.
    own = RateLimits(None, {"ada": 2}, lambda: 0.0)
    return SharedRateLimits(own, SharedBuckets(database))


async def take(limits: SharedRateLimits) -> tuple[int, bool]:
    allowance = await limits.take("ada")
    assert allowance is not None
    assert allowance.limit == 2
    return allowance.remaining, allowance.retry_after_s is None


async def test_two_servers_allow_what_one_would(database_url: str) -> None:
    databases = [PostgresDatabase(database_url) for _ in range(2)]
    first, second = map(make_limits, databases)

    taken = [await take(limits) for limits in (first, second, first, second)]
    refused = await second.take("ada")

    assert taken == [(1, True), (0, True), (0, False), (0, False)]
    assert refused is not None
    assert refused.retry_after_s is not None
    assert 0 < refused.retry_after_s <= 30
    assert await first.take("of no limit") is None
    for database in databases:
        await database.close()


async def test_without_the_database_each_server_allows_it_by_itself(tmp_path: Path) -> None:
    database = PostgresDatabase(f"postgresql:///x?host={tmp_path}")
    limits = make_limits(database)

    assert [await take(limits) for _ in range(3)] == [(1, True), (0, True), (0, False)]
    assert database.failure is not None
    await database.close()
