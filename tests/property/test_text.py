"""Text in pieces equals text at once, for real tokenisers of both families."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer

from mm_orch.models.stop import StopMatcher
from mm_orch.models.text import IncrementalDecoder, TextCodec

if TYPE_CHECKING:
    from pathlib import Path

_CORPUS = [
    "the quick brown fox",
    "naïve café",
    "日本語のテキスト",
    "1 2 3 😀 emoji",
    "a  b\n\nc",
] * 9


def make_byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return tokenizer


def make_byte_fallback() -> Tokenizer:
    """As sentencepiece models are: a mark for the space, unknown characters in bytes."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = ["\u2581", *"abcdefghijklmnopqrstuvwxyz0123456789"]
    tokens = ["<unk>", "<s>", "</s>", *bytes_, *letters, "th", "the", "\u2581a"]
    vocab = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=[("t", "h"), ("th", "e"), ("\u2581", "a")],
            unk_token="<unk>",  # noqa: S106 - a token of a vocabulary
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


@pytest.fixture(scope="module", params=[make_byte_level, make_byte_fallback])
def codec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TextCodec:
    directory: Path = tmp_path_factory.mktemp("tokenizer")
    request.param().save(str(directory / "tokenizer.json"))
    return TextCodec.from_directory(directory)


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)


@given(TEXT)
def test_decoding_token_by_token_equals_decoding_at_once(codec: TextCodec, text: str) -> None:
    token_ids = codec.encode_literal(text)
    decoder = IncrementalDecoder(codec)

    pieces = [decoder.push((token_id,)) for token_id in token_ids]

    assert "".join(pieces) + decoder.flush() == codec.decode(token_ids)
    assert not any("\ufffd" in piece for piece in pieces) or "\ufffd" in text


@given(st.lists(st.integers(3, 399), max_size=40))
def test_arbitrary_tokens_of_a_byte_level_model_decode_alike(token_ids: list[int]) -> None:
    codec = TextCodec.__new__(TextCodec)
    codec._tokenizer = BYTE_LEVEL
    token_ids = [i for i in token_ids if i < BYTE_LEVEL.get_vocab_size()]
    decoder = IncrementalDecoder(codec)

    text = "".join(decoder.push((token_id,)) for token_id in token_ids) + decoder.flush()

    assert text == codec.decode(token_ids)


BYTE_LEVEL = make_byte_level()


@given(TEXT)
def test_text_survives_the_way_to_tokens_and_back(codec: TextCodec, text: str) -> None:
    if not codec.is_byte_level:
        # The sentencepiece family writes its mark for the space, so that one does not survive.
        text = text.replace("\u2581", "")
    assert codec.decode(codec.encode_literal(text)) == text


@given(TEXT)
def test_no_token_stands_for_more_bytes_than_the_longest(codec: TextCodec, text: str) -> None:
    for token_id in codec.encode_literal(text):
        assert len(codec.token_bytes(token_id)) <= codec.longest_token_bytes


def naive(text: str, stops: list[str]) -> str:
    begins = [text.find(stop) for stop in stops if stop in text]
    return text[: min(begins)] if begins else text


def shorten_at_first_end(text: str, stops: list[str]) -> str:
    """What may be shown: up to the stop string that is complete first."""
    for end in range(len(text) + 1):
        if any(text[:end].endswith(stop) for stop in stops):
            return naive(text[:end], stops)
    return text


def show(stops: list[str], pieces: list[str]) -> str:
    """Return all that is given out of an answer that comes in these pieces."""
    matcher = StopMatcher(stops)
    shown = ""
    for piece in pieces:
        text, is_stopped = matcher.push(piece)
        shown += text
        if is_stopped:
            return shown
    return shown + matcher.flush()


@given(
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    st.lists(st.text("abc", max_size=1), max_size=40),
)
def test_stopping_in_single_characters_equals_searching_the_whole(
    stops: list[str], pieces: list[str]
) -> None:
    shown = show(stops, pieces)

    assert shown == shorten_at_first_end("".join(pieces), stops)


@given(
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    st.lists(st.text("abc", max_size=7), max_size=20),
)
def test_no_stop_string_is_ever_shown(stops: list[str], pieces: list[str]) -> None:
    shown = show(stops, pieces)

    assert not any(stop in shown for stop in stops)
    assert "".join(pieces).startswith(shown)
