"""Every fault of docs/fault-matrix.md that can occur on a node of a real Ray cluster."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests import fault_scenes as scenes
from tests import odd_engines as odd
from tests.available import require_engine
from tests.e2e.test_kills import SAME_WEIGHTS, SMALL, Size, check_same_weights, fp32
from tests.engines.test_chain import Environments, check_walk, settings_of
from tests.fault_scenes import Place, Stage, environment_of
from tests.ray_nodes import require_ray, run_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mm_orch.models.stored import StoredModel
    from tests.e2e.test_kills import Pair
    from tests.processes import ServerProcess
    from tests.ray_nodes import Nodes

    Launch = Callable[..., ServerProcess]

pytestmark = [
    pytest.mark.model,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("builtin_model", "embedding_model"),
]

# Two models, and beside each the worker that is to follow it.
NUM_CPUS = 4


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> odd.Switch:
    """One for all tests: nodes are started with what tells workers of it."""
    return odd.install(tmp_path_factory.mktemp("plug-ins"))


@pytest.fixture(scope="module")
def nodes(switch: odd.Switch) -> Iterator[Nodes]:
    require_ray()
    # Where others compute too, Ray's own niceness would have each start take minutes.
    with run_nodes({**environment_of(switch), "RAY_worker_niceness": "0"}) as nodes:
        nodes.add(NUM_CPUS)
        nodes.add(NUM_CPUS)
        yield nodes


@pytest.fixture
def on_ray(nodes: Nodes, launch: Launch) -> Launch:
    """Start servers whose workers run there."""
    return partial(launch, arguments=["--cluster", nodes.address], environment=nodes.environment)


@pytest.fixture
def stage(nodes: Nodes, switch: odd.Switch, tmp_path: Path) -> Iterator[Stage]:
    place = Place(arguments=("--cluster", nodes.address), environment=nodes.environment)
    stage = Stage(tmp_path, switch, place)
    yield stage
    stage.close()
    switch.reset()


def kill_workers(nodes: Nodes) -> None:
    for pid in nodes.find_workers():
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("fault", [*odd.FAULTS])
def test_every_fault_on_a_node_ends_in_the_whole_answer(fault: str, stage: Stage) -> None:
    scenes.check_fault(stage, stage.launch("odd", "spare"), fault)


def test_an_engine_that_refuses_to_start_on_a_node_is_replaced(stage: Stage) -> None:
    scenes.check_refusal(stage)


def test_workers_on_nodes_move_to_the_next_engine_and_back(stage: Stage) -> None:
    scenes.check_engine_lost_everywhere(stage)


def test_a_slow_engine_on_a_node_is_waited_for_until_the_deadline(stage: Stage) -> None:
    scenes.check_slowness(stage)


def test_a_server_that_is_told_to_end_finishes_what_runs_on_nodes(stage: Stage) -> None:
    scenes.check_end(stage)


def test_bad_requests_open_no_circuit_of_a_node(stage: Stage) -> None:
    scenes.check_bad_requests(stage)


@pytest.mark.parametrize(
    ("pair", "size"),
    # Of an engine that computes nothing a stream must be long to be still going on.
    [(fp32("echo", "echo"), Size(4, 1800)), *((pair, SMALL) for pair in SAME_WEIGHTS)],
    ids=str,
)
def test_streams_with_a_kill_in_each_on_a_node_say_what_they_say_undisturbed(
    pair: Pair, size: Size, nodes: Nodes, on_ray: Launch, builtin_model: StoredModel
) -> None:
    check_same_weights(on_ray, pair, builtin_model, size, partial(kill_workers, nodes))


def test_an_engine_that_is_lost_on_nodes_under_load_returns(on_ray: Launch, tmp_path: Path) -> None:
    chain = ("openvino", "onnx")
    environments = Environments(tmp_path, chain)
    for engine in chain:
        require_engine(engine, environments.pythons.get(engine, ""))
    server = on_ray(config=settings_of(environments, chain))
    check_walk(server, environments, chain, num_clients=2)
