"""Gathers what choosing a model goes by: from the models' files, their workers and the queue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mm_orch.models.chat_template import has_template
from mm_orch.models.parameters import count_parameters, guess_parameters
from mm_orch.routing.model_choice import ModelFacts
from mm_orch.workers.phase import ModelPhase

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.models.stored import StoredModel
    from mm_orch.optimization.manager import OptimizationManager
    from mm_orch.optimization.plan import ModelPlan
    from mm_orch.orchestration.admission import Admission
    from mm_orch.routing.model_pace import ModelPace

# What a disk gives and a library needs, before a load was measured.
_START_S = 5.0
_LOAD_BYTES_PER_S = 2e8
# A network's, for files that are not there yet.
_FETCH_BYTES_PER_S = 1e7
_BYTES_OF_UNKNOWN = 1e9


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a model's files say; all but the first two are None where there are none yet."""

    num_parameters: float | None
    takes_chats: bool = True
    context_length: int | None = None
    size_bytes: int | None = None


class ModelFactsReader:
    """Tells the facts of all models that generate; reads a model's files once.

    Args:
        manager: runs them.
        admission: knows the queue.
        pace: measures them.
        find_files: gives a model's files where they are complete on this machine, by its name.
    """

    def __init__(
        self,
        manager: OptimizationManager,
        admission: Admission,
        pace: ModelPace,
        find_files: Callable[[str], StoredModel | None],
    ) -> None:
        self._manager = manager
        self._admission = admission
        self._pace = pace
        self._find_files = find_files
        self._files_by_model: dict[str, FileFacts] = {}

    def read(self) -> tuple[ModelFacts, ...]:
        """Return the facts as they are now.

        At once; the first time that a model's files are there takes a few milliseconds.
        """
        plans = self._manager.plans.values()
        return tuple(self._read_one(plan) for plan in plans if plan.task == "generate")

    def _read_one(self, plan: ModelPlan) -> ModelFacts:
        files = self._files_of(plan)
        return ModelFacts(
            name=plan.name,
            num_parameters=files.num_parameters,
            context_length=_bound_context(plan, files),
            takes_chats=files.takes_chats,
            obstacle=self._find_obstacle(plan.name),
            load_s=self._expect_load_s(plan.name, files),
            tokens_per_s=self._pace.tokens_per_s(plan.name),
            num_waiting=self._admission.count_waiting(plan.name),
            max_batch_size=plan.batcher.max_batch_size,
            failure_ratio=self._pace.failure_ratio(plan.name),
        )

    def _files_of(self, plan: ModelPlan) -> FileFacts:
        known = self._files_by_model.get(plan.name)
        if known is not None:
            return known
        guess = FileFacts(guess_parameters(plan.name, plan.source, *plan.aliases))
        if self._manager.find_remote(plan.name) is not None:
            self._files_by_model[plan.name] = guess
            return guess
        stored = self._find_files(plan.name)
        if stored is None:
            # They may be fetched yet.
            return guess
        found = FileFacts(
            count_parameters(stored) or guess.num_parameters,
            takes_chats=has_template(Path(stored.directory)),
            context_length=stored.context_length,
            size_bytes=stored.size_bytes,
        )
        self._files_by_model[plan.name] = found
        return found

    def _find_obstacle(self, model: str) -> str:
        if model in self._admission.draining_models:
            return "it is being drained"
        remote = self._manager.find_remote(model)
        if remote is not None:
            is_failed = remote.phase is ModelPhase.FAILED
            return f"it cannot be reached: {remote.detail}" if is_failed else ""
        supervisor = self._manager.find_supervisor(model)
        if supervisor is not None and supervisor.phase is ModelPhase.FAILED:
            return "no engine could be started for it"
        return ""

    def _expect_load_s(self, model: str, files: FileFacts) -> float:
        if self._manager.find_remote(model) is not None:
            return 0.0
        supervisor = self._manager.find_supervisor(model)
        if supervisor is not None and supervisor.phase is ModelPhase.READY:
            return 0.0
        measured = self._pace.load_s(model)
        if measured is not None:
            return measured
        if files.size_bytes is None:
            return _START_S + (files.num_parameters or _BYTES_OF_UNKNOWN) / _FETCH_BYTES_PER_S
        return _START_S + files.size_bytes / _LOAD_BYTES_PER_S


def _bound_context(plan: ModelPlan, files: FileFacts) -> int | None:
    known = [one for one in (plan.context_length, files.context_length) if one is not None]
    return min(known, default=None)
