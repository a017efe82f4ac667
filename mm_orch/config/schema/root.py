"""The whole configuration, and the questions whose answer needs more than one section."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from mm_orch.config.schema.api import ApiSettings
from mm_orch.config.schema.cluster import ClusterSettings
from mm_orch.config.schema.consciousness import ConsciousnessSettings
from mm_orch.config.schema.discovery import DiscoverySettings
from mm_orch.config.schema.models import BUILT_IN_MODEL, BUILT_IN_SOURCE, ModelConfig
from mm_orch.config.schema.monitoring import MonitoringSettings
from mm_orch.config.schema.optimization import OptimizationSettings
from mm_orch.config.schema.orchestration import OrchestrationSettings
from mm_orch.config.schema.routing import RoutingSettings
from mm_orch.config.schema.section import Section, option, section
from mm_orch.config.schema.storage import StorageSettings
from mm_orch.config.schema.system import SystemSettings
from mm_orch.config.schema.values import ModelName  # noqa: TC001 - pydantic reads it
from mm_orch.config.schema.workflows import WorkflowsSettings

LAST_RESORT_ENGINE = "pytorch"
DEFAULT_ENGINES = ("openvino", "vllm", "deepspeed", "onnx", LAST_RESORT_ENGINE)
"""Order without a GPU, which is right with one too: what a GPU rules out is skipped."""


def _with_built_in(value: Any) -> Any:
    """Add the built-in model, and its source where the entry names none."""
    if not isinstance(value, dict):
        return value
    entry = value.get(BUILT_IN_MODEL, {})
    if isinstance(entry, dict):
        entry = {"source": BUILT_IN_SOURCE, **entry}
    return {**value, BUILT_IN_MODEL: entry}


def _built_in_alone() -> dict[str, ModelConfig]:
    return {BUILT_IN_MODEL: ModelConfig(source=BUILT_IN_SOURCE)}


class Config(Section):
    """Everything that can be configured; frozen, every option has a value."""

    optimization: OptimizationSettings = section(
        OptimizationSettings, "Which engines run the models, and how requests share them."
    )
    orchestration: OrchestrationSettings = section(
        OrchestrationSettings, "What is done about engines that hang, and answers they cut off."
    )
    cluster: ClusterSettings = section(
        ClusterSettings, "Where a server's models run: here, or on the machines of a Ray cluster."
    )
    monitoring: MonitoringSettings = section(
        MonitoringSettings, "Metrics, traces, alerts, and the server."
    )
    models: Annotated[dict[ModelName, ModelConfig], BeforeValidator(_with_built_in)] = option(
        f"The models by name; {BUILT_IN_MODEL} is always among them.", default=_built_in_alone
    )
    discovery: DiscoverySettings = section(
        DiscoverySettings, "How servers elsewhere that run a model are looked for."
    )
    workflows: WorkflowsSettings = section(
        WorkflowsSettings, "Answers that take several steps, and conversations that are stored."
    )
    consciousness: ConsciousnessSettings = section(
        ConsciousnessSettings, "What the system knows of itself, and what follows from it."
    )
    routing: RoutingSettings = section(RoutingSettings, "Which workflow answers what names none.")
    storage: StorageSettings = section(
        StorageSettings, "A database that several servers share, in place of files of each."
    )
    system: SystemSettings = section(SystemSettings, "Logs, device, data directory.")
    api: ApiSettings = section(ApiSettings, "Who may call the HTTP interface, and how much.")

    @property
    def default_model_name(self) -> str:
        """The model of a request that names none: the first to preload, else the first there is.

        Of those that generate text, of which there is always one.
        """
        return self._names_for("generate")[0]

    @property
    def default_embedder_name(self) -> str | None:
        """The same for a request to embed texts; None where no model does."""
        return next(iter(self._names_for("embed")), None)

    @property
    def workflow_folder(self) -> Path:
        """Where workflows that are written in YAML lie; it may not be there."""
        if self.workflows.folder is None:
            return self.system.data_directory / "workflows"
        # Path.expanduser raises for an unknown user; this leaves the name as it is.
        return Path(os.path.expanduser(self.workflows.folder))  # noqa: PTH111

    @property
    def generator_names(self) -> tuple[str, ...]:
        """Every name and alias of a model that generates text."""
        return tuple(
            spelling
            for spelling, name in self.model_name_by_spelling.items()
            if self.models[name].task == "generate"
        )

    @property
    def preload_model_names(self) -> tuple[str, ...]:
        """The models to load at start, by name where the option names an alias."""
        wanted = self.monitoring.server.preload_models
        name_by_spelling = self.model_name_by_spelling
        return tuple(dict.fromkeys(name_by_spelling.get(name, name) for name in wanted))

    @property
    def model_name_by_spelling(self) -> dict[str, str]:
        """Every name and alias of a model, with the name it stands for."""
        name_by_spelling = {name: name for name in self.models}
        for name, model in self.models.items():
            for alias in model.aliases:
                name_by_spelling.setdefault(alias, name)
        return name_by_spelling

    def engines_for(self, model_name: str) -> tuple[str, ...]:
        """Return the engines to try for a model, in order, without those switched off.

        Whether they are installed is not known here.

        Raises:
            KeyError: no model has this name (aliases are not looked up).
        """
        if not self.optimization.enabled:
            return (LAST_RESORT_ENGINE,)
        wanted = self.models[model_name].engines
        if wanted is None:
            wanted = self._preferred_engines
        return tuple(name for name in dict.fromkeys(wanted) if name not in self.disabled_engines)

    def dtype_for(self, model_name: str, engine: str) -> str:
        """Return a model's number format on an engine, or auto; the model's own settings go first.

        Raises:
            KeyError: no model has this name.
        """
        model, optimization = self.models[model_name], self.optimization
        own = model.quantization or model.dtype
        if own != "auto":
            return own
        dtype_by_engine: dict[str, str] = {
            "vllm": optimization.vllm.dtype,
            "deepspeed": optimization.deepspeed.dtype,
            "openvino": optimization.openvino.precision,
            "onnx": "int8" if optimization.onnx.enable_quantization else "auto",
            "pytorch": optimization.pytorch.dtype,
        }
        return dtype_by_engine.get(engine, "auto")

    def settings_for(self, engine: str) -> dict[str, Any]:
        """Return the options of an engine's own section by name; none where it has no section."""
        own = getattr(self.optimization, engine, None)
        return own.model_dump(mode="json") if isinstance(own, Section) else {}

    @property
    def python_by_engine(self) -> dict[str, str]:
        """The interpreters of engines that have one of their own."""
        optimization = self.optimization
        configured = {
            "vllm": optimization.vllm.python,
            "deepspeed": optimization.deepspeed.python,
            "openvino": optimization.openvino.python,
            "onnx": optimization.onnx.python,
        }
        return {
            # Path.expanduser raises for an unknown user; this leaves the name as it is.
            engine: os.path.expanduser(python)  # noqa: PTH111
            for engine, python in configured.items()
            if python
        }

    @property
    def disabled_engines(self) -> frozenset[str]:
        """Engines that their own ``enabled`` switches off."""
        optimization = self.optimization
        is_enabled_by_name = {
            "vllm": optimization.vllm.enabled,
            "deepspeed": optimization.deepspeed.enabled,
            "openvino": optimization.openvino.enabled,
            "onnx": optimization.onnx.enabled,
        }
        return frozenset(name for name, is_on in is_enabled_by_name.items() if not is_on)

    def _names_for(self, task: str) -> list[str]:
        names = (*self.preload_model_names, *self.models)
        known = [name for name in names if name in self.models]
        return [name for name in known if self.models[name].task == task]

    @property
    def _preferred_engines(self) -> tuple[str, ...]:
        match self.optimization.engine_preference:
            case None | "auto":
                return DEFAULT_ENGINES
            case names:
                return (*names, LAST_RESORT_ENGINE)
