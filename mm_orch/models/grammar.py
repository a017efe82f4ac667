"""Writes guides as grammars of llguidance, and makes matchers of them for a model's tokens.

The dialect is llguidance's own of Lark (its docs/syntax.md): ``%json`` holds a JSON schema,
``<[5]>`` is the token 5, a rule marked ``lazy`` ends with the first text that fits it.
"""

from __future__ import annotations

import json
import re
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mm_orch.core.errors import InvalidValueError, UnsupportedError
from mm_orch.core.guide import JsonObjectShape, JsonSchemaShape, TagsShape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import llguidance

    from mm_orch.core.guide import Guide, Shape, ThoughtMarks

    FindToken = Callable[[str], int | None]

# What a small model may put between the parts of its JSON. Without a bound, it fills an answer with
# blanks; the pattern is the one that llama.cpp's grammars have.
_BLANKS = r"( |\n{1,2}[ \t]{0,20})"
_ANY_OBJECT = '{"type": "object"}'
# Spellings that a tokeniser may have a token of its own for.
_MARK = re.compile(r"(<[^<>\s]+>|\[/?[A-Z_]+\]|◁[^▷]+▷)")
_MAX_LEXER_STATES = 25_000
_NUM_KEPT = 32
# The library tells of the grammar's inner state below the first line.
_MAX_REASON_CHARS = 300


class GrammarCompiler:
    """Makes matchers for one model's tokens. Reads the tokeniser when first needed.

    Args:
        directory: holds tokenizer.json.
        eos_token_ids: allowed where the grammar may end, and there only.
    """

    def __init__(self, directory: Path, eos_token_ids: Sequence[int]) -> None:
        self._directory = directory
        self._eos_token_ids = list(eos_token_ids)
        self._tokenizer: llguidance.LLTokenizer | None = None
        self._compile = lru_cache(maxsize=_NUM_KEPT)(self._compile_anew)

    @property
    def vocab_size(self) -> int:
        """Tokens that a mask speaks of."""
        return self._ensure_tokenizer().vocab_size

    def compile(self, guide: Guide) -> llguidance.LLMatcher:
        """Return a matcher at the beginning of the guide's grammar.

        Raises:
            InvalidValueError: the library refuses the guide.
            UnsupportedError: it is not there, or cannot read the model's tokeniser.
        """
        return self._compile(guide).deep_copy()

    def read_tokens(self) -> list[bytes]:
        """Return what each token says; nothing for marks and for what ends an answer.

        Raises:
            UnsupportedError: the library is not there, or cannot read the model's tokeniser.
        """
        tokenizer = self._ensure_tokenizer()
        tokens = [tokenizer.decode_bytes([token_id]) for token_id in range(tokenizer.vocab_size)]
        marks = {
            token_id for token_id in range(len(tokens)) if tokenizer.is_special_token(token_id)
        }
        marks.update(self._eos_token_ids)
        # What the library says of other tokens without a text begins with a byte that no text has.
        return [
            b"" if token_id in marks or token[:1] == b"\xff" else token
            for token_id, token in enumerate(tokens)
        ]

    def find_token(self, text: str) -> int | None:
        """Return the id of the token that stands for this mark, or None where it is plain text."""
        tokenizer = self._ensure_tokenizer()
        token_ids = tokenizer.tokenize_str(text, parse_special=True)
        is_mark = len(token_ids) == 1 and tokenizer.is_special_token(token_ids[0])
        return token_ids[0] if is_mark else None

    def _compile_anew(self, guide: Guide) -> llguidance.LLMatcher:
        tokenizer = self._ensure_tokenizer()
        return make_matcher(tokenizer, write_grammar(guide, self.find_token))

    def _ensure_tokenizer(self) -> llguidance.LLTokenizer:
        if self._tokenizer is None:
            path = self._directory / "tokenizer.json"
            try:
                from llguidance import LLTokenizer

                # An empty list of end tokens leaves the library's own guess.
                self._tokenizer = LLTokenizer(
                    path.read_text(encoding="utf-8"), eos_token=self._eos_token_ids or None
                )
            except ImportError as error:
                # An engine may have an interpreter of its own.
                raise UnsupportedError(
                    f"Answers cannot be kept to a shape: {error}.",
                    remedy=f"Run: {sys.executable} -m pip install llguidance",
                ) from error
            except (OSError, ValueError) as error:
                raise UnsupportedError(
                    f"Answers cannot be kept to a shape: {path.name} does not fit the grammar"
                    f" library: {error}."
                ) from error
        return self._tokenizer


def make_matcher(tokenizer: llguidance.LLTokenizer, grammar: str) -> llguidance.LLMatcher:
    """Compile a grammar in the library's dialect of Lark.

    Raises:
        InvalidValueError: the library refuses it; the message is its reason.
    """
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(max_lexer_states=_MAX_LEXER_STATES, verbose_errors=False)
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(grammar), log_level=0, limits=limits)
    if matcher.is_error():
        raise InvalidValueError(f"{reason_of(matcher)}.")
    return matcher


