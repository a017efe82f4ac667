"""Replicas on Ray follow the load, and Ray's own autoscaler follows the replicas with nodes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.ray_autoscaler import run_growing_cluster
from tests.ray_nodes import require_ray
from tests.streams import CHAT, Reading, model_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.processes import ServerProcess
    from tests.ray_autoscaler import GrowingCluster
    from tests.streams import Told

    Launch = Callable[..., ServerProcess]

pytestmark = [pytest.mark.model, pytest.mark.timeout(500)]

MODEL = "smollm2-135m"
# A replica works on one request at a time, so this is more than one can do; and where much of the
# time is not the replica's, it becomes so with each request.
LOAD = 2
QUICKENING = 0.98
# Of a request by which is seen how fast the machine is, and what the others are to take.
TRIED_TOKENS_BY_ENGINE = {"echo": 200, "pytorch": 8}
EACH_S = 0.5
MAX_TOKENS = 4000
_STEP_TIMEOUT_S = 150


@pytest.fixture
def cluster() -> Iterator[GrowingCluster]:
    require_ray()
    with run_growing_cluster(max_nodes=2, idle_s=4) as cluster:
        yield cluster


def configure(engine: str) -> dict[str, object]:
    return {
        "models": {MODEL: {"engines": [engine], "dtype": "fp32", "replicas": "1-2"}},
        "optimization": {
            "batcher": {"max_batch_size": 1},
            "cache": {"max_memory_mb": 64},
            "autoscaler": {"target_wait_s": 1, "quiet_s": 6},
        },
        "monitoring": {"server": {"queue_capacity": 1000}},
    }


def ask(server: ServerProcess, num_tokens: int) -> Reading:
    body: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Tell me of the sea."}],
        "max_tokens": num_tokens,
        "temperature": 0,
        "ignore_eos": True,
    }
    return Reading(server, CHAT, body, timeout_s=_STEP_TIMEOUT_S)


def state_of(server: ServerProcess, cluster: GrowingCluster) -> tuple[int, int]:
    """Return how many nodes there are, and how many replicas, where all of these serve."""
    replicas = model_of(server, MODEL)["replicas"]
    is_settled = all(one["phase"] == "ready" and not one["is_draining"] for one in replicas)
    return cluster.count_nodes(), len(replicas) if is_settled else 0


def find_num_tokens(server: ServerProcess, engine: str) -> int:
    """Return how many tokens an answer has that takes about as long as it is to."""
    num_tried = TRIED_TOKENS_BY_ENGINE[engine]
    _, tried_s = time_one(server, num_tried)
    return max(num_tried, min(MAX_TOKENS, int(num_tried * EACH_S / tried_s)))


def time_one(server: ServerProcess, num_tokens: int) -> tuple[Told, float]:
    begin_s = time.monotonic()
    return ask(server, num_tokens).result(), time.monotonic() - begin_s


def keep_asking(
    server: ServerProcess, num_tokens: int, every_s: float, is_enough: Callable[[], bool]
) -> list[Reading]:
    """Ask at this pace and faster and faster, whatever comes back, until it is enough."""
    readings, end_s = [], time.monotonic() + _STEP_TIMEOUT_S
    while not is_enough():
        readings.append(ask(server, num_tokens))
        assert time.monotonic() < end_s, describe(server)
        time.sleep(every_s)
        every_s *= QUICKENING
    return readings


def wait_until(is_so: Callable[[], bool], server: ServerProcess) -> None:
    end_s = time.monotonic() + _STEP_TIMEOUT_S
    while not is_so():
        assert time.monotonic() < end_s, describe(server)
        time.sleep(0.2)


def describe(server: ServerProcess) -> str:
    told = model_of(server, MODEL)
    return f"{told['scaling']} {told['replicas']}\n{server.log[-2000:]}"


@pytest.mark.parametrize("engine", ["echo", "pytorch"])
def test_replicas_and_nodes_go_from_one_to_two_and_back(
    engine: str, cluster: GrowingCluster, launch: Launch, own_data: dict[str, str]
) -> None:
    server = launch(
        config=configure(engine),
        arguments=["--cluster", cluster.address],
        environment=own_data | cluster.environment,
    )
    # Ray may have started a second for the first worker, while the one was on its way.
    wait_until(lambda: state_of(server, cluster) == (1, 1), server)
    num_tokens = find_num_tokens(server, engine)
    undisturbed, each_s = time_one(server, num_tokens)

    readings = keep_asking(
        server, num_tokens, each_s / LOAD, lambda: state_of(server, cluster) == (2, 2)
    )
    scaling = model_of(server, MODEL)["scaling"]
    assert (scaling["direction"], scaling["count"]) in {("up", 2), ("held", 2)}
    told = [reading.result() for reading in readings]
    wait_until(lambda: state_of(server, cluster) == (1, 1), server)

    assert {(one.text, one.num_ends, len(one.errors)) for one in told} == {(undisturbed.text, 1, 0)}
    assert {one.num_tokens for one in told} == {num_tokens}
    scaling = model_of(server, MODEL)["scaling"]
    assert (scaling["direction"], scaling["count"]) == ("down", 1)
    assert ask(server, num_tokens).result().text == undisturbed.text
    assert server.stop() == 0
