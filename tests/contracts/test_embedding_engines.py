"""What every embedding backend promises, checked on each of them."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.optimization.registry import engine_names, load_engine
from tests.tiny_models import VOCAB_SIZE, make_bert, make_t5, make_xlm_roberta, state_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from mm_orch.optimization.engines.embedding import EmbeddingBackend

CONTEXT = 128
ENGINES = ("echo", "onnx", "pytorch")
REAL_ENGINES = ("onnx", "pytorch")
# In fp32, on one machine; a batch of another shape adds in another order.
MAX_ERROR = 1e-5
TEXTS = [[15], list(range(20, 50)), [7, 7, 7], list(range(100, 180)), list(range(30, 39))]
LONGEST = [index % (VOCAB_SIZE - 10) + 10 for index in range(CONTEXT)]

needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="ONNX Runtime is not installed"
)


def params(*names: str) -> list[object]:
    return [pytest.param(name, marks=needs_onnx if name == "onnx" else ()) for name in names]


def make_spec(directory: Path, **values: object) -> EngineSpec:
    spec = EngineSpec(
        model="tiny",
        directory=str(directory),
        context_length=CONTEXT,
        eos_token_ids=(),
        device="cpu",
        num_threads=2,
        cache_directory=str(directory / "compiled"),
    )
    return msgspec.structs.replace(spec, **values)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> EngineSpec:
    directory = make_bert(tmp_path_factory.mktemp("tiny-bert"))
    return make_spec(state_recipe(directory, "mean_tokens", is_normalized=True))


@pytest.fixture(params=params(*ENGINES))
def backend(request: pytest.FixtureRequest, spec: EngineSpec) -> Iterator[EmbeddingBackend]:
    """Each engine that embeds, started on a tiny BERT."""
    backend = load_engine(request.param, "embed")()
    backend.start(spec)
    yield backend
    backend.stop()


def embed_by_hand(directory: str, text: list[int], pooling: str) -> NDArray[np.float32]:
    """Embed one text with transformers alone, without filling."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
    with torch.inference_mode():
        hidden = model(torch.tensor([text]))[0][0]
    vector = {
        "cls_token": lambda: hidden[0],
        "mean_tokens": lambda: hidden.mean(dim=0),
        "max_tokens": lambda: hidden.amax(dim=0),
        "mean_sqrt_len_tokens": lambda: hidden.sum(dim=0) / len(text) ** 0.5,
        "lasttoken": lambda: hidden[-1],
    }[pooling]()
    found: NDArray[np.float32] = vector.numpy()
    return found


def test_these_are_the_engines_that_embed() -> None:
    assert set(engine_names("embed")) == set(ENGINES)


def test_it_says_that_it_can_run_here(backend: EmbeddingBackend) -> None:
    availability = type(backend).probe()

    assert availability.is_available
    assert availability.engine == backend.name


def test_a_second_start_returns_the_same_facts(backend: EmbeddingBackend, spec: EngineSpec) -> None:
    facts = backend.start(spec)

    assert backend.start(spec) is facts
    assert facts.engine == backend.name
    assert facts.context_length == CONTEXT


def test_a_batch_gives_one_vector_a_text_in_32_bits(
    backend: EmbeddingBackend, spec: EngineSpec
) -> None:
    vectors = backend.embed(TEXTS)

    assert vectors.shape == (len(TEXTS), backend.start(spec).dimensions)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=MAX_ERROR)


def test_vectors_come_in_the_order_of_the_texts(backend: EmbeddingBackend) -> None:
    vectors = backend.embed(TEXTS)

    assert np.abs(backend.embed(TEXTS[::-1])[::-1] - vectors).max() < MAX_ERROR
    # They differ, so that order can be seen.
    assert np.triu(vectors @ vectors.T, 1).max() < 0.999


def test_neighbours_in_the_batch_change_nothing(backend: EmbeddingBackend) -> None:
    together = backend.embed([*TEXTS, LONGEST])

    alone = np.concatenate([backend.embed([text]) for text in [*TEXTS, LONGEST]])
    assert np.abs(together - alone).max() < MAX_ERROR


def test_a_text_of_one_token_and_one_of_full_length_have_vectors(backend: EmbeddingBackend) -> None:
    for text in ([10], LONGEST):
        assert np.isfinite(backend.embed([text])).all()


def test_the_same_text_twice_has_one_vector(backend: EmbeddingBackend) -> None:
    first, second = backend.embed([TEXTS[1], TEXTS[1]])

    assert np.abs(first - second).max() < MAX_ERROR


