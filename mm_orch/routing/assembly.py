"""Puts choices together: what they read, and whom they hear of it."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from mm_orch.core.errors import ModelStoreError
from mm_orch.models.store import ModelStore
from mm_orch.routing.model_chooser import ModelChooser
from mm_orch.routing.model_facts import ModelFactsReader
from mm_orch.routing.model_pace import ModelPace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from mm_orch.config import Config
    from mm_orch.consciousness.goals import Goals
    from mm_orch.consciousness.mind import Mind
    from mm_orch.consciousness.outcome_statistics import PastOutcomes
    from mm_orch.core.clock import Clock
    from mm_orch.core.observers import ObserverFanOut
    from mm_orch.models.stored import StoredModel
    from mm_orch.optimization.manager import OptimizationManager
    from mm_orch.orchestration.admission import Admission
    from mm_orch.routing.feedback_learner import FeedbackLearner

logger = logging.getLogger(__name__)

FILE = "routing_biases.json"
"""In the data directory: what routing has learned from feedback."""


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


@asynccontextmanager
async def open_learner(
    config: Config, mind: Mind | None, observer: ObserverFanOut, *, is_kept: bool
) -> AsyncIterator[Callable[[], Mapping[str, float]]]:
    """Give what gives the learned bias of each workflow, and learn on; switched off, there is none.

    Args:
        config: the whole configuration.
        mind: remembers what is learned from.
        observer: tells of feedback.
        is_kept: what is learned outlasts the process; else nothing is.
    """
    learner = None
    if mind is not None and is_kept and config.routing.workflows.learn_from_feedback:
        learner = await asyncio.to_thread(_make_learner, config, mind)
    if learner is None:
        yield dict
        return
    observer.add((learner,))
    async with learner.running():
        yield lambda: learner.bias_by_workflow


def _make_learner(config: Config, mind: Mind) -> FeedbackLearner | None:
    # Not imported where nothing is learned.
    from mm_orch.routing.development import load_development
    from mm_orch.routing.feedback_learner import FeedbackLearner

    try:
        development = load_development()
    except (OSError, ValueError) as error:
        logger.warning("Routing learns nothing from feedback: %s", error)
        return None
    return FeedbackLearner(
        lambda: mind.state.memory,
        development,
        config.system.data_directory / FILE,
        now=time.time,
        half_life_s=config.consciousness.memory.half_life_s,
    )


def _find_files(store: ModelStore, config: Config, model: str) -> StoredModel | None:
    try:
        return store.find(model, config.models[model].source)
    except ModelStoreError:
        # Who asks this model is told what is wrong with its source.
        return None
