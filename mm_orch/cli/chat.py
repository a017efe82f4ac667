"""Reads what a person says, and prints what the model answers."""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import TYPE_CHECKING

from mm_orch.cli import chat_commands, exit_codes, terminal
from mm_orch.cli.conversation import Conversation
from mm_orch.cli.engine_names import is_known_engine
from mm_orch.cli.one_shot import wishes_of
from mm_orch.core.errors import MuAIError

if TYPE_CHECKING:
    from mm_orch.cli.arguments import Arguments
    from mm_orch.config import LoadedConfig

_PROMPT = "> "


def hold_conversation(loaded: LoadedConfig, arguments: Arguments) -> int:
    """Talk until /quit or the end of input.

    Raises:
        ModelNotFoundError: the model asked for does not exist.
    """
    if not is_known_engine(arguments.engine):
        return exit_codes.USAGE
    if terminal.is_interactive():
        _prepare_editing()
    with Conversation(loaded.config, wishes_of(arguments)) as conversation:
        if terminal.is_interactive():
            terminal.say(f"{conversation.model} answers. /help lists the commands.")
        while (line := _read_line()) is not None:
            if line.lstrip().startswith("/"):
                if not chat_commands.perform(line, conversation):
                    break
            elif line.strip():
                _answer(conversation, line)
    return exit_codes.DONE


def _answer(conversation: Conversation, text: str) -> None:
    try:
        with contextlib.closing(conversation.ask(text)) as pieces:
            for piece in pieces:
                terminal.say_piece(piece)
        terminal.say("")
    except KeyboardInterrupt:
        terminal.say(" [stopped]")
    except MuAIError as error:
        terminal.complain(str(error))


def _read_line() -> str | None:
    """Return the next line, or None at the end of input."""
    if not terminal.is_interactive():
        line = sys.stdin.readline() if sys.stdin is not None else ""
        return line.rstrip("\n") if line else None
    while True:
        try:
            return input(_PROMPT)
        except KeyboardInterrupt:
            terminal.say("\n(/quit or Ctrl-D leaves)")
        except EOFError:
            terminal.say("")
            return None


def _prepare_editing() -> None:
    # Importing it is what gives input() a history and arrow keys; some systems have none.
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")
