"""What one call of the command line says about its answer."""

from __future__ import annotations

from dataclasses import dataclass

from mm_orch.workflows.call import WORKFLOW_PREFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What one call says about its answer; None leaves it to the server's defaults."""

    model: str | None = None
    engine: str | None = None
    workflow: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None

    @property
    def asked_model(self) -> str | None:
        """What stands as the model in a request: the workflow, with the model that it is to use."""
        if self.workflow is None:
            return self.model
        name = f"{WORKFLOW_PREFIX}{self.workflow}"
        return name if self.model is None else f"{name}/{self.model}"
