"""The body of POST /v1/completions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mm_orch.api.schemas.inputs import TokenIds, split_inputs
from mm_orch.api.schemas.sampling import MAX_ALTERNATIVES, Off, SamplingFields
from mm_orch.core.errors import InvalidValueError
from mm_orch.core.generation import GenerationRequest, Prompt, TextPrompt, TokensPrompt
from mm_orch.core.routing import AUTO

MAX_PROMPTS = 64
# As OpenAI documents it for this path.
_DEFAULT_MAX_TOKENS = 16


class CompletionRequest(SamplingFields):
    """Text to be continued as it stands."""

    prompt: (
        str
        | TokenIds
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_PROMPTS)]
    ) = Field(description="Text or token ids, or several of the same kind.")
    logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] | None = Field(
        None, description="Alternatives a token."
    )
    best_of: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Only the value of n: all answers are returned."
    )
    echo: Off | None = Field(None, description="Not built in this version yet.")
    suffix: None = Field(None, description="Not built in this version yet.")

    def as_requests(self, request_id: str) -> list[GenerationRequest]:
        """Return one request a prompt.

        Raises:
            InvalidValueError: best_of differs from n.
        """
        if self.best_of not in {None, self.n or 1}:
            raise InvalidValueError(
                f"best_of is {self.best_of}; it must equal n ({self.n or 1}): answers are not"
                " ranked.",
                param="best_of",
            )
        prompts = self._prompts()
        # The answer names one model, whatever each prompt by itself would have chosen.
        is_default = self.model == AUTO and len(prompts) > 1
        return [
            GenerationRequest(
                request_id=request_id,
                prompt=prompt,
                model=None if is_default else self.model,
                options=self.options(
                    max_tokens=self.max_tokens or _DEFAULT_MAX_TOKENS, num_logprobs=self.logprobs
                ),
                timeout_s=self.timeout_s,
            )
            for prompt in prompts
        ]

    def _prompts(self) -> list[Prompt]:
        return [
            TextPrompt(one) if isinstance(one, str) else TokensPrompt(one)
            for one in split_inputs(self.prompt)
        ]
