from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import InvalidValueError, ModelStoreError
from mm_orch.models.chat_template import ChatTemplate

if TYPE_CHECKING:
    from pathlib import Path

TURNS = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('no system turn') }}",
        "{{ 1 // 0 }}",
        "{% for i in range(999999999) %}{% endfor %}",
        "{{ messages[0]['content'] + 1 }}",
    ],
)
def test_what_a_template_cannot_render_is_the_callers_error(source: str) -> None:
    with pytest.raises(InvalidValueError, match="chat template refuses"):
        ChatTemplate(source, {}).render(TURNS)


@pytest.mark.parametrize("content", [b"{{ messages", b"\xff\xfe"])
def test_a_template_that_cannot_be_read_is_the_models_fault(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(content)

    with pytest.raises(ModelStoreError, match="template"):
        ChatTemplate.find_in_directory(tmp_path)
