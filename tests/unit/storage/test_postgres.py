"""A PostgreSQL database: made, away, back, in use elsewhere, and what is told of it."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.core.errors import (
    QueueFullError,
    StorageBusyError,
    StorageError,
    StorageUnavailableError,
)
from mm_orch.storage import postgres_connections
from mm_orch.storage.postgres_database import PostgresDatabase
from mm_orch.storage.postgres_schema import POSTGRES_MIGRATIONS, migrate
from mm_orch.storage.postgres_text import escape, translate, unescape
from mm_orch.storage.sql_sessions import SqlSessions
from tests.unit.storage.scene import OWNER, fill, open_store, texts_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mm_orch.storage.postgres_text import PostgresStatements
    from tests.postgres import Cluster

SECRET = "hunter2-never-shown"  # noqa: S105 - of no database
# Nothing here takes so long; it ends a test that would hang.
PATIENCE_S = 20


@asynccontextmanager
async def opened(url: str, **options: object) -> AsyncIterator[PostgresDatabase]:
    database = PostgresDatabase(url, retry_s=0, **options)  # type: ignore[arg-type]  # by name
    try:
        yield database
    finally:
        await database.close()


def ask(connection: PostgresStatements) -> object:
    return connection.execute("SELECT 1").fetchone()


def version_of(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT version FROM muai.schema_version").fetchone()
    assert row is not None
    return int(row[0])


async def test_servers_that_start_at_once_make_the_tables_once(postgres: Cluster) -> None:
    url = postgres.make_database(is_empty=True)
    databases = [PostgresDatabase(url) for _ in range(5)]

    await asyncio.gather(*(database.read(ask) for database in databases))
    stores = [SqlSessions(database) for database in databases]
    await asyncio.gather(*(fill(one, f"s{place}", 1) for place, one in enumerate(stores)))

    assert len(await stores[0].list_sessions(OWNER, limit=9)) == 5
    for database in databases:
        await database.close()
    assert version_of(url) == len(POSTGRES_MIGRATIONS)
    postgres.drop_database(url)


async def test_the_next_version_finds_what_this_one_wrote_and_this_one_refuses_it(
    own_database_url: str,
) -> None:
    async with open_store(own_database_url) as store:
        await fill(store, "s", 1)
    following = (*POSTGRES_MIGRATIONS, ("ALTER TABLE muai.sessions ADD COLUMN title TEXT",))
    with psycopg.connect(own_database_url, autocommit=True) as connection:
        migrate(connection, following)
        found = connection.execute("SELECT session_id, title FROM muai.sessions").fetchall()

    assert found == [("s", None)]
    async with opened(own_database_url) as database:
        with pytest.raises(StorageError, match="is of version 2; this program knows versions up"):
            await database.read(ask)
        assert "is of version 2" in str(database.failure)


async def test_a_migration_that_fails_leaves_the_database_as_it_was(own_database_url: str) -> None:
    broken = (*POSTGRES_MIGRATIONS, ("CREATE TABLE muai.more (a TEXT)", "NONSENSE"))
    with psycopg.connect(own_database_url, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.SyntaxError):
            migrate(connection, broken)
        made = connection.execute("SELECT to_regclass('muai.more')").fetchone()

    assert made == (None,)
    async with open_store(own_database_url) as store:
        await fill(store, "s", 1)


async def test_a_database_that_keeps_texts_otherwise_is_refused(postgres: Cluster) -> None:
    postgres.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    url = postgres.url_of("latin")
    async with opened(url) as database:
        with pytest.raises(StorageError, match="keeps texts as LATIN1; UTF8 is needed"):
            await database.read(ask)
    postgres.drop_database(url)


async def test_a_database_that_is_away_is_told_of_without_the_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"postgresql://muai:{SECRET}@/sessions?host={tmp_path}"
    async with opened(url) as database:
        with pytest.raises(StorageUnavailableError, match=r"of storage\.url cannot be") as told:
            await database.read(ask)
        failure = database.failure

    assert failure == told.value.message
    assert str(tmp_path) not in str(told.value)
    # Whoever runs the server reads why.
    assert str(tmp_path) in caplog.text
    assert SECRET not in caplog.text + repr(told.value) + "".join(told.value.__notes__)


@pytest.mark.parametrize("url", [f"postgresql://u:{SECRET}%zz@h/d", f"postgresql://h/d?x={SECRET}"])
def test_a_url_that_cannot_be_read_is_told_of_without_the_secret(url: str) -> None:
    with pytest.raises(StorageError, match=r"^storage\.url is no URL that") as told:
        PostgresDatabase(url)

    assert SECRET not in str(told.value)
    assert told.value.__suppress_context__


async def test_who_cannot_connect_asks_no_more_than_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, num_tries, connect = [0.0], [0], psycopg.connect

    def count(*arguments: object, **options: object) -> object:
        num_tries[0] += 1
        return connect(*arguments, **options)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(postgres_connections.psycopg, "connect", count)
    database = PostgresDatabase(
        f"postgresql:///x?host={tmp_path}", retry_s=1, clock=lambda: now_s[0]
    )
    for moment_s in (0.0, 0.5, 0.9, 1.1):
        now_s[0] = moment_s
        with pytest.raises(StorageUnavailableError):
            await database.read(ask)
    await database.close()

    assert num_tries == [2]


async def test_a_database_that_comes_back_is_used_again_by_the_next_call(
    postgres: Cluster, own_database_url: str
) -> None:
    async with opened(own_database_url) as database:
        store = SqlSessions(database)
        await fill(store, "s", 1)
        postgres.stop()
        try:
            with pytest.raises(StorageUnavailableError):
                await store.read(OWNER, "s")
            with pytest.raises(StorageUnavailableError):
                await fill(store, "t", 1)
            failure = store.failure
        finally:
            postgres.start()
        after = await store.append_turn(OWNER, "s", question="q", answer="a", is_new=False)

        assert store.failure is None
    assert after.num_turns == 2
    assert "storage.url cannot be" in str(failure)


async def test_a_connection_that_was_lost_costs_no_call(own_database_url: str) -> None:
    async with opened(own_database_url) as database:
        store = SqlSessions(database)
        await fill(store, "s", 1)
        with psycopg.connect(own_database_url, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid != pg_backend_pid()"
            )

        await fill(store, "t", 1)
        assert len(await store.list_sessions(OWNER, limit=9)) == 2
        assert store.failure is None


async def test_a_database_that_takes_no_writes_is_left_for_the_one_that_does(
    postgres: Cluster, own_database_url: str
) -> None:
    name = own_database_url.partition("@/")[2].partition("?")[0]
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with opened(own_database_url) as database:
        store = SqlSessions(database)
        with pytest.raises(StorageUnavailableError, match="read-only transaction"):
            await fill(store, "s", 1)
        assert await store.list_sessions(OWNER, limit=9) == ()
        # That it can be read says nothing of writing.
        failure = store.failure
        postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
        await fill(store, "s", 1)

        assert store.failure is None
    assert "read-only transaction" in str(failure)


async def test_an_owner_whose_things_another_server_writes_is_to_try_again_and_others_need_not(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_connections, "LOCK_TIMEOUT_S", 0.001)
    is_reached, is_free = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        is_reached.set()
        is_free.wait(PATIENCE_S)

    async with opened(database_url) as here, opened(database_url) as there:
        holding = asyncio.create_task(there.write(hold, owner=OWNER))
        await asyncio.to_thread(is_reached.wait, PATIENCE_S)
        store = SqlSessions(here)
        try:
            with pytest.raises(StorageBusyError, match="Another server is writing"):
                await fill(store, "s", 1)
            await fill(store, "s", 1, owner="name:bob")
            assert await store.list_sessions(OWNER, limit=9) == ()
            assert store.failure is None
        finally:
            is_free.set()
            await holding
        await fill(store, "s", 1)


async def test_a_statement_that_takes_too_long_is_ended_and_says_which_option_bounds_it(
    database_url: str,
) -> None:
    async with opened(database_url, statement_timeout_s=0.01) as database:
        with pytest.raises(StorageBusyError, match=r"storage\.statement_timeout_s, 0\.01 s"):
            await database.read(lambda connection: connection.execute("SELECT pg_sleep(60)"))
        assert await database.read(ask) == (1,)


@pytest.mark.parametrize("is_long", [False, True])
async def test_a_search_ends_when_nobody_waits_for_it(database_url: str, *, is_long: bool) -> None:
    async with opened(database_url) as database:
        read = database.read_long if is_long else database.read
        begun = threading.Event()

        def search(connection: PostgresStatements) -> object:
            begun.set()
            return connection.execute("SELECT pg_sleep(1000)").fetchone()

        # Enough to hold up every thread, and some that wait for one.
        searches = [asyncio.create_task(read(search)) for _ in range(6)]
        await asyncio.to_thread(begun.wait, PATIENCE_S)
        for one in searches:
            one.cancel()
        await asyncio.gather(*searches, return_exceptions=True)

        async with asyncio.timeout(PATIENCE_S):
            assert await read(ask) == (1,)
        assert database.failure is None


async def test_calls_over_the_bound_are_refused_at_once(database_url: str) -> None:
    async with opened(database_url, max_waiting=2) as database:
        waiting = [asyncio.create_task(database.read(ask)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="2 calls wait"):
            await database.read(ask)
        await asyncio.gather(*waiting)


async def test_no_more_connections_are_open_than_were_allowed(own_database_url: str) -> None:
    async with opened(own_database_url, max_connections=4) as database:
        store = SqlSessions(database)
        await asyncio.gather(*(fill(store, f"s{number}", 1) for number in range(20)))
        await asyncio.gather(*(store.read(OWNER, f"s{number}") for number in range(20)))
        await asyncio.gather(*(database.read_long(ask) for _ in range(20)))
        with psycopg.connect(own_database_url) as other:
            row = other.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'muai'"
            ).fetchone()

    assert row is not None
    assert 3 <= row[0] <= 4


async def test_a_turn_with_every_sign_comes_back_as_it_was(database_url: str) -> None:
    text = "\0 \x10 \x100 \x10e %s ? :owner '' \\ \U0001f426 e\u0301"
    async with open_store(database_url) as store:
        await store.append_turn(OWNER, "s", question=text, answer="%", is_new=True)
        session = await store.read(OWNER, "s")

    assert texts_of(session) == [(text, "%")]


@given(st.text(alphabet=st.sampled_from("\0\x10e0a") | st.characters(codec="utf-8")))
def test_any_text_is_escaped_without_nul_and_back(text: str) -> None:
    escaped = escape(text)

    assert "\0" not in escaped
    assert unescape(escaped) == text


def test_values_are_marked_as_psycopg_wants_them() -> None:
    assert translate("SELECT a::text FROM b WHERE c = ? AND d = :some_name") == (
        b"SELECT a::text FROM b WHERE c = %s AND d = %(some_name)s"
    )
