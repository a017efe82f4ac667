"""What routing has learned is kept, replaced and dropped, and never stands in a server's way."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from mm_orch.core.mind_events import FeedbackTaken
from mm_orch.routing.feedback_learner import FeedbackLearner, LearnedBiases
from tests.unit.routing.test_feedback_fit import CHAT, SEARCH, outcome, sure_of, without_pattern

if TYPE_CHECKING:
    from pathlib import Path

    from mm_orch.storage.outcomes import Outcome

PATIENCE_S = 10
DEVELOPMENT = sure_of(SEARCH, CHAT)
KEPT = LearnedBiases(
    development_digest=DEVELOPMENT.digest,
    num_feedback=40,
    num_development=2,
    num_right_before=2,
    num_right=2,
    bias_by_workflow={"search_qa": -0.5, "chat_generate": 0.5},
)


def rated(disliked: str, liked: str, number: int = 20) -> list[Outcome]:
    pair = (outcome(disliked, -1.0), outcome(liked, 1.0))
    return [one for _ in range(number) for one in pair]


def make(path: Path, outcomes: list[Outcome]) -> FeedbackLearner:
    return FeedbackLearner(
        lambda: outcomes, DEVELOPMENT, path, now=lambda: 0.0, half_life_s=100.0, gather_s=0.0
    )


async def test_feedback_has_it_learn_while_it_runs(tmp_path: Path) -> None:
    has_looked = asyncio.Event()

    def look() -> list[Outcome]:
        has_looked.set()
        return []

    learner = FeedbackLearner(
        look, DEVELOPMENT, tmp_path / "b", now=lambda: 0.0, half_life_s=1.0, gather_s=0.0
    )

    async with learner.running(), asyncio.timeout(PATIENCE_S):
        learner.observe(FeedbackTaken(score=1.0))
        await has_looked.wait()

    assert learner.bias_by_workflow == {}


async def test_what_was_learned_outlasts_the_process(tmp_path: Path) -> None:
    path, outcomes = tmp_path / "data" / "biases.json", rated("search_qa", "chat_generate")
    learner = make(path, outcomes)

    async with learner.running():
        assert learner.bias_by_workflow == {}
        await learner.learn()
    again = make(path, [])
    async with again.running():
        kept = again.bias_by_workflow

    assert kept == learner.bias_by_workflow
    assert kept["search_qa"] < 0 < kept["chat_generate"]
    assert json.loads(path.read_bytes())["num_feedback"] == len(outcomes)


async def test_with_too_little_feedback_what_was_learned_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "biases.json"
    path.write_bytes(msgspec.json.encode(KEPT))
    learner = make(path, rated("chat_generate", "search_qa", number=9))

    async with learner.running():
        await learner.learn()

    assert learner.bias_by_workflow == KEPT.bias_by_workflow


async def test_feedback_that_says_otherwise_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "biases.json"
    path.write_bytes(msgspec.json.encode(KEPT))
    learner = make(path, rated("chat_generate", "search_qa"))

    async with learner.running():
        await learner.learn()

    assert learner.bias_by_workflow["search_qa"] > 0


async def test_what_later_feedback_does_not_bear_out_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "biases.json"
    path.write_bytes(msgspec.json.encode(KEPT))
    learner = make(path, without_pattern())

    async with learner.running():
        await learner.learn()

    assert learner.bias_by_workflow == {}
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff{",
        b"[]",
        msgspec.json.encode(msgspec.structs.replace(KEPT, format=99)),
        msgspec.json.encode(msgspec.structs.replace(KEPT, development_digest="other")),
        msgspec.json.encode(msgspec.structs.replace(KEPT, bias_by_workflow={"search_qa": 1.5})),
        msgspec.json.encode(msgspec.structs.replace(KEPT, bias_by_workflow={"my_plugin": 0.5})),
        msgspec.json.encode(KEPT).replace(b"-0.5", b"NaN"),
    ],
)
async def test_a_file_that_is_damaged_or_foreign_is_warned_of_and_done_without(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "biases.json"
    path.write_bytes(content)
    learner = make(path, [])

    async with learner.running():
        assert learner.bias_by_workflow == {}

    assert "what routing had learned" in caplog.text


async def test_what_cannot_be_kept_counts_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    learner = make(blocked / "biases.json", rated("search_qa", "chat_generate"))

    await learner.learn()

    assert learner.bias_by_workflow["search_qa"] < 0
    assert "what routing has learned is not kept" in caplog.text
