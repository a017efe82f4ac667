"""Remembers a metric's children by their labels: finding one takes the library longest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from prometheus_client.metrics import MetricWrapperBase

Metric = TypeVar("Metric", bound="MetricWrapperBase")


class Children(Generic[Metric]):
    """The children of one metric; labels must come from a closed set."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._by_labels: dict[tuple[str, ...], Metric] = {}

    def of(self, *labels: str) -> Metric:
        """Return the child with these labels, in the metric's order."""
        child = self._by_labels.get(labels)
        if child is None:
            child = self._by_labels[labels] = self._metric.labels(*labels)
        return child
