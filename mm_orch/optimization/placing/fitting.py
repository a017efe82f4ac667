"""Tells a worker of its place: which GPUs it sees, and over how many its engine is to split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from mm_orch.optimization.placing.places import Claim
    from mm_orch.workers.messages import WorkerSpec

_SHARING_OPTIONS = ("tensor_parallel_size", "tensor_parallel")
_STAGES_OPTION = "pipeline_parallel_size"
_MEMORY_OPTION = "gpu_memory_utilization"


def fit_spec(spec: WorkerSpec, claim: Claim, *, takes_gpus: bool) -> WorkerSpec:
    """Return what a worker is told, with its place.

    Args:
        spec: as the configuration has it.
        claim: the place.
        takes_gpus: its engine computes on GPUs where it has some.
    """
    engine, device = spec.engine_spec, spec.engine_spec.device
    if claim.place.gpu_ids and device.startswith("cuda"):
        # It sees no others, so its first is the one.
        device = "cuda"
    elif takes_gpus and not claim.place.gpu_ids:
        device = "cpu"
    settings = _fit_settings(engine.settings, claim)
    return msgspec.structs.replace(
        spec,
        gpus=tuple(int(gpu_id) for gpu_id in claim.place.gpu_ids),
        visible_gpus=",".join(gpu.uuid for gpu in claim.gpus),
        engine_spec=msgspec.structs.replace(engine, device=device, settings=settings),
    )


def _fit_settings(settings: dict[str, Any], claim: Claim) -> dict[str, Any]:
    way = claim.place.way
    fitted = {_STAGES_OPTION: way.num_stages} if _STAGES_OPTION in settings else {}
    num_sharing = max(1, way.num_gpus // way.num_stages)
    fitted |= {name: num_sharing for name in _SHARING_OPTIONS if name in settings}
    ratio = settings.get(_MEMORY_OPTION)
    if ratio is not None and claim.gpus:
        # vLLM refuses to start where less than this is free, and others may be on the GPU.
        fitted[_MEMORY_OPTION] = min(ratio, way.share_bytes / claim.gpus[0].total_bytes)
    return {**settings, **fitted}
