"""Loads the queries labelled with the workflow that should answer them, and checks them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from benchmarks.unique_lines import read_unique

Part = Literal["train", "more_train", "held_out"]
Language = Literal["en", "zh"]
Label = Literal["chat_generate", "rag_qa", "search_qa", "self_ask_search_qa", "lesson_pack"]

_FOLDER = Path(__file__).parent
_SPLIT_SEED = 10102
_HELD_OUT_PERCENT = 36


class QueryContext(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is there beside the query.

    Attributes:
        has_documents: the user has uploaded documents that can be searched.
        has_session: there are earlier turns of the conversation.
    """

    has_documents: bool
    has_session: bool


class LabelledQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A query and the workflow that should answer it; README.md defines the labels."""

    query: str
    language: Language
    context: QueryContext
    label: Label


def load_part(part: Part) -> list[LabelledQuery]:
    """Return the queries of a part, in the order of its file.

    Who writes or tunes a router loads "train" and "more_train" alone.

    Raises:
        ValueError: what parse_part refuses.
    """
    return parse_part((_FOLDER / f"{part}.jsonl").read_bytes(), part)


def parse_part(lines: bytes, part: Part) -> list[LabelledQuery]:
    """Return the queries of JSON Lines.

    Raises:
        ValueError: a line is no labelled query, its query is empty, belongs to the other part, or
            equals an earlier one.
    """
    queries: list[LabelledQuery] = []
    entries = read_unique(
        lines,
        LabelledQuery,
        file=f"{part}.jsonl",
        noun="query",
        text_of=lambda one: one.query,
    )
    for place, query in entries:
        # More to train with was written later, with the development part seen: it is not divided.
        if part != "more_train" and is_held_out(query.query) != (part == "held_out"):
            raise ValueError(f"{place}: {query.query!r} belongs to the other part")
        queries.append(query)
    return queries


def is_held_out(query: str) -> bool:
    """Say which part a query belongs to; nothing but its text decides that."""
    digest = hashlib.sha256(f"{_SPLIT_SEED} {query}".encode()).digest()
    return int.from_bytes(digest, "big") % 100 < _HELD_OUT_PERCENT
