"""Who waits at the gate goes on when a server elsewhere becomes ready, though nobody else moves."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_orch.batching.batcher import BatcherSpec
from mm_orch.core.endpoints import read_endpoints
from mm_orch.gpus.watch import GpuWatch
from mm_orch.optimization.manager import OptimizationManager
from mm_orch.optimization.plan import ModelPlan
from mm_orch.orchestration.admission import Admission
from mm_orch.orchestration.orchestrator import Orchestrator
from mm_orch.orchestration.ticket import Ticket
from mm_orch.workers.messages import CacheSpec
from tests.recorder import Recorder
from tests.unit.benchmarking.peer import Peer, serving
from tests.unit.remote.fleets import make_fleet
from tests.unit.remote.test_server import WHOLE, Script

if TYPE_CHECKING:
    from mm_orch.remote.fleet import RemoteFleet

MODEL = "ours"


def never(*_: object) -> Any:
    raise AssertionError("nothing is asked here")


def make_manager(fleet: RemoteFleet) -> OptimizationManager:
    """Make one that has a model of one request a server."""
    plan = ModelPlan(
        name=MODEL,
        aliases=(),
        source="openai:",
        ensure_files=never,
        engines=(),
        context_length=None,
        device="cpu",
        trust_remote_code=False,
        batcher=BatcherSpec(max_batch_size=1, max_batch_tokens=1),
        cache=CacheSpec(),
        max_kv_bytes=0,
        cache_directory=Path(),
    )
    return OptimizationManager(
        {MODEL: plan},
        remotes={MODEL: fleet},
        budget_bytes=1,
        max_models=1,
        gpus=GpuWatch(lambda: None),
        observer=Recorder(),
        clock=time.monotonic,
    )


async def test_a_server_that_becomes_ready_lets_in_who_waits() -> None:
    async with (
        asyncio.timeout(60),
        serving(Peer(answer=Script(WHOLE))) as first,
        serving(Peer(answer=Script(WHOLE))) as second,
    ):
        fleet = make_fleet(first.target.url)
        async with make_manager(fleet) as manager:
            orchestrator = Orchestrator(
                find_model=never,
                choose_model=never,
                admission=Admission(9, time.monotonic),
                manager=manager,
                observer=Recorder(),
                clock=time.monotonic,
                request_timeout_s=60.0,
                find_reason=never,
                max_failovers=0,
            )
            gate = orchestrator.entrance.gate
            await fleet.wait_until_ready()
            await gate.enter(Ticket(MODEL, 0.0), num_sequences=1, num_tokens=1)
            waiting = asyncio.create_task(
                gate.enter(Ticket(MODEL, 1.0), num_sequences=1, num_tokens=1)
            )
            await asyncio.sleep(0)
            assert not waiting.done()

            fleet.name([read_endpoints(peer.target.url) for peer in (first, second)])

            await waiting
            assert fleet.num_ready == 2
