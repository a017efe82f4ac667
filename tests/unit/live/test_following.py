"""The configuration file followed, over a runtime that has loaded nothing."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from mm_orch.app import open_runtime
from mm_orch.config import load_config
from mm_orch.live.following import FileFollower

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mm_orch.config import LoadedConfig
    from mm_orch.live.configuration import LiveConfiguration

MAX_BATCH = "optimization.batcher.max_batch_size"
MIN_BATCH = "optimization.batcher.min_batch_size"
CAPACITY = "monitoring.server.queue_capacity"
VARIABLES = {"MUAI_OPT_BATCHER_TIMEOUT": "9"}
_INTERVAL_S = 0.01


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "muai.yaml"
    write(path)
    return path


def write(
    path: Path, *, batcher: object = None, capacity: object = 50, level: str = "INFO"
) -> None:
    settings = {
        "optimization": {"batcher": {"max_batch_size": 8, **dict(batcher or {})}},  # type: ignore[call-overload]
        "monitoring": {"server": {"queue_capacity": capacity}},
        "system": {"log_level": level},
    }
    put(path, json.dumps(settings))


def put(path: Path, text: str) -> None:
    path.write_text(text)


def replace(path: Path, *, capacity: int) -> None:
    """Take the file away, then put another one in its place."""
    path.unlink()
    draft = path.with_suffix(".draft")
    write(draft, capacity=capacity)
    draft.rename(path)


@asynccontextmanager
async def follow(file: Path) -> AsyncIterator[tuple[FileFollower, LiveConfiguration]]:
    def load() -> LoadedConfig:
        return load_config(path=file, environ=VARIABLES, overrides={})

    loaded = load()
    async with open_runtime(loaded.config, origins=loaded.origins) as runtime:
        yield FileFollower(runtime.live, loaded, load), runtime.live


def told(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING)


async def test_a_changed_file_changes_what_is_new_in_it_and_a_signal_lets_it_hold(
    file: Path,
) -> None:
    async with follow(file) as (follower, live):
        await live.change({MAX_BATCH: 5}, source="tuner")
        write(file, capacity=60)

        await follower.reload("file")
        assert (live.read()[MAX_BATCH], live.read()[CAPACITY]) == (5, 60)

        await follower.reload("signal")
        assert (live.read()[MAX_BATCH], live.read()[CAPACITY]) == (8, 60)
        origins = {one.path: one.origin for one in live.report().options}
        assert (origins[CAPACITY], origins[MAX_BATCH]) == (str(file), str(file))
        # An option that the file no longer has is the default's again.
        put(file, "{}")
        await follower.reload("file")
        assert (live.read()[MAX_BATCH], live.read()[CAPACITY]) == (32, 100)
        assert [one.source for one in live.history] == [
            "file", "file", "signal", "file", "tuner",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("monitoring: {server: {queue_capacity: 90", "is not YAML"),
        (
            '{"monitoring": {"server": {"queue_capacity": 0, "port": "x"}}}',
            "monitoring.server.port = 'x'",
        ),
        (
            '{"monitoring": {"server": {"queue_capacity": 60}}, "system": {"log_level": "DEBUG"}}',
            "because system.log_level cannot be changed while the server runs",
        ),
        (
            '{"optimization": {"batcher": {}}, "models": {"x": {"source": "hf:a/b"}}}',
            "because models.x cannot be changed while the server runs",
        ),
        (
            '{"optimization": {"batcher": {"max_batch_size": 2, "min_batch_size": 3}}}',
            "must be at most max_batch_size",
        ),
    ],
)
async def test_with_one_fault_nothing_changes(
    file: Path, caplog: pytest.LogCaptureFixture, text: str, says: str
) -> None:
    async with follow(file) as (follower, live):
        before = dict(live.read())
        put(file, text)

        await follower.reload("file")

        assert dict(live.read()) == before
        assert says in told(caplog)
        # Put right, it counts.
        write(file, capacity=70)
        await follower.reload("file")
        assert live.read()[CAPACITY] == 70


async def test_what_a_variable_sets_too_is_said_not_to_be_applied(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with follow(file) as (follower, live):
        write(file, batcher={"batch_timeout_ms": 70})
        await follower.reload("file")

        assert live.read()["optimization.batcher.batch_timeout_ms"] == 9
        assert "optimization.batcher.batch_timeout_ms = 70 is not applied, because" in told(caplog)
        assert "MUAI_OPT_BATCHER_TIMEOUT" in told(caplog)
        caplog.clear()
        await follower.reload("file")
        assert not told(caplog)


async def test_values_that_contradict_a_change_of_another_origin_change_nothing(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with follow(file) as (follower, live):
        await live.change({MAX_BATCH: 2}, source="admin")
        write(file, batcher={"min_batch_size": 4}, capacity=70)

        await follower.reload("file")

        assert (live.read()[MIN_BATCH], live.read()[CAPACITY]) == (1, 50)
        assert "must be at most max_batch_size, which is 2" in told(caplog)
        await follower.reload("signal")
        assert (live.read()[MIN_BATCH], live.read()[MAX_BATCH]) == (4, 8)


async def test_a_fault_of_ours_never_ends_who_follows(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> LoadedConfig:
        raise RuntimeError("nobody thought of this")

    loaded = load_config(path=file, environ={}, overrides={})
    async with open_runtime(loaded.config) as runtime:
        await FileFollower(runtime.live, loaded, fail).reload("signal")

    assert "SIGHUP: it could not be brought into force" in told(caplog)


async def test_a_file_that_is_away_or_replaced_is_waited_for(file: Path) -> None:
    async with follow(file) as (follower, live), asyncio.timeout(60):
        watching = asyncio.create_task(follower.watch(_INTERVAL_S))
        replace(file, capacity=60)
        while live.read()[CAPACITY] != 60:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(_INTERVAL_S)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_a_changed_number_of_replicas_is_taken_and_other_options_of_a_model_are_not(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def say(replicas: object, *aliases: str) -> str:
        return json.dumps({"models": {"smollm2-135m": {"replicas": replicas, "aliases": aliases}}})

    put(file, say(1))
    async with follow(file) as (follower, live):
        put(file, say("auto"))
        await follower.reload("file")
        assert live.read()["models.smollm2-135m.replicas"] == "auto"

        put(file, say(2, "other"))
        await follower.reload("file")
        assert live.read()["models.smollm2-135m.replicas"] == "auto"
    assert "models.smollm2-135m cannot be changed" in told(caplog)
