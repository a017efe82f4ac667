"""Puts the choice of a model together: what it reads, and whom it hears of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mm_orch.core.errors import ModelStoreError
from mm_orch.models.store import ModelStore
from mm_orch.routing.model_chooser import ModelChooser
from mm_orch.routing.model_facts import ModelFactsReader
from mm_orch.routing.model_pace import ModelPace

if TYPE_CHECKING:
    from mm_orch.config import Config
    from mm_orch.consciousness.goals import Goals
    from mm_orch.consciousness.outcome_statistics import PastOutcomes
    from mm_orch.core.clock import Clock
    from mm_orch.core.observers import ObserverFanOut
    from mm_orch.models.stored import StoredModel
    from mm_orch.optimization.manager import OptimizationManager
    from mm_orch.orchestration.admission import Admission


def make_model_chooser(
    config: Config,
    manager: OptimizationManager,
    admission: Admission,
    *,
    observer: ObserverFanOut,
    goals: Goals,
    past: PastOutcomes,
    clock: Clock,
) -> ModelChooser:
    """Return what chooses models; from now on it hears how they do."""
    pace = ModelPace(config.models, clock)
    observer.add((pace,))
    store = ModelStore(config.system.data_directory)
    reader = ModelFactsReader(manager, admission, pace, partial(_find_files, store, config))
    return ModelChooser(
        reader.read,
        default=config.default_model_name,
        goals=goals,
        past_by_model=past.outcomes_by_model,
    )


def _find_files(store: ModelStore, config: Config, model: str) -> StoredModel | None:
    try:
        return store.find(model, config.models[model].source)
    except ModelStoreError:
        # Who asks this model is told what is wrong with its source.
        return None
