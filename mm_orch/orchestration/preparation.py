"""Makes token ids and resolved sampling parameters of what the caller asked for.

Everything here computes without waiting; the orchestrator runs it in a thread.
"""

from __future__ import annotations

import dataclasses
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mm_orch.core.errors import ContextLengthError, InvalidValueError, UnsupportedError
from mm_orch.core.generation import ChatPrompt, SamplingParams, TextPrompt, TokensPrompt
from mm_orch.models.chat_template import encode_chat
from mm_orch.orchestration.guiding import (
    can_keep,
    find_tool_use,
    is_streamable,
    make_guide,
    make_reading,
    needs_guide,
)
from mm_orch.orchestration.limits import check_options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mm_orch.core.generation import GenerationOptions, GenerationRequest, Message, Prompt
    from mm_orch.core.guide import Guide
    from mm_orch.core.tools import Tool
    from mm_orch.models.text import TextCodec
    from mm_orch.optimization.engines.contract import EngineFacts
    from mm_orch.orchestration.model_text import ModelText
    from mm_orch.orchestration.reading import Reading

DEFAULT_TEMPERATURE = 1.0
"""Of requests that set none."""
_SEED_BITS = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """Token ids of the prompt, the sampling parameters of each choice, and how to read it."""

    token_ids: tuple[int, ...]
    params: tuple[SamplingParams, ...]
    codec: TextCodec
    reading: Reading


def prepare(
    request: GenerationRequest, text: ModelText, find_reason: Callable[[Guide], str]
) -> PreparedRequest:
    """Template, tokenise and check one request.

    Args:
        request: the caller's.
        text: of its model.
        find_reason: says why answers cannot be kept to a guide; empty when they can.

    Raises:
        InvalidValueError: an option out of range, token ids out of the vocabulary, an empty prompt,
            messages that the template refuses, a schema that answers cannot be kept to.
        ContextLengthError: prompt and ``max_tokens`` do not fit.
        UnsupportedError: a conversation for a model without a chat template.
    """
    check_options(request.options)
    token_ids = tuple(_encode(request, text))
    if not token_ids:
        raise InvalidValueError(
            "The prompt is empty; at least one token is needed.", param=_param_of(request.prompt)
        )
    params = _resolve(request, text, len(token_ids))
    reading = make_reading(request, text, token_ids)
    guide = make_guide(request, text, reading, find_reason)
    return PreparedRequest(
        token_ids=token_ids,
        params=tuple(replace(one, guide=guide) for one in params),
        codec=text.codec,
        reading=dataclasses.replace(reading, is_guided=is_streamable(guide)),
    )


def fit_to_engine(
    request: GenerationRequest, prepared: PreparedRequest, facts: EngineFacts
) -> PreparedRequest:
    """Return the request as this engine can take it.

    It is without a guide that the engine cannot keep, and with log probabilities that are welcome
    where it tells them.

    Raises:
        UnsupportedError: the answer must have a shape.
    """
    fitted = _fit_guides(request, prepared, facts)
    if not request.tells_logprobs or "num_logprobs" in facts.unsupported:
        return fitted
    return dataclasses.replace(
        fitted,
        params=tuple(replace(one, num_logprobs=one.num_logprobs or 0) for one in fitted.params),
    )


def _fit_guides(
    request: GenerationRequest, prepared: PreparedRequest, facts: EngineFacts
) -> PreparedRequest:
    guides = [one.guide for one in prepared.params if one.guide is not None]
    if all(can_keep(facts, guide) for guide in guides):
        return prepared
    if needs_guide(request):
        param = request.guide_param if request.options.guide is not None else "tool_choice"
        what = "a shape" if facts.guides == "none" else "this shape"
        raise UnsupportedError(
            f"The engine {facts.engine} cannot keep answers to {what}, as {param} asks.",
            param=param,
            remedy="Give the model another engine, such as pytorch.",
        )
    return dataclasses.replace(
        prepared,
        params=tuple(replace(one, guide=None) for one in prepared.params),
        reading=dataclasses.replace(prepared.reading, is_guided=False),
    )


def _encode(request: GenerationRequest, text: ModelText) -> list[int] | tuple[int, ...]:
    prompt = request.prompt
    match prompt:
        case ChatPrompt(messages):
            _refuse_hopeless_length(sum(len(m.content) for m in messages), prompt, text)
            use = find_tool_use(request)
            return encode_messages(messages, text, tools=use.tools if use else ())
        case TextPrompt(content):
            _refuse_hopeless_length(len(content), prompt, text)
            return text.codec.encode_text(content)
        case TokensPrompt(token_ids):
            check_token_ids(token_ids, text, param="prompt")
            return token_ids


