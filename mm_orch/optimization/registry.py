"""Which engines exist: the built-in ones and plug-ins installed beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from mm_orch.core.errors import EngineStartError
from mm_orch.core.plug_ins import find_targets, import_target
from mm_orch.optimization.engines.contract import Availability
from mm_orch.optimization.interpreter import probe_elsewhere

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.core.generation import Task
    from mm_orch.optimization.engines.contract import StepBackend, StreamEngine
    from mm_orch.optimization.engines.embedding import EmbeddingBackend

ENTRY_POINT_GROUP: dict[Task, str] = {
    "generate": "mm_orch.engines",
    "embed": "mm_orch.embedding_engines",
}
_BUILT_IN: dict[Task, dict[str, str]] = {
    "generate": {
        "openvino": "mm_orch.optimization.engines.openvino.engine:OpenVinoEngine",
        "vllm": "mm_orch.optimization.engines.vllm.engine:VllmEngine",
        "deepspeed": "mm_orch.optimization.engines.deepspeed.backend:DeepSpeedBackend",
        "onnx": "mm_orch.optimization.engines.onnx.backend:OnnxBackend",
        "pytorch": "mm_orch.optimization.engines.pytorch.backend:PyTorchBackend",
        "echo": "mm_orch.optimization.engines.echo:EchoBackend",
    },
    "embed": {
        "echo": "mm_orch.optimization.engines.echo_embedding:EchoEmbedder",
        "onnx": "mm_orch.optimization.engines.onnx.embedder:OnnxEmbedder",
        "pytorch": "mm_orch.optimization.engines.pytorch.embedder:PyTorchEmbedder",
    },
}


def engine_names(task: Task = "generate") -> list[str]:
    """All engines of a task that can be loaded here, built-in ones first."""
    return list(_targets(task))


@overload
def load_engine(name: str, task: Literal["generate"] = ...) -> type[StepBackend | StreamEngine]: ...
@overload
def load_engine(name: str, task: Literal["embed"]) -> type[EmbeddingBackend]: ...
@overload
def load_engine(
    name: str, task: Task
) -> type[StepBackend | StreamEngine] | type[EmbeddingBackend]: ...
def load_engine(
    name: str, task: Task = "generate"
) -> type[StepBackend | StreamEngine] | type[EmbeddingBackend]:
    """Import the class of an engine that does this task.

    Raises:
        EngineStartError: no engine has this name, or its module cannot be imported.
    """
    target = _targets(task).get(name)
    if target is None:
        known = ", ".join(engine_names(task))
        raise EngineStartError(f"No engine is named {name!r}. Known: {known}.")
    try:
        engine: type[StepBackend | StreamEngine] | type[EmbeddingBackend] = import_target(target)
    except (ImportError, AttributeError) as error:
        raise EngineStartError(
            f"Engine {name!r} ({target}) cannot be imported: {error}.",
            remedy="Install or repair the package that provides it.",
        ) from error
    return engine


def leaves_batching_to_us(name: str) -> bool:
    """Whether a generating engine is a step backend, and so can do whatever a request asks."""
    try:
        return hasattr(load_engine(name), "step")
    except EngineStartError:
        return False


def takes_gpus(name: str, task: Task = "generate") -> bool:
    """Whether an engine computes on NVIDIA's GPUs where it sees some: what its class says."""
    try:
        return bool(getattr(load_engine(name, task), "takes_gpus", False))
    except EngineStartError:
        return False


def probe_engine(name: str, task: Task = "generate", *, python: str = "") -> Availability:
    """Say whether the engine can do this task here, and if not why.

    Args:
        name: the engine.
        task: generate or embed.
        python: interpreter to ask; empty is this one. Asking another one takes a moment.
    """
    if task == "embed" and name not in _targets(task):
        return Availability(
            engine=name,
            is_available=False,
            reason=f"{name} does not run embedding models here",
            remedy="use pytorch or onnx",
        )
    if python:
        return probe_elsewhere(name, python, task)
    try:
        return load_engine(name, task).probe()
    except EngineStartError as error:
        return Availability(
            engine=name, is_available=False, reason=error.message, remedy=error.remedy or ""
        )


def probe_engines(python_by_engine: Mapping[str, str] | None = None) -> list[Availability]:
    """Probe every engine that this project names, and every plug-in; echo is for tests.

    Args:
        python_by_engine: interpreters of engines that have one of their own.
    """
    pythons = python_by_engine or {}
    names = [name for name in engine_names() if name != "echo"]
    return [probe_engine(name, python=pythons.get(name, "")) for name in names]


def _targets(task: Task) -> dict[str, str]:
    return find_targets(ENTRY_POINT_GROUP[task], _BUILT_IN[task])
