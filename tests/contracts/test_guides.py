"""Every step backend keeps to masks, and so to any guide, without knowing of guides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mm_orch.batching.batcher import BatcherSpec, DynamicBatcher
from mm_orch.batching.guidance import Guidance
from mm_orch.core.generation import FinishReason, SamplingParams
from mm_orch.core.guide import Guide, JsonSchemaShape
from mm_orch.kv_cache.cache import KVCache
from mm_orch.models.grammar import GrammarCompiler
from mm_orch.models.text import TextCodec
from mm_orch.optimization.engines.contract import Sequence
from tests.contracts.guided import SCHEMA, assert_valid
from tests.contracts.test_engines import GREEDY, PROMPT, generate, make
from tests.tiny_models import EOS_TOKEN_ID, VOCAB_SIZE

if TYPE_CHECKING:
    from mm_orch.optimization.engines.contract import EngineSpec, StepBackend

ALLOWED = {33, 77, 300}
WARM = SamplingParams(max_tokens=64, temperature=1.5, seed=3, ignore_eos=True)


def allow(sequence: Sequence, token_ids: set[int]) -> Sequence:
    bits = np.zeros(-(-VOCAB_SIZE // 32) * 32, dtype=np.uint8)
    bits[list(token_ids)] = 1
    sequence.mask = np.packbits(bits, bitorder="little").view(np.uint32)
    return sequence


@pytest.mark.parametrize("params", [GREEDY, WARM], ids=["greedy", "drawn"])
def test_only_what_the_mask_allows_comes(backend: StepBackend, params: SamplingParams) -> None:
    [output] = generate(backend, [allow(make("a", PROMPT, params), ALLOWED)], 12)

    assert set(output) <= ALLOWED


def test_a_mask_changes_nothing_for_the_neighbours(backend: StepBackend) -> None:
    [alone] = generate(backend, [make("alone", PROMPT)], 8)

    among = generate(
        backend,
        [allow(make("m", PROMPT[:9]), ALLOWED), make("x", PROMPT), allow(make("n", PROMPT), {5})],
        8,
    )

    assert among[1] == alone
    assert set(among[2]) == {5}


def test_guided_answers_are_whole_and_valid(backend: StepBackend, engine_spec: EngineSpec) -> None:
    facts = backend.start(engine_spec)
    directory = Path(engine_spec.directory)
    batcher = DynamicBatcher(
        backend,
        KVCache(facts.num_kv_blocks, facts.kv_block_tokens),
        BatcherSpec(max_batch_size=4, max_batch_tokens=64),
        lambda: 0.0,
        Guidance(GrammarCompiler(directory, engine_spec.eos_token_ids)),
    )
    guide = Guide(shape=JsonSchemaShape(json.dumps(SCHEMA)))
    for seed in range(6):
        batcher.add(
            Sequence(
                sequence_id=str(seed),
                token_ids=[*PROMPT, 40 + seed],
                params=SamplingParams(
                    max_tokens=200,
                    temperature=float(seed > 0),
                    seed=seed,
                    guide=guide,
                    stop_token_ids=(EOS_TOKEN_ID,),
                ),
            )
        )
    outputs: dict[str, list[int]] = {}
    reasons: dict[str, FinishReason | None] = {}
    while batcher.has_work:
        report = batcher.step()
        assert not report.failed
        for chunk in report.chunks:
            outputs.setdefault(chunk.sequence_id, []).extend(chunk.token_ids)
            reasons[chunk.sequence_id] = chunk.finish_reason

    codec = TextCodec.from_directory(directory)
    assert set(reasons.values()) == {FinishReason.STOP}
    for output in outputs.values():
        assert_valid(codec.decode(output))
