"""Measures what steps of a running server take, over HTTP: some 450 requests in two minutes.

Clients that ask together tell by the time between their tokens what a step takes at each number of
them. Prompts that come in beside a long answer tell by its steps what they cost where streams run:
they are taken in small pieces there, and a server that computes on processors takes requests in on
the same ones. Prompts asked for alone tell what long ones cost, and by what is left of their time
to the first token what the server adds that no step shows.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.benchmarking.load import failures_of, run_closed
from mm_orch.benchmarking.workloads import Workload, make_length_workload
from mm_orch.core.errors import NoServerError
from mm_orch.planning.samples import beside_sample_of, fit_samples, samples_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mm_orch.benchmarking.client import Target
    from mm_orch.benchmarking.plan import Progress
    from mm_orch.benchmarking.records import RequestRecord
    from mm_orch.benchmarking.vocabulary import CountTokens
    from mm_orch.planning.samples import MeasuredServer, Sample

CLIENTS = (1, 2, 4, 8, 16, 32)
PROMPT_TOKENS = (16, 64, 160, 400)
_SHORT_PROMPT = 16
_OUTPUT_TOKENS = 40
_LONG_OUTPUT_TOKENS = 24
_SEED = 7_000

# Clients beside one long answer, and the tokens of their prompts; each asks so many chats, and the
# long answer lasts about as long as they.
BESIDE = ((3, 16), (3, 96), (7, 40), (15, 16), (15, 64))
_NUM_BESIDE = 3
_BESIDE_OUTPUT_TOKENS = 24
_LASTING_TOKENS = 160
_NUM_REQUESTS = (
    len(PROMPT_TOKENS) + sum(CLIENTS) + sum(1 + _NUM_BESIDE * clients for clients, _ in BESIDE)
)


def measure_server(
    target: Target, count_tokens: CountTokens, progress: Progress, *, num_rounds: int = 2
) -> MeasuredServer:
    """Send prompts, and return what steps take.

    Args:
        target: a server that does nothing else meanwhile.
        count_tokens: by the tokeniser of its model.
        progress: told of each request.
        num_rounds: how often everything is asked, each time with prompts of its own.

    Raises:
        NoServerError: a request failed.
    """
    # Not counted: it sets up what later rounds use.
    with _stage(progress, f"warming {target.url} up", sum(CLIENTS[-2:])):
        _Round(target, count_tokens, progress, -1).ask_together(CLIENTS[-2:])
    return fit_samples(
        [
            sample
            for number in range(num_rounds)
            for sample in take_samples(target, count_tokens, progress, number=number)
        ]
    )


def take_samples(
    target: Target, count_tokens: CountTokens, progress: Progress, *, number: int
) -> list[Sample]:
    """Ask everything once; see measure_server.

    Args:
        target: a server that does nothing else meanwhile, and has been warmed up.
        count_tokens: by the tokeniser of its model.
        progress: told of each request.
        number: each has prompts of its own.

    Raises:
        NoServerError: a request failed.
    """
    one = _Round(target, count_tokens, progress, number)
    with _stage(progress, f"measuring {target.url}, round {number + 1}", _NUM_REQUESTS):
        return [*one.ask_alone(), *one.ask_together(CLIENTS), *one.ask_beside()]


@contextmanager
def _stage(progress: Progress, words: str, num_requests: int) -> Iterator[None]:
    progress.start(words, num_requests)
    try:
        yield
    finally:
        progress.finish()


@dataclass(frozen=True, slots=True)
class _Round:
    """What is asked of a server once."""

    target: Target
    count_tokens: CountTokens
    progress: Progress
    number: int

    def ask_alone(self) -> list[Sample]:
        """Ask prompts of each length, one after another."""
        samples = []
        for length in PROMPT_TOKENS:
            workload = self._make(length, _LONG_OUTPUT_TOKENS, 1)
            samples += samples_of(self._ask(workload, 1))
        return samples

    def ask_together(self, clients: Sequence[int]) -> list[Sample]:
        """Ask short prompts at once, at each number of clients."""
        samples = []
        for num_clients in clients:
            workload = self._make(_SHORT_PROMPT, _OUTPUT_TOKENS, num_clients)
            samples += samples_of(self._ask(workload, num_clients))
        return samples

    def ask_beside(self) -> list[Sample]:
        """Ask chats while a long answer is given."""
        samples = []
        for num_clients, length in BESIDE:
            lasting = self._make(_SHORT_PROMPT, _LASTING_TOKENS, 1)
            num_chats = num_clients * _NUM_BESIDE
            chats = self._make(length, _BESIDE_OUTPUT_TOKENS, num_chats)
            workload = Workload(
                name="beside", is_chat=True, sessions=(*lasting.sessions, *chats.sessions)
            )
            samples += beside_sample_of(self._ask(workload, 1 + num_clients))
        return samples

    def _make(self, num_prompt: int, num_output: int, num_sessions: int) -> Workload:
        return make_length_workload(
            num_prompt,
            num_output,
            num_sessions,
            seed=_SEED + 100 * self.number + num_sessions,
            count_tokens=self.count_tokens,
        )

    def _ask(self, workload: Workload, num_clients: int) -> Sequence[RequestRecord]:
        run = asyncio.run(
            run_closed(
                self.target, workload, num_clients, on_done=lambda _: self.progress.advance(1)
            )
        )
        faults = failures_of([run])
        if faults:
            raise NoServerError(f"{self.target.url} cannot be measured: {faults[0]}.")
        return run.requests
