"""The fields that every generating request shares, with their ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec.structs import replace
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mm_orch.core.generation import GenerationOptions
from mm_orch.core.priority import MAX_PRIORITY, MIN_PRIORITY
from mm_orch.orchestration.limits import (
    CONVERSATION_ID,
    MAX_BIAS,
    MAX_CHOICES,
    MAX_LOGPROBS,
    MAX_REPETITION_PENALTY,
    MAX_STOP_STRINGS,
    MAX_TOP_K,
    MIN_REPETITION_PENALTY,
    SEED_BOUND,
)

if TYPE_CHECKING:
    from mm_orch.core.guide import JsonObjectShape, JsonSchemaShape

MAX_STOP_CHARS = 1000
MAX_BIASED_TOKENS = 1024
MAX_TIMEOUT_S = 86_400

Priority = Annotated[int, Field(ge=MIN_PRIORITY, le=MAX_PRIORITY)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
ConversationId = Annotated[str, Field(pattern=CONVERSATION_ID)]
DIGITS = r"^[0-9]{1,9}$"
TokenIdText = Annotated[str, Field(pattern=DIGITS)]


def _refuse_zero(value: object) -> object:
    # To a literal, 0 is False.
    if not isinstance(value, bool):
        raise ValueError("must be false")  # noqa: TRY004 - pydantic takes no other kind
    return value


Off = Annotated[Literal[False], BeforeValidator(_refuse_zero)]
StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]


class StreamOptions(BaseModel):
    """What a stream holds besides text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = Field(
        default=False, description="One more chunk, before the end, with usage."
    )
    include_obfuscation: Off | None = Field(None, description="Not built: chunks are never padded.")
    continuous_usage_stats: Off | None = Field(
        None, description="Not built: usage comes once, at the end."
    )


class CallFields(BaseModel):
    """What every generating request may say; null means the default."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str | None = Field(
        None,
        max_length=200,
        description='Name or alias; none is the default model, and "auto" has one chosen.',
    )
    min_tokens: int = Field(0, ge=0, description="No end before so many tokens.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        None, description="0 is greedy; the default is 1."
    )
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=MAX_TOP_K)] | None = Field(
        None, description="0 and -1 are off."
    )
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: (
        Annotated[float, Field(ge=MIN_REPETITION_PENALTY, le=MAX_REPETITION_PENALTY)] | None
    ) = None
    seed: Annotated[int, Field(ge=-SEED_BOUND, lt=SEED_BOUND)] | None = Field(
        None, description="The same seed gives the same answer."
    )
    logit_bias: (
        Annotated[
            dict[TokenIdText, Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS)]],
            Field(max_length=MAX_BIASED_TOKENS),
        ]
        | None
    ) = Field(None, description="Added to the logits of these token ids.")
    ignore_eos: bool = Field(default=False, description="Generate to max_tokens whatever comes.")
    timeout_s: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S)] | None = Field(
        None, description="The request's deadline, seconds from now."
    )
    stream: bool | None = None
    user: str | None = Field(None, description="Accepted, not used.")
    metadata: dict[str, Any] | None = Field(None, description="Accepted, not used.")
    service_tier: Literal["auto", "default"] | None = Field(None, description="There is one tier.")
    priority: Priority | None = Field(
        None, description="Higher goes first; 0 is the default. A key may have a lower bound."
    )
    conversation_id: ConversationId | None = Field(
        None, description="Names what the answer leaves in the KV cache, so it can be released."
    )

    def options(
        self,
        *,
        max_tokens: int | None,
        num_logprobs: int | None = None,
        guide: JsonSchemaShape | JsonObjectShape | None = None,
    ) -> GenerationOptions:
        """Return the generation's options in our own words."""
        return GenerationOptions(
            max_tokens=max_tokens,
            min_tokens=self.min_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=max(self.top_k or 0, 0),
            min_p=self.min_p,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            seed=self.seed,
            logit_bias={int(token): bias for token, bias in (self.logit_bias or {}).items()},
            num_logprobs=num_logprobs,
            ignore_eos=self.ignore_eos,
            guide=guide,
        )


class SamplingFields(CallFields):
    """What chats and completions may say besides."""

    max_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Most tokens to generate."
    )
    stop: StopString | Annotated[list[StopString], Field(max_length=MAX_STOP_STRINGS)] | None = (
        Field(None, description="The answer ends before any of these.")
    )
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = Field(
        None, description="How many answers."
    )
    stream_options: StreamOptions | None = None
    store: Off | None = Field(None, description="Answers are never stored.")

    @property
    def wants_usage_chunk(self) -> bool:
        """Whether a stream is to end with usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def options(
        self,
        *,
        max_tokens: int | None,
        num_logprobs: int | None = None,
        guide: JsonSchemaShape | JsonObjectShape | None = None,
    ) -> GenerationOptions:
        """Return the generation's options in our own words."""
        stop = self.stop or ()
        return replace(
            super().options(max_tokens=max_tokens, num_logprobs=num_logprobs, guide=guide),
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            num_choices=self.n or 1,
        )


MAX_ALTERNATIVES = MAX_LOGPROBS
