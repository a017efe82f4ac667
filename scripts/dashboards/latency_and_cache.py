"""The dashboard that tells where a request's time goes, and what caching saves of it."""

from __future__ import annotations

from dashboards import panels
from dashboards.board import Row
from dashboards.panels import Query, heat, lines
from dashboards.queries import buckets, gauge_mean, quantiles, rate

_EACH_MODEL = "{{model}}"


_TIMES = {
    "Time to first token": (
        "Admission to first token: queue wait and prefill.",
        "time_to_first_token_seconds",
    ),
    "Queue wait": (
        "Admission to first step: how long a place in a batch was waited for.",
        "queue_wait_seconds",
    ),
    "Time between tokens": (
        "Between successive tokens of one answer: what a reader sees as speed.",
        "inter_token_latency_seconds",
    ),
}
"""By title: what it means, and its histogram."""


def rows() -> list[Row]:
    """Return the dashboard's rows."""
    times = [Row(title, _pair(title, *told), per_line=2) for title, told in _TIMES.items()]
    return [*times, Row("Cache", _cache(), per_line=2)]


def _pair(title: str, description: str, histogram: str) -> list[panels.PanelBuilder]:
    return [
        lines(title, description, panels.SECONDS, *quantiles(histogram)),
        heat(f"{title}, all requests", description, panels.SECONDS, buckets(histogram)),
    ]


def _cache() -> list[panels.PanelBuilder]:
    computed = f"{rate('prompt_tokens_total', 'model')} - {_cached_tokens()}"
    return [
        _ratio(
            "Hit rate",
            "Share of prompt tokens that were in the cache, over a sliding window.",
            "kv_cache_hit_rate",
        ),
        lines(
            "Prompt tokens, cached and computed",
            "Cached tokens cost no computing.",
            panels.TOKENS_PER_SECOND,
            Query(_cached_tokens(), "cached {{model}}"),
            Query(computed, "computed {{model}}"),
        ),
        _ratio(
            "KV memory in use",
            "Share of the KV blocks that are taken. Near 1, requests wait for blocks.",
            "kv_cache_usage_ratio",
        ),
        lines(
            "Evictions",
            "KV blocks a second that were freed for others. Many, with a falling hit rate: the "
            "cache is too small.",
            panels.PER_SECOND,
            Query(rate("kv_cache_evictions_total", "model"), _EACH_MODEL),
        ),
    ]


def _ratio(title: str, description: str, series: str) -> panels.PanelBuilder:
    mean = Query(gauge_mean(series), _EACH_MODEL)
    return lines(title, description, panels.RATIO, mean, max_value=1)


def _cached_tokens() -> str:
    return rate("cached_prompt_tokens_total", "model")
