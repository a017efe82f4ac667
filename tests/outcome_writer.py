"""A process that keeps outcomes until it is killed, and says of each batch when it is kept.

``python -m tests.outcome_writer FILE RUN``: each line is the number of a batch, whose outcomes,
feedback, mood and stage all tell that number.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from mm_orch.storage.outcome_schema import open_outcome_database
from mm_orch.storage.outcomes import Changes, Outcome, StoredMood, StoredStage
from mm_orch.storage.sql_outcomes import SqlOutcomes

NUM_IN_BATCH = 3
# So that mood and stage can tell the number.
MAX_BATCHES = 1000


def make_batch(run: int, number: int) -> Changes:
    """Return what one batch is kept as."""
    outcomes = tuple(
        Outcome(
            kind="run",
            request_id=f"{run}-{number}",
            caller="writer",
            workflow=f"workflow-{run}",
            model=f"model-{place}",
            at_s=float(number),
            is_success=True,
            latency_s=1.0,
            num_tokens=number,
        )
        for place in range(NUM_IN_BATCH)
    )
    return Changes(
        mood=StoredMood(valence=number / MAX_BATCHES, arousal=0.0, at_s=float(number)),
        stage=StoredStage(number=run, num_runs=number, num_successes=number),
        outcomes=outcomes,
        feedback={("writer", f"{run}-{number}"): number / MAX_BATCHES},
    )


async def _write_for_ever(path: Path, run: int) -> None:
    store = SqlOutcomes(open_outcome_database(path))
    for number in itertools.count():
        await store.keep(make_batch(run, number % MAX_BATCHES))
        print(number, flush=True)  # noqa: T201 - its one output


if __name__ == "__main__":
    asyncio.run(_write_for_ever(Path(sys.argv[1]), int(sys.argv[2])))
