"""What workers are reckoned to take of GPUs, and what they are told of their place."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from mm_orch.batching.batcher import BatcherSpec
from mm_orch.models.stored import StoredModel
from mm_orch.optimization.placing.fitting import fit_spec
from mm_orch.optimization.placing.needs import Measurements, list_gpu_ways
from mm_orch.optimization.placing.places import Claim, Wanted
from mm_orch.optimization.placing.rule import Place, Way
from mm_orch.optimization.plan import EnginePlan, ModelPlan
from mm_orch.workers.messages import CacheSpec
from tests.fake_nvml import GIB, well_reading

NUM_PARAMETERS = 1 << 20
# Eight heads of 16 dimensions, two of keys, three layers: keys and values in 16 bits.
KV_BYTES_A_TOKEN = 3 * 2 * 2 * 16 * 2
CONFIG = {
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "hidden_size": 128,
}
VLLM = {"tensor_parallel_size": 4, "pipeline_parallel_size": 2, "gpu_memory_utilization": 0.9}


@pytest.fixture
def stored(tmp_path: Path) -> StoredModel:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    header = json.dumps({"w": {"dtype": "F32", "shape": [1024, 1024]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return StoredModel(
        name="m",
        directory=str(tmp_path),
        source="s",
        revision=None,
        architecture="A",
        context_length=100,
        vocab_size=9,
        eos_token_ids=(),
        size_bytes=77,
        file_sizes={"w.safetensors": 1},
    )


def make_plan(stored: StoredModel, engine: EnginePlan, **values: Any) -> ModelPlan:
    return ModelPlan(
        **{
            "name": "m",
            "aliases": (),
            "source": "s",
            "ensure_files": lambda: stored,
            "engines": (engine,),
            "context_length": None,
            "device": "auto",
            "trust_remote_code": False,
            "batcher": BatcherSpec(max_batch_size=1, max_batch_tokens=1),
            "cache": CacheSpec(),
            "max_kv_bytes": 0,
            "cache_directory": Path(),
            **values,
        }
    )


@pytest.mark.parametrize(
    ("dtype", "weight_bytes"), [("auto", 2), ("fp32", 4), ("int8", 1.125), ("int4", 0.625)]
)
def test_weights_are_reckoned_in_the_format_that_the_engine_computes_in(
    dtype: str, weight_bytes: float, stored: StoredModel
) -> None:
    engine = EnginePlan(name="pytorch", dtype=dtype)

    [way] = list_gpu_ways(make_plan(stored, engine), engine, stored)

    assert way.weights_bytes == NUM_PARAMETERS * weight_bytes
    # Without a bound there is memory for one sequence of full length.
    assert way.kv_bytes == 100 * KV_BYTES_A_TOKEN
    assert (way.num_gpus, way.workspace_bytes) == (1, GIB)


def test_keys_and_values_are_reckoned_as_they_are_bounded(stored: StoredModel) -> None:
    engine = EnginePlan(name="pytorch")
    bounded = make_plan(stored, engine, max_kv_bytes=5 * GIB)
    embedding = make_plan(stored, engine, max_kv_bytes=5 * GIB, task="embed")

    assert list_gpu_ways(bounded, engine, stored)[0].kv_bytes == 5 * GIB
    assert list_gpu_ways(embedding, engine, stored)[0].kv_bytes == 0


def test_an_engine_that_joins_gpus_may_have_fewer_and_one_without_gpus_has_none(
    stored: StoredModel,
) -> None:
    vllm, openvino = EnginePlan(name="vllm", settings=VLLM), EnginePlan(name="openvino")

    ways = list_gpu_ways(make_plan(stored, vllm), vllm, stored)

    assert [(way.num_gpus, way.num_stages) for way in ways] == [(8, 2), (4, 1), (2, 1), (1, 1)]
    assert list_gpu_ways(make_plan(stored, openvino), openvino, stored) == ()


def test_files_that_do_not_say_are_reckoned_by_their_size(stored: StoredModel) -> None:
    for path in Path(stored.directory).iterdir():
        path.write_bytes(b"")
    engine = EnginePlan(name="pytorch")

    [way] = list_gpu_ways(make_plan(stored, engine), engine, stored)

    assert (way.weights_bytes, way.kv_bytes) == (77, 0)


def test_what_was_measured_takes_the_place_of_what_was_reckoned() -> None:
    seen = Measurements()
    wide, narrow = Way(engine="e", num_gpus=4, weights_bytes=8), Way(engine="e", num_gpus=2)
    other = Way(engine="other", num_gpus=1, weights_bytes=3)
    seen.note("m", wide, 7)
    seen.note("m", wide, 6)

    assert [one.share_bytes for one in seen.correct("m", [wide, narrow, other])] == [7, 14, 3]
    seen.note("m", narrow, 11)
    assert [one.share_bytes for one in seen.correct("m", [wide, narrow])] == [7, 11]
    assert seen.correct("another", [wide]) == (wide,)
    seen.note_host("another", "e")
    assert seen.correct("another", [wide, other]) == (other,)


def test_a_worker_on_the_cpu_says_nothing_of_an_engine_whose_others_are_on_gpus() -> None:
    seen, way = Measurements(), Way(engine="e", num_gpus=1)
    seen.note_host("m", "e")
    seen.note("m", way, 5)
    assert [one.share_bytes for one in seen.correct("m", [way])] == [5]

    seen.note_host("m", "e")

    assert [one.share_bytes for one in seen.correct("m", [way])] == [5]


@pytest.mark.parametrize(
    ("device", "gpus", "way", "told_device", "visible", "settings"),
    [
        (
            "auto",
            (0, 2),
            Way(engine="vllm", num_gpus=2, weights_bytes=80 * GIB),
            "auto",
            "GPU-0a,GPU-2a",
            # Half of the GPU is its own.
            {
                "tensor_parallel_size": 2,
                "pipeline_parallel_size": 1,
                "gpu_memory_utilization": 0.5,
            },
        ),
        (
            "cuda:1",
            (1,),
            Way(engine="vllm", num_gpus=1, weights_bytes=80 * GIB),
            "cuda",
            "GPU-1a",
            {"tensor_parallel_size": 1, "pipeline_parallel_size": 1, "gpu_memory_utilization": 0.9},
        ),
        (
            "auto",
            (),
            Way(engine="vllm", num_gpus=0),
            "cpu",
            "",
            {"tensor_parallel_size": 1, "pipeline_parallel_size": 1, "gpu_memory_utilization": 0.9},
        ),
    ],
)
def test_a_worker_is_told_of_its_place(
    device: str,
    gpus: tuple[int, ...],
    way: Way,
    told_device: str,
    visible: str,
    settings: dict[str, object],
    stored: StoredModel,
) -> None:
    engine = EnginePlan(name="vllm", settings=VLLM)
    plan = make_plan(stored, engine, device=device)
    wanted = Wanted(name="m", model="m", replica=0, ways=(way,), wish=way)
    claim = Claim(
        wanted=wanted,
        place=Place(way, tuple(map(str, gpus))),
        gpus=tuple(well_reading(one) for one in gpus),
    )

    spec = plan.make_worker_spec("vllm", stored, lease_directory="")
    spec = fit_spec(spec, claim, takes_gpus=True)

    assert (spec.gpus, spec.visible_gpus) == (gpus, visible)
    assert spec.engine_spec.device == told_device
    assert spec.engine_spec.settings == settings
