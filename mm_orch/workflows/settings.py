"""Takes what workflows need out of the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.consciousness.gauge import Gauge, load_calibrations
from mm_orch.consciousness.goals import goals_of
from mm_orch.workflows.cascade_settings import CascadeSettings
from mm_orch.workflows.doubt import DoubtSettings
from mm_orch.workflows.routes import RoutingSettings
from mm_orch.workflows.running import WorkflowSettings

if TYPE_CHECKING:
    from mm_orch.config import Config
    from mm_orch.config.schema.confidence import ConfidenceOptions


def make_settings(config: Config) -> WorkflowSettings:
    """Return the slice of the configuration; reads the calibrations of its models."""
    workflows = config.workflows
    # To know how sure it is belongs to what the system knows of itself; the cascade goes by it too.
    tells_confidence = workflows.confidence.enabled and config.consciousness.enabled
    sources = {name: model.source for name, model in config.models.items()}
    is_gauging = tells_confidence or workflows.cascade.enabled
    return WorkflowSettings(
        is_enabled=workflows.enabled,
        timeout_s=workflows.deadline_s or config.api.request_timeout_s,
        window_tokens=workflows.window_tokens,
        tells_confidence=tells_confidence,
        gauge=Gauge(
            unsure_below=workflows.confidence.unsure_below,
            calibration_by_model=load_calibrations(sources if is_gauging else {}),
        ),
        cascade=_make_cascade(config),
        doubt=_make_doubt(config.workflows.confidence) if tells_confidence else DoubtSettings(),
    )


def make_routing_settings(config: Config) -> RoutingSettings:
    """Return how workflows are chosen for calls that name none."""
    routing = config.routing.workflows
    return RoutingSettings(
        is_by_default=routing.by_default,
        min_confidence=routing.min_confidence,
        allowed=routing.allowed,
        goals=goals_of(config.consciousness),
    )


def _make_doubt(options: ConfidenceOptions) -> DoubtSettings:
    return DoubtSettings(
        ask_again_below=options.ask_again_below, unknown_below=options.unknown_below
    )


def _make_cascade(config: Config) -> CascadeSettings:
    cascade = config.workflows.cascade
    large_model = cascade.large_model
    return CascadeSettings(
        is_enabled=cascade.enabled,
        large_model=None if large_model is None else config.model_name_by_spelling[large_model],
        min_confidence=cascade.min_confidence,
        num_samples=cascade.samples,
        temperature=cascade.temperature,
    )
