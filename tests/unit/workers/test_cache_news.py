from __future__ import annotations

from mm_orch.core.events import CacheUsed
from mm_orch.kv_cache.cache import CacheStats
from mm_orch.workers.cache_news import CacheNews
from tests.recorder import Recorder


def stats(num_free: int, num_evictions: int = 0) -> CacheStats:
    return CacheStats(
        num_blocks=1000,
        num_free=num_free,
        num_cached=0,
        num_prompt_tokens=0,
        num_reused_tokens=0,
        num_evictions=num_evictions,
    )


def used(recorder: Recorder) -> list[tuple[float, int]]:
    events = [event for event in recorder.events if isinstance(event, CacheUsed)]
    return [(round(event.use_ratio, 4), event.num_evictions) for event in events]


def test_only_changes_that_can_be_seen_are_told() -> None:
    recorder = Recorder()
    news = CacheNews("m", "e", recorder)

    for num_free in (1000, 999, 998, 994, 993, 989, 1000):
        news.take(stats(num_free))

    assert used(recorder) == [(0.0, 0), (0.001, 0), (0.006, 0), (0.011, 0), (0.0, 0)]


def test_every_eviction_is_told_once() -> None:
    recorder = Recorder()
    news = CacheNews("m", "e", recorder)

    for num_evictions in (0, 2, 2, 5):
        news.take(stats(500, num_evictions))

    assert used(recorder) == [(0.5, 0), (0.5, 2), (0.5, 3)]


def test_an_engine_that_says_nothing_of_its_memory_is_no_news() -> None:
    recorder = Recorder()
    news = CacheNews("m", "e", recorder)

    news.take(None, None)
    news.forget()

    assert used(recorder) == []


def test_a_worker_that_has_ended_uses_nothing() -> None:
    recorder = Recorder()
    news = CacheNews("m", "e", recorder)

    news.take(None, 0.25)
    news.forget()
    news.forget()

    assert used(recorder) == [(0.25, 0), (0.0, 0)]
