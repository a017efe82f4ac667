"""Options of the section ``optimization``: engines in order, batcher, cache, tuner."""

# ruff: noqa: TC001 - pydantic reads the annotations of Section's subclasses at run time

from __future__ import annotations

from typing import Literal

from mm_orch.config.schema.engines import (
    DeepSpeedSettings,
    OnnxSettings,
    OpenVinoSettings,
    PyTorchSettings,
    VllmSettings,
)
from mm_orch.config.schema.section import Section, option, section
from mm_orch.config.schema.values import AtLeastOne, AtLeastZero, EnginePreference, PositiveFloat


class BatcherSettings(Section):
    """How requests share the steps of an engine."""

    enabled: bool = option("false: one request at a time.", default=True)
    max_batch_size: AtLeastOne = option("Most requests in one step.", default=32, live=True)
    min_batch_size: AtLeastOne = option(
        "An idle engine waits until so many requests are there; at most max_batch_size.",
        default=1,
        live=True,
    )
    batch_timeout_ms: AtLeastZero = option(
        "Longest such wait in milliseconds; a running engine never waits.",
        default=50,
        live=True,
    )
    adaptive_batching: bool = option(
        "Fit the work of a step to the time that steps were seen to take.",
        default=True,
    )
    max_batch_tokens: AtLeastOne = option(
        "Most prompt tokens in one step; a longer prompt is spread over several.",
        default=2048,
        live=True,
    )


class CacheSettings(Section):
    """Memory for keys and values, and its reuse between requests with the same beginning."""

    enabled: bool = option(
        "Reuse what was computed for the same beginning of a prompt.", default=True
    )
    max_memory_mb: AtLeastZero = option(
        "Hard bound in MiB on one model's keys and values; 0 keeps those of one sequence of full"
        " length, and nothing for reuse. On a CPU at most half of the machine's memory is taken.",
        default=4096,
        live=True,
    )
    eviction_policy: Literal["lru", "fifo"] = option(
        "What leaves first when memory is short: the least recently used, or the oldest.",
        default="lru",
    )


class TunerSettings(Section):
    """Changes the live options of batcher and cache to suit the work that is seen."""

    enabled: bool = option("Let the tuner work; it needs monitoring.enabled.", default=False)
    observation_window_seconds: AtLeastOne = option(
        "Seconds of work that a decision looks back on.", default=300, live=True
    )
    tuning_interval_seconds: AtLeastOne = option(
        "Seconds from one decision to the next.", default=60, live=True
    )
    enable_batch_size_tuning: bool = option("May change max_batch_size.", default=True, live=True)
    enable_timeout_tuning: bool = option("May change batch_timeout_ms.", default=True, live=True)
    enable_cache_size_tuning: bool = option(
        "May change the cache's max_memory_mb.", default=True, live=True
    )
    target_p95_ms: PositiveFloat | None = option(
        "Latency in milliseconds that 95 of 100 requests must keep whatever is tuned.", default=None
    )


class AutoscalerSettings(Section):
    """Fits the number of replicas to the load, of models whose replicas are a range."""

    target_wait_s: PositiveFloat = option(
        "Seconds that requests may wait until they begin; more replicas are started above.",
        default=2.0,
        live=True,
    )
    quiet_s: PositiveFloat = option(
        "Seconds for which fewer replicas must have been enough before any is drained.",
        default=300.0,
        live=True,
    )


class OptimizationSettings(Section):
    """Which engines run the models, and how requests share them."""

    enabled: bool = option(
        "false: PyTorch alone, one request at a time, no cache; a baseline to compare with.",
        default=True,
    )
    engine_preference: EnginePreference = option(
        "Engines in the order to try; absent ones are skipped, pytorch is added at the end where"
        " it is missing. auto tries them once on this machine and prefers the fastest.",
        default=None,
        default_in_words="unset: with a GPU vllm, deepspeed, onnx, pytorch; without one openvino,"
        " vllm, deepspeed, onnx, pytorch",
    )
    fallback_on_error: bool = option(
        "Go on with the next engine when one fails; false: the caller gets the engine's error.",
        default=True,
    )
    balancing: Literal["prefix", "power_of_two", "round_robin", "random"] = option(
        "Which replica of a model, or server of its fleet, gets a request: the one that holds its"
        " conversation or the beginning of its prompt, while its queue is not too long; the"
        " shorter queue of two by chance; the next; any.",
        default="prefix",
    )
    vllm: VllmSettings = section(VllmSettings, "The vLLM engine.")
    deepspeed: DeepSpeedSettings = section(DeepSpeedSettings, "The DeepSpeed engine.")
    openvino: OpenVinoSettings = section(OpenVinoSettings, "The OpenVINO engine.")
    onnx: OnnxSettings = section(OnnxSettings, "The ONNX Runtime engine.")
    pytorch: PyTorchSettings = section(PyTorchSettings, "The PyTorch engine.")
    batcher: BatcherSettings = section(BatcherSettings, "How requests share an engine's steps.")
    cache: CacheSettings = section(CacheSettings, "The prefix cache.")
    tuner: TunerSettings = section(TunerSettings, "The tuner.")
    autoscaler: AutoscalerSettings = section(
        AutoscalerSettings, "The autoscaler of replicas whose number is a range."
    )
