"""The chain of engines walked under load: each is lost in turn, answers go on, the first returns.

An engine is lost when its environment is taken away and its worker is killed: until it is put back,
none can be started, so where the chain stands does not depend on how long anything takes.
"""

from __future__ import annotations

import itertools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.available import require_engine
from tests.processes import ROOT
from tests.prompts import chat_prompts
from tests.streams import CHAT, Reading, Told, count_failovers, kill_worker, wait_for_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.processes import ServerProcess

pytestmark = pytest.mark.model

MODEL = "smollm2-135m"
NUM_TOKENS = 64
NUM_QUESTIONS_EACH = 2
# A start of vLLM takes 25 to 45 s and more on a busy machine, and its back-off up to 30 s.
PATIENCE_S = 300


class Environments:
    """Where the engines of a chain find their libraries, and whether they do."""

    def __init__(self, directory: Path, chain: Sequence[str]) -> None:
        self._directory = directory
        # The last one is never lost.
        self.pythons = {engine: str(directory / engine / "bin/python") for engine in chain[:-1]}
        for engine in self.pythons:
            self.put_back(engine)

    def take_away(self, engine: str) -> None:
        (self._directory / engine).unlink()

    def put_back(self, engine: str) -> None:
        has_its_own = (ROOT / f"requirements-{engine}.lock").exists()
        environment = ROOT / f".venv-{engine}" if has_its_own else sys.prefix
        (self._directory / engine).symlink_to(environment)


class Client:
    """Asks one question after another until it is told to stop."""

    def __init__(self, server: ServerProcess, questions: Sequence[str]) -> None:
        self.told: list[tuple[str, Told]] = []
        self._server = server
        self._questions = questions
        self._is_to_stop = False
        self._reading: Reading | None = None
        self._news = threading.Condition()
        thread = ThreadPoolExecutor(1)
        self._asking = thread.submit(self._ask)
        thread.shutdown(wait=False)

    def wait_for_answer_from(self, engine: str) -> None:
        """Wait until this engine gives it an answer, which is not complete yet."""
        reading = self._wait_for_next(None)
        while not (reading.wait_for_pieces(1) and reading.engine == engine):
            reading = self._wait_for_next(reading)

    def wait_for_end(self) -> None:
        """Wait until what is being answered now has been."""
        self._wait_for_next(self._reading)

    def stop(self) -> None:
        """Ask nothing more, and wait for the answer that is under way."""
        self._is_to_stop = True
        self._asking.result(PATIENCE_S)

    def _ask(self) -> None:
        for question in itertools.cycle(self._questions):
            if self._is_to_stop:
                return
            reading = ask(self._server, question)
            with self._news:
                self._reading = reading
                self._news.notify_all()
            self.told.append((question, reading.result()))

    def _wait_for_next(self, reading: Reading | None) -> Reading:
        """Return what is being answered, once it is another than this."""
        while self._reading is reading:
            if self._asking.done():
                self._asking.result()
            with self._news:
                self._news.wait_for(lambda: self._reading is not reading, 1)
        assert self._reading is not None
        return self._reading


def ask(server: ServerProcess, question: str) -> Reading:
    return Reading(
        server,
        CHAT,
        {
            "messages": [{"role": "user", "content": question}],
            "max_tokens": NUM_TOKENS,
            "temperature": 0,
            "ignore_eos": True,
        },
        timeout_s=PATIENCE_S,
    )


def walk(
    server: ServerProcess,
    environments: Environments,
    clients: Sequence[Client],
    chain: Sequence[str],
) -> None:
    """Lose each engine but the last, then find the first again."""
    for engine, successor in itertools.pairwise(chain):
        for client in clients:
            client.wait_for_answer_from(engine)
        environments.take_away(engine)
        kill_worker(server, MODEL, engine)
        wait_for_engine(server, MODEL, successor, PATIENCE_S)
        check_health(server, chain[0], successor)
        # Whoever met this loss is not to meet the next: two make a request suspect.
        for client in clients:
            client.wait_for_end()
    for client in clients:
        client.wait_for_answer_from(chain[-1])
    environments.put_back(chain[0])
    wait_for_engine(server, MODEL, chain[0], PATIENCE_S)
    check_health(server, chain[0], chain[0])
    for client in clients:
        client.wait_for_answer_from(chain[0])


