from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mm_orch.optimization.engines.contract import EngineSpec, StreamEngine
from mm_orch.optimization.registry import load_engine
from tests.available import require_engine
from tests.contracts.streaming import (
    CONTEXT_LENGTH,
    MAX_BATCH_SIZE,
    STREAM_ENGINES,
    ModelReference,
)
from tests.tiny_models import EOS_TOKEN_ID, make_llama, make_wide_llama
from tests.tiny_tokenizer import write_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mm_orch.optimization.engines.contract import EngineFacts, StepBackend


@pytest.fixture(scope="session")
def llama_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(make_llama(tmp_path_factory.mktemp("tiny-llama")))


@pytest.fixture(scope="session")
def engine_spec(llama_directory: Path) -> EngineSpec:
    return EngineSpec(
        model="tiny",
        directory=str(llama_directory),
        context_length=512,
        eos_token_ids=(EOS_TOKEN_ID,),
        dtype="fp32",
        device="cpu",
        num_threads=2,
        cache_directory=str(llama_directory / "compiled"),
        max_kv_bytes=2**21,
    )


@pytest.fixture(params=["echo", "onnx", "pytorch"])
def engine_class(request: pytest.FixtureRequest) -> type[StepBackend]:
    """Each step backend that this project brings, where it can run."""
    engine_class = load_engine(request.param)
    availability = engine_class.probe()
    if not availability.is_available:
        pytest.skip(f"{availability.engine}: {availability.reason}")
    return engine_class


@pytest.fixture
def backend(engine_class: type[StepBackend], engine_spec: EngineSpec) -> Iterator[StepBackend]:
    """The backend, started on a tiny model."""
    backend = engine_class()
    backend.start(engine_spec)
    yield backend
    backend.stop()


@pytest.fixture(scope="module")
def wide_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_wide_llama(tmp_path_factory.mktemp("wide-llama"))


@pytest.fixture(scope="module")
def reference(wide_llama: Path) -> ModelReference:
    return ModelReference(wide_llama)


@pytest.fixture(scope="module")
def stream_spec(wide_llama: Path) -> EngineSpec:
    return EngineSpec(
        model="tiny",
        directory=str(wide_llama),
        context_length=CONTEXT_LENGTH,
        eos_token_ids=(EOS_TOKEN_ID,),
        dtype="fp32",
        device="cpu",
        num_threads=2,
        cache_directory=str(wide_llama / "compiled"),
        # Room for eight sequences of full length in fp32.
        max_kv_bytes=2**21,
        max_batch_size=MAX_BATCH_SIZE,
        max_batch_tokens=64,
    )


@pytest.fixture(scope="module", params=STREAM_ENGINES)
def stream_class(request: pytest.FixtureRequest) -> type[StreamEngine]:
    """Each stream engine that this project brings, where it can run."""
    require_engine(request.param)
    stream_class: type[StreamEngine] = load_engine(request.param)
    assert isinstance(stream_class(), StreamEngine)
    return stream_class


@pytest.fixture(scope="module")
def started(stream_class: type[StreamEngine], stream_spec: EngineSpec) -> Iterator[StreamEngine]:
    engine = stream_class()
    engine.start(stream_spec)
    yield engine
    engine.stop()


@pytest.fixture
def engine(started: StreamEngine) -> Iterator[StreamEngine]:
    """The engine that all tests share; each leaves it without work."""
    yield started
    assert not started.has_work


@pytest.fixture
def facts(engine: StreamEngine, stream_spec: EngineSpec) -> EngineFacts:
    return engine.start(stream_spec)
