"""Whether a model does what a request asks of it: generate text, or embed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.core.generation import Task
    from mm_orch.optimization.plan import ModelPlan

_WORDS: dict[Task, str] = {"generate": "generates text", "embed": "embeds texts"}


def check_task(plans: Mapping[str, ModelPlan], model: str, wanted: Task) -> None:
    """Refuse a model that is for something else.

    Raises:
        UnsupportedError: names the models that can.
    """
    task = plans[model].task
    if task == wanted:
        return
    able = ", ".join(name for name, plan in plans.items() if plan.task == wanted)
    raise UnsupportedError(
        f"Model {model} {_WORDS[task]}; a model that {_WORDS[wanted]} is needed here:"
        f" {able or 'none is configured'}.",
        param="model",
    )
