"""Our sampling parameters in vLLM's words, and vLLM's outputs in ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.sampling_params import SamplingParams as VllmParams

from mm_orch.core.errors import EngineFailedError
from mm_orch.core.generation import FinishReason, TokenChunk, TokenLogprob
from mm_orch.models.grammar import write_grammar

if TYPE_CHECKING:
    from mm_orch.core.generation import SamplingParams
    from mm_orch.models.grammar import GrammarCompiler
    from mm_orch.optimization.engines.contract import Sequence

_NUM_SEEDS = 2**63
_REASONS = {None: None, "stop": FinishReason.STOP, "length": FinishReason.LENGTH}


def translate_params(sequence: Sequence, grammars: GrammarCompiler) -> VllmParams:
    """Return vLLM's parameters for what is left of a sequence.

    Args:
        sequence: what vLLM is to continue.
        grammars: knows the model's tokens; vLLM itself compiles what a guide is written as.

    Raises:
        RequestError: the model's tokeniser does not fit the grammar library.
        vllm.exceptions.VLLMValidationError: a value that vLLM does not allow.
    """
    params, num_had = sequence.params, sequence.num_output_tokens
    guide = None
    if params.guide is not None:
        guide = StructuredOutputsParams(grammar=write_grammar(params.guide, grammars.find_token))
    return VllmParams(
        max_tokens=params.max_tokens - num_had,
        min_tokens=0 if params.ignore_eos else max(0, params.min_tokens - num_had),
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        min_p=params.min_p,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        repetition_penalty=params.repetition_penalty,
        # A greedy sequence draws nothing, and a generator of its own costs time.
        seed=params.seed % _NUM_SEEDS if params.temperature > 0 else None,
        logit_bias=params.logit_bias or None,
        logprobs=params.num_logprobs,
        # The model's end tokens are among ours, so that ours alone end a sequence.
        ignore_eos=True,
        stop_token_ids=list(find_stop_ids(params)),
        structured_outputs=guide,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        skip_clone=True,
    )


def find_stop_ids(params: SamplingParams) -> tuple[int, ...]:
    """Return the tokens that end a sequence."""
    return () if params.ignore_eos else params.stop_token_ids


def translate_output(sequence: Sequence, completion: Any) -> TokenChunk:
    """Return vLLM's new tokens (a CompletionOutput) as ours.

    Raises:
        EngineFailedError: vLLM gave the sequence up.
    """
    token_ids = tuple(completion.token_ids)
    if completion.finish_reason not in _REASONS:
        raise EngineFailedError(
            f"vLLM gave the sequence up after {len(token_ids)} new tokens: its reason is"
            f" {completion.finish_reason!r}."
        )
    reason = _REASONS[completion.finish_reason]
    if (
        reason is FinishReason.STOP
        and token_ids[-1:]
        and token_ids[-1] in find_stop_ids(sequence.params)
    ):
        token_ids = token_ids[:-1]
    logprobs = None
    if sequence.params.num_logprobs is not None and completion.logprobs is not None:
        logprobs = tuple(
            _translate_logprobs(token_id, found, sequence.params.num_logprobs)
            # Those of a stop token are left over.
            for token_id, found in zip(token_ids, completion.logprobs, strict=False)
        )
    return TokenChunk(
        sequence_id=sequence.sequence_id,
        token_ids=token_ids,
        logprobs=logprobs,
        finish_reason=reason,
    )


def _translate_logprobs(token_id: int, found: dict[int, Any], count: int) -> TokenLogprob:
    """Take the likeliest of what vLLM found; the chosen token is there whether likely or not."""
    pairs = sorted(((one, of.logprob) for one, of in found.items()), key=lambda pair: -pair[1])
    return TokenLogprob(
        token_id=token_id, logprob=found[token_id].logprob, top=tuple(pairs[:count])
    )
