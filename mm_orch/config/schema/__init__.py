"""The schema: every option with its type, limits, default and meaning."""

from __future__ import annotations

from mm_orch.config.schema.api import ApiKey, ApiSettings
from mm_orch.config.schema.engines import (
    DeepSpeedSettings,
    OnnxSettings,
    OpenVinoSettings,
    PyTorchSettings,
    VllmSettings,
)
from mm_orch.config.schema.models import BUILT_IN_MODEL, BUILT_IN_SOURCE, ModelConfig
from mm_orch.config.schema.monitoring import (
    AnomalySettings,
    MonitoringSettings,
    PrometheusSettings,
    TracingSettings,
)
from mm_orch.config.schema.optimization import (
    BatcherSettings,
    CacheSettings,
    OptimizationSettings,
    TunerSettings,
)
from mm_orch.config.schema.root import DEFAULT_ENGINES, LAST_RESORT_ENGINE, Config
from mm_orch.config.schema.server import ServerSettings
from mm_orch.config.schema.system import SystemSettings
from mm_orch.config.schema.workflows import WorkflowsSettings

__all__ = [
    "BUILT_IN_MODEL",
    "BUILT_IN_SOURCE",
    "DEFAULT_ENGINES",
    "LAST_RESORT_ENGINE",
    "Config",
    "OptimizationSettings",
    "VllmSettings",
    "DeepSpeedSettings",
    "OpenVinoSettings",
    "OnnxSettings",
    "PyTorchSettings",
    "BatcherSettings",
    "CacheSettings",
    "TunerSettings",
    "MonitoringSettings",
    "PrometheusSettings",
    "TracingSettings",
    "AnomalySettings",
    "ServerSettings",
    "ModelConfig",
    "WorkflowsSettings",
    "SystemSettings",
    "ApiSettings",
    "ApiKey",
]
