"""Counts the grammars that a pipeline has seen: GenAI keeps each of them for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.models.plain_json import MAX_GRAMMAR_CHARS, write_plain_grammar

if TYPE_CHECKING:
    from mm_orch.optimization.engines.contract import Sequence

# An ordinary one has a thousand characters and takes half a megabyte; one of the longest takes ten.
MAX_CHARS = 50 * MAX_GRAMMAR_CHARS


class SeenGrammars:
    """The grammars of one pipeline."""

    def __init__(self) -> None:
        self._grammars: set[str] = set()

    def has_room_for(self, sequence: Sequence) -> bool:
        """Whether the pipeline may take this sequence without keeping too much."""
        grammar = _grammar_of(sequence)
        if not grammar or grammar in self._grammars:
            return True
        return sum(map(len, self._grammars)) + len(grammar) <= MAX_CHARS

    def add(self, sequence: Sequence) -> None:
        """Take a sequence that the pipeline was given."""
        if grammar := _grammar_of(sequence):
            self._grammars.add(grammar)


def _grammar_of(sequence: Sequence) -> str | None:
    guide = sequence.params.guide
    return None if guide is None else write_plain_grammar(guide)
