"""Says in PromQL what the panels show, for the models that were chosen."""

from __future__ import annotations

from dashboards.panels import Query

OF_MODEL = 'model=~"$model"'
_WINDOW = "$__rate_interval"
_QUANTILES = (0.5, 0.95, 0.99)


def rate(series: str, by: str = "", matchers: str = OF_MODEL) -> str:
    """Return the increase of a counter per second, summed."""
    return f"{_sum(by)}(rate({series}{{{matchers}}}[{_WINDOW}]))"


def mean(histogram: str, by: str = "") -> str:
    """Return the mean of what a histogram has counted lately."""
    return f"{rate(f'{histogram}_sum', by)} / {rate(f'{histogram}_count', by)}"


def quantiles(histogram: str) -> tuple[Query, ...]:
    """Return p50, p95 and p99 of a histogram, a model each, with exemplars."""
    return tuple(
        Query(
            quantile(histogram, share, "model"),
            f"p{share * 100:.0f} {{{{model}}}}",
            has_exemplars=True,
        )
        for share in _QUANTILES
    )


def quantile(histogram: str, share: float, by: str, matchers: str = OF_MODEL) -> str:
    """Return the value below which this share of a histogram lies, a series for each of ``by``."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', f'le, {by}', matchers)})"


def buckets(histogram: str) -> str:
    """Return what a heatmap shows: how many a second fell into each bucket."""
    return rate(f"{histogram}_bucket", "le")


def gauge(series: str, by: str = "model") -> str:
    """Return a gauge, added up over the servers."""
    return f"{_sum(by)}({series}{{{OF_MODEL}}})"


def gauge_mean(series: str) -> str:
    """Return a ratio of each model, as its servers have it on average."""
    return f"avg by (model) ({series}{{{OF_MODEL}}})"


def _sum(by: str) -> str:
    return f"sum by ({by}) " if by else "sum"
