"""Every workflow with the real models through every face: whole, streamed, left, out of time."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from benchmarks.lesson_judge import judge
from tests.conftest import EMBEDDING_MODEL, EMBEDDING_SOURCE
from tests.integration.workflow_clients import (
    Asked,
    CommandLine,
    Heard,
    NativeClient,
    OpenAIClient,
)
from tests.processes import ROOT, run_cli, share_models, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from mm_orch.models.stored import StoredModel
    from tests.integration.workflow_clients import Client
    from tests.processes import Reply, ServerProcess

pytestmark = pytest.mark.model

DOCUMENT = ROOT / "benchmarks/rag/documents/cape-merrow-light.md"
QUESTIONS = [
    Asked("chat_generate", "Say yes.", 8),
    Asked("rag_qa", "On what date was Cape Merrow Light first lit?", 24),
    Asked("search_qa", "When was the Golden Gate Bridge opened?", 24),
    Asked("self_ask_search_qa", "Is Mount Everest higher than K2?", 24),
    # The one whose length no caller bounds.
    Asked("lesson_pack", "Explain the water cycle with one question."),
    Asked("cascade", "What is the capital of France?", 8),
    Asked("self_description", "Which models do you have?"),
]
SIGNS = {
    "chat_generate": "",
    "rag_qa": "3 October 1834",
    "search_qa": "Sources:\n[1] Golden Gate Bridge",
    "self_ask_search_qa": "The web was not searched",
    "lesson_pack": '"exercises"',
    "cascade": "",
    "self_description": "- smollm2-135m: loaded",
}
SPOKEN = {"chat_generate", "search_qa"}
FACES = ["cli", "api", "v1"]
CONFIG: dict[str, Any] = {
    "models": {EMBEDDING_MODEL: {"source": EMBEDDING_SOURCE, "task": "embed"}},
    # So that it always asks again.
    "workflows": {"cascade": {"enabled": True, "samples": 2, "min_confidence": 1.0}},
}
# Two processors: more at a time would only wait for one another.
NUM_AT_ONCE = 6
# Over before the first step; and before the model that is held has said a word.
TOO_LITTLE_S, LITTLE_S = 1e-6, 0.2


class Case(NamedTuple):
    """One question at one face, whole or as a stream."""

    face: str
    asked: Asked
    is_stream: bool

    def __str__(self) -> str:
        form = "streamed" if self.is_stream else "whole"
        return f"{form}-{self.face}-{self.asked.workflow}"


CASES = [
    Case(face, asked, is_stream)
    for asked in QUESTIONS
    for face in FACES
    for is_stream in (False, True)
]
# A lesson takes as long as all else together: each face is asked for one, in one of its forms.
LONG = [
    case
    for case in CASES
    if case.asked.workflow == "lesson_pack" and case.is_stream is not (case.face == "v1")
]
every_face = pytest.mark.parametrize("face", FACES)
every_workflow = pytest.mark.parametrize("asked", QUESTIONS, ids=lambda asked: asked.workflow)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("every")


@pytest.fixture(scope="module")
def environment(
    builtin_model: StoredModel,  # noqa: ARG001 - must be there before it is linked to
    embedding_model: StoredModel,  # noqa: ARG001
    data_directory: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    return share_models(data_directory, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def alone(place: Path, environment: dict[str, str]) -> CommandLine:
    """The command line without a server, for which a document was stored without one."""
    client = CommandLine(place, CONFIG, environment)
    config = place / "alone.yaml"
    config.write_text(json.dumps(CONFIG | {"monitoring": {"server": {"port": 0}}}))
    stored = run_cli(
        *("--config", str(config), "--upload", str(DOCUMENT)),
        directory=place,
        environment=environment,
    )
    assert stored.returncode == 0, stored.stderr
    return client


@pytest.fixture(scope="module")
def serving(
    alone: CommandLine, place: Path, environment: dict[str, str]
) -> Iterator[ServerProcess]:
    assert alone.directory == place  # what it has stored is what the server answers from
    config = CONFIG | {"system": {"log_format": "json"}}
    server = start_server(place, config=config, environment=environment)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def clients(serving: ServerProcess, alone: CommandLine) -> dict[str, Client]:
    port = int(serving.url.rpartition(":")[2])
    return {
        "cli": CommandLine(alone.directory, CONFIG, alone.environment, port),
        "api": NativeClient(serving),
        "v1": OpenAIClient(serving),
    }


class Answers:
    """What is asked in the default suite, several at a time; the rest when it is asked for."""

    def __init__(self, clients: dict[str, Client], pool: ThreadPoolExecutor) -> None:
        self._clients = clients
        self._pool = pool
        self._heard = {case: self._ask(case) for case in CASES if case not in LONG}

    def hear(self, case: Case) -> Heard:
        return (self._heard.get(case) or self._ask(case)).result()

    def _ask(self, case: Case) -> Future[Heard]:
        client = self._clients[case.face]
        return self._pool.submit(client.listen if case.is_stream else client.ask, case.asked)


@pytest.fixture(scope="module")
def answers(clients: dict[str, Client]) -> Iterator[Answers]:
    with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
        yield Answers(clients, pool)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=str(case), marks=[pytest.mark.long] if case in LONG else [])
        for case in CASES
    ],
)
def test_it_answers(answers: Answers, case: Case) -> None:
    heard = answers.hear(case)

    workflow, is_told_why = case.asked.workflow, case.face != "cli" or not case.is_stream
    assert heard.text.strip()
    assert SIGNS[workflow] in heard.text
    # What comes whole is looked at first; what a model says, or is read of pages, is not.
    if case.is_stream and case.face != "cli" and workflow in SPOKEN:
        assert len(heard.pieces) > 1
    # The command line does not tell it of a stream.
    assert heard.finish_reason in ({"stop", "length"} if is_told_why else {""})
    if workflow == "lesson_pack":
        assert judge(heard.text) == {}


def test_each_is_listed_as_a_model(serving: ServerProcess) -> None:
    listed = {one["id"] for one in serving.request("GET", "/v1/models").json["data"]}

    assert listed >= {f"workflow/{asked.workflow}" for asked in QUESTIONS}


@contextmanager
def held(server: ServerProcess) -> Iterator[None]:
    """Stop the workers, so that what is asked of a model stays under way."""
    workers = server.workers()
    for worker in workers:
        worker.suspend()
    try:
        yield
    finally:
        for worker in workers:
            worker.resume()


def ended_runs(server: ServerProcess) -> list[tuple[str, str]]:
    """Return workflow and status of every run that the log tells of."""
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    ends = [one for one in lines if one["event"] == "workflow finished"]
    return [(one["workflow"], one["status"]) for one in ends]


def is_idle(reply: Reply) -> bool:
    return (reply.json["num_running"], reply.json["num_waiting"]) == (0, 0)


def wait_for_ends(server: ServerProcess, num_ends: int) -> None:
    """Wait until so many runs have ended, and nothing has a place any more."""
    server.wait_for(
        "/api/status", lambda reply: is_idle(reply) and len(ended_runs(server)) >= num_ends
    )


@every_face
@pytest.mark.parametrize("asked", QUESTIONS[:-1], ids=lambda asked: asked.workflow)
def test_who_leaves_in_the_middle_ends_the_run_and_frees_its_place(
    serving: ServerProcess, clients: dict[str, Client], face: str, asked: Asked
) -> None:
    before = ended_runs(serving)

    with held(serving), clients[face].leaving(asked):
        serving.wait_for("/api/status", lambda reply: not is_idle(reply))

    wait_for_ends(serving, len(before) + 1)
    assert ended_runs(serving)[len(before) :] == [(asked.workflow, "cancelled")]


def test_who_leaves_while_waiting_for_its_session_has_ended_too(serving: ServerProcess) -> None:
    chat = {"message": "Hi", "preferences": {"max_tokens": 4}}
    session_id = serving.request("POST", "/api/chat", chat).json["session_id"]
    before = ended_runs(serving)

    def ask(workflow: str) -> dict[str, Any]:
        asked = {"query": "Go on.", "workflow_type": workflow, "session_id": session_id}
        return {**asked, "stream": True}

    with held(serving), serving.open_stream(ask("chat_generate"), "/api/query") as first:
        next(iter(first))
        with serving.open_stream(ask("self_description"), "/api/query"):
            serving.wait_for(
                "/api/status",
                lambda reply: reply.json["num_running"] + reply.json["num_waiting"] == 2,
            )
        # The first still has the session.
        serving.wait_for("/api/status", lambda _: len(ended_runs(serving)) > len(before))
        assert ended_runs(serving)[len(before) :] == [("self_description", "cancelled")]

    wait_for_ends(serving, len(before) + 2)
    assert ended_runs(serving)[-1] == ("chat_generate", "cancelled")


@every_workflow
@every_face
def test_too_little_time_is_told_with_the_workflow_and_what_to_do(
    serving: ServerProcess, clients: dict[str, Client], face: str, asked: Asked
) -> None:
    before = ended_runs(serving)

    told = clients[face].hurry(asked, TOO_LITTLE_S)

    assert f"The workflow {asked.workflow} was not complete after {TOO_LITTLE_S:g} s." in told
    assert "raise timeout_s or workflows.deadline_s" in told
    if face != "cli":
        wait_for_ends(serving, len(before) + 1)
        assert ended_runs(serving)[len(before) :] == [(asked.workflow, "timeout")]


@pytest.mark.parametrize("face", ["api", "v1"])
@pytest.mark.parametrize("name", ["cascade", "chat_generate", "lesson_pack"])
def test_time_that_is_over_in_the_middle_ends_what_the_model_was_asked(
    serving: ServerProcess, clients: dict[str, Client], face: str, name: str
) -> None:
    [asked] = [one for one in QUESTIONS if one.workflow == name]
    before = ended_runs(serving)

    with held(serving):
        told = clients[face].hurry(asked, LITTLE_S)

    assert f"The workflow {name} was not complete after {LITTLE_S:g} s." in told
    wait_for_ends(serving, len(before) + 1)
    assert ended_runs(serving)[len(before) :] == [(name, "timeout")]


def test_the_command_line_answers_alone_from_what_it_has_stored(alone: CommandLine) -> None:
    [asked] = [one for one in QUESTIONS if one.workflow == "rag_qa"]

    assert SIGNS["rag_qa"] in alone.ask(asked).text