def encode_messages(
    messages: Sequence[Message], text: ModelText, *, tools: Sequence[Tool] = ()
) -> list[int]:
    """Return the prompt that a conversation makes for a model.

    Raises:
        UnsupportedError: the model has no chat template.
        InvalidValueError: its template refuses the messages.
    """
    if text.template is None:
        raise UnsupportedError(
            f"Model {text.name} has no chat template.",
            param="messages",
            remedy="Use /v1/completions with the whole prompt as text.",
        )
    return encode_chat(text.codec, text.template, messages, tools=tools, form=text.tool_format)


def _refuse_hopeless_length(num_chars: int, prompt: Prompt, text: ModelText) -> None:
    """Refuse, before any work, what cannot fit even if every token were the longest one."""
    if num_chars < text.context_length:
        return
    # A character is at least one byte, and no token stands for more than longest_token_bytes.
    min_tokens = num_chars // text.codec.longest_token_bytes
    if min_tokens >= text.context_length:
        raise ContextLengthError(
            f"The prompt of {num_chars} characters has at least {min_tokens} tokens; model"
            f" {text.name} takes {text.context_length} tokens of prompt and output together.",
            param=_param_of(prompt),
        )


def check_token_ids(token_ids: tuple[int, ...], text: ModelText, *, param: str) -> None:
    """Refuse token ids that the model does not have.

    Raises:
        InvalidValueError: names the first, and the vocabulary.
    """
    for token_id in token_ids:
        if not 0 <= token_id < text.vocab_size:
            raise InvalidValueError(
                f"Token id {token_id} is not in the vocabulary of {text.name}:"
                f" 0 to {text.vocab_size - 1}.",
                param=param,
            )


def _resolve(
    request: GenerationRequest, text: ModelText, num_prompt_tokens: int
) -> tuple[SamplingParams, ...]:
    options = request.options
    max_tokens = _resolve_max_tokens(request, text, num_prompt_tokens)
    if options.min_tokens > max_tokens:
        raise InvalidValueError(
            f"min_tokens is {options.min_tokens}, above {request.max_tokens_param} ({max_tokens}).",
            param="min_tokens",
        )
    for token_id in options.logit_bias:
        if not 0 <= token_id < text.vocab_size:
            raise InvalidValueError(
                f"logit_bias names token {token_id}; the vocabulary of {text.name} is 0 to"
                f" {text.vocab_size - 1}.",
                param="logit_bias",
            )
    seed = secrets.randbits(_SEED_BITS) if options.seed is None else options.seed
    return tuple(
        # Each choice draws its own numbers; the first is the one that n = 1 would have given.
        _params(options, max_tokens, seed + index, text.eos_token_ids)
        for index in range(options.num_choices)
    )


def _resolve_max_tokens(request: GenerationRequest, text: ModelText, num_prompt_tokens: int) -> int:
    room = text.context_length - num_prompt_tokens
    wanted = request.options.max_tokens
    if room < 1:
        raise ContextLengthError(
            f"The prompt has {num_prompt_tokens} tokens; model {text.name} takes"
            f" {text.context_length} tokens of prompt and output together.",
            param=_param_of(request.prompt),
        )
    if wanted is not None and wanted > room:
        raise ContextLengthError(
            f"The prompt has {num_prompt_tokens} tokens and {request.max_tokens_param} is"
            f" {wanted}; model {text.name} takes {text.context_length} tokens of prompt and"
            f" output together, so {request.max_tokens_param} can be at most {room}.",
            param=request.max_tokens_param,
        )
    return room if wanted is None else wanted


def _params(
    options: GenerationOptions, max_tokens: int, seed: int, stop_token_ids: tuple[int, ...]
) -> SamplingParams:
    return SamplingParams(
        max_tokens=max_tokens,
        min_tokens=options.min_tokens,
        temperature=(DEFAULT_TEMPERATURE if options.temperature is None else options.temperature),
        top_p=1.0 if options.top_p is None else options.top_p,
        top_k=options.top_k or 0,
        min_p=options.min_p or 0.0,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        repetition_penalty=options.repetition_penalty,
        seed=seed,
        logit_bias=options.logit_bias,
        num_logprobs=options.num_logprobs,
        stop_token_ids=stop_token_ids,
        ignore_eos=options.ignore_eos,
    )


def _param_of(prompt: Prompt) -> str:
    return "messages" if isinstance(prompt, ChatPrompt) else "prompt"
