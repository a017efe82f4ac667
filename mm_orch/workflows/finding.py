"""Puts the registry of workflows together as the configuration says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.workflows.registry import WorkflowRegistry
from mm_orch.workflows.yaml_folder import read_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.config import Config
    from mm_orch.core.guide import Guide


def make_registry(
    config: Config, find_reason: Callable[[Guide], str] | None = None
) -> WorkflowRegistry:
    """Return all workflows: those that are installed, and those of the folder.

    Args:
        config: names the folder and the models.
        find_reason: says why answers cannot be kept to a guide; None leaves that to the calls.
    """
    knows_itself = config.consciousness.enabled
    if not config.workflows.enabled:
        return WorkflowRegistry(knows_itself=knows_itself)
    files = read_folder(
        config.workflow_folder, models=config.generator_names, find_reason=find_reason
    )
    return WorkflowRegistry(files, knows_itself=knows_itself)
