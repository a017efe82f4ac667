from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
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
def tiny_spec(llama_directory: Path, compiled: Path) -> EngineSpec:
    return EngineSpec(
        model="tiny",
        directory=str(llama_directory),
        context_length=512,
        eos_token_ids=(EOS_TOKEN_ID,),
        dtype="fp32",
        device="cpu",
        num_threads=2,
        cache_directory=str(compiled),
        max_kv_bytes=2**21,
    )


# Each step backend that this project brings, in each form that differs inside.
STEP_BACKENDS: dict[str, tuple[str, dict[str, object]]] = {
    "echo": ("echo", {}),
    "onnx": ("onnx", {}),
    "pytorch": ("pytorch", {}),
    "deepspeed": ("deepspeed", {"tensor_parallel": 1}),
    "deepspeed-2-ranks": ("deepspeed", {"tensor_parallel": 2}),
}


@pytest.fixture(scope="package")
def backends() -> Iterator[dict[str, StepBackend]]:
    """One of each for all tests here: they keep nothing of a sequence, and some start slowly."""
    backends: dict[str, StepBackend] = {}
    yield backends
    for backend in backends.values():
        backend.stop()


@pytest.fixture(params=STEP_BACKENDS)
def form(request: pytest.FixtureRequest) -> str:
    """A key of STEP_BACKENDS whose engine can run here."""
    require_engine(STEP_BACKENDS[request.param][0])
    return str(request.param)


@pytest.fixture
def engine_spec(form: str, tiny_spec: EngineSpec) -> EngineSpec:
    return msgspec.structs.replace(tiny_spec, settings=STEP_BACKENDS[form][1])


@pytest.fixture
def stopped_backend(form: str, backends: dict[str, StepBackend]) -> Iterator[StepBackend]:
    """One that the test starts as it likes."""
    backend = backends.setdefault(form, load_engine(STEP_BACKENDS[form][0])())
    backend.stop()
    yield backend
    backend.stop()


@pytest.fixture
def backend(form: str, engine_spec: EngineSpec, backends: dict[str, StepBackend]) -> StepBackend:
    """One that runs a tiny model."""
    backend = backends.setdefault(form, load_engine(STEP_BACKENDS[form][0])())
    backend.start(engine_spec)
    return backend


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
