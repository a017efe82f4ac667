"""Chooses the model of requests for ``auto``: reads request and models, and has the choice made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.routing.model_choice import choose_model
from mm_orch.routing.request_features import read_features

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mm_orch.consciousness.goals import Goals
    from mm_orch.core.generation import GenerationRequest
    from mm_orch.core.mind_report import OutcomeStatistics
    from mm_orch.core.routing import ModelChoice
    from mm_orch.routing.model_choice import ModelFacts


class ModelChooser:
    """Keeps nothing.

    Args:
        read_facts: gives the facts of all models that generate.
        default: the model that answers where none fits.
        goals: what the operator wants.
        past_by_model: gives how models did; answers at once.
    """

    def __init__(
        self,
        read_facts: Callable[[], tuple[ModelFacts, ...]],
        *,
        default: str,
        goals: Goals,
        past_by_model: Callable[[], Mapping[str, OutcomeStatistics]],
    ) -> None:
        self._read_facts = read_facts
        self._default = default
        self._goals = goals
        self._past_by_model = past_by_model

    def choose(self, request: GenerationRequest) -> ModelChoice:
        """Return the model for a request."""
        return choose_model(
            read_features(request),
            self._read_facts(),
            default=self._default,
            goals=self._goals,
            past_by_model=self._past_by_model(),
        )
