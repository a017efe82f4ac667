from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.core.guide import ThoughtMarks
from mm_orch.orchestration.thoughts import ThoughtSplitter

THINK = ThoughtMarks(begin="<think>", end="</think>")


def split(
    *pieces: str, marks: ThoughtMarks | None = THINK, is_thinking: bool = False
) -> tuple[str, str]:
    splitter = ThoughtSplitter(marks, is_thinking=is_thinking)
    parts = [*(splitter.push(piece) for piece in pieces), splitter.flush()]
    return "".join(thought for thought, _ in parts), "".join(text for _, text in parts)


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("Hello", "", "Hello"),
        ("<think>\nHm.\n</think>\n\nHello", "Hm.", "Hello"),
        ("\n<think>Hm.</think>Hello", "Hm.", "Hello"),
        ("<think></think>Hello", "", "Hello"),
        ("<think>a < b</think>c", "a < b", "c"),
        ("<think>never ends ", "never ends", ""),
        ("<thin air", "", "<thin air"),
        # Only what comes first is a thought.
        ("So <think>Hm.</think>", "", "So <think>Hm.</think>"),
        ("<think>a</think>b</think>", "a", "b</think>"),
        ("", "", ""),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_thoughts_are_parted_from_the_answer(
    text: str, thought: str, answer: str, size: int
) -> None:
    pieces = [text[begin : begin + size] for begin in range(0, len(text), size)]

    assert split(*pieces) == (thought, answer)


def test_thoughts_that_the_prompt_opened_need_no_mark() -> None:
    assert split("Hm.", "</thi", "nk>\n", "\nHello", is_thinking=True) == ("Hm.", "Hello")


def test_a_model_without_marks_has_no_thoughts() -> None:
    assert split("<think>a</think>", marks=None) == ("", "<think>a</think>")


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "think", ">", " ", "\n", "a"])))
def test_in_pieces_it_is_the_same_as_at_once(pieces: list[str]) -> None:
    assert split(*pieces) == split("".join(pieces))
