"""What a request asks for and what comes back: sampling parameters, token chunks, text events.

Everything here crosses layers, and the token level crosses the process line as msgpack, so these
are msgspec structs: frozen, typed on decoding.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Literal

import msgspec

from mm_orch.core.guide import Guide, JsonObjectShape, JsonSchemaShape
from mm_orch.core.tools import ToolCall, ToolCallDelta, ToolUse

if TYPE_CHECKING:
    from collections.abc import Iterable

Task = Literal["generate", "embed"]
"""What a model is for."""

ANONYMOUS = "anonymous"
"""The name of all callers that need no key."""


class FinishReason(enum.Enum):
    """Why a sequence ended, in OpenAI's words; engines know the first two."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How to draw tokens for one sequence; every value is resolved, nothing is optional.

    Attributes:
        max_tokens: most tokens to generate, at least 1.
        min_tokens: no end-of-sequence or stop token before so many tokens.
        temperature: 0 is greedy.
        top_p: smallest set of tokens whose probability reaches this, in (0, 1].
        top_k: only the k likeliest tokens; 0 is off.
        min_p: only tokens at least this fraction as likely as the likeliest; 0 is off.
        presence_penalty: subtracted from the logit of every token already generated.
        frequency_penalty: the same, times how often it was generated.
        repetition_penalty: divides positive and multiplies negative logits of tokens seen in
            prompt or output (CTRL, arXiv:1909.05858); 1 is off.
        seed: with the position it keys the random draw, so that a sequence's text depends neither
            on its neighbours in a batch nor on where it was resumed.
        logit_bias: added to the logit of a token id.
        num_logprobs: None for none, else how many alternatives to report beside the chosen token.
        stop_token_ids: end the sequence; the end-of-sequence ids are among them.
        ignore_eos: generate to max_tokens whatever comes.
        guide: what the text must look like; None for free text.
    """

    max_tokens: int
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    logit_bias: dict[int, float] = {}
    num_logprobs: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    guide: Guide | None = None


class TokenLogprob(msgspec.Struct, frozen=True):
    """Log probability of one chosen token and of its likeliest alternatives.

    Attributes:
        token_id: the chosen token.
        logprob: natural logarithm, from the unscaled logits (before temperature and filters).
        top: (token id, logprob), likeliest first.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class TokenChunk(msgspec.Struct, frozen=True, kw_only=True):
    """New tokens of one sequence after a step.

    Attributes:
        sequence_id: whose they are.
        token_ids: one or more new tokens; a stop token that ended the sequence is not among them.
        logprobs: one entry a token where asked for.
        finish_reason: set on the last chunk of the sequence.
    """

    sequence_id: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish_reason: FinishReason | None = None


class SequenceStarted(msgspec.Struct, frozen=True, kw_only=True):
    """A sequence's first step has run.

    Attributes:
        sequence_id: which.
        waited_s: from its arrival in the worker to this step.
        num_cached_tokens: tokens of its prompt that needed no computing.
    """

    sequence_id: str
    waited_s: float
    num_cached_tokens: int = 0


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of a conversation: role (system, user, assistant, tool) and its text.

    Attributes:
        tool_calls: what the assistant called in this turn.
        tool_call_id: the call whose outcome a tool's turn tells; empty in other turns.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


class ChatPrompt(msgspec.Struct, frozen=True, tag=True):
    """A conversation, to be rendered with the model's chat template; and what it may call."""

    messages: tuple[Message, ...]
    tool_use: ToolUse | None = None


class TextPrompt(msgspec.Struct, frozen=True, tag=True):
    """Raw text, tokenised as it is."""

    text: str


class TokensPrompt(msgspec.Struct, frozen=True, tag=True):
    """Token ids, used as they are."""

    token_ids: tuple[int, ...]


Prompt = ChatPrompt | TextPrompt | TokensPrompt


class GenerationOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the caller may say about one generation; None means the default.

    The fields are those of :class:`SamplingParams` before they are resolved against the model,
    and those that the server acts on itself: ``stop`` strings and ``num_choices``. ``guide`` is
    the shape that the answer must have, whatever the model marks around it.
    """

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    logit_bias: dict[int, float] = {}
    num_logprobs: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    guide: JsonSchemaShape | JsonObjectShape | None = None
    num_choices: int = 1


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request, from admission to its last token.

    Attributes:
        request_id: unique, echoed in the answer's X-Request-ID.
        model: name or alias, or None for the default model.
        prompt: what to continue.
        options: how.
        timeout_s: the deadline, seconds from now, or None for ``api.request_timeout_s``.
        max_tokens_param: how the caller spells max_tokens, for error messages.
        guide_param: the same for the shape that the answer must have.
        tool_param: the same for a tool's parameters; ``{index}`` stands for which.
        conversation_id: names the KV blocks that it leaves, so that they can be released; empty
            for none.
        priority: higher goes first; see core.priority.
        caller: name of the key that it belongs to.
        owner: whose sessions and documents a workflow may use; see WorkflowCall.
        workflow: that it is a part of; empty for none.
        tells_logprobs: tell the log probability of each token where whoever answers can; unlike
            ``options.num_logprobs`` it is no reason to refuse.
    """

    request_id: str
    prompt: Prompt
    model: str | None = None
    options: GenerationOptions = GenerationOptions()
    timeout_s: float | None = None
    max_tokens_param: str = "max_tokens"
    guide_param: str = "guide"
    tool_param: str = "tools.{index}.parameters"
    conversation_id: str = ""
    priority: int = 0
    caller: str = ANONYMOUS
    owner: str = ""
    workflow: str = ""
    tells_logprobs: bool = False


class TextLogprob(msgspec.Struct, frozen=True, kw_only=True):
    """A token as text, with its log probability and alternatives (token text, logprob)."""

    token: str
    token_bytes: bytes
    logprob: float
    top: tuple[tuple[str, bytes, float], ...] = ()


class TextDelta(msgspec.Struct, frozen=True, kw_only=True):
    """New text of one choice; ``text`` may be empty when only the finish reason is news.

    Attributes:
        index: which of the ``num_choices`` answers.
        text: complete characters only.
        num_tokens: tokens that this delta accounts for.
        reasoning: what the model thinks before it answers; no part of ``text``.
        num_reasoning_tokens: how many of ``num_tokens`` belong to its thoughts.
        tool_calls: news of functions that it calls; no part of ``text``.
        logprobs: of the tokens in this delta, where asked for.
        finish_reason: set once for each choice, on its last delta.
    """

    index: int
    text: str
    num_tokens: int
    reasoning: str = ""
    num_reasoning_tokens: int = 0
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TextLogprob, ...] | None = None
    finish_reason: FinishReason | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a whole request: prompt, generated over all choices, reused from a cache.

    Attributes:
        num_reasoning_tokens: how many of the generated ones were thoughts.
    """

    num_prompt_tokens: int
    num_generated_tokens: int
    num_cached_tokens: int = 0
    num_reasoning_tokens: int = 0


def total_usage(usages: Iterable[Usage]) -> Usage:
    """Return the tokens of several requests together."""
    counted = list(usages)
    return Usage(
        num_prompt_tokens=sum(usage.num_prompt_tokens for usage in counted),
        num_generated_tokens=sum(usage.num_generated_tokens for usage in counted),
        num_cached_tokens=sum(usage.num_cached_tokens for usage in counted),
        num_reasoning_tokens=sum(usage.num_reasoning_tokens for usage in counted),
    )
