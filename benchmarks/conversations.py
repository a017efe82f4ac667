"""What the prefix cache is worth in conversations: ten turns each, sixteen at once.

usage: python -m benchmarks.conversations [--rounds N] [--conversations N] [--tokens N]

hit rate        cached over all prompt tokens, as the server states them
reusable share  cached over reusable, in turns after the first; reusable are the tokens that a
                prompt shares, from its beginning and in whole blocks of 16, with the prompt and
                the answer of the turn before
TTFT ratio      of turn 10 over a first turn that has equally much new text

What is reusable is found by tokenising the texts again. Where an answer's text makes other tokens
than were generated (an end of text that was ignored has no text at all), a server that knows the
prompt by its text alone can reuse less than is counted here: the share is never flattered.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contenders import counter_of, find_model, ours, run_all
from benchmarks.results_file import write_results
from benchmarks.rounds import warm_up
from mm_orch.benchmarking.client import Client
from mm_orch.benchmarking.load import failures_of, run_closed
from mm_orch.benchmarking.workloads import (
    DEFAULT_OUTPUT_TOKENS,
    NUM_TURNS,
    Session,
    Turn,
    Workload,
    WorkloadKind,
    body_of,
    make_workload,
    messages_of,
)
from mm_orch.core.generation import Message
from mm_orch.models.chat_template import ChatTemplate, encode_chat
from mm_orch.models.text import TextCodec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.contenders import Running
    from mm_orch.benchmarking.records import RunRecord
    from mm_orch.models.stored import StoredModel

_NUM_CLIENTS = 16
_BLOCK_TOKENS = 16
_LAST_TURN = NUM_TURNS - 1
_PROBE_TIMEOUT_S = 300.0
_BAR_HIT_RATE = 0.6
_BAR_REUSABLE = 0.95
_BAR_TTFT = 1.5


def main() -> int:
    """Measure, print, write; return 0 when every bar is met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--conversations", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=DEFAULT_OUTPUT_TOKENS)
    options = parser.parse_args()
    model = find_model()
    texts = _Texts(model)
    rounds = []
    with run_all([ours(model, "ours")]) as running:
        warm_up(running, WorkloadKind.SHORT_CHAT, counter_of(model))
        for number in range(options.rounds):
            workload = make_workload(
                WorkloadKind.CONVERSATIONS,
                options.conversations,
                seed=number,
                count_tokens=counter_of(model),
                num_output_tokens=options.tokens,
            )
            rounds.append(_measure(running[0], workload, texts))
            print(f"round {number + 1}: {rounds[-1]}", file=sys.stderr, flush=True)
    figures: dict[str, object] = {
        key: round(statistics.median(one[key] for one in rounds), 4) for key in rounds[0]
    }
    figures |= {
        "num_rounds": options.rounds,
        "num_conversations": options.conversations,
        "bar_hit_rate": _BAR_HIT_RATE,
        "bar_reusable_share": _BAR_REUSABLE,
        "bar_ttft_ratio": _BAR_TTFT,
    }
    for key, value in figures.items():
        print(f"{key}: {value}")
    print(f"written: {write_results('conversations', figures).name}")
    medians = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    is_met = (
        medians["hit_rate"] >= _BAR_HIT_RATE
        and medians["reusable_share"] >= _BAR_REUSABLE
        and medians["ttft_ratio"] <= _BAR_TTFT
    )
    return 0 if is_met else 1


def _measure(one: Running, workload: Workload, texts: _Texts) -> dict[str, float]:
    run = asyncio.run(run_closed(one.target, workload, _NUM_CLIENTS))
    _refuse_failures(run)
    later = [record for record in run.requests if record.turn > 0]
    reusable, num_unlike = _reusable_tokens(run, workload, texts)
    num_cached = sum(record.num_cached_tokens for record in run.requests)
    num_prompt = sum(record.num_prompt_tokens for record in run.requests)
    last, first = _last_against_first(one, run, workload)
    return {
        "hit_rate": num_cached / num_prompt,
        "reusable_share": sum(record.num_cached_tokens for record in later) / reusable,
        "ttft_ratio": last / first,
        "ttft_last_turn_s": last,
        "ttft_first_turn_s": first,
        "ttft_last_turn_under_load_s": _median_ttft(run, _LAST_TURN),
        "ttft_first_turn_under_load_s": _median_ttft(run, 0),
        "num_answers_tokenised_otherwise": num_unlike,
    }


