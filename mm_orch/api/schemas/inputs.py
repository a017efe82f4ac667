"""Texts and token ids, one or several, as OpenAI's paths take them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mm_orch.api.schemas.sampling import TokenId

TokenIds = Annotated[list[TokenId], Field(min_length=1)]


def split_inputs(
    value: str | list[int] | list[str] | list[list[int]],
) -> list[str | tuple[int, ...]]:
    """Return each text, or the token ids of each; token ids by themselves are one of them."""
    if isinstance(value, str):
        return [value]
    inputs: list[str | tuple[int, ...]] = []
    single: list[int] = []
    for one in value:
        match one:
            case int():
                single.append(one)
            case str():
                inputs.append(one)
            case _:
                inputs.append(tuple(one))
    return inputs or [tuple(single)]
