"""Which engines exist: the built-in ones and plug-ins installed beside them."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.engines.contract import Availability
from mm_orch.optimization.interpreter import probe_elsewhere

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.optimization.engines.contract import StepBackend, StreamEngine

ENTRY_POINT_GROUP = "mm_orch.engines"
# Named here too, so that a checkout works without being installed as a distribution.
_BUILT_IN = {
    "echo": "mm_orch.optimization.engines.echo:EchoBackend",
    "pytorch": "mm_orch.optimization.engines.pytorch.backend:PyTorchBackend",
}
_NOT_BUILT = ("vllm", "deepspeed", "openvino", "onnx")


def engine_names() -> list[str]:
    """All engines that can be loaded here, built-in ones first."""
    return list(_targets())


def load_engine(name: str) -> type[StepBackend | StreamEngine]:
    """Import an engine's class.

    Raises:
        EngineStartError: no engine has this name, or its module cannot be imported.
    """
    target = _targets().get(name)
    if target is None:
        raise EngineStartError(f"No engine is named {name!r}. Known: {', '.join(engine_names())}.")
    module_name, _, attribute = target.partition(":")
    try:
        engine: type[StepBackend | StreamEngine] = getattr(
            importlib.import_module(module_name), attribute
        )
    except (ImportError, AttributeError) as error:
        raise EngineStartError(
            f"Engine {name!r} ({target}) cannot be imported: {error}.",
            remedy="Install or repair the package that provides it.",
        ) from error
    return engine


def probe_engine(name: str, *, python: str = "") -> Availability:
    """Say whether the engine can run here, and if not why.

    Args:
        name: the engine.
        python: interpreter to ask; empty is this one. Asking another one takes a moment.
    """
    if python:
        return probe_elsewhere(name, python)
    if name in _NOT_BUILT and name not in _targets():
        return Availability(
            engine=name,
            is_available=False,
            reason="not built in this version yet",
            remedy="use pytorch",
        )
    try:
        return load_engine(name).probe()
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
    names = [*_NOT_BUILT, *(name for name in engine_names() if name != "echo")]
    return [probe_engine(name, python=pythons.get(name, "")) for name in dict.fromkeys(names)]


def _targets() -> dict[str, str]:
    plug_ins = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    return {**_BUILT_IN, **{entry.name: entry.value for entry in plug_ins}}
