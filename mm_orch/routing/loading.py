"""Loads the router that the package brings with it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mm_orch.routing.learned import LEARNED_PATH, load_learned
from mm_orch.routing.rules import RULES_PATH, load_rule_weights
from mm_orch.routing.workflow_router import WorkflowRouter

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)


def load_workflow_router(
    learned_path: Path = LEARNED_PATH, rules_path: Path = RULES_PATH
) -> WorkflowRouter:
    """Return the router; what cannot be loaded is warned of and done without."""
    learned = rules = None
    try:
        learned = load_learned(learned_path)
    except (OSError, ValueError) as error:
        logger.warning("Queries are routed by rules alone: %s", error)
    try:
        rules = load_rule_weights(rules_path)
    except (OSError, ValueError) as error:
        logger.warning("Queries are routed without rules: %s", error)
    return WorkflowRouter(learned, rules)
