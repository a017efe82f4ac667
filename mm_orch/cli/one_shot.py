"""Answers one query on standard output."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

from mm_orch.cli import exit_codes, terminal
from mm_orch.cli.answers import open_answers
from mm_orch.cli.engine_names import is_known_engine
from mm_orch.cli.wishes import Wishes

if TYPE_CHECKING:
    from mm_orch.cli.arguments import Arguments
    from mm_orch.config import LoadedConfig
    from mm_orch.muai import Answer


def wishes_of(arguments: Arguments) -> Wishes:
    """Return what the command line says about answers."""
    return Wishes(
        model=arguments.model,
        engine=arguments.engine,
        workflow=arguments.workflow,
        max_tokens=arguments.max_tokens,
        temperature=arguments.temperature,
    )


def answer_query(loaded: LoadedConfig, arguments: Arguments) -> int:
    """Answer the query of the command line, or of standard input.

    Raises:
        MuAIError: the answer cannot be had.
    """
    query = terminal.read_input() if arguments.query is None else arguments.query
    if not query.strip():
        terminal.complain('the query is empty. Give one: muai "What is machine learning?"')
        return exit_codes.USAGE
    if not is_known_engine(arguments.engine):
        return exit_codes.USAGE
    # A query from an argument in another encoding holds halves of characters.
    query = query.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    wishes = wishes_of(arguments)
    with open_answers(loaded.config, wishes) as answers:
        reply = answers.reply([{"role": "user", "content": query}], wishes)
        last = "\n"
        with closing(iter(reply)) as pieces:
            for piece in pieces:
                if not arguments.json:
                    terminal.say_piece(piece)
                    last = piece
        if arguments.json:
            terminal.say(_as_json(reply.answer, answers.place))
        elif not last.endswith("\n") or not reply.answer.text:
            terminal.say("")
        for one in reply.answer.lacking:
            terminal.remark(f"The answer is without a part. {one}")
    return exit_codes.DONE


def _as_json(answer: Answer, place: str) -> str:
    usage = answer.usage
    return json.dumps(
        {
            "text": answer.text,
            "model": answer.model,
            "engine": answer.engine,
            "finish_reason": answer.finish_reason,
            "usage": {
                "prompt_tokens": usage.num_prompt_tokens,
                "completion_tokens": usage.num_generated_tokens,
                "total_tokens": usage.num_prompt_tokens + usage.num_generated_tokens,
                "cached_tokens": usage.num_cached_tokens,
            },
            "ttft_s": round(answer.ttft_s, 4),
            "total_s": round(answer.total_s, 4),
            "answered_by": place,
            "routing": answer.routing.describe(),
            "lacking": answer.lacking,
        },
        ensure_ascii=False,
    )
