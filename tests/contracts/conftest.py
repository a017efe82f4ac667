from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.optimization.registry import load_engine
from tests.tiny_models import EOS_TOKEN_ID, make_llama

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mm_orch.optimization.engines.contract import StepBackend


@pytest.fixture(scope="session")
def llama_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("tiny-llama"))


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
