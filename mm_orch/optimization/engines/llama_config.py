"""What config.json says of a model of the Llama family, read as transformers reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# transformers' own, where a configuration does not say.
_WINDOW = 4096
_THETA = 10000.0


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotations of queries and keys.

    Attributes:
        kind: ``default`` for angles that are not scaled.
        theta: base of the angles.
        is_stated: the configuration names the base.
        options: all that is said of them.
    """

    kind: str
    theta: float
    is_stated: bool
    options: Mapping[str, Any]


def find_rope(config: Mapping[str, Any]) -> Rope:
    """Return a model's rotations.

    Raises:
        TypeError, ValueError: a value is of another kind.
    """
    # transformers 5 writes one mapping, older versions a number and a mapping of the scaling;
    # where somebody has added the old one to the new, it is the old one that counts.
    options = config.get("rope_scaling") or config.get("rope_parameters") or {}
    stated = options.get("rope_theta") or config.get("rope_theta")
    kind = options.get("rope_type") or options.get("type") or "default"
    return Rope(str(kind), float(stated or _THETA), stated is not None, options)


def find_window(config: Mapping[str, Any]) -> int | None:
    """Return how many last tokens the layers see that do not see all; None where all layers do.

    Raises:
        TypeError, ValueError: a value is of another kind.
    """
    kind, is_used = config.get("model_type"), config.get("use_sliding_window")
    if kind == "mistral" or is_used:
        window = config.get("sliding_window", _WINDOW)
    elif kind == "llama" and is_used is None:
        window = config.get("sliding_window")
    else:
        window = None
    kinds = config.get("layer_types")
    if window is None or (kinds and "sliding_attention" not in kinds):
        return None
    return int(window)