def check_health(server: ServerProcess, wanted: str, engine: str) -> None:
    health = server.request("GET", "/health").json
    reasons = [one for one in health["degradation_reasons"] if " in place of " in one]
    if engine == wanted:
        assert reasons == []
        return
    assert health["status"] == "degraded"
    assert f"runs on {engine} in place of {wanted}" in reasons[0]


def check_told(told: Told, expected: str, chain: Sequence[str]) -> None:
    """Check that an answer is whole, and says who gave it."""
    assert told.errors == []
    assert told.num_ends == 1
    assert told.finish_reasons == ["length"]
    assert [usage["completion_tokens"] for usage in told.usages] == [NUM_TOKENS]
    assert told.text == expected
    assert told.moves in ([], *([move] for move in itertools.pairwise(chain)))
    assert (f"{chain[0]}->{told.engine}" in told.fallback) is (told.engine != chain[0])


def check_walk(
    server: ServerProcess, environments: Environments, chain: Sequence[str], num_clients: int
) -> None:
    wait_for_engine(server, MODEL, chain[0], PATIENCE_S)
    asked = chat_prompts()[: num_clients * NUM_QUESTIONS_EACH]
    with ThreadPoolExecutor(num_clients) as pool:
        first = pool.map(lambda question: ask(server, question).result(), asked)
        expected = dict(zip(asked, [told.text for told in first], strict=True))
    parts = [asked[number::num_clients] for number in range(num_clients)]
    clients = [Client(server, questions) for questions in parts]

    walk(server, environments, clients, chain)
    for client in clients:
        client.stop()

    for client in clients:
        for question, told in client.told:
            check_told(told, expected[question], chain)
        engines = [told.engine for _, told in client.told]
        assert [engine for engine, _ in itertools.groupby(engines)] == [*chain, chain[0]]
    moves = [move for client in clients for _, told in client.told for move in told.moves]
    assert set(moves) == set(itertools.pairwise(chain))
    assert count_failovers(server) == len(moves)
    assert "Traceback" not in server.log


def settings_of(environments: Environments, chain: Sequence[str]) -> dict[str, Any]:
    """Return the configuration of a server whose model may run on these engines, in this order."""
    optimization: dict[str, Any] = {
        engine: {"python": python} for engine, python in environments.pythons.items()
    }
    optimization |= {"engine_preference": list(chain), "cache": {"max_memory_mb": 512}}
    # With the same weights everywhere an answer is the same, whoever gives it.
    return {"optimization": optimization, "models": {MODEL: {"dtype": "fp32"}}}


@pytest.fixture
def open_chain(
    launch: Callable[..., ServerProcess], tmp_path: Path
) -> Callable[..., tuple[ServerProcess, Environments]]:
    def open_chain(*chain: str) -> tuple[ServerProcess, Environments]:
        environments = Environments(tmp_path, chain)
        for engine in chain:
            require_engine(engine, environments.pythons.get(engine, ""))
        return launch(config=settings_of(environments, chain)), environments

    return open_chain


OpenChain = "Callable[..., tuple[ServerProcess, Environments]]"


def test_an_engine_that_is_lost_under_load_returns(open_chain: OpenChain) -> None:
    chain = ("openvino", "onnx")
    check_walk(*open_chain(*chain), chain, num_clients=2)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_vllm_deepspeed_onnx_and_pytorch_are_lost_in_turn_and_vllm_returns(
    open_chain: OpenChain,
) -> None:
    chain = ("vllm", "deepspeed", "onnx", "pytorch")
    check_walk(*open_chain(*chain), chain, num_clients=4)
