"""Opens a graph in ONNX Runtime: execution providers, threads, how far it is rewritten."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from mm_orch.core.errors import EngineStartError

if TYPE_CHECKING:
    from pathlib import Path

    from mm_orch.optimization.engines.contract import EngineSpec

logger = logging.getLogger(__name__)

DEFAULT_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
# Providers that compute on a device of their own, with the name of its memory.
_MEMORY_BY_PROVIDER = {"CUDAExecutionProvider": "cuda"}
_LEVELS = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
# The runtime's errors have no root of their own below Exception.
RUNTIME_ERRORS = (
    errors.EPFail,
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NoModel,
    errors.NoSuchFile,
    errors.NotImplemented,
    errors.RuntimeException,
    RuntimeError,
)


def choose_providers(spec: EngineSpec) -> tuple[str, ...]:
    """Return the configured execution providers that are there, in the configured order.

    Raises:
        EngineStartError: none of them is, or system.device asks for a device that none serves.
    """
    wanted = tuple(spec.settings.get("execution_providers", DEFAULT_PROVIDERS))
    present = onnxruntime.get_available_providers()
    missing = [name for name in wanted if name not in present]
    if missing:
        logger.warning(
            "%s: ONNX Runtime has no %s here and goes on without",
            spec.model,
            ", ".join(missing),
        )
    chosen = tuple(name for name in wanted if name in present)
    if spec.device == "cpu":
        chosen = tuple(name for name in chosen if name not in _MEMORY_BY_PROVIDER)
    if not chosen:
        raise EngineStartError(
            f"optimization.onnx.execution_providers is [{', '.join(wanted)}], and with"
            f" system.device {spec.device} none of them can be used. There are:"
            f" {', '.join(present)}.",
            remedy="Name one of these.",
        )
    if spec.device.startswith("cuda") and _MEMORY_BY_PROVIDER.keys().isdisjoint(chosen):
        raise EngineStartError(
            f"system.device is {spec.device}, but ONNX Runtime has no CUDAExecutionProvider among"
            f" the configured ones. There are: {', '.join(present)}.",
            remedy="Set system.device to auto or cpu, or install onnxruntime-gpu.",
        )
    return chosen


def open_session(spec: EngineSpec, path: Path, providers: tuple[str, ...]) -> Any:
    """Return a session on the graph.

    Raises:
        EngineStartError: the options are unknown, or the runtime cannot load the graph.
    """
    level = spec.settings.get("optimization_level", "all")
    if level not in _LEVELS:
        raise EngineStartError(
            f"optimization.onnx.optimization_level is {level}; allowed are {', '.join(_LEVELS)}."
        )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = _LEVELS[level]
    options.intra_op_num_threads = spec.num_threads
    options.inter_op_num_threads = 1
    # It would keep a plan for every combination of sizes that a step ever had.
    options.enable_mem_pattern = False
    # Threads that wait in a loop take the cores of the server and of sampling.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=[_with_device(name, spec.device) for name in providers]
        )
    except RUNTIME_ERRORS as error:
        raise EngineStartError(
            f"{spec.model}: ONNX Runtime cannot load {path}: {error}",
            remedy=f"Remove {path.parent} to have the model exported again.",
        ) from error


def find_memory(session: Any) -> str:
    """Return the device whose memory the session's first provider computes in: cpu or cuda."""
    return _MEMORY_BY_PROVIDER.get(session.get_providers()[0], "cpu")


def name_device(session: Any, device: str) -> str:
    """Return where the session computes: cpu, or cuda:N."""
    memory = find_memory(session)
    return memory if memory == "cpu" else f"{memory}:{find_device_index(device)}"


def find_device_index(device: str) -> int:
    """Return N of cuda:N, else 0."""
    _, _, number = device.partition(":")
    return int(number or 0)


def _with_device(provider: str, device: str) -> str | tuple[str, dict[str, str]]:
    if provider in _MEMORY_BY_PROVIDER:
        return provider, {"device_id": str(find_device_index(device))}
    return provider
