"""A shape for answers, and what is asked of one."""

from __future__ import annotations

import json

SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["fox", "dog"]},
        "ages": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 99},
            "maxItems": 3,
        },
        "name": {"type": "string", "maxLength": 6},
    },
    "required": ["kind", "ages", "name"],
    "additionalProperties": False,
}


def assert_valid(text: str) -> None:
    answer = json.loads(text)
    assert list(answer) == ["kind", "ages", "name"]
    assert answer["kind"] in {"fox", "dog"}
    assert len(answer["ages"]) <= 3
    assert all(type(age) is int and 0 <= age <= 99 for age in answer["ages"])
    assert len(answer["name"]) <= 6
