from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.batching.batcher import BatcherSpec
from mm_orch.batching.embedding import EmbeddingBatcher, Job, Text, choose_batch
from mm_orch.core.errors import EngineFailedError, EngineOutOfMemoryError
from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.optimization.engines.echo_embedding import EchoEmbedder
from tests.unit.batching.test_batcher import Clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SPEC = EngineSpec(model="m", directory="", cache_directory="", context_length=512, eos_token_ids=())


class OddEcho(EchoEmbedder):
    """An echo that fails with an error of any kind where token 13 takes part.

    Token 14 makes a vector of no numbers.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.batch_sizes: list[int] = []

    def embed(self, batch: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        self.batch_sizes.append(len(batch))
        if any(13 in text for text in batch):
            raise self.error
        vectors = super().embed(batch)
        vectors[[14 in text for text in batch]] = np.nan
        return vectors


def make_batcher(
    backend: EchoEmbedder | None = None, clock: Clock | None = None, **limits: float
) -> EmbeddingBatcher:
    backend = backend or EchoEmbedder()
    backend.start(SPEC)
    spec = BatcherSpec(**{"max_batch_size": 4, "max_batch_tokens": 1000, **limits})  # type: ignore[arg-type]  # by name
    return EmbeddingBatcher(backend, spec, clock or Clock())


def job(name: str, *lengths: int) -> list[Text]:
    return [Text(f"{name}{index}", [1] * length) for index, length in enumerate(lengths)]


def choose(*lengths: Sequence[int], size: int = 4, tokens: int = 1000) -> list[str]:
    jobs = [Job(job("abcdef"[i], *one), 0.0) for i, one in enumerate(lengths)]
    batch = choose_batch(jobs, max_batch_size=size, max_batch_tokens=tokens)
    return [text.text_id for text in batch]


def test_a_batch_holds_texts_of_similar_length() -> None:
    assert choose([500, 7, 480], [12], [9, 450], tokens=2000) == ["a0", "c1", "a2"]


def test_short_texts_share_a_batch_whatever_their_length() -> None:
    assert choose([30, 1, 2], [3]) == ["a0", "b0", "a2", "a1"]


def test_every_request_gets_its_turn_in_a_batch() -> None:
    assert choose([5] * 100, [5] * 100, [5]) == ["a99", "b99", "c0", "a98"]


def test_a_batch_keeps_its_bound_of_tokens_with_filling() -> None:
    assert choose([300, 200], [300], [300], tokens=1000) == ["a0", "b0", "c0"]
    assert choose([300, 200], [300], [300], tokens=900) == ["a0", "b0", "c0"]
    assert choose([300, 200], [300], [300], tokens=899) == ["a0", "b0"]


def test_a_text_over_the_bound_is_computed_alone() -> None:
    assert choose([3000], [2900], tokens=1000) == ["a0"]


def test_nothing_waits_nothing_is_chosen() -> None:
    assert choose() == []


@given(
    st.lists(st.lists(st.integers(1, 600), min_size=1, max_size=20), max_size=6),
    st.integers(1, 8),
    st.integers(1, 2000),
)
def test_a_batch_is_never_empty_and_never_over_its_bounds(
    lengths: list[list[int]], size: int, tokens: int
) -> None:
    jobs = [Job(job(str(i) + "-", *one), 0.0) for i, one in enumerate(lengths)]

    batch = choose_batch(jobs, max_batch_size=size, max_batch_tokens=tokens)

    assert bool(batch) == bool(jobs)
    assert len({text.text_id for text in batch}) == len(batch) <= size
    width = max((text.num_tokens for text in batch), default=0)
    assert len(batch) <= 1 or width * len(batch) <= tokens
    assert sum(len(one.texts) for one in jobs) == sum(map(len, lengths))


def test_a_long_request_does_not_hold_up_a_short_one() -> None:
    batcher = make_batcher(max_batch_tokens=512)
    batcher.add(job("long", *[512] * 50))
    batcher.step()
    batcher.add(job("short", 4))

    done = [text_id for _ in range(2) for text_id, _ in batcher.step().vectors]

    assert done == ["long48", "short0"]


def test_everything_that_waits_is_embedded_once() -> None:
    batcher = make_batcher()
    batcher.add(job("a", *range(1, 60)))
    batcher.add(job("b", 500, 3, 500))

    done: list[str] = []
    while batcher.wait_s is not None:
        done += [text_id for text_id, _ in batcher.step().vectors]

    assert sorted(done) == sorted([f"a{i}" for i in range(59)] + ["b0", "b1", "b2"])
    assert batcher.step().batch_size == 0


def test_a_request_starts_once_and_says_how_long_it_waited() -> None:
    clock = Clock()
    batcher = make_batcher(clock=clock, max_batch_size=2)
    batcher.add(job("a", 5, 5, 5))
    clock.now_s = 3.0

    first, second = batcher.step(), batcher.step()

    assert [waited_s for _, waited_s in first.started] == [3.0]
    assert second.started == []


def test_dropped_texts_are_not_computed() -> None:
    batcher = make_batcher()
    batcher.add(job("a", 5, 5, 5))
    batcher.abort(["a0", "a2", "unknown"])

    assert [text_id for text_id, _ in batcher.step().vectors] == ["a1"]
    batcher.add(job("b", 5))
    batcher.abort(["b0"])
    assert batcher.wait_s is None


@pytest.mark.parametrize("error", [EngineOutOfMemoryError("full"), ValueError("odd")])
def test_a_text_that_fails_loses_only_itself(error: Exception) -> None:
    backend = OddEcho(error)
    batcher = make_batcher(backend)
    batcher.add([Text("good", [1, 2]), Text("bad", [13, 2]), Text("also good", [3, 4])])

    report = batcher.step()

    assert sorted(text_id for text_id, _ in report.vectors) == ["also good", "good"]
    [(text_id, failure)] = report.failed
    assert text_id == "bad"
    assert str(error) in failure.message
    assert backend.batch_sizes == [3, 1, 1, 1]


def test_a_vector_of_no_numbers_is_a_failure() -> None:
    batcher = make_batcher(OddEcho(ValueError()))
    batcher.add([Text("good", [1, 2]), Text("bad", [14, 2])])

    report = batcher.step()

    assert [text_id for text_id, _ in report.vectors] == ["good"]
    [(text_id, failure)] = report.failed
    assert text_id == "bad"
    assert isinstance(failure, EngineFailedError)


def test_an_idle_batcher_waits_for_a_fuller_batch_but_not_for_ever() -> None:
    clock = Clock()
    batcher = make_batcher(clock=clock, min_batch_size=3, batch_timeout_s=0.5)
    assert batcher.wait_s is None
    batcher.add(job("a", 5))
    assert batcher.wait_s == 0.5
    clock.now_s = 0.4
    batcher.add(job("b", 5))
    assert batcher.wait_s == pytest.approx(0.1)
    batcher.add(job("c", 5))
    assert batcher.wait_s == 0