def reason_of(matcher: llguidance.LLMatcher) -> str:
    """Return the library's reason, without a full stop."""
    reason = matcher.get_error().split("\n   1 |")[0].split("\n<state>")[0].strip()
    reason = re.sub(r"^at \d+\(\d+\): (failed to compile JSON schema: )?", "", reason)
    reason = re.sub(r'^failed to parse "%json": ', "", reason)
    # Else the pattern itself would fill the message.
    reason = re.sub(r"(regex parse error:).*error:", r"\1", reason, flags=re.DOTALL)
    return re.sub(r"\s+", " ", reason)[:_MAX_REASON_CHARS].rstrip(".")


def write_grammar(guide: Guide, find_token: FindToken) -> str:
    """Write a guide as Lark.

    Args:
        guide: what the text must look like.
        find_token: gives the token that stands for a mark, or None where marks are plain text.
    """
    writer = _Writer(find_token)
    start = "answer"
    if guide.thoughts is not None:
        writer.write_thoughts(guide.thoughts)
        start = "thoughts answer" if guide.is_thinking else "(think thoughts)? answer"
    writer.write_answer(guide.shape)
    lines = ["%llguidance {}", f"start: {start}", *writer.rules, r"TEXT: /(.|\n)*/", ""]
    return "\n".join(lines)


class _Writer:
    """Collects the rules of one grammar."""

    def __init__(self, find_token: FindToken) -> None:
        self._find_token = find_token
        self.rules: list[str] = []

    def write_thoughts(self, marks: ThoughtMarks) -> None:
        self.rules += [
            f"think: {self._spell(marks.begin)}",
            f"thoughts: {self._text_until('end_of_thoughts', marks.end)} GAP?",
            r"GAP: /[ \t\r\n]{1,4}/",
        ]

    def write_answer(self, shape: Shape) -> None:
        match shape:
            case JsonSchemaShape() | JsonObjectShape():
                self.rules.append(f"answer: {_json_of(shape)}")
            case TagsShape():
                self._write_tags(shape)

    def _write_tags(self, shape: TagsShape) -> None:
        numbers = range(len(shape.tags))
        for number, tag in enumerate(shape.tags):
            value = _json(tag.schema, is_lenient=tag.is_lenient)
            self.rules += [
                f"value_{number}: {value}",
                f"tag_{number}: {self._spell(tag.begin)} value_{number} {self._spell(tag.end)}",
            ]
        more = "" if shape.is_single else f" ({self._spell(shape.separator)} tag)*"
        rest = f"{more} {self._spell(shape.closing)}"
        tags = f"{self._spell(shape.opening)} tag{rest}"
        self.rules.append("tag: " + " | ".join(f"tag_{number}" for number in numbers))
        if shape.is_required:
            self.rules.append(f"answer: {tags}")
        elif shape.otherwise is not None:
            self.rules.append(f"answer: {tags} | {_json_of(shape.otherwise)}")
        else:
            # The trigger ends the text, so what follows it is the rest of the first tag.
            for number, tag in enumerate(shape.tags):
                head = (shape.opening + tag.begin).removeprefix(shape.trigger)
                end = self._spell(tag.end)
                self.rules.append(f"first_{number}: {self._spell(head)} value_{number} {end}")
            self.rules.append("first: " + " | ".join(f"first_{number}" for number in numbers))
            until = self._text_until("trigger", shape.trigger)
            self.rules.append(f"answer: {until} first{rest} | TEXT")

    def _text_until(self, name: str, mark: str) -> str:
        """Write text up to the first ``mark``, as a token or spelled out."""
        self.rules.append(f"{name}[lazy]: TEXT {json.dumps(mark, ensure_ascii=False)}")
        token_id = self._find_token(mark)
        return name if token_id is None else f"({name} | TEXT <[{token_id}]>)"

    def _spell(self, text: str) -> str:
        pieces = [self._spell_piece(piece) for piece in _MARK.split(text) if piece]
        return " ".join(pieces)

    def _spell_piece(self, piece: str) -> str:
        token_id = self._find_token(piece) if _MARK.fullmatch(piece) else None
        return json.dumps(piece, ensure_ascii=False) if token_id is None else f"<[{token_id}]>"


def _json_of(shape: JsonSchemaShape | JsonObjectShape) -> str:
    return _json(shape.schema if isinstance(shape, JsonSchemaShape) else _ANY_OBJECT)


def _json(schema: str, *, is_lenient: bool = False) -> str:
    content: dict[str, Any] = json.loads(schema)
    # Whatever the caller says there, these are ours to choose.
    content["x-guidance"] = {
        "whitespace_pattern": _BLANKS,
        "lenient": is_lenient,
        "coerce_one_of": is_lenient,
    }
    return f"%json {json.dumps(content)}"
