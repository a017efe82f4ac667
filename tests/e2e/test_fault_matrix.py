"""Every fault at every path, on a real server whose first engine can be told to misbehave.

docs/fault-matrix.md is the same table for people; a test compares the two. The same with workers on
Ray is in tests/engines/test_cluster_faults.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import fault_scenes as scenes
from tests import odd_engines as odd
from tests.fault_scenes import PATHS, Place, Stage
from tests.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("builtin_model", "embedding_model")]

# All of it with replicas is the long form; what decides is below.
NUMBERS = [
    pytest.param(1, id="one worker"),
    pytest.param(2, id="two replicas", marks=pytest.mark.long),
]


@pytest.fixture
def open_stage(tmp_path: Path) -> Iterator[Callable[[int], Stage]]:
    directory = tmp_path / "plug-ins"
    directory.mkdir()
    stages: list[Stage] = []

    def open_stage(num_replicas: int) -> Stage:
        stages.append(Stage(tmp_path, odd.install(directory), Place(num_replicas=num_replicas)))
        return stages[-1]

    yield open_stage
    for stage in stages:
        stage.close()


@pytest.fixture(params=NUMBERS)
def stage(open_stage: Callable[[int], Stage], request: pytest.FixtureRequest) -> Stage:
    return open_stage(request.param)


@pytest.mark.parametrize("fault", [*odd.FAULTS])
def test_with_a_second_engine_every_fault_ends_in_the_whole_answer(
    fault: str, stage: Stage
) -> None:
    scenes.check_fault(stage, stage.launch("odd", "spare"), fault)


def test_with_a_second_replica_what_decides_ends_in_the_whole_answer_of_the_same_engine(
    open_stage: Callable[[int], Stage],
) -> None:
    stage = open_stage(2)
    server = stage.launch("odd", "spare")
    scenes.check_fault(stage, server, "break", ["chat, streamed"])
    scenes.check_fault(stage, server, "die", ["chat, streamed", "embeddings"])
    scenes.check_fault(stage, server, "hang", ["chat, streamed"])


def test_an_engine_that_refuses_to_start_is_replaced_before_anybody_asks(stage: Stage) -> None:
    scenes.check_refusal(stage)


@pytest.mark.long
def test_all_workers_move_to_the_next_engine_and_back_where_theirs_is_gone(stage: Stage) -> None:
    scenes.check_engine_lost_everywhere(stage)


def test_a_slow_engine_is_waited_for_until_the_deadline(stage: Stage) -> None:
    scenes.check_slowness(stage)


def test_a_server_that_is_told_to_end_finishes_what_runs(stage: Stage) -> None:
    scenes.check_end(stage)


def test_bad_requests_open_no_circuit(stage: Stage) -> None:
    scenes.check_bad_requests(stage)


def test_the_page_for_people_has_every_fault_and_every_path() -> None:
    page = (ROOT / "docs/fault-matrix.md").read_text()

    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert rows[0].split(" | ")[1:] == [*list(PATHS)[:-1], "embeddings |"]
    told = "\n".join(row.split(" | ")[0] for row in rows)
    for fault in (*odd.FAULTS, "refuse to start", "slow", "disk full", "SIGTERM"):
        assert f"| {fault}" in told
