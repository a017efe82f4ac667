"""What a step of an engine takes: measured, or by the roofline of its hardware.

The roofline (Williams et al. 2009): a step takes as long as the slower of reading and computing.
Decoding reads all weights for one token a sequence and so waits for memory; a prompt computes many
tokens for one reading of the weights and so waits for arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

NUM_EARLY = 16
"""The first of a step's sequences and prompt tokens, which may cost more each: products with few
rows do not use the arithmetic that they could."""


class StepCosts(Protocol):
    """How long steps take."""

    @property
    def per_request_s(self) -> float:
        """That the first step of each request takes longer, in seconds."""

    def step_s(
        self, num_decoding: int, num_keys: float, num_prompt_tokens: int, num_pairs: float
    ) -> float:
        """Return the seconds of one step.

        Args:
            num_decoding: sequences that get one token each.
            num_keys: tokens that these attend to, all together.
            num_prompt_tokens: computed beside them.
            num_pairs: of a prompt's token and a key that it attends to.
        """

    def relieve(self) -> dict[str, StepCosts]:
        """Return the costs if there were twice as much of one thing, by the thing's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredCosts:
    """A plane through measured steps, folded where a step has few rows; all in seconds.

    Attributes:
        fixed_s: of any step.
        per_sequence_s: of each that decodes.
        per_prompt_token_s: of each prompt token.
        per_key_s: of each token that a decoding sequence attends to.
        per_pair_s: of each pair of a prompt's token and one that it attends to.
        per_early_sequence_s: of each of the first that decode, on top.
        per_early_token_s: of each of the first prompt tokens, on top.
        per_request_s: that the first step of each request takes longer: a server that computes on
            processors takes requests in on the same ones.
    """

    fixed_s: float
    per_sequence_s: float
    per_prompt_token_s: float
    per_key_s: float = 0.0
    per_pair_s: float = 0.0
    per_early_sequence_s: float = 0.0
    per_early_token_s: float = 0.0
    per_request_s: float = 0.0

    def step_s(
        self, num_decoding: int, num_keys: float, num_prompt_tokens: int, num_pairs: float
    ) -> float:
        """Return the seconds of one step."""
        return (
            self.fixed_s
            + self.per_sequence_s * num_decoding
            + self.per_key_s * num_keys
            + self.per_prompt_token_s * num_prompt_tokens
            + self.per_pair_s * num_pairs
            + self.per_early_sequence_s * min(num_decoding, NUM_EARLY)
            + self.per_early_token_s * min(num_prompt_tokens, NUM_EARLY)
        )

    def relieve(self) -> dict[str, StepCosts]:
        """Return the costs if one part took half as long."""
        return {
            "the fixed part of a step": replace(self, fixed_s=self.fixed_s / 2),
            "decoding": replace(
                self,
                per_sequence_s=self.per_sequence_s / 2,
                per_early_sequence_s=self.per_early_sequence_s / 2,
                per_key_s=self.per_key_s / 2,
            ),
            "taking in requests": replace(self, per_request_s=self.per_request_s / 2),
            "taking in prompts": replace(
                self,
                per_prompt_token_s=self.per_prompt_token_s / 2,
                per_early_token_s=self.per_early_token_s / 2,
                per_pair_s=self.per_pair_s / 2,
            ),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineCosts:
    """What memory and arithmetic allow.

    Attributes:
        weight_bytes: read in every step.
        kv_bytes_per_token: read for each token that is attended to.
        flops_per_token: for each token that is computed.
        flops_per_pair: for each pair of a token and one that it attends to.
        bytes_per_s: read from memory.
        flops_per_s: computed.
        overhead_s: of a step as such: launching kernels, drawing tokens.
        per_request_s: nothing: an accelerator goes on while processors take a request in.
    """

    weight_bytes: float
    kv_bytes_per_token: float
    flops_per_token: float
    flops_per_pair: float
    bytes_per_s: float
    flops_per_s: float
    overhead_s: float
    per_request_s: float = 0.0

    def step_s(
        self, num_decoding: int, num_keys: float, num_prompt_tokens: int, num_pairs: float
    ) -> float:
        """Return the seconds of one step."""
        num_bytes = self.weight_bytes + self.kv_bytes_per_token * num_keys
        num_flops = self.flops_per_token * (num_decoding + num_prompt_tokens)
        num_flops += self.flops_per_pair * (num_keys + num_pairs)
        return self.overhead_s + max(num_bytes / self.bytes_per_s, num_flops / self.flops_per_s)

    def relieve(self) -> dict[str, StepCosts]:
        """Return the costs if there were twice as much of one thing."""
        return {
            "memory bandwidth": replace(self, bytes_per_s=2 * self.bytes_per_s),
            "arithmetic": replace(self, flops_per_s=2 * self.flops_per_s),
            "the fixed part of a step": replace(self, overhead_s=self.overhead_s / 2),
        }
