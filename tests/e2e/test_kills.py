"""Streams whose worker is killed with SIGKILL while they run: each is told whole, every token once.

The long form kills a worker under each of a hundred streams, four at a time.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.core.generation import Message
from mm_orch.models.chat_template import ChatTemplate, encode_chat
from mm_orch.models.text import TextCodec
from tests.available import require_engine
from tests.prompts import chat_prompts, raw_prompts
from tests.streams import (
    CHAT,
    TEXT,
    Reading,
    Told,
    count_failovers,
    kill_worker,
    wait_for_replicas,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mm_orch.models.stored import StoredModel
    from tests.processes import ServerProcess

    Launch = Callable[..., ServerProcess]

pytestmark = pytest.mark.model

MODEL = "smollm2-135m"
ALONE = "alone"
NUM_AT_ONCE = 4
# Back-off doubles with each crash in a row; a model that is loaded anew begins again.
NUM_KILLS_A_LOAD = 4


@dataclass(frozen=True)
class Size:
    """How many streams there are, and how many tokens each has."""

    num_streams: int
    num_tokens: int

    def __str__(self) -> str:
        return f"{self.num_streams} streams"


SMALL = Size(NUM_AT_ONCE, 40)
FULL = Size(100, 64)


@dataclass(frozen=True)
class Question:
    """A request, and after how many pieces of its text the next thing happens."""

    path: str
    body: dict[str, Any]
    num_pieces: int


@dataclass(frozen=True)
class Pair:
    """Who answers and who goes on, and in which number formats."""

    first: str
    second: str
    settings: dict[str, Any] = field(default_factory=dict)
    num_replicas: int = 1

    def __str__(self) -> str:
        suffix = f" of {self.num_replicas} replicas" if self.num_replicas > 1 else ""
        return f"{self.first} to {self.second}{suffix}"

    @property
    def engines(self) -> list[str]:
        return list(dict.fromkeys((self.first, self.second)))


def fp32(first: str, second: str, num_replicas: int = 1) -> Pair:
    return Pair(first, second, {"models": {MODEL: {"dtype": "fp32"}}}, num_replicas)


SAME_WEIGHTS = [fp32("pytorch", "pytorch"), fp32("pytorch", "onnx")]
# There is always one that has the model loaded, on the same engine.
WITH_REPLICAS = [fp32("pytorch", "pytorch", 2)]
OTHER_WEIGHTS = [
    Pair("pytorch", "onnx", {"optimization": {"pytorch": {"dtype": "bf16"}}}),
    Pair("openvino", "pytorch", {"optimization": {"pytorch": {"dtype": "fp32"}}}),
]


def chats() -> list[tuple[str, dict[str, Any]]]:
    return [(CHAT, {"messages": [{"role": "user", "content": one}]}) for one in chat_prompts()]


def texts() -> list[tuple[str, dict[str, Any]]]:
    return [(TEXT, {"prompt": one}) for one in raw_prompts()]


def questions(
    bodies: list[tuple[str, dict[str, Any]]], size: Size, **more: object
) -> list[Question]:
    """Return as many as there are streams, from these in turn."""
    sampling = {"model": MODEL, "max_tokens": size.num_tokens, "temperature": 0, "ignore_eos": True}
    chosen = itertools.islice(itertools.cycle(bodies), size.num_streams)
    return [
        Question(path, {**body, **sampling, **more}, 1 + 5 * number % 7)
        for number, (path, body) in enumerate(chosen)
    ]


class Scene:
    """A server whose workers are killed."""

    def __init__(self, server: ServerProcess, pair: Pair, kill: Callable[[], None] | None) -> None:
        self.server = server
        self.num_kills = 0
        self._pair = pair
        self._kill = kill or (lambda: kill_worker(server, MODEL, pair.first))

    def answer_undisturbed(self, asked: list[Question]) -> list[Told]:
        self._wait_for_first()
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda one: self._read(one).result(), asked))

    def kill_under(self, asked: list[Question]) -> Iterator[tuple[int, Told]]:
        """Kill a worker under each; yield places and what was told."""
        pending = list(range(len(asked)))
        while pending:
            places, pending = pending[:NUM_AT_ONCE], pending[NUM_AT_ONCE:]
            told = self._kill_under_these([asked[place] for place in places])
            yield from zip(places, told, strict=True)
            # Those that were complete before the kill have not met it.
            pending += [place for place, one in zip(places, told, strict=True) if not one.moves]

    def _kill_under_these(self, asked: list[Question]) -> list[Told]:
        if self.num_kills and self.num_kills % NUM_KILLS_A_LOAD == 0:
            assert self.server.request("POST", f"/api/models/{MODEL}/unload").status == 200
        self._wait_for_first()
        readings = []
        for one in asked:
            readings.append(self._read(one))
            readings[-1].wait_for_pieces(one.num_pieces)
        self._kill()
        self.num_kills += 1
        return [reading.result() for reading in readings]

    def _read(self, question: Question) -> Reading:
        return Reading(self.server, question.path, question.body)

    def _wait_for_first(self) -> None:
        """Wait until the first engine serves, again or for the first time."""
        self.server.request("POST", f"/api/models/{MODEL}/load")
        wait_for_replicas(self.server, MODEL, self._pair.num_replicas, engine=self._pair.first)


def open_scene(
    launch: Launch, pair: Pair, model: StoredModel, kill: Callable[[], None] | None = None
) -> Scene:
    """Start a server.

    Args:
        kill: ends the worker under the streams; None kills the process that the server tells.
    """
    for engine in pair.engines:
        require_engine(engine)
    own = pair.settings.get("models", {}).get(MODEL, {})
    models = {
        MODEL: {"engines": pair.engines, "replicas": pair.num_replicas, **own},
        ALONE: {"source": f"path:{model.directory}", "engines": [pair.second], **own},
    }
    return Scene(launch(config={**pair.settings, "models": models}), pair, kill)


def check_end(told: Told, pair: Pair, num_tokens: int) -> None:
    """Check that the stream ended once, in order, and tells of at most one failover."""
    assert told.errors == []
    assert told.num_ends == 1
    assert told.finish_reasons == ["length"]
    assert [usage["completion_tokens"] for usage in told.usages] == [num_tokens]
    assert told.engine == pair.first
    assert told.moves in ([], [(pair.first, pair.second)])


def check_same_weights(
    launch: Launch,
    pair: Pair,
    model: StoredModel,
    size: Size,
    kill: Callable[[], None] | None = None,
) -> None:
    scene = open_scene(launch, pair, model, kill)
    asked = questions([*texts()[:2], *chats(), *texts()[2:]], size)
    undisturbed = scene.answer_undisturbed(asked)
    places = []

    for place, told in scene.kill_under(asked):
        check_end(told, pair, size.num_tokens)
        assert told.text == undisturbed[place].text, asked[place]
        assert told.usages[0]["prompt_tokens"] == undisturbed[place].usages[0]["prompt_tokens"]
        places += [place] if told.moves else []

    assert sorted(places) == list(range(size.num_streams))
    check_peace(scene.server, size.num_streams)


def check_other_weights(launch: Launch, pair: Pair, model: StoredModel, size: Size) -> None:
    scene = open_scene(launch, pair, model)
    asked = questions(chats(), size, logprobs=True)
    told_by_place = {}

    for place, told in scene.kill_under(asked):
        check_end(told, pair, size.num_tokens)
        assert len(told.tokens) == size.num_tokens
        if told.moves:
            told_by_place[place] = told

    places = sorted(told_by_place)
    assert places == list(range(size.num_streams))
    check_peace(scene.server, size.num_streams)
    codec = TextCodec.from_directory(Path(model.directory))
    alone = Alone(scene.server, codec, model)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda place: alone.check(asked[place], told_by_place[place]), places))


class Alone:
    """The second engine by itself: what it says to prompt and prefix."""

    def __init__(self, server: ServerProcess, codec: TextCodec, model: StoredModel) -> None:
        self._server = server
        self._codec = codec
        template = ChatTemplate.find_in_directory(Path(model.directory))
        assert template is not None
        self._template = template
        self._id_by_bytes = {codec.token_bytes(one): one for one in range(model.vocab_size)}

    def check(self, question: Question, told: Told) -> None:
        """Check that it goes on as this engine would after what had been delivered."""
        messages = tuple(Message(**one) for one in question.body["messages"])
        prompt = encode_chat(self._codec, self._template, messages)
        assert told.usages[0]["prompt_tokens"] == len(prompt)
        tokens = [self._id_by_bytes[one] for one in told.tokens]
        assert told.text == self._codec.decode(tokens)
        num_delivered = told.failovers[0]["delivered_tokens"]
        assert 0 < num_delivered < len(tokens)
        reply = self._server.request(
            "POST",
            TEXT,
            {
                "model": ALONE,
                "prompt": [*prompt, *tokens[:num_delivered]],
                "max_tokens": len(tokens) - num_delivered,
                "temperature": 0,
                "ignore_eos": True,
                "logprobs": 0,
            },
        )
        [choice] = reply.json["choices"]
        expected = [self._codec.token_text(one) for one in tokens[num_delivered:]]
        assert choice["logprobs"]["tokens"] == expected


def check_peace(server: ServerProcess, num_failovers: int) -> None:
    """Check that all has ended, went on so often, and met nothing that nobody foresaw."""
    assert count_failovers(server) == num_failovers
    status = server.request("GET", "/api/status").json
    assert status["num_running"] + status["num_waiting"] == 0
    assert "Traceback" not in server.log


def in_sizes(small: list[Pair], full: list[Pair]) -> list[Any]:
    """Return pairs with the sizes to run them in."""
    cases = [pytest.param(pair, SMALL, id=f"{pair}, {SMALL}") for pair in small]
    long = pytest.mark.long
    return cases + [pytest.param(pair, FULL, id=f"{pair}, {FULL}", marks=long) for pair in full]


@pytest.mark.parametrize(
    ("pair", "size"), in_sizes(SAME_WEIGHTS[:1], [*SAME_WEIGHTS, *WITH_REPLICAS])
)
def test_streams_with_a_kill_in_each_say_what_they_say_undisturbed(
    pair: Pair, size: Size, launch: Launch, builtin_model: StoredModel
) -> None:
    check_same_weights(launch, pair, builtin_model, size)


@pytest.mark.parametrize(("pair", "size"), in_sizes(OTHER_WEIGHTS[:1], OTHER_WEIGHTS))
def test_streams_go_on_as_the_next_engine_would_where_its_weights_differ(
    pair: Pair, size: Size, launch: Launch, builtin_model: StoredModel
) -> None:
    check_other_weights(launch, pair, builtin_model, size)
