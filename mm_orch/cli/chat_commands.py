"""The commands inside a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.cli import terminal
from mm_orch.cli.engine_names import is_known_engine
from mm_orch.cli.status import engine_lines
from mm_orch.core.errors import MuAIError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.cli.conversation import Conversation

QUIT = "/quit"
_NO_WORKFLOW = "off"


def perform(line: str, conversation: Conversation) -> bool:
    """Perform a command; False means that the conversation is over."""
    name, _, argument = line.strip().partition(" ")
    if name == QUIT:
        return False
    command = _COMMANDS.get(name)
    if command is None:
        terminal.say(f"{name} is no command. There are: {', '.join([*_COMMANDS, QUIT])}.")
        return True
    try:
        command(conversation, argument.strip())
    except MuAIError as error:
        terminal.complain(str(error))
    return True


def _help(_conversation: Conversation, _argument: str) -> None:
    terminal.say(
        "/help             this list\n"
        "/model [NAME]     the models, or change to one; the conversation goes on\n"
        "/engine [NAME]    the engines, or change to one\n"
        "/workflow [NAME]  the workflows, or change to one; off asks the model itself\n"
        "/clear            forget the conversation so far\n"
        "/stats            tokens and times of this conversation\n"
        "/quit             leave; Ctrl-D does the same\n"
        "Ctrl-C stops an answer. Everything else is said to the model."
    )


def _model(conversation: Conversation, argument: str) -> None:
    if argument:
        conversation.switch(model=argument)
        terminal.say(f"{conversation.model} answers from now on.")
        return
    for name, model in conversation.config.models.items():
        names = ", ".join((name, *model.aliases))
        mark = "*" if conversation.model in (name, *model.aliases) else " "
        terminal.say(f"{mark} {names}")


def _engine(conversation: Conversation, argument: str) -> None:
    from mm_orch.optimization.registry import probe_engine, probe_engines

    if not argument:
        terminal.say(f"Asked for: {conversation.wishes.engine or 'the best that can run'}")
        for line in engine_lines(probe_engines()):
            terminal.say(line)
    elif is_known_engine(argument):
        found = probe_engine(argument)
        if found.is_available:
            conversation.switch(engine=argument)
            terminal.say(f"{argument} answers from now on.")
        else:
            remedy = f"; {found.remedy}" if found.remedy else ""
            terminal.complain(f"{argument} cannot run: {found.reason}{remedy}")


def _workflow(conversation: Conversation, argument: str) -> None:
    chosen, names = conversation.wishes.workflow, (_NO_WORKFLOW, *conversation.find_workflows())
    if not argument:
        for name in names:
            mark = "*" if name == (chosen or _NO_WORKFLOW) else " "
            terminal.say(f"{mark} {name}")
    elif argument in names:
        conversation.choose_workflow(None if argument == _NO_WORKFLOW else argument)
        answering = conversation.model if argument == _NO_WORKFLOW else argument
        terminal.say(f"{answering} answers from now on.")
    else:
        terminal.complain(f"No workflow is named {argument!r}. Known: {', '.join(names)}.")


def _clear(conversation: Conversation, _argument: str) -> None:
    conversation.clear()
    terminal.say("Forgotten.")


def _stats(conversation: Conversation, _argument: str) -> None:
    tally = conversation.tally
    terminal.say(
        f"Answers: {tally.num_answers} complete, {tally.num_stopped} stopped"
        f"; turns in mind: {len(conversation.turns)}"
        f"; from {conversation.place}"
    )
    if tally.num_answers:
        terminal.say(
            f"Tokens: {tally.num_prompt_tokens} read, {tally.num_generated_tokens} generated"
            f"; first after {tally.ttft_s / tally.num_answers:.2f} s on average"
            f", then {tally.tokens_per_s:.1f} per second"
        )


_COMMANDS: dict[str, Callable[[Conversation, str], None]] = {
    "/help": _help,
    "/model": _model,
    "/engine": _engine,
    "/workflow": _workflow,
    "/clear": _clear,
    "/stats": _stats,
}
