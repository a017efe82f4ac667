"""The step backend on DeepSpeed: the first of several ranks that share each layer of a model."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec

from mm_orch.core.errors import EngineFailedError, EngineStartError
from mm_orch.optimization.engines.contract import EngineFacts
from mm_orch.optimization.engines.deepspeed.environment import set_library_variables
from mm_orch.optimization.engines.deepspeed.messages import RANK_LOST_EXIT_CODE, RankOrder
from mm_orch.optimization.engines.deepspeed.plan import RankPlan, plan_ranks
from mm_orch.optimization.engines.probing import look_for_libraries

if TYPE_CHECKING:
    from collections.abc import Sequence as Batch

    import torch

    from mm_orch.core.generation import TokenChunk
    from mm_orch.optimization.engines.contract import Availability, EngineSpec, ScheduledSequence
    from mm_orch.optimization.engines.deepspeed.group import RankGroup
    from mm_orch.optimization.engines.deepspeed.rank import Rank

logger = logging.getLogger(__name__)

_LIBRARIES = ("deepspeed", "torch", "transformers", "safetensors", "accelerate")


class DeepSpeedBackend:
    """Runs a causal language model of transformers, each layer shared out over local processes.

    This process is rank 0: it takes the steps, samples, and sends each step to the others.
    """

    name: ClassVar[str] = "deepspeed"
    takes_gpus: ClassVar[bool] = True

    def __init__(self) -> None:
        self._facts: EngineFacts | None = None
        self._rank: Rank | None = None
        self._group: RankGroup | None = None

    @classmethod
    def probe(cls) -> Availability:
        """Look for the libraries without importing them."""
        return look_for_libraries(
            cls.name,
            _LIBRARIES,
            remedy="run scripts/setup-engine deepspeed and set optimization.deepspeed.python to"
            " .venv-deepspeed/bin/python, or pip install '.[deepspeed]'",
        )

    def start(self, spec: EngineSpec) -> EngineFacts:
        """Start the other ranks, load with them, and check what they compute together."""
        if self._facts is not None:
            return self._facts
        begin_s = time.monotonic()
        plan, device = _plan(spec)
        try:
            self._rank = self._open(spec, plan, device)
        except EngineStartError:
            self.stop()
            raise
        except (RuntimeError, OSError) as error:
            self.stop()
            raise EngineStartError(
                f"{spec.model}: DeepSpeed cannot start on {plan.num_ranks} ranks: {error}",
                remedy="See the worker's log for what the ranks said.",
            ) from error
        if self._group is not None:
            self._group.complete()
        self._facts = self._state_facts(spec, plan)
        logger.info(
            "%s: ready in %.1f s, %s on %s, %d ranks of %d threads, %d KV blocks",
            spec.model,
            time.monotonic() - begin_s,
            plan.dtype,
            device,
            plan.num_ranks,
            plan.num_threads,
            self._facts.num_kv_blocks,
        )
        return self._facts

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        """Have all ranks compute the batch as one packed row, and sample here.

        Raises:
            EngineOutOfMemoryError: memory ran out, with one rank.
            EngineFailedError: the step was refused, with one rank.
            SystemExit: the ranks fell out of line; the worker has to be started anew.
        """
        from mm_orch.optimization.engines.pytorch.stepping import compute_tokens

        return compute_tokens(batch, self._forward)

    def stop(self) -> None:
        """End the other ranks, drop model and KV memory."""
        if self._group is not None:
            from mm_orch.optimization.engines.deepspeed.rank import leave_group

            self._group.end()
            leave_group()
        self._rank = self._group = self._facts = None

    def _open(self, spec: EngineSpec, plan: RankPlan, device: torch.device) -> Rank:
        order = RankOrder(
            spec=spec,
            rank=0,
            num_ranks=plan.num_ranks,
            num_threads=plan.num_threads,
            dtype=plan.dtype,
            device=str(device),
            port=0,
            uses_shared_memory=False,
            wants_kernels=plan.wants_kernels,
        )
        store = None
        if plan.num_ranks > 1:
            self._group, order = _start_followers(order, device)
            store = self._group.store
        # Here, not above: the followers import the same meanwhile.
        from mm_orch.optimization.engines.deepspeed.rank import Rank

        return Rank(order, store)

    def _state_facts(self, spec: EngineSpec, plan: RankPlan) -> EngineFacts:
        from mm_orch.optimization.engines.pytorch.packed import BLOCK_TOKENS

        rank = self._require_rank()
        return EngineFacts(
            engine=self.name,
            dtype=plan.dtype,
            device=str(rank.device),
            context_length=spec.context_length,
            kv_block_tokens=BLOCK_TOKENS,
            kv_block_bytes=rank.block_bytes,
            num_kv_blocks=rank.num_blocks,
            has_fixed_steps=True,
        )

    def _require_rank(self) -> Rank:
        if self._rank is None:
            raise EngineFailedError("The DeepSpeed engine has not been started.")
        return self._rank

    def _forward(self, batch: Batch[ScheduledSequence]) -> torch.Tensor:
        """Return [number of completed prompts, vocab_size] logits."""
        from mm_orch.optimization.engines.pytorch.packed import pack

        rank = self._require_rank()
        step = pack(batch, rank.device, is_rounded=rank.compiles_shapes)
        if self._group is None:
            return rank.compute(step)
        try:
            self._group.send(step)
            return rank.compute(step)
        except (RuntimeError, MemoryError, OSError) as error:
            # The others have computed more of it than this one, or less.
            logger.critical("a step failed on rank 0; all ranks have to start anew", exc_info=error)
            raise SystemExit(RANK_LOST_EXIT_CODE) from error


def _plan(spec: EngineSpec) -> tuple[RankPlan, torch.device]:
    import torch

    from mm_orch.optimization.engines.pytorch.device import choose_device

    device = choose_device(spec.device)
    num_devices = torch.cuda.device_count() - (device.index or 0) if device.type == "cuda" else 0
    plan = plan_ranks(spec, device=device.type, num_devices=num_devices)
    set_library_variables(
        device=device.type,
        num_threads=plan.num_threads,
        cache_directory=Path(spec.cache_directory),
    )
    return plan, device


def _start_followers(order: RankOrder, device: torch.device) -> tuple[RankGroup, RankOrder]:
    """Compile what ranks share, then start all but the first; return the first one's order."""
    import torch

    from mm_orch.optimization.engines.deepspeed import shared_memory
    from mm_orch.optimization.engines.deepspeed.group import RankGroup
    from mm_orch.optimization.engines.pytorch.native.build import load_library

    spec = order.spec
    if torch.distributed.is_initialized():
        raise EngineStartError(
            f"{spec.model}: this process is a rank of another model already.",
            remedy="Stop that model first, or load this one in a process of its own.",
        )
    shared_memory.remove_leftovers()
    uses_shared_memory = False
    if device.type == "cpu":
        # Before the others start, so that everything is compiled once.
        load_library(Path(spec.cache_directory))
        uses_shared_memory = shared_memory.can_share_memory()
    if uses_shared_memory:
        try:
            shared_memory.load_operation(Path(spec.cache_directory))
        except RuntimeError as error:
            logger.warning("%s: ranks add up through sockets, slowly: %s", spec.model, error)
            uses_shared_memory = False
    group = RankGroup(spec.model)
    first, *others = (
        msgspec.structs.replace(
            order,
            rank=rank,
            port=group.port,
            device=f"cuda:{(device.index or 0) + rank}" if device.type == "cuda" else "cpu",
            uses_shared_memory=uses_shared_memory,
        )
        for rank in range(order.num_ranks)
    )
    try:
        group.start(others)
    except OSError:
        group.end()
        raise
    return group, first
