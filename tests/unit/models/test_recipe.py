from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import ModelStoreError
from mm_orch.models.recipe import Pooling, VectorRecipe, read_recipe

if TYPE_CHECKING:
    from pathlib import Path


def write(directory: Path, **files: object) -> Path:
    """Write JSON files; in their names, two underscores are a slash and every one ends alike."""
    for name, content in files.items():
        path = directory / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return directory


def modules(*kinds: str) -> list[dict[str, str]]:
    return [
        {"type": f"sentence_transformers.models.{kind}", "path": f"{index}_{kind}" if index else ""}
        for index, kind in enumerate(kinds)
    ]


def test_a_model_of_sentence_transformers_is_pooled_as_its_files_say(tmp_path: Path) -> None:
    write(
        tmp_path,
        modules=modules("Transformer", "Pooling", "Normalize"),
        sentence_bert_config={"max_seq_length": 256, "do_lower_case": True},
        config={"matryoshka_dimensions": [64, 128]},
    )
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    write(tmp_path, **{"1_Pooling__config": {"word_embedding_dimension": 384, **pooling}})

    recipe = read_recipe(tmp_path)

    assert recipe == VectorRecipe(
        pooling=Pooling.CLS,
        is_normalized=True,
        is_lowercased=True,
        max_tokens=256,
        is_stated=True,
        cut_dimensions=(64, 128),
    )
    assert recipe.words == "cls pooling, normalised"


def test_without_such_files_the_usual_one_is_taken_and_said_to_be(tmp_path: Path) -> None:
    recipe = read_recipe(tmp_path)

    assert recipe.pooling is Pooling.MEAN
    assert recipe.words == "mean pooling, not normalised (the model's files do not say)"


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_mean_tokens": True}, Pooling.MEAN),
        ({"pooling_mode_max_tokens": True}, Pooling.MAX),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, Pooling.MEAN_SQRT_LEN),
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, Pooling.LAST),
        ({"pooling_mode": "cls"}, Pooling.CLS),
    ],
)
def test_every_way_of_pooling_has_its_word(
    tmp_path: Path, config: dict[str, object], pooling: Pooling
) -> None:
    write(tmp_path, modules=modules("Transformer", "Pooling"), **{"1_Pooling__config": config})

    recipe = read_recipe(tmp_path)

    assert recipe.pooling is pooling
    assert not recipe.is_normalized
    assert recipe.unsupported == ()


@pytest.mark.parametrize(
    ("kinds", "config", "unsupported"),
    [
        (("Transformer", "Pooling", "Dense"), {"pooling_mode": "mean"}, ("Dense",)),
        (("Transformer", "WordWeights"), {}, ("WordWeights",)),
        (
            ("Transformer", "Pooling"),
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            ("pooling by cls_token and mean_tokens",),
        ),
        (
            ("Transformer", "Pooling"),
            {"pooling_mode_weightedmean_tokens": True},
            ("pooling by weightedmean_tokens",),
        ),
        (("Transformer", "Pooling"), {}, ("pooling by nothing",)),
    ],
)
def test_what_is_not_computed_here_is_named(
    tmp_path: Path, kinds: tuple[str, ...], config: dict[str, object], unsupported: tuple[str, ...]
) -> None:
    write(tmp_path, modules=modules(*kinds), **{"1_Pooling__config": config})

    assert read_recipe(tmp_path).unsupported == unsupported


def test_a_file_that_is_named_and_missing_is_a_fault(tmp_path: Path) -> None:
    write(tmp_path, modules=modules("Transformer", "Pooling"))

    with pytest.raises(ModelStoreError, match=r"1_Pooling/config\.json is missing"):
        read_recipe(tmp_path)


def test_a_damaged_file_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[{")

    with pytest.raises(ModelStoreError, match=r"modules\.json cannot be read"):
        read_recipe(tmp_path)
