"""Options of the section ``routing``: which workflow and which model answer what leaves it open."""

# ruff: noqa: TC001 - pydantic reads the annotations of Section's subclasses at run time

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, Strict

from mm_orch.config.schema.section import Section, option, section
from mm_orch.config.schema.values import Ratio

RoutedWorkflow = Literal[
    "lesson_pack", "rag_qa", "self_ask_search_qa", "search_qa", "chat_generate"
]
_ALL: tuple[RoutedWorkflow, ...] = get_args(RoutedWorkflow)


class WorkflowRoutingSettings(Section):
    """How the workflow of a query is chosen."""

    by_default: bool = option(
        "Choose the workflow of queries that name none; false leaves these to chat_generate, and"
        " only those that say auto have one chosen.",
        default=True,
    )
    min_confidence: Ratio = option(
        "A workflow that is less likely to be right than this gives way to chat_generate.",
        default=0.0,
    )
    learn_from_feedback: bool = option(
        "Learn from what callers thought of answers how much likelier each workflow is than the"
        " router believes; not without consciousness.enabled.",
        default=True,
    )
    allowed: Annotated[tuple[RoutedWorkflow, ...], Strict(strict=False), Field(min_length=1)] = (
        option("The workflows that may be chosen; any may be asked for by its name.", default=_ALL)
    )


class RoutingSettings(Section):
    """Which workflow answers what names none."""

    workflows: WorkflowRoutingSettings = section(
        WorkflowRoutingSettings, "How the workflow of a query is chosen."
    )
