"""The whole configuration: schema, file, environment, precedence, faults."""

from __future__ import annotations

from mm_orch.config.loading import LoadedConfig, load_config
from mm_orch.config.rendering import render_changed, render_effective
from mm_orch.config.schema import Config, ModelConfig

__all__ = [
    "Config",
    "LoadedConfig",
    "ModelConfig",
    "load_config",
    "render_changed",
    "render_effective",
]
