"""What servers share of callers' rates, of what tuners found, and of what callers used."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psycopg

from mm_orch.core.observations import CallerUsage
from mm_orch.storage.postgres_database import PostgresDatabase
from mm_orch.storage.shared_buckets import SharedBuckets
from mm_orch.storage.shared_tuning import SharedTuning
from mm_orch.storage.shared_usage import SharedUsage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def two_servers(url: str) -> AsyncIterator[tuple[PostgresDatabase, PostgresDatabase]]:
    first, second = PostgresDatabase(url), PostgresDatabase(url)
    try:
        yield first, second
    finally:
        await first.close()
        await second.close()


async def test_servers_that_take_at_once_let_in_no_more_than_the_bucket_holds(
    database_url: str,
) -> None:
    async with two_servers(database_url) as servers:
        buckets = [SharedBuckets(server) for server in servers]
        # Nothing comes back while the test runs.
        taken = await asyncio.gather(
            *(
                bucket.take("alice", limit=10, per_second=1e-9)
                for _ in range(15)
                for bucket in buckets
            )
        )
        other = await buckets[0].take("bob", limit=10, per_second=1e-9)

    assert sum(one.is_allowed for one in taken) == 10
    assert sorted(int(one.level + 1e-3) for one in taken if one.is_allowed) == list(range(10))
    assert other == (9, True)


async def test_a_bucket_fills_by_the_databases_clock_up_to_its_limit(database_url: str) -> None:
    async with two_servers(database_url) as (first, second):
        for _ in range(3):
            await SharedBuckets(first).take("alice", limit=3, per_second=0.5)
        refused = await SharedBuckets(second).take("alice", limit=3, per_second=1e-9)
        move(database_url, "3 seconds")
        later = await SharedBuckets(second).take("alice", limit=3, per_second=0.5)
        move(database_url, "1 minute")
        full = await SharedBuckets(first).take("alice", limit=3, per_second=0.5)
        # A clock that was put back takes nothing away.
        move(database_url, "-1 hour")
        early = await SharedBuckets(first).take("alice", limit=3, per_second=0.5)

    assert not refused.is_allowed
    assert later.is_allowed
    assert 0.5 <= later.level < 1.5
    assert full == (2, True)
    assert early == (1, True)


def move(url: str, time: str) -> None:
    """Have all buckets be so much older."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE muai.buckets SET filled_at = filled_at - CAST(%s AS INTERVAL)", (time,)
        )


async def test_buckets_that_are_full_again_are_forgotten(database_url: str) -> None:
    async with two_servers(database_url) as (first, _):
        buckets = SharedBuckets(first)
        await buckets.take("old", limit=3, per_second=0.05)
        move(database_url, "10 minutes")
        await buckets.take("new", limit=3, per_second=0.05)
        await buckets.forget()

        with psycopg.connect(database_url) as connection:
            left = connection.execute("SELECT caller FROM muai.buckets").fetchall()
    assert left == [("new",)]


async def test_what_one_tuner_finds_the_other_has_and_what_it_drops_is_dropped(
    database_url: str,
) -> None:
    async with two_servers(database_url) as (first, second):
        here, there = SharedTuning(first), SharedTuning(second)
        await here.exchange({(1, 2): {"a": 3}}, ())
        both = await there.exchange({(2, 2): {"a": 5}, (1, 2): {"a": 4}}, ())
        left = await here.exchange({}, [(2, 2)])

    assert both == {(1, 2): {"a": 4}, (2, 2): {"a": 5}}
    assert left == {(1, 2): {"a": 4}}


async def test_what_callers_use_of_each_server_adds_up(database_url: str) -> None:
    def used(name: str, number: int) -> CallerUsage:
        return CallerUsage(
            name=name,
            num_requests=number,
            num_refused=0,
            num_prompt_tokens=10 * number,
            num_cached_tokens=number,
            num_generated_tokens=2 * number,
        )

    async with two_servers(database_url) as (first, second):
        assert await SharedUsage(first).read() == (None, ())
        await asyncio.gather(
            *(
                SharedUsage(server).add([used("alice", 1), used(name, 2)], since_s=since_s)
                for _ in range(5)
                for server, name, since_s in ((first, "bob", 7.0), (second, "carol", 5.0))
            )
        )
        assert await SharedUsage(second).read() == (
            5.0,
            (used("alice", 10), used("bob", 10), used("carol", 10)),
        )
