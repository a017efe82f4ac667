"""Options of the section ``consciousness``: what the system knows of itself, and what follows."""

# ruff: noqa: TC001 - pydantic reads the annotations of Section's subclasses at run time

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mm_orch.config.schema.section import Section, option, section
from mm_orch.config.schema.values import AtLeastOne, PositiveFloat, Ratio, Texts

SmallOffset = Annotated[float, Field(ge=0, le=0.3)]


class GoalsSettings(Section):
    """What counts in a choice of model and workflow; only the proportions matter."""

    quality: Ratio = option("How much the chance of a right answer counts.", default=0.6)
    latency: Ratio = option("How much a quick answer counts.", default=0.2)
    cost: Ratio = option("How much an answer of few tokens by a small model counts.", default=0.2)


class EmotionSettings(Section):
    """A mood of two numbers, which may change how conversations are answered."""

    enabled: bool = option(
        "Let the mood set tone and temperature of conversations whose caller sets none; it is kept"
        " and shown either way.",
        default=False,
    )
    half_life_s: PositiveFloat = option(
        "Seconds after which half of a mood is left.", default=3600.0
    )
    max_temperature_offset: SmallOffset = option(
        "Most that it adds to the default temperature, or takes from it.", default=0.1
    )


class DevelopmentSettings(Section):
    """Stages that allow workflows one after another, as success is measured."""

    enabled: bool = option(
        "Refuse workflows of stages that have not been reached; runs are counted either way.",
        default=False,
    )
    min_successes: AtLeastOne = option(
        "Successful runs at a stage that lead to the next one.", default=20
    )
    min_success_ratio: Ratio = option(
        "What their share must surely be (the lower end of Wilson's 95% interval).", default=0.8
    )
    stage_0: Texts = option(
        "Workflows that are allowed from the start.", default=("chat_generate", "self_description")
    )
    stage_1: Texts = option(
        "Those that stage 1 adds; * is every workflow.", default=("rag_qa", "search_qa")
    )
    stage_2: Texts = option(
        "Those that stage 2 adds.", default=("lesson_pack", "self_ask_search_qa", "cascade")
    )
    stage_3: Texts = option("Those that the last stage adds.", default=("*",))


class MemorySettings(Section):
    """What is remembered of how requests ended; no text of them is."""

    half_life_s: PositiveFloat = option(
        "Seconds after which an outcome counts half.", default=604_800.0
    )


class ConsciousnessSettings(Section):
    """What the system knows of itself, and what follows from it."""

    enabled: bool = option(
        "Answer questions about the system from facts, and remember how requests ended; false:"
        " nothing of it is imported, kept or stored.",
        default=True,
    )
    goals: GoalsSettings = section(GoalsSettings, "What counts in a choice.")
    emotion: EmotionSettings = section(EmotionSettings, "The mood.")
    development: DevelopmentSettings = section(DevelopmentSettings, "The stages.")
    memory: MemorySettings = section(MemorySettings, "The memory of outcomes.")
