"""Tells what may be told of a model's text, sentence by sentence, while the model writes on."""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from mm_orch.retrieval.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.workflows.generating import Say

# What ends a sentence, or a line of any text; nobody can tell before more has come.
_END = re.compile(r"[.!?\u3002\uff01\uff1f\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
# Of what is written, for the end of a sentence to be seen when the next one begins.
_NUM_LOOKED_BACK = 16


class SentenceTeller(ABC):
    """Takes what a model writes; a sentence is told once the next one has begun, or all is over.

    What looks for sentences, and for what may be told of them, takes long where texts are long: it
    is called in a thread, and one call at a time.
    """

    def __init__(self) -> None:
        self._written = ""
        self._num_taken = 0

    def hear(self, piece: str) -> bool:
        """Take what the model writes; say whether a sentence may have ended. Returns at once."""
        before = self._written[-_NUM_LOOKED_BACK:]
        self._written += piece
        return _END.search(before + piece) is not None

    def tell_complete(self) -> str:
        """Return what may be told of what was heard; often nothing yet."""
        # The last one may go on.
        return self._take(split_sentences(self._written)[:-1])

    def finish(self) -> str:
        """Return what may still be told now that the model has ended."""
        return self._take(split_sentences(self._written))

    async def pass_on(self, piece: str, say: Say) -> None:
        """Take a piece, and say what may be told then."""
        if self.hear(piece) and (told := await asyncio.to_thread(self.tell_complete)):
            await say(told)

    async def pass_on_rest(self, say: Say) -> None:
        """Say what may still be told now that the model has ended."""
        if told := await asyncio.to_thread(self.finish):
            await say(told)

    def _take(self, sentences: Sequence[str]) -> str:
        new, self._num_taken = sentences[self._num_taken :], max(self._num_taken, len(sentences))
        return self._tell_new(new)

    @abstractmethod
    def _tell_new(self, sentences: Sequence[str]) -> str:
        """Return what may be told of the next sentences, with a blank before where one is due."""
