"""How sure it is that what was found answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.retrieval.evidence import (
    FORMAT,
    EvidenceModel,
    EvidenceModels,
    Regression,
    choose_quotes,
    load_models,
    measure,
)
from mm_orch.retrieval.fusion import Candidate, fuse
from mm_orch.retrieval.places import find_places, with_cosines
from tests.unit.retrieval.scene import found

if TYPE_CHECKING:
    from pathlib import Path

WELL = "The well of the brewery is 61 metres deep."
SALT = "Salt was dear in those years."
MODELS = load_models()
EMPTY = {"features": [], "weights": [], "bias": 0}
UNEVEN = {"features": ["keys"], "weights": [], "bias": 0}


def find(question: str, *, has_vectors: bool = True, cosine: float = 0.6) -> list[Candidate]:
    words = [found(WELL, 5.0, heading="Hearn's Brewery", number=0)]
    vectors = [
        found(WELL, cosine, heading="Hearn's Brewery", number=0),
        found(SALT, 0.1, document="b"),
    ]
    return fuse(question, words, vectors if has_vectors else [])


def sureness(question: str, *, has_vectors: bool = True, cosine: float = 0.6) -> float:
    measured = measure(question, find(question, has_vectors=has_vectors, cosine=cosine))
    return MODELS.find(measured).probability(measured)


@pytest.mark.parametrize("has_vectors", [True, False])
def test_a_name_or_a_code_that_stands_nowhere_makes_it_unsure(has_vectors: bool) -> None:  # noqa: FBT001 - pytest passes by name
    asked = [
        "How many metres deep is the well of Hearn's Brewery?",
        "How many metres deep is the well of Brackwater's Brewery?",
        "How many metres deep is the well W-119 of Brackwater's Mill?",
    ]

    sure = [sureness(question, has_vectors=has_vectors) for question in asked]

    assert sure == sorted(sure, reverse=True)
    assert sure[0] > 0.8
    assert sure[2] < 0.3


def test_what_only_vectors_can_tell_is_left_out_without_them() -> None:
    question = "How deep is it?"

    assert {"cosine", "near_keys"} == (
        measure(question, find(question)).keys()
        - measure(question, find(question, has_vectors=False)).keys()
    )


@given(st.text(min_size=1), st.booleans(), st.floats(min_value=-1, max_value=1))
def test_every_question_gets_a_probability(question: str, has_vectors: bool, cosine: float) -> None:  # noqa: FBT001 - Hypothesis passes by position
    assert 0 <= sureness(question, has_vectors=has_vectors, cosine=cosine) <= 1


def test_the_sentence_with_the_answer_is_quoted_first_and_each_once() -> None:
    question = "How deep is the well of the brewery?"
    text = f"It brews beer. {WELL} It has 58 employees."
    candidates = fuse(
        question,
        [found(text, 5.0, number=0), found(WELL, 4.0, number=1)],
        [found(text, 0.5, number=0), found(WELL, 0.4, number=1)],
    )
    places = find_places([one.chunk for one in candidates])

    read = with_cosines(places, [0.2] * len(places))

    for some in (places, read):
        quotes = choose_quotes(question, candidates, some, 2)
        assert quotes[0].sentence == WELL
        assert len({place.sentence for place in quotes}) == len(quotes) == 2


def test_what_is_embedded_of_a_sentence_has_its_title_and_is_not_too_long() -> None:
    chunk = found("Long " * 500, 1.0, heading="Title > Part").chunk

    [place] = find_places([chunk])

    assert place.content.startswith("Title: Long")
    assert len(place.content.encode()) <= 600


def write(path: Path, **fields: object) -> Path:
    half = Regression(features=("keys",), weights=(1.0,), bias=0.0)
    model = EvidenceModel(about=half, told=half, threshold=0.25)
    models = EvidenceModels(format=FORMAT, questions_digest="x", models=(model,))
    path.write_bytes(msgspec.json.encode({**msgspec.to_builtins(models), **fields}))
    return path


def test_models_are_read_as_they_were_written(tmp_path: Path) -> None:
    models = load_models(write(tmp_path / "weights.json"))

    assert models.find({"keys", "cosine"}).probability({"keys": 0.0}) == 0.25
    with pytest.raises(ValueError, match="No model of evidence"):
        models.find({"cosine"})


def test_evidence_is_enough_from_the_threshold_on(tmp_path: Path) -> None:
    models = load_models(write(tmp_path / "weights.json"))

    assert models.judge({"keys": 0.0}) == (0.25, True)
    assert not models.judge({"keys": -0.1}).is_enough
    assert models.judge({"keys": -0.1}, threshold=0.0).is_enough
    assert not models.judge({"keys": 0.1}, threshold=0.9).is_enough


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"format": 99}, "has format 99"),
        ({"models": [{"about": {}}]}, "is damaged"),
        (
            {"models": [{"about": EMPTY, "told": UNEVEN, "threshold": 0.5}]},
            "one weight for each",
        ),
        ({"more": 1}, "is damaged"),
    ],
)
def test_files_that_are_damaged_are_refused(
    tmp_path: Path, fields: dict[str, object], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        load_models(write(tmp_path / "weights.json", **fields))


def test_the_file_that_is_shipped_has_a_model_with_and_one_without_vectors() -> None:
    assert [("cosine" in one.features) for one in MODELS.models] == [True, False]
    assert all(0 < one.threshold < 1 for one in MODELS.models)
