"""Texts before they are embedded, and vectors afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mm_orch.core.errors import ContextLengthError, InvalidValueError
from mm_orch.models.recipe import VectorRecipe
from mm_orch.models.text import TextCodec
from mm_orch.orchestration.model_text import ModelText
from mm_orch.orchestration.vectors import check_dimensions, cut, encode_inputs

if TYPE_CHECKING:
    from pathlib import Path


def make_text(directory: Path, recipe: VectorRecipe | None = None) -> ModelText:
    """A model of four words, whose file asks for cutting and filling, as MiniLM's does."""
    vocab = {"[PAD]": 0, "[S]": 1, "[E]": 2, "[U]": 3, "a": 4, "b": 5}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[U]"))  # noqa: S106 - a token of a vocabulary
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[S] $A [E]", special_tokens=[("[S]", 1), ("[E]", 2)]
    )
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=3)
    tokenizer.save(str(directory / "tokenizer.json"))
    return ModelText(
        name="m",
        context_length=6,
        vocab_size=6,
        eos_token_ids=(),
        codec=TextCodec.from_directory(directory),
        template=None,
        recipe=recipe or VectorRecipe(),
    )


def test_texts_get_special_tokens_and_token_ids_do_not(tmp_path: Path) -> None:
    text = make_text(tmp_path)

    assert encode_inputs(["a b", "a", (4, 5)], text) == [(1, 4, 5, 2), (1, 4, 2), (4, 5)]


def test_a_long_text_is_neither_cut_nor_filled_but_refused_by_its_place(tmp_path: Path) -> None:
    text = make_text(tmp_path)

    assert encode_inputs(["a a a a"], text) == [(1, 4, 4, 4, 4, 2)]
    with pytest.raises(ContextLengthError, match=r"input\[1\] has 7 tokens; model m takes 6"):
        encode_inputs(["a", "a a a a a"], text)


def test_letters_are_made_small_where_the_model_wants_it(tmp_path: Path) -> None:
    assert encode_inputs(["A"], make_text(tmp_path)) == [(1, 3, 2)]
    small = make_text(tmp_path, VectorRecipe(is_lowercased=True))
    assert encode_inputs(["A"], small) == [(1, 4, 2)]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("", r"input\[1\] is empty"),
        ((), r"input\[1\] is empty"),
        ((6,), "Token id 6 is not in the vocabulary of m: 0 to 5"),
        ("\ud800", r"input\[1\]: .*surrogate"),
    ],
)
def test_what_is_no_text_is_refused(
    tmp_path: Path, given: str | tuple[int, ...], says: str
) -> None:
    with pytest.raises(InvalidValueError, match=says) as refusal:
        encode_inputs(["a", given], make_text(tmp_path))

    assert refusal.value.param == "input"


ANYWHERE = VectorRecipe(can_cut_anywhere=True)
TO_SOME = VectorRecipe(cut_dimensions=(2, 4, 8))


@pytest.mark.parametrize(
    ("wanted", "recipe"),
    [(None, VectorRecipe()), (8, VectorRecipe()), (1, ANYWHERE), (7, ANYWHERE), (4, TO_SOME)],
)
def test_vectors_have_the_lengths_that_the_model_was_trained_for(
    tmp_path: Path, wanted: int | None, recipe: VectorRecipe
) -> None:
    check_dimensions(wanted, 8, make_text(tmp_path, recipe))


@pytest.mark.parametrize(
    ("wanted", "recipe", "says"),
    [
        (4, VectorRecipe(), "dimensions is 4; model m gives 8: it was not trained"),
        (9, ANYWHERE, "dimensions is 9; model m gives 1 to 8"),
        (3, TO_SOME, "dimensions is 3; model m gives 2, 4, 8"),
        (16, TO_SOME, "dimensions is 16; model m gives 2, 4, 8"),
    ],
)
def test_other_lengths_are_refused(
    tmp_path: Path, wanted: int, recipe: VectorRecipe, says: str
) -> None:
    with pytest.raises(InvalidValueError, match=says):
        check_dimensions(wanted, 8, make_text(tmp_path, recipe))


def test_a_cut_vector_has_length_one_where_the_whole_had() -> None:
    vectors = np.array([[3, 4, 12], [0, 0, 1]], dtype=np.float32)

    assert cut(vectors, 2, VectorRecipe()).tolist() == [[3, 4], [0, 0]]
    normalized = cut(vectors, 2, VectorRecipe(is_normalized=True))
    assert normalized == pytest.approx(np.array([[0.6, 0.8], [0, 0]]))
    assert normalized.dtype == np.float32
    assert cut(vectors, None, VectorRecipe()) is vectors
