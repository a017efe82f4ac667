"""Says in OpenVINO GenAI's words what a sequence asks for, and what it may not ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mm_orch.core.errors import UnsupportedError
from mm_orch.core.generation import SamplingParams
from mm_orch.models.plain_json import write_plain_grammar

if TYPE_CHECKING:
    import openvino_genai

    from mm_orch.core.guide import Guide
    from mm_orch.optimization.engines.contract import EngineFacts, Sequence

_UNSUPPORTED = ("logit_bias",)
# GenAI multiplies or divides by the sign of the logit, which a shift changes.
UNSUPPORTED_WITH_SHIFT = ("repetition_penalty", *_UNSUPPORTED)
# GenAI makes negative logits greater where it should make them less.
UNSUPPORTED_WITHOUT_SHIFT = ("presence_penalty", "frequency_penalty", *_UNSUPPORTED)
MAX_LOGPROBS = 0
"""GenAI tells the chosen token's log probability and no other."""

_MIN_TEMPERATURE = 1e-5
_LARGEST_BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))
_DEFAULTS = SamplingParams(max_tokens=1)


def check_supported(sequence: Sequence, facts: EngineFacts) -> None:
    """Refuse what the engine would otherwise pass over.

    Raises:
        UnsupportedError: naming the field and its value.
    """
    params = sequence.params
    for field in facts.unsupported:
        value = getattr(params, field)
        if value != getattr(_DEFAULTS, field):
            raise UnsupportedError(
                f"The openvino engine has no {field} ({value} was asked for).",
                param=field,
                remedy="Leave it out, or choose another engine.",
            )
    if params.num_logprobs is not None and params.num_logprobs > MAX_LOGPROBS:
        raise UnsupportedError(
            "The openvino engine tells the log probability of the chosen token and no"
            f" alternatives (num_logprobs {params.num_logprobs} was asked for).",
            param="num_logprobs",
            remedy=f"Ask for at most {MAX_LOGPROBS}, or choose another engine.",
        )
    if params.guide is not None:
        _check_guide(sequence, params.guide, facts)


def _check_guide(sequence: Sequence, guide: Guide, facts: EngineFacts) -> None:
    obstacle = None
    if facts.guides == "none" or write_plain_grammar(guide) is None:
        obstacle = "to this guide"
    elif sequence.num_output_tokens:
        obstacle = "to a guide that was begun elsewhere"
    elif sequence.params.ignore_eos or not sequence.params.stop_token_ids:
        obstacle = "to a guide without a token that ends them"
    if obstacle is not None:
        raise UnsupportedError(
            f"The openvino engine cannot keep answers {obstacle}.",
            param="guide",
            remedy="Choose another engine.",
        )


def make_config(sequence: Sequence, context_length: int) -> openvino_genai.GenerationConfig:
    """Return the sequence's generation config; its bounds count what it has generated already."""
    import openvino_genai

    params = sequence.params
    config = openvino_genai.GenerationConfig()
    room = context_length - len(sequence.token_ids)
    config.max_new_tokens = min(params.max_tokens - sequence.num_output_tokens, room)
    config.apply_chat_template = False
    _set_end(config, sequence)
    _set_draw(config, params)
    config.presence_penalty = params.presence_penalty
    config.frequency_penalty = params.frequency_penalty
    config.repetition_penalty = params.repetition_penalty
    config.logprobs = int(params.num_logprobs is not None)
    if params.guide is not None:
        config.structured_output_config = openvino_genai.StructuredOutputConfig(
            grammar=write_plain_grammar(params.guide)
        )
    return config


def _set_end(config: openvino_genai.GenerationConfig, sequence: Sequence) -> None:
    params = sequence.params
    config.ignore_eos = params.ignore_eos or not params.stop_token_ids
    # GenAI wants one whatever is said of ignoring it.
    stop_token_ids = params.stop_token_ids or (0,)
    config.set_eos_token_id(stop_token_ids[0])
    config.stop_token_ids = set(stop_token_ids)
    if params.stop_token_ids:
        num_missing = max(0, params.min_tokens - sequence.num_output_tokens)
        config.min_new_tokens = min(num_missing, config.max_new_tokens)


def _set_draw(config: openvino_genai.GenerationConfig, params: SamplingParams) -> None:
    config.do_sample = params.temperature >= _MIN_TEMPERATURE
    if not config.do_sample:
        return
    config.temperature = params.temperature
    config.top_p = params.top_p
    if params.top_k:
        config.top_k = params.top_k
    # One would leave nothing but the likeliest, which GenAI refuses; so does this.
    config.min_p = min(params.min_p, _LARGEST_BELOW_ONE)
    # Its generator takes 32 bits; all of ours have a part in them.
    config.rng_seed = (params.seed ^ (params.seed >> 32)) & 0xFFFFFFFF
