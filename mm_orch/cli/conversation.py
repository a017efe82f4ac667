"""One conversation: its turns, who answers it, and what it has cost."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mm_orch.cli.answers import open_answers
from mm_orch.core.routing import AUTO

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from types import TracebackType
    from typing import Self

    from mm_orch.cli.answers import Answers
    from mm_orch.cli.wishes import Wishes
    from mm_orch.config import Config
    from mm_orch.muai import Answer


@dataclass(slots=True)
class Tally:
    """What the complete answers of a conversation add up to."""

    num_answers: int = 0
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    num_stopped: int = 0
    ttft_s: float = 0.0
    total_s: float = 0.0

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second once answers had begun; loading a model is not in it."""
        decoding_s = self.total_s - self.ttft_s
        num_later = self.num_generated_tokens - self.num_answers
        return num_later / decoding_s if decoding_s > 0 else 0.0

    def add(self, answer: Answer) -> None:
        """Count a complete answer."""
        self.num_answers += 1
        self.num_prompt_tokens += answer.usage.num_prompt_tokens
        self.num_generated_tokens += answer.usage.num_generated_tokens
        self.ttft_s += answer.ttft_s
        self.total_s += answer.total_s


class Conversation:
    """A context manager: engines started for it are stopped when it is left."""

    def __init__(self, config: Config, wishes: Wishes) -> None:
        self.config = config
        self.wishes = wishes
        self.turns: list[dict[str, str]] = []
        self.tally = Tally()
        self._stack = ExitStack()
        self._answers: Answers | None = None

    def __enter__(self) -> Self:
        self._answers = self._stack.enter_context(open_answers(self.config, self.wishes))
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(error_type, error, traceback)

    @property
    def place(self) -> str:
        """Where answers come from, for people."""
        return self._answers.place if self._answers else "nowhere"

    def find_workflows(self) -> Sequence[str]:
        """Return the workflows of whoever answers, and last the word that has one chosen.

        Raises:
            MuAIError: they cannot be had.
        """
        names = self._answers.workflows() if self._answers else ()
        return (*names, AUTO) if names else ()

    @property
    def model(self) -> str:
        """The model that answers, as it was asked for."""
        return self.wishes.model or self.config.default_model_name

    def switch(self, *, model: str | None = None, engine: str | None = None) -> None:
        """Let another model or engine answer from now on; the turns stay.

        Raises:
            ModelNotFoundError: there is no such model; nothing has changed.
        """
        wishes = replace(
            self.wishes, model=model or self.wishes.model, engine=engine or self.wishes.engine
        )
        stack = ExitStack()
        self._answers = stack.enter_context(open_answers(self.config, wishes))
        self._stack.close()
        self._stack, self.wishes = stack, wishes

    def choose_workflow(self, name: str | None) -> None:
        """Let a workflow answer from now on, or with None the model itself; the turns stay."""
        self.wishes = replace(self.wishes, workflow=name)

    def ask(self, text: str) -> Generator[str]:
        """Yield the answer to the next turn as it comes.

        What has come of an answer that is stopped early stays in the history, and so does the
        question; a question that failed leaves nothing.

        Raises:
            MuAIError: the answer cannot be had.
        """
        if self._answers is None:
            message = "the conversation is not open"
            raise RuntimeError(message)
        question = {"role": "user", "content": text}
        reply = self._answers.reply([*self.turns, question], self.wishes)
        pieces: list[str] = []
        try:
            with closing(iter(reply)) as stream:
                for piece in stream:
                    pieces.append(piece)
                    yield piece
        except (GeneratorExit, KeyboardInterrupt):
            self.tally.num_stopped += 1
            if pieces:
                self._keep(question, "".join(pieces))
            raise
        self._keep(question, reply.answer.text)
        self.tally.add(reply.answer)

    def clear(self) -> None:
        """Forget the turns."""
        self.turns.clear()

    def _keep(self, question: dict[str, str], answer: str) -> None:
        self.turns += [question, {"role": "assistant", "content": answer}]
