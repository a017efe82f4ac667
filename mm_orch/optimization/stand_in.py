"""Names of stand-ins: a second engine of a model, for requests that its own engine cannot do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mm_orch.optimization.plan import ModelPlan

_SUFFIX = " (stand-in)"
# One that nobody has needed for so long leaves, where the model has no idle_unload_s.
_IDLE_LIMIT_S = 600.0


def name_stand_in(model: str) -> str:
    """Return the name of a model's stand-in among the models in memory."""
    return f"{model}{_SUFFIX}"


def is_stand_in(name: str) -> bool:
    """Whether a name among the models in memory is a stand-in's."""
    return name.endswith(_SUFFIX)


def model_of(name: str) -> str:
    """Return the configured name of what is in memory."""
    return name.removesuffix(_SUFFIX)


def find_idle_limit(name: str, plan: ModelPlan) -> float | None:
    """Return after how many idle seconds what is in memory leaves; None for never."""
    if plan.idle_unload_s is None and is_stand_in(name):
        return _IDLE_LIMIT_S
    return plan.idle_unload_s
