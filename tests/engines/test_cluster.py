"""Workers on a real Ray cluster: they answer, and what is lost there breaks no stream."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.daemons import poll
from tests.ray_nodes import require_ray, run_nodes
from tests.streams import (
    CHAT,
    Reading,
    count_failovers,
    model_of,
    wait_for_engine,
    wait_for_model,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.processes import ServerProcess
    from tests.ray_nodes import Node, Nodes

    Launch = Callable[..., ServerProcess]
    Kill = Callable[[Node, int], None]

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

MODEL = "smollm2-135m"
QUESTION = "Tell me of the sea, and of the ships that sail on it."
# What auto finds on this machine: not the cluster of other tests.
ALONE = {"RAY_ADDRESS": "local"}
# Of an engine that computes nothing a stream must be long to be still going on.
NUM_TOKENS_BY_ENGINE = {"echo": 4000, "pytorch": 64}


@pytest.fixture(autouse=True, scope="module")
def _ray() -> None:
    require_ray()


@pytest.fixture(scope="module")
def nodes(_ray: None) -> Iterator[Nodes]:
    with run_nodes() as nodes:
        nodes.add()
        nodes.add()
        yield nodes


def start(
    launch: Launch, address: str, engine: str, data: dict[str, str], replicas: int = 1
) -> ServerProcess:
    return launch(
        config={"models": {MODEL: {"engines": [engine], "dtype": "fp32", "replicas": replicas}}},
        arguments=["--cluster", address],
        environment=data,
    )


def ask(server: ServerProcess, num_tokens: int) -> Reading:
    body: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": num_tokens,
        "temperature": 0,
        "ignore_eos": True,
    }
    return Reading(server, CHAT, body)


def kill_worker(node: Node, pid: int) -> None:
    del node
    os.kill(pid, signal.SIGKILL)


def kill_actor(node: Node, pid: int) -> None:
    del node
    parent = psutil.Process(pid).parent()
    assert parent is not None
    parent.kill()


def lose_node(node: Node, pid: int) -> None:
    del pid
    node.lose()


def freeze_node(node: Node, pid: int) -> None:
    del pid
    node.freeze()


@pytest.mark.parametrize(
    ("engine", "kill"),
    [
        ("echo", kill_worker),
        ("echo", kill_actor),
        ("echo", lose_node),
        ("echo", freeze_node),
        ("pytorch", lose_node),
    ],
)
def test_a_stream_goes_on_when_its_worker_is_lost(
    engine: str, kill: Kill, nodes: Nodes, launch: Launch, own_data: dict[str, str]
) -> None:
    server = start(launch, nodes.address, engine, own_data | nodes.environment)
    num_tokens = NUM_TOKENS_BY_ENGINE[engine]
    undisturbed = ask(server, num_tokens).result()
    node, pid = nodes.wait_for_worker()

    reading = ask(server, num_tokens)
    assert reading.wait_for_pieces(4), "it was over before anything was killed"
    kill(node, pid)
    told = reading.result()

    assert told.text == undisturbed.text
    assert told.num_tokens == num_tokens
    assert told.errors == []
    assert told.num_ends == 1
    assert count_failovers(server) == 1
    successor, other_pid = nodes.wait_for_worker(other_than=pid)
    assert other_pid != pid
    if kill in {lose_node, freeze_node}:
        assert successor is not node
        node.lose()
        nodes.add()
    assert not psutil.pid_exists(pid)
    assert server.stop() == 0


@pytest.mark.parametrize("kill", [kill_actor, lose_node])
def test_a_lost_place_is_held_against_no_engine(
    kill: Kill, nodes: Nodes, launch: Launch, own_data: dict[str, str]
) -> None:
    server = launch(
        config={"models": {MODEL: {"engines": ["echo", "pytorch"], "dtype": "fp32"}}},
        arguments=["--cluster", nodes.address],
        environment=own_data | nodes.environment,
    )
    wait_for_engine(server, MODEL, "echo")
    node, pid = nodes.wait_for_worker()

    kill(node, pid)

    told = wait_for_model(server, MODEL, phase="ready", num_restarts=1)
    assert (told["engine"], told["wanted_engine"]) == ("echo", None)
    assert told["circuits"] == {"echo": "closed", "pytorch": "closed"}
    if kill is lose_node:
        nodes.add()
    assert server.stop() == 0


def test_replicas_on_several_nodes_take_over_from_each_other(
    nodes: Nodes, launch: Launch, own_data: dict[str, str]
) -> None:
    server = start(launch, nodes.address, "echo", own_data | nodes.environment, replicas=2)
    workers = poll(nodes.find_workers, lambda workers: len(workers) == 2, "the workers")
    readings = [ask(server, 4000) for _ in range(4)]
    for reading in readings:
        assert reading.wait_for_pieces(1)

    next(iter(workers.values())).lose()
    told = [reading.result() for reading in readings]

    assert {(one.num_tokens, len(one.errors)) for one in told} == {(4000, 0)}
    assert len({one.text for one in told}) == 1
    nodes.add()
    poll(nodes.find_workers, lambda workers: len(workers) == 2, "the workers")
    assert server.stop() == 0


def test_several_servers_have_workers_of_their_own_that_leave_with_them(
    nodes: Nodes, launch: Launch, own_data: dict[str, str]
) -> None:
    data = own_data | nodes.environment
    first, second = (start(launch, nodes.address, "echo", data) for _ in range(2))
    assert len(nodes.find_workers()) == 2
    reading = ask(second, 4000)
    assert reading.wait_for_pieces(1)

    first.stop(signal.SIGKILL)

    assert reading.result().num_tokens == 4000
    poll(nodes.find_workers, lambda workers: len(workers) == 1, "the workers")
    assert ask(second, 8).result().num_tokens == 8
    assert second.stop() == 0


def test_auto_starts_a_cluster_that_ends_with_its_server(
    launch: Launch, own_data: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Ray keeps its token there.
    home = str(tmp_path_factory.mktemp("home"))
    server = start(launch, "auto", "echo", own_data | ALONE | {"HOME": home})
    wait_for_engine(server, MODEL, "echo")
    members = server.workers()

    told = ask(server, num_tokens=8).result()

    assert told.num_tokens == 8
    assert server.stop() == 0
    _, alive = psutil.wait_procs(members, timeout=10)
    assert alive == []


def test_a_cluster_that_was_lost_is_started_anew(
    launch: Launch, own_data: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = str(tmp_path_factory.mktemp("home"))
    server = start(launch, "auto", "echo", own_data | ALONE | {"HOME": home})
    keeper = next(one for one in server.workers() if "cluster.keeper" in " ".join(one.cmdline()))

    keeper.kill()

    poll(
        lambda: model_of(server, MODEL),
        lambda told: told["phase"] == "ready" and told["num_restarts"] > 0,
        MODEL,
    )
    assert ask(server, num_tokens=8).result().num_tokens == 8
    assert server.stop() == 0


def test_a_cluster_that_does_not_answer_is_named_at_once(
    launch: Launch, own_data: dict[str, str]
) -> None:
    with pytest.raises(AssertionError, match="cannot be joined"):
        start(launch, "127.0.0.1:1", "echo", own_data)
