"""Options of the section ``workflows``: answers that take several steps."""

# ruff: noqa: TC001 - pydantic reads the annotations of Section's subclasses at run time

from __future__ import annotations

from mm_orch.config.schema.section import Section, option
from mm_orch.config.schema.values import AtLeastOne, PositiveFloat


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
