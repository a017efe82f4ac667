"""What bounds a simulated replica, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaLimits:
    """Bounds of one replica, as the options of the same names have them.

    Attributes:
        max_batch_size: most sequences in a step.
        max_batch_tokens: most prompt tokens in a step.
        kv_tokens: that its KV memory holds.
        block_tokens: only whole blocks of a beginning are reused.
        is_adaptive: take in fewer prompt tokens a step while others decode.
        is_reusing: keep beginnings for later prompts.
        noise_ratio: standard deviation of a step's time, as a share of it.
    """

    max_batch_size: int = 32
    max_batch_tokens: int = 2048
    kv_tokens: int = 1 << 40
    block_tokens: int = 16
    is_adaptive: bool = True
    is_reusing: bool = True
    noise_ratio: float = 0.0


@dataclass(slots=True)
class ReplicaCounts:
    """What a replica has done so far."""

    busy_s: float = 0.0
    prompt_s: float = 0.0
    num_steps: int = 0
    num_batched: int = 0
    num_prompt_tokens: int = 0
    num_preempted: int = 0
    num_full_steps: int = 0
