"""Conversations with a peer over HTTP: history, commands, interruptions."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from mm_orch.cli import chat_commands
from mm_orch.cli.answers import open_answers
from mm_orch.cli.conversation import Conversation
from mm_orch.cli.wishes import Wishes
from mm_orch.config import load_config
from mm_orch.core.errors import ModelNotFoundError, MuAIError
from tests.unit.cli.scripted_server import model_report, sse, status_report, text_chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.config import Config
    from tests.unit.cli.scripted_server import Script

ANSWER = {"role": "assistant", "content": "Hello"}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


@pytest.fixture
def config(peer: Script) -> Config:
    overrides = {"monitoring.server.port": peer.port}
    return load_config(path=None, environ={}, overrides=overrides).config


@pytest.fixture
def conversation(config: Config) -> Iterator[Conversation]:
    with Conversation(config, Wishes()) as conversation:
        yield conversation


def test_every_turn_carries_those_before_it(peer: Script, conversation: Conversation) -> None:
    assert list(conversation.ask("one")) == ["Hel", "lo"]
    list(conversation.ask("two"))

    sent = [request["messages"] for request in peer.requests]
    assert sent == [[user("one")], [user("one"), ANSWER, user("two")]]
    assert conversation.turns == [user("one"), ANSWER, user("two"), ANSWER]


def test_an_answer_that_is_stopped_keeps_what_came(
    peer: Script, conversation: Conversation
) -> None:
    peer.stream = sse(text_chunk("Hel"), done=False)
    peer.hold_open = True

    with closing(conversation.ask("one")) as pieces:
        assert next(pieces) == "Hel"

    assert peer.client_left.wait(10)
    assert conversation.turns == [user("one"), {"role": "assistant", "content": "Hel"}]
    assert (conversation.tally.num_stopped, conversation.tally.num_answers) == (1, 0)


def test_a_question_that_fails_leaves_nothing(peer: Script, conversation: Conversation) -> None:
    peer.refusal = (400, json.dumps({"error": {"message": "Too long."}}).encode())

    with pytest.raises(MuAIError, match="Too long"):
        list(conversation.ask("one"))

    assert conversation.turns == []


def test_clear_forgets_the_turns(peer: Script, conversation: Conversation) -> None:
    list(conversation.ask("one"))
    assert chat_commands.perform("/clear", conversation)
    list(conversation.ask("two"))

    assert peer.requests[-1]["messages"] == [user("two")]


def test_another_model_goes_on_with_the_conversation(
    peer: Script, conversation: Conversation, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.report = status_report(model_report(), model_report("big", source="hf:a/b"))
    list(conversation.ask("one"))

    # The server has it, although this configuration does not.
    assert chat_commands.perform("/model big", conversation)
    list(conversation.ask("two"))

    assert "big answers from now on." in capsys.readouterr().out
    assert peer.requests[-1]["model"] == "big"
    assert len(peer.requests[-1]["messages"]) == 3


def test_an_unknown_model_changes_nothing(
    peer: Script, conversation: Conversation, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat_commands.perform("/model nope", conversation)

    assert "No model is named 'nope'. Known: smollm2-135m." in capsys.readouterr().err
    list(conversation.ask("one"))
    assert "model" not in peer.requests[0]


def test_models_are_listed_with_the_one_in_use(
    conversation: Conversation, capsys: pytest.CaptureFixture[str]
) -> None:
    chat_commands.perform("/model", conversation)

    assert capsys.readouterr().out == "* smollm2-135m\n"


def test_engines_are_listed_with_reasons(
    conversation: Conversation, capsys: pytest.CaptureFixture[str]
) -> None:
    chat_commands.perform("/engine", conversation)

    out = capsys.readouterr().out
    assert "Asked for: the best that can run" in out
    assert "pytorch" in out
    assert "vllm       cannot run: " in out


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("/engine nope", "No engine is named 'nope'. Known: "),
        ("/engine vllm", "vllm cannot run: "),
    ],
)
def test_an_engine_that_cannot_run_is_refused(
    command: str, said: str, conversation: Conversation, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat_commands.perform(command, conversation)

    assert said in capsys.readouterr().err
    assert conversation.wishes.engine is None


def test_stats_add_up_complete_answers(
    conversation: Conversation, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        list(conversation.ask("one"))
    chat_commands.perform("/stats", conversation)

    out = capsys.readouterr().out
    assert "Answers: 2 complete, 0 stopped; turns in mind: 4; from http://127.0.0.1:" in out
    assert "Tokens: 60 read, 4 generated; first after " in out


def test_stats_of_nothing_name_no_times(
    conversation: Conversation, capsys: pytest.CaptureFixture[str]
) -> None:
    chat_commands.perform("/stats", conversation)

    assert "Tokens" not in capsys.readouterr().out


def test_help_names_every_command(
    conversation: Conversation, capsys: pytest.CaptureFixture[str]
) -> None:
    chat_commands.perform("/help", conversation)
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    chat_commands.perform("/nonsense", conversation)

    assert names[:-1] == ["/help", "/model", "/engine", "/workflow", "/clear", "/stats", "/quit"]
    assert capsys.readouterr().out.startswith("/nonsense is no command. There are: /help, /model")


def test_a_workflow_answers_once_it_is_chosen_and_until_it_is_left(
    conversation: Conversation, peer: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    lines = ("/workflow", "/workflow chat_generate", "/workflow", "/workflow auto", "/workflow off")
    for line in lines:
        assert chat_commands.perform(line, conversation)
        list(conversation.ask("Hi"))
        asked.append(peer.requests[-1].get("model"))

    assert asked == [None, *["workflow/chat_generate"] * 2, "workflow/auto", None]
    assert capsys.readouterr().out.splitlines() == [
        "* off",
        "  chat_generate",
        "  auto",
        "chat_generate answers from now on.",
        "  off",
        "* chat_generate",
        "  auto",
        "auto answers from now on.",
        f"{conversation.model} answers from now on.",
    ]


def test_the_workflows_are_those_of_the_server_that_answers(
    peer: Script, conversation: Conversation, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.flows = ("chat_generate", "theirs")

    chat_commands.perform("/workflow", conversation)
    chat_commands.perform("/workflow theirs", conversation)

    assert "  theirs" in capsys.readouterr().out
    assert conversation.wishes.workflow == "theirs"


def test_an_unknown_workflow_is_refused_with_those_there_are(
    conversation: Conversation, capsys: pytest.CaptureFixture[str]
) -> None:
    chat_commands.perform("/workflow rag", conversation)

    said = capsys.readouterr().err
    assert "No workflow is named 'rag'. Known: off, chat_generate, auto." in said
    assert conversation.wishes.workflow is None


def test_quit_ends(conversation: Conversation) -> None:
    assert not chat_commands.perform(" /quit ", conversation)


def used_server(config: Config, **wishes: str) -> bool:
    with open_answers(config, Wishes(**wishes)) as answers:
        return answers.place.startswith("http://")


def test_a_server_with_the_model_is_used(config: Config) -> None:
    assert used_server(config)
    assert used_server(config, model="small")
    assert used_server(config, engine="pytorch")


def test_a_server_that_runs_it_otherwise_is_not_used(config: Config) -> None:
    assert not used_server(config, engine="echo")


def test_a_server_with_another_model_of_that_name_is_not_used(peer: Script, config: Config) -> None:
    peer.report = status_report(model_report(source="hf:some/other"))

    assert not used_server(config)


def test_a_server_that_shuts_down_is_not_used(peer: Script, config: Config) -> None:
    peer.report = status_report(is_draining=True)

    assert not used_server(config)


def test_a_server_that_wants_another_key_is_not_used(
    peer: Script, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    peer.key = "k1"

    assert not used_server(config)
    assert "refuses the key" in caplog.text


def test_a_model_that_nobody_has_is_said(config: Config) -> None:
    with pytest.raises(ModelNotFoundError, match="No model is named 'nope'"):
        used_server(config, model="nope")
