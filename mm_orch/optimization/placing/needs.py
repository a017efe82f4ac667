"""What a worker takes of GPUs: reckoned from the model's files, then as it was measured."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_orch.models.parameters import count_parameters
from mm_orch.optimization.placing.rule import Way, list_ways
from mm_orch.optimization.plan import find_parallelism
from mm_orch.optimization.registry import takes_gpus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm_orch.models.stored import StoredModel
    from mm_orch.optimization.plan import EnginePlan, ModelPlan

# Bytes a weight; groups of 32 quantised ones have a scale and a minimum of 16 bits each.
_WEIGHT_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.125, "int4": 0.625}
# What GPUs compute in where nothing is said; keys and values have it too.
_AUTO_BYTES = 2.0
# A driver's context, libraries, and what a step computes with; a guess until it is measured.
_WORKSPACE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    num_heads: int
    kv_bytes_a_token: int


def list_gpu_ways(plan: ModelPlan, engine: EnginePlan, stored: StoredModel) -> tuple[Way, ...]:
    """Return how an engine may run a model on GPUs, the best first; none where it takes none.

    Reads the headers of the model's files.
    """
    if not takes_gpus(engine.name, plan.task):
        return ()
    sharing, stages = find_parallelism(engine.settings)
    shape = _read_shape(Path(stored.directory) / "config.json")
    wish = Way(
        engine=engine.name,
        num_gpus=sharing * stages,
        num_stages=stages,
        weights_bytes=_weigh(engine, stored),
        kv_bytes=_reckon_kv(plan, stored, shape),
        workspace_bytes=_WORKSPACE_BYTES,
    )
    return list_ways(wish, num_heads=shape.num_heads if shape else None)


class Measurements:
    """What workers were seen to take of each GPU, by model and engine, as long as the server runs.

    The most that was seen counts: what a first long prompt needs is needed again.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], dict[tuple[int, int], int]] = {}
        self._on_host: set[tuple[str, str]] = set()

    def note(self, model: str, way: Way, share_bytes: int) -> None:
        """Note what a worker takes of the GPU of which it takes most."""
        seen = self._seen.setdefault((model, way.engine), {})
        split = way.num_gpus, way.num_stages
        seen[split] = max(share_bytes, seen.get(split, 0))
        self._on_host.discard((model, way.engine))

    def note_host(self, model: str, engine: str) -> None:
        """Note that a worker computes on the CPU though it was given a GPU.

        Where others of its engine were seen on GPUs, that says nothing of the engine.
        """
        if (model, engine) not in self._seen:
            self._on_host.add((model, engine))

    def correct(self, model: str, ways: Iterable[Way]) -> tuple[Way, ...]:
        """Return the ways with what was measured; none for an engine that takes no GPU.

        Where a way was seen over another number of GPUs only, it is split evenly: too much for
        fewer GPUs, rather than too little.
        """
        return tuple(
            self._correct(way, self._seen.get((model, way.engine), {}))
            for way in ways
            if (model, way.engine) not in self._on_host
        )

    def _correct(self, way: Way, seen: dict[tuple[int, int], int]) -> Way:
        if not seen:
            return way
        split = way.num_gpus, way.num_stages
        if split not in seen:
            split = max(seen)
        taken = seen[split] * split[0]
        return replace(way, weights_bytes=taken, kv_bytes=0, workspace_bytes=0)


def _weigh(engine: EnginePlan, stored: StoredModel) -> int:
    num_parameters = count_parameters(stored)
    if num_parameters is None:
        return stored.size_bytes
    return int(num_parameters * _WEIGHT_BYTES.get(engine.dtype, _AUTO_BYTES))


def _reckon_kv(plan: ModelPlan, stored: StoredModel, shape: _Shape | None) -> int:
    if plan.task != "generate":
        return 0
    if plan.max_kv_bytes or shape is None:
        return plan.max_kv_bytes
    return plan.bound_context(stored) * shape.kv_bytes_a_token


def _read_shape(path: Path) -> _Shape | None:
    """Read what of a model's config.json decides how it is split; None where it does not say."""
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        config |= config.get("text_config") or {}
        num_heads = int(config["num_attention_heads"])
        head_dim = config.get("head_dim") or int(config["hidden_size"]) // num_heads
        num_vectors = 2 * int(config["num_hidden_layers"])
        num_vectors *= int(config.get("num_key_value_heads") or num_heads)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return _Shape(num_heads=num_heads, kv_bytes_a_token=int(num_vectors * head_dim * _AUTO_BYTES))