class _Texts:
    """Tokens of chats and answers."""

    def __init__(self, model: StoredModel) -> None:
        directory = Path(model.directory)
        self._codec = TextCodec.from_directory(directory)
        template = ChatTemplate.find_in_directory(directory)
        if template is None:
            message = f"{model.name} has no chat template"
            raise RuntimeError(message)
        self._template = template

    def prompt(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Return what the server takes in."""
        given = [Message(role=turn["role"], content=turn["content"]) for turn in messages]
        return encode_chat(self._codec, self._template, given)

    def answer(self, text: str) -> list[int]:
        """Return the tokens of an answer, as far as its text tells."""
        return self._codec.encode_rendered(text)


def _reusable_tokens(run: RunRecord, workload: Workload, texts: _Texts) -> tuple[int, int]:
    """Return what later turns could reuse, and how many answers' texts make other tokens."""
    num_reusable = num_unlike = 0
    said: list[str] = []
    before: list[int] = []
    # By session, then turn.
    for record in run.requests:
        if record.turn == 0:
            said, before = [], []
        prompt = texts.prompt(messages_of(workload.sessions[record.session], record.turn, said))
        shared = min(_shared_length(prompt, before), len(prompt) - 1)
        num_reusable += shared // _BLOCK_TOKENS * _BLOCK_TOKENS
        answer = texts.answer(record.text)
        num_unlike += len(answer) != record.num_output_tokens
        said.append(record.text)
        # The last token was drawn and never taken in.
        before = prompt + answer[:-1]
    return num_reusable, num_unlike


def _shared_length(left: Sequence[int], right: Sequence[int]) -> int:
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def _last_against_first(one: Running, run: RunRecord, workload: Workload) -> tuple[float, float]:
    """Return the TTFT of last turns and of first turns with as much new text.

    Both are asked when nothing else runs: another last question after the same history, and
    another first question after the same system prompt.
    """
    last_s, first_s = [], []
    for number in range(min(_NUM_CLIENTS, len(workload.sessions))):
        session = workload.sessions[number]
        answers = [record.text for record in run.requests if record.session == number]
        other = workload.sessions[number - 1].turns[_LAST_TURN].text
        question = Turn(f"Then {other}", 1)
        history = (*session.turns[:_LAST_TURN], question)
        last_s.append(_ttft(one, Session(system=session.system, turns=history), answers))
        first_s.append(_ttft(one, Session(system=session.system, turns=(question,)), []))
    return statistics.median(last_s), statistics.median(first_s)


def _ttft(one: Running, session: Session, answers: Sequence[str]) -> float:
    """Ask a session's last turn alone, after the answers given."""
    workload = Workload(name="probe", is_chat=True, sessions=(session,))
    body = body_of(
        workload, session, len(session.turns) - 1, answers=answers, model=one.target.model
    )

    async def ask() -> float:
        client = Client(one.target, timeout_s=_PROBE_TIMEOUT_S)
        begin_s = time.perf_counter()
        reader = await client.post(workload.path, body)
        client.close()
        if reader.error is not None or not reader.pieces_s:
            message = f"a probe failed: {reader.error or 'no text came'}"
            raise RuntimeError(message)
        return reader.pieces_s[0] - begin_s

    return asyncio.run(ask())


def _median_ttft(run: RunRecord, turn: int) -> float:
    return statistics.median(
        record.ttft_s
        for record in run.requests
        if record.turn == turn and record.ttft_s is not None
    )


def _refuse_failures(run: RunRecord) -> None:
    failures = failures_of([run])
    if failures:
        message = f"{len(failures)} requests failed, such as {failures[0]}"
        raise RuntimeError(message)


if __name__ == "__main__":
    sys.exit(main())
