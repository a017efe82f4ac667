"""Parts a model's thoughts from its answer, in text that comes in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.models.stop import overlap

if TYPE_CHECKING:
    from mm_orch.core.guide import ThoughtMarks


class ThoughtSplitter:
    """Takes text; gives the thoughts and the rest, without marks and the blanks around them.

    Args:
        marks: around thoughts; None where the model has none, and all is answer.
        is_thinking: the prompt has opened the thoughts.
    """

    def __init__(self, marks: ThoughtMarks | None, *, is_thinking: bool) -> None:
        self._marks = marks
        self.is_thinking = is_thinking and marks is not None
        self._is_undecided = marks is not None and not is_thinking
        self._is_after_mark = self.is_thinking
        self._held = ""

    @property
    def is_undecided(self) -> bool:
        """Whether nothing has come yet that tells a thought from an answer."""
        return self._is_undecided

    @property
    def num_held(self) -> int:
        """Characters that were taken and belong to neither yet."""
        return len(self._held)

    def push(self, text: str) -> tuple[str, str]:
        """Take text; return new thoughts and new text of the answer."""
        if self._marks is None:
            return "", text
        self._held += text
        if self._is_undecided:
            self._decide(self._marks.begin)
        thought = self._think(self._marks.end) if self.is_thinking else ""
        if self.is_thinking or self._is_undecided:
            return thought, ""
        return thought, self._take_answer()

    def flush(self) -> tuple[str, str]:
        """Return what is held back, once nothing follows."""
        held, self._held = self._held, ""
        return (held.rstrip(), "") if self.is_thinking else ("", held)

    def _decide(self, begin: str) -> None:
        text = self._held.lstrip()
        if text.startswith(begin):
            self._held = text.removeprefix(begin)
            self.is_thinking = self._is_after_mark = True
        self._is_undecided = not text or (begin.startswith(text) and not self.is_thinking)

    def _think(self, end: str) -> str:
        if self._is_after_mark:
            self._held = self._held.lstrip()
            self._is_after_mark = not self._held
        thought, mark, rest = self._held.partition(end)
        if mark:
            self.is_thinking, self._is_after_mark, self._held = False, True, rest
            return thought.rstrip()
        body = self._held[: len(self._held) - overlap(self._held, end)].rstrip()
        self._held = self._held[len(body) :]
        return body

    def _take_answer(self) -> str:
        text, self._held = self._held, ""
        if self._is_after_mark:
            text = text.lstrip()
            self._is_after_mark = not text
        return text
