"""Whether a model takes conversations, without compiling anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mm_orch.models.chat_template import ChatTemplate, has_template

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, False),
        ({"tokenizer_config.json": "{}"}, False),
        ({"tokenizer_config.json": json.dumps({"chat_template": TEMPLATE})}, True),
        ({"chat_template.jinja": TEMPLATE}, True),
    ],
)
def test_a_template_is_seen_where_it_is_found(
    files: dict[str, str], *, expected: bool, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)

    assert has_template(tmp_path) is expected
    assert (ChatTemplate.find_in_directory(tmp_path) is not None) is expected
