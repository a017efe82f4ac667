"""``engine_preference: auto``: engines are tried once, and the fastest runs the model."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from mm_orch.app import open_runtime
from mm_orch.config import load_config
from tests.tiny_models import make_llama
from tests.tiny_tokenizer import write_tokenizer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mm_orch.app import Runtime
    from tests.odd_engines import Switch


@pytest.fixture
def switch(odd_engines: Switch, monkeypatch: pytest.MonkeyPatch) -> Switch:
    """As if the slow, the refusing and the quick engine were those of this project."""
    monkeypatch.setattr(
        "mm_orch.config.schema.root.DEFAULT_ENGINES", ("absent", "slow", "refusing", "echo")
    )
    odd_engines.turn_on()
    return odd_engines


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    (tmp_path / "model").mkdir()
    model = write_tokenizer(make_llama(tmp_path / "model"))
    return {
        "models.tiny.source": f"path:{model}",
        "system.data_dir": str(tmp_path / "data"),
        "optimization.engine_preference": "auto",
        "monitoring.server.preload_models": ["tiny"],
    }


@asynccontextmanager
async def run(settings: dict[str, object], *, is_server: bool) -> AsyncIterator[Runtime]:
    config = load_config(path=None, environ={}, overrides=settings).config
    async with open_runtime(config, is_server=is_server) as runtime:
        yield runtime


async def find_engine(settings: dict[str, object], *, is_server: bool) -> str:
    async with run(settings, is_server=is_server) as runtime:
        return (await runtime.manager.acquire("tiny")).engine


async def test_the_fastest_engine_is_found_once_and_remembered(
    switch: Switch, settings: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    # Who asks one question does not wait for trials: the first that runs answers.
    assert await find_engine(settings, is_server=False) == "slow"

    async with run(settings, is_server=True) as runtime:
        assert (await runtime.manager.acquire("tiny")).engine == "echo"
        assert not runtime.status.health().degradation_reasons
    [trials] = json.loads(
        (runtime.manager.plans["tiny"].cache_directory / "engine-trials.json").read_bytes()
    ).values()
    assert [trial["engine"] for trial in trials] == ["slow", "refusing", "echo"]
    assert trials[2]["tokens_per_s"] > trials[0]["tokens_per_s"] > 0
    assert trials[1]["reason"].startswith("It does not want to.")

    # Nothing is tried again, though what had failed would do now.
    switch.turn_off()
    caplog.clear()
    assert await find_engine(settings, is_server=True) == "echo"
    assert "failed its trial" not in caplog.text
    # By then it is known what starts first.
    assert await find_engine(settings, is_server=False) in {"echo", "slow"}


async def test_a_damaged_record_is_made_anew(
    switch: Switch, settings: dict[str, object], tmp_path: Path
) -> None:
    switch.turn_off()
    record = tmp_path / "data" / "compiled" / "engine-trials.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"half')

    assert await find_engine(settings, is_server=True) in {"echo", "refusing"}
    [trials] = json.loads(record.read_bytes()).values()
    assert all(trial["tokens_per_s"] > 0 for trial in trials)


@pytest.mark.parametrize("fault", ["die", "talk garbage"])
async def test_an_engine_that_fails_in_its_trial_is_no_more_than_last(
    odd_engines: Switch,
    settings: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    monkeypatch.setattr("mm_orch.config.schema.root.DEFAULT_ENGINES", ("odd", "echo"))
    odd_engines.order(fault)

    assert await find_engine(settings, is_server=True) == "echo"
    record = tmp_path / "data" / "compiled" / "engine-trials.json"
    [[odd, echo]] = json.loads(record.read_bytes()).values()
    assert (odd["tokens_per_s"], bool(odd["reason"])) == (0, True)
    assert echo["tokens_per_s"] > 0
