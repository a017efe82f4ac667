"""vLLM's names for what the server states anyway, for clients that know no others.

Source: the Gateway API Inference Extension's protocol for model servers reads these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Gauge

from mm_orch.core.events import CacheUsed, LoadChanged, ModelLoaded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry

    from mm_orch.core.events import Event

_MODEL = ("model_name",)


class VllmNames:
    """Every series, for each of these models from the start; other models are passed over."""

    def __init__(self, registry: CollectorRegistry, models: Iterable[str]) -> None:
        self._models = frozenset(models)
        self._waiting = Gauge(
            "vllm:num_requests_waiting", "Requests that wait.", _MODEL, registry=registry
        )
        self._running = Gauge(
            "vllm:num_requests_running", "Requests in a batch now.", _MODEL, registry=registry
        )
        self._use = Gauge(
            "vllm:kv_cache_usage_perc",
            "Share of the KV memory in use, 0 to 1.",
            _MODEL,
            registry=registry,
        )
        self._config = Gauge(
            "vllm:cache_config_info",
            "1; the labels tell the tokens of a KV block and how many blocks there are.",
            (*_MODEL, "block_size", "num_gpu_blocks"),
            registry=registry,
        )
        self._config_by_model: dict[str, tuple[str, str, str]] = {}
        for name in self._models:
            for gauge in (self._waiting, self._running, self._use):
                gauge.labels(name)

    def observe(self, event: Event) -> None:
        """Take one fact; those that concern no series here are passed over."""
        match event:
            case LoadChanged(model=model) if model in self._models:
                self._waiting.labels(model).set(event.num_waiting)
                self._running.labels(model).set(event.num_running)
            case CacheUsed(model=model) if model in self._models:
                self._use.labels(model).set(event.use_ratio)
            case ModelLoaded(model=model) if model in self._models and event.num_kv_blocks:
                self._state_blocks(model, event.kv_block_tokens, event.num_kv_blocks)
            case _:
                pass

    def _state_blocks(self, model: str, block_tokens: int, num_blocks: int) -> None:
        labels = (model, str(block_tokens), str(num_blocks))
        previous = self._config_by_model.get(model)
        if previous is not None and previous != labels:
            # It runs on another engine now.
            self._config.remove(*previous)
        self._config_by_model[model] = labels
        self._config.labels(*labels).set(1)
