"""What a query says of its lesson."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.workflows.lesson_wishes import MAX_SUBJECT_CHARS, read_wishes


@pytest.mark.parametrize(
    ("query", "num_exercises"),
    [
        ("Explain photosynthesis.", 5),
        ("Explain photosynthesis with one exercise.", 1),
        ("Explain Ohm's law, then test me with five questions of rising difficulty", 5),
        ("Teach me regular expressions through ten tiny challenges", 10),
        ("write 12 multiple-choice questions", 12),
        ("two short word problems, please", 2),
        ("seventeen problems", 17),
        ("Twenty questions on trees", 20),
        # More than there may be, and none.
        ("give me 300 problems", 20),
        ("0 questions", 5),
        # The number counts something else.
        ("grade 5 problems", 5),
        ("chapter 7 exercises", 5),
        ("3 lessons with questions", 5),
        ("Plan 3 lessons with 8 questions", 8),
        ("a 45 minute class with questions", 5),
        ("8-year-old math problems", 5),
        ("version 1.7 questions", 5),
        ("讲一讲浮力", 5),
        ("光合作用讲一下,再配五道选择题", 5),
        ("给我来十道有关勾股定理的题", 10),
        ("十二道题", 12),
        ("二十道题", 20),
        ("三十道题", 20),
        ("两个问题", 2),
        ("象棋残局练习十题", 10),
        ("出 8 道题", 8),
        ("一年级拼音练习", 5),
    ],
)
def test_the_number_of_exercises_is_read_where_it_is_plain(query: str, num_exercises: int) -> None:
    assert read_wishes(query).num_exercises == num_exercises


@pytest.mark.parametrize(
    ("query", "level"),
    [
        ("A lesson on magnets for beginners", "beginner"),
        ("Volcanoes for grade 4", "beginner"),
        ("Volcanoes for grade 10", "intermediate"),
        ("Genes, intermediate level", "intermediate"),
        ("An advanced lesson on Bayes' theorem", "advanced"),
        ("University physics: tides", "advanced"),
        ("A lesson on kidneys", "general"),
        ("零基础学素描", "beginner"),
        ("高一语法填空", "intermediate"),
        ("大学物理", "advanced"),
        ("光合作用", "general"),
    ],
)
def test_the_level_is_read_where_it_is_plain(query: str, level: str) -> None:
    assert read_wishes(query).level == level


@pytest.mark.parametrize(
    ("query", "language"),
    [
        ("Explain photosynthesis.", "en"),
        ("光合作用", "zh"),
        ("C++指针作业题", "zh"),
        ("What does 你好 mean in a Chinese lesson?", "en"),
        ("123 !?", "en"),
        ("Explique la photosynthèse", "en"),
    ],
)
def test_the_language_is_that_of_the_query(query: str, language: str) -> None:
    assert read_wishes(query).language == language


@pytest.mark.parametrize(
    ("query", "subject"),
    [
        ("Explain photosynthesis with exercises and answers.", "photosynthesis"),
        ("Quiz me on European capitals.", "European capitals"),
        ("Teach me about the Silk Road with four questions", "Silk Road"),
        ("give me practice problems on probability", "probability"),
        ("unit plan: the Roman Empire", "unit plan"),
        ("lesson on ww1 causes", "ww1 causes"),
        ("listening task with transcript, topic holidays", "holidays"),
        ("Flashcards", "Flashcards"),
        ("关于太阳系的一节课", "太阳系"),
        ("讲一讲浮力, 再出几道练习题", "浮力"),
        ("明天讲《背影》", "背影"),
        ("?", "?"),
        ("word " * 50, "word word word word word word word word word word word word"),
    ],
)
def test_the_subject_is_what_follows_what_asks_for_it(query: str, subject: str) -> None:
    assert read_wishes(query).subject == subject


@given(st.text(min_size=1, max_size=400))
def test_whatever_is_asked_has_a_subject_and_a_size(query: str) -> None:
    wishes = read_wishes(query)

    assert 0 < len(wishes.subject) <= MAX_SUBJECT_CHARS
    assert wishes.subject == wishes.subject.strip()
    assert 1 <= wishes.num_exercises <= 20
