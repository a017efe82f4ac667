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

    Launch = Callable[..., ServerProcess]

pytestmark = [pytest.mark.model, pytest.mark.timeout(500)]

MODEL = "smollm2-135m"
# A replica works on one request at a time, so some of these wait longer than they are to; and never
# more of them, whatever the machine can do, so that each has its answer in time.
NUM_AT_ONCE = 8
# Of a request by which is seen how fast the machine is, and what the others are to take.
NUM_TRIED = 3
TRIED_TOKENS_BY_ENGINE = {"echo": 200, "pytorch": 8}
EACH_S = 0.5
MAX_TOKENS = 4000
_STEP_TIMEOUT_S = 150
# Asks again, and decides nothing.
_POLL_S = 0.2


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
            # One sequence of full length.
            "cache": {"max_memory_mb": 360},
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
    # The first takes longer than those that follow.
    for _ in range(NUM_TRIED):
        begin_s = time.monotonic()
        ask(server, num_tried).result()
        tried_s = time.monotonic() - begin_s
    return max(num_tried, min(MAX_TOKENS, int(num_tried * EACH_S / tried_s)))


def keep_asking(
    server: ServerProcess, num_tokens: int, is_enough: Callable[[], bool]
) -> list[Reading]:
    """Have so many asked at any time, whatever comes back, until it is enough."""
    readings: list[Reading] = []
    end_s = time.monotonic() + _STEP_TIMEOUT_S
    while not is_enough():
        num_open = sum(not reading.is_over for reading in readings)
        readings += [ask(server, num_tokens) for _ in range(NUM_AT_ONCE - num_open)]
        assert time.monotonic() < end_s, describe(server)
        time.sleep(_POLL_S)
    return readings


def wait_until(is_so: Callable[[], bool], server: ServerProcess) -> None:
    end_s = time.monotonic() + _STEP_TIMEOUT_S
    while not is_so():
        assert time.monotonic() < end_s, describe(server)
        time.sleep(_POLL_S)


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
    undisturbed = ask(server, num_tokens).result()

    readings = keep_asking(server, num_tokens, lambda: state_of(server, cluster) == (2, 2))
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
