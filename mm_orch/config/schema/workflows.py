"""Options of the section ``workflows``: answers that take several steps."""

# ruff: noqa: TC001 - pydantic reads the annotations of Section's subclasses at run time

from __future__ import annotations

from mm_orch.config.schema.confidence import CascadeOptions, ConfidenceOptions
from mm_orch.config.schema.search import SearchOptions
from mm_orch.config.schema.section import Section, option, section
from mm_orch.config.schema.values import AtLeastOne, FilePath, PositiveFloat


class WorkflowsSettings(Section):
    """Answers that take several steps, and conversations that are stored."""

    enabled: bool = option("Answer with workflows, and keep sessions and documents.", default=True)
    deadline_s: PositiveFloat | None = option(
        "Seconds that a workflow may take when the call does not say itself.",
        default=None,
        default_in_words="null: api.request_timeout_s",
    )
    window_tokens: AtLeastOne | None = option(
        "Most tokens of a conversation that a model is shown, the answer not counted; whole turns"
        " are left out, the oldest first.",
        default=None,
        default_in_words="null: three quarters of the model's context, or what max_tokens leaves",
    )
    folder: FilePath | None = option(
        "Folder of workflows that are written in YAML, one a file.",
        default=None,
        default_in_words="null: workflows in system.data_dir",
    )
    search: SearchOptions = section(
        SearchOptions, "Where workflows look for pages, and what they may fetch."
    )
    confidence: ConfidenceOptions = section(ConfidenceOptions, "How sure answers are.")
    cascade: CascadeOptions = section(
        CascadeOptions, "The workflow that asks again where a first answer is not sure."
    )
