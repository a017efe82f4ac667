from __future__ import annotations

import pytest

from mm_orch.api.schemas.inputs import split_inputs


@pytest.mark.parametrize(
    ("value", "inputs"),
    [
        ("Hi", ["Hi"]),
        ("", [""]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [(1, 2)]),
        ([[1, 2], [3]], [(1, 2), (3,)]),
    ],
)
def test_texts_and_token_ids_are_told_apart_one_from_several(
    value: str | list[int] | list[str] | list[list[int]], inputs: list[str | tuple[int, ...]]
) -> None:
    assert split_inputs(value) == inputs
