"""The dashboard that tells where a request's time goes, and what caching saves of it."""

from __future__ import annotations

from dashboards import panels
from dashboards.board import Board, Row
from dashboards.panels import Query, heat, lines
from dashboards.queries import buckets, gauge_mean, quantiles, rate

_EACH_MODEL = "{{model}}"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        uid="latency-and-cache",
        title="muAI latency and cache",
        description="Where a request's time goes, and what the KV cache saves of it.",
        rows=(
            Row("First token", _first_token(), per_line=2),
            Row("Queue", _queue(), per_line=2),
            Row("Between tokens", _between_tokens(), per_line=2),
            Row("Cache", _cache(), per_line=2),
        ),
    )


def _first_token() -> list[panels.PanelBuilder]:
    return _pair(
        "Time to first token",
        "Admission to first token: queue wait and prefill.",
        "time_to_first_token_seconds",
    )


def _queue() -> list[panels.PanelBuilder]:
    return _pair(
        "Queue wait",
        "Admission to first step: how long a place in a batch was waited for.",
        "queue_wait_seconds",
    )


def _between_tokens() -> list[panels.PanelBuilder]:
    return _pair(
        "Time between tokens",
        "Between successive tokens of one answer: what a reader sees as speed.",
        "inter_token_latency_seconds",
    )


def _pair(title: str, description: str, histogram: str) -> list[panels.PanelBuilder]:
    return [
        lines(title, description, panels.SECONDS, *quantiles(histogram)),
        heat(f"{title}, all requests", description, panels.SECONDS, buckets(histogram)),
    ]


def _cache() -> list[panels.PanelBuilder]:
    computed = f"{rate('prompt_tokens_total', 'model')} - {_cached_tokens()}"
    return [
        lines(
            "Hit rate",
            "Share of prompt tokens that were in the cache, over a sliding window.",
            panels.RATIO,
            Query(gauge_mean("kv_cache_hit_rate"), _EACH_MODEL),
            max_value=1,
        ),
        lines(
            "Prompt tokens, cached and computed",
            "Cached tokens cost no computing.",
            panels.TOKENS_PER_SECOND,
            Query(_cached_tokens(), "cached {{model}}"),
            Query(computed, "computed {{model}}"),
        ),
        lines(
            "KV memory in use",
            "Share of the KV blocks that are taken. Near 1, requests wait for blocks.",
            panels.RATIO,
            Query(gauge_mean("kv_cache_usage_ratio"), _EACH_MODEL),
            max_value=1,
        ),
        lines(
            "Evictions",
            "KV blocks a second that were freed for others. Many, with a falling hit rate: the "
            "cache is too small.",
            panels.PER_SECOND,
            Query(rate("kv_cache_evictions_total", "model"), _EACH_MODEL),
        ),
    ]


def _cached_tokens() -> str:
    return rate("cached_prompt_tokens_total", "model")
