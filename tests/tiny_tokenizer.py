"""A byte-level tokeniser of the tiny models' size: any text has tokens, JSON has short ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.tiny_models import VOCAB_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_CORPUS = ['{"name": "the fox", "age": 12}\n', '{"list": [true, false, null]}\n', "a b c\n\n"] * 5


def write_tokenizer(
    directory: Path, *, marks: Sequence[str] = (), special_marks: Sequence[str] = ()
) -> Path:
    """Write tokenizer.json; token 2 ends a text, as the tiny models have it.

    Args:
        directory: where to.
        marks: added as tokens of their own, which show in a text ...
        special_marks: ... and which do not.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.trainers import BpeTrainer

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=VOCAB_SIZE - len(marks) - len(special_marks),
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.add_tokens([AddedToken(mark, special=False) for mark in marks])
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in special_marks])
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory
