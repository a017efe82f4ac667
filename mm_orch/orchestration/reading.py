"""Sorts a model's text into thoughts, answer and calls of functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.orchestration.thoughts import ThoughtSplitter
from mm_orch.orchestration.tool_calls import ToolCallReader

if TYPE_CHECKING:
    from mm_orch.core.guide import ThoughtMarks
    from mm_orch.core.tools import ToolCallDelta
    from mm_orch.models.tool_formats import ToolFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the text of one request is to be read.

    Attributes:
        thoughts: marks around thoughts, or None.
        is_thinking: the prompt has opened the thoughts.
        tool_format: how calls are written; None where none are expected.
        tool_names: functions that may be called.
        is_guided: calls are kept to the format.
        is_single: no more than one call.
    """

    thoughts: ThoughtMarks | None = None
    is_thinking: bool = False
    tool_format: ToolFormat | None = None
    tool_names: frozenset[str] = frozenset()
    is_guided: bool = False
    is_single: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """Marks that must be seen in the text, even where they are special tokens."""
        thoughts = (self.thoughts.begin, self.thoughts.end) if self.thoughts else ()
        form = self.tool_format
        tools = (form.trigger, form.begin.strip(), form.end.strip()) if form else ()
        return tuple(mark for mark in (*thoughts, *tools) if mark)


PLAIN = Reading()


@dataclass(frozen=True, slots=True)
class Sorted:
    """What a piece of text brought."""

    thought: str
    text: str
    calls: tuple[ToolCallDelta, ...] = ()


class AnswerReader:
    """Takes the text of one choice in pieces."""

    def __init__(self, reading: Reading) -> None:
        self._splitter = ThoughtSplitter(reading.thoughts, is_thinking=reading.is_thinking)
        self._calls: ToolCallReader | None = None
        if reading.tool_format is not None:
            self._calls = ToolCallReader(
                reading.tool_format,
                reading.tool_names,
                is_guided=reading.is_guided,
                is_single=reading.is_single,
            )
        # Tokens that will count as thoughts or not once that is known.
        self._num_undecided_tokens = 0
        self.num_thought_tokens = 0

    @property
    def num_held(self) -> int:
        """Characters that were taken and came out nowhere yet."""
        return self._splitter.num_held + (self._calls.num_held if self._calls else 0)

    @property
    def num_calls(self) -> int:
        """Calls that have begun."""
        return self._calls.num_calls if self._calls else 0

    def push(self, text: str, num_tokens: int = 0) -> Sorted:
        """Take the text of so many tokens, mostly one."""
        was_thinking = self._splitter.is_thinking
        thought, rest = self._splitter.push(text)
        # The token that ends the thoughts is one of theirs.
        if self._splitter.is_undecided:
            self._num_undecided_tokens += num_tokens
        elif was_thinking or self._splitter.is_thinking or thought:
            self.num_thought_tokens += num_tokens + self._num_undecided_tokens
            self._num_undecided_tokens = 0
        else:
            self._num_undecided_tokens = 0
        return self._sort(thought, rest)

    def flush(self) -> Sorted:
        """Return what is held back, once nothing follows."""
        sorted_ = self._sort(*self._splitter.flush())
        last = self._calls.flush().text if self._calls else ""
        return Sorted(sorted_.thought, sorted_.text + last, sorted_.calls)

    def _sort(self, thought: str, rest: str) -> Sorted:
        if self._calls is None:
            return Sorted(thought, rest)
        found = self._calls.push(rest)
        return Sorted(thought, found.text, tuple(found.calls))
