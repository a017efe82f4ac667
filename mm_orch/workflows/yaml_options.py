"""The keys of a workflow that is written in YAML, with what each may be."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, Strict

from mm_orch.config.schema.section import Section, option
from mm_orch.config.schema.values import Allowed, AtLeastOne, ModelName, PositiveFloat

MAX_STEPS = 32
MAX_RETRIES = 10
MAX_TEMPLATE_CHARS = 50_000
NAME = r"[a-z][a-z0-9_]{0,63}"

Template = Annotated[
    str,
    Field(min_length=1, max_length=MAX_TEMPLATE_CHARS, pattern=r"\S"),
    Allowed(f"text that is not empty, at most {MAX_TEMPLATE_CHARS} characters"),
]
Name = Annotated[
    str,
    Field(pattern=rf"^{NAME}$"),
    Allowed("a name: small letters, digits and _, a letter first, at most 64"),
]
Names = Annotated[tuple[Name, ...], Strict(strict=False)]
Summary = Annotated[
    str,
    Field(min_length=1, max_length=300, pattern=r"^\S.*$"),
    Allowed("a sentence on one line, at most 300 characters"),
]


class StepOptions(Section):
    """One step: a prompt, and what is asked of the model."""

    prompt: Template = option("What the model is asked; a template.", default=...)
    system: Template | None = option("Instructions to the model; a template.", default=None)
    model: ModelName | None = option("Name or alias; null is the call's.", default=None)
    max_tokens: AtLeastOne | None = option("Longest answer in tokens.", default=None)
    temperature: Annotated[float, Field(ge=0, le=2)] | None = option(
        "0 is greedy; null is the call's.", default=None
    )
    format: dict[str, Any] | None = option(
        "JSON schema that the answer is valid under; null is free text.", default=None
    )
    needs: Names = option(
        "Steps to wait for, beside those whose answers the templates use.", default=()
    )
    optional: bool = option("Go on without it when it fails.", default=False)
    retries: Annotated[int, Field(ge=0, le=MAX_RETRIES)] = option(
        "Further attempts after a failure.", default=0
    )
    deadline_s: PositiveFloat | None = option(
        "Seconds for all attempts; null is what the workflow has left.", default=None
    )


class WorkflowOptions(Section):
    """The file."""

    name: Name = option("How it is asked for.", default=...)
    summary: Summary = option("What it does, for people.", default=...)
    answer: Name = option("The step whose answer is the workflow's.", default=...)
    steps: dict[str, Any] = option("The steps by name.", default=...)
