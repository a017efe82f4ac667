"""Options of the section ``orchestration``: what is done about engines that fail."""

# ruff: noqa: TC001 - pydantic reads the annotations of Section's subclasses at run time

from __future__ import annotations

from mm_orch.config.schema.section import Section, option
from mm_orch.config.schema.values import AtLeastZero, PositiveFloat


class OrchestrationSettings(Section):
    """What is done about engines that hang, and answers they cut off."""

    watchdog_timeout_s: PositiveFloat = option(
        "Seconds without a step after which an engine that has work counts as hung, and is"
        " replaced. Longer than its longest step: a long prompt on a slow machine.",
        default=120.0,
    )
    max_failovers: AtLeastZero = option(
        "How often one request may go on with another worker after its own was lost.", default=3
    )