def test_stop_is_safe_twice_and_before_a_start(backend: EmbeddingBackend) -> None:
    backend.stop()
    backend.stop()
    type(backend)().stop()


def test_it_starts_again_after_a_stop(backend: EmbeddingBackend, spec: EngineSpec) -> None:
    before = backend.embed(TEXTS)
    backend.stop()

    backend.start(spec)

    assert np.abs(backend.embed(TEXTS) - before).max() < MAX_ERROR


@pytest.mark.parametrize("name", params(*REAL_ENGINES))
@pytest.mark.parametrize(
    "pooling", ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken"]
)
def test_vectors_are_those_of_transformers_alone(name: str, pooling: str, tmp_path: Path) -> None:
    directory = state_recipe(make_bert(tmp_path), pooling)
    backend = load_engine(name, "embed")()
    backend.start(make_spec(directory))

    vectors = backend.embed(TEXTS)

    for text, vector in zip(TEXTS, vectors, strict=True):
        expected = embed_by_hand(str(directory), text, pooling)
        assert np.abs(vector - expected).max() < MAX_ERROR * np.abs(expected).max()
    backend.stop()


@pytest.mark.parametrize("name", params(*REAL_ENGINES))
def test_a_model_that_counts_positions_from_its_padding_token_is_filled_with_that(
    name: str, tmp_path: Path
) -> None:
    directory = make_xlm_roberta(tmp_path)
    backend = load_engine(name, "embed")()
    backend.start(make_spec(directory))

    vectors = backend.embed([*TEXTS, LONGEST])

    for text, vector in zip([*TEXTS, LONGEST], vectors, strict=True):
        expected = embed_by_hand(str(directory), text, "mean_tokens")
        assert np.abs(vector - expected).max() < MAX_ERROR * np.abs(expected).max()
    backend.stop()


@pytest.mark.parametrize("name", params(*REAL_ENGINES))
def test_an_encoder_with_a_decoder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(EngineStartError, match="T5Model is an encoder with a decoder"):
        load_engine(name, "embed")().start(make_spec(make_t5(tmp_path)))


@pytest.mark.parametrize("name", params(*REAL_ENGINES))
def test_a_recipe_with_unknown_parts_is_refused(name: str, tmp_path: Path) -> None:
    directory = state_recipe(make_bert(tmp_path), "weightedmean_tokens")

    with pytest.raises(EngineStartError, match="pooling by weightedmean_tokens"):
        load_engine(name, "embed")().start(make_spec(directory))


@pytest.mark.parametrize("name", params(*REAL_ENGINES))
def test_weights_that_are_missing_are_noticed(name: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = make_bert(tmp_path) / "model.safetensors"
    weights = {key: value for key, value in load_file(path).items() if "layer.1." not in key}
    save_file(weights, path, metadata={"format": "pt"})

    with pytest.raises(EngineStartError, match=r"weights are missing .* such as encoder\.layer\.1"):
        load_engine(name, "embed")().start(make_spec(tmp_path))


@pytest.mark.parametrize(
    ("name", "dtype", "allowed"),
    [
        *[("pytorch", dtype, "fp32, bf16 and fp16") for dtype in ("int8", "int4")],
        *[("onnx", dtype, "fp32 and int8") for dtype in ("bf16", "int4")],
    ],
)
def test_a_number_format_that_it_does_not_compute_is_refused(
    name: str, dtype: str, allowed: str, spec: EngineSpec
) -> None:
    with pytest.raises(EngineStartError, match=rf"{allowed}.*, not in {dtype}"):
        load_engine(name, "embed")().start(msgspec.structs.replace(spec, dtype=dtype))


def test_bf16_is_near_fp32(spec: EngineSpec) -> None:
    exact, rounded = load_engine("pytorch", "embed")(), load_engine("pytorch", "embed")()
    exact.start(spec)
    facts = rounded.start(msgspec.structs.replace(spec, dtype="bf16"))

    cosines = (exact.embed(TEXTS) * rounded.embed(TEXTS)).sum(axis=1)

    assert facts.dtype == "bf16"
    assert cosines.min() > 0.99
    assert cosines.min() < 1


@pytest.mark.parametrize("name", ENGINES)
def test_its_module_states_a_name_that_the_registry_knows(name: str) -> None:
    assert load_engine(name, "embed").name == name
