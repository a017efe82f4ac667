"""What callers use of two servers with one database is told by each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import StorageUnavailableError
from mm_orch.core.events import RequestStatus
from mm_orch.orchestration.usage import UsageBook
from mm_orch.orchestration.usage_sharing import SharedUsageBook, open_usage
from mm_orch.storage.postgres_database import PostgresDatabase
from mm_orch.storage.shared_usage import SharedUsage
from tests.unit.orchestration.test_usage import ended

if TYPE_CHECKING:
    from pathlib import Path

    from mm_orch.core.observations import UsageReport


def counts_of(report: UsageReport) -> dict[str, tuple[int, int]]:
    return {one.name: (one.num_requests, one.num_generated_tokens) for one in report.callers}


async def test_each_server_tells_what_callers_used_of_all(database_url: str) -> None:
    books = [UsageBook(now=lambda now_s=now_s: now_s) for now_s in (1_700_000_000.0, 1.8e9)]  # type: ignore[misc]  # mypy has no type for it
    databases = [PostgresDatabase(database_url) for _ in books]
    first, second = (
        SharedUsageBook(book, SharedUsage(database))
        for book, database in zip(books, databases, strict=True)
    )
    assert counts_of(await second.report()) == {}
    books[0].observe(ended("a", RequestStatus.SUCCESS, num_tokens=5))
    async with first.running():
        books[0].observe(ended("a", RequestStatus.SUCCESS, num_tokens=1))
    books[1].observe(ended("a", RequestStatus.SUCCESS, num_tokens=2))
    books[1].observe(ended("b", RequestStatus.SUCCESS, num_tokens=3))

    once = await second.report()
    again = await first.report()

    assert counts_of(once) == counts_of(again) == {"a": (3, 8), "b": (1, 3)}
    assert once.since == "2023-11-14T22:13:20.000+00:00"
    for database in databases:
        await database.close()


async def test_what_could_not_be_shared_is_when_the_database_is_back(
    tmp_path: Path, database_url: str
) -> None:
    book = UsageBook()
    away = PostgresDatabase(f"postgresql:///x?host={tmp_path}")
    back = PostgresDatabase(database_url)
    shared = SharedUsageBook(book, SharedUsage(away))
    book.observe(ended("a", RequestStatus.SUCCESS, num_tokens=5))
    with pytest.raises(StorageUnavailableError):
        await shared.report()
    async with shared.running():
        # Its end shares what it can.
        book.observe(ended("a", RequestStatus.SUCCESS, num_tokens=1))

    shared._store = SharedUsage(back)
    assert counts_of(await shared.report()) == {"a": (2, 6)}
    await away.close()
    await back.close()


async def test_a_server_by_itself_tells_of_itself() -> None:
    book = UsageBook()
    async with open_usage(book, None) as usage:
        book.observe(ended("a", RequestStatus.SUCCESS, num_tokens=5))
        assert counts_of(await usage.report()) == {"a": (1, 5)}
