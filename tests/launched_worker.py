"""A real worker process that is followed while it runs."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mm_orch.workers.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import zmq.asyncio

    from mm_orch.core.observers import Observer
    from mm_orch.workers.messages import WorkerSpec


@asynccontextmanager
async def launched(
    spec: WorkerSpec, *, context: zmq.asyncio.Context, observer: Observer
) -> AsyncIterator[Worker]:
    """Give a worker that is ready; stop it in the end."""
    worker = await Worker.launch(spec, context=context, observer=observer)
    await worker.wait_until_ready()
    watching = asyncio.create_task(worker.watch())
    yield worker
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await worker.stop()
