"""Options of ``workflows.confidence`` and ``workflows.cascade``: how sure answers are."""

# ruff: noqa: TC001 - pydantic reads the annotations of Section's subclasses at run time

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mm_orch.config.schema.section import Section, option
from mm_orch.config.schema.values import ModelName, Ratio

# What more would add is lost in what they cost.
_Samples = Annotated[int, Field(ge=2, le=32)]
_Temperature = Annotated[float, Field(gt=0, le=2)]


class ConfidenceOptions(Section):
    """How sure answers are."""

    enabled: bool = option(
        "Tell in the metadata of answers how sure they are, by the probabilities of their tokens;"
        " not without consciousness.enabled.",
        default=True,
    )
    unsure_below: Ratio | None = option(
        "An answer of chat_generate or cascade whose confidence is less says that it is not sure;"
        " null: none does.",
        default=None,
    )
    ask_again_below: Ratio | None = option(
        "A part of a question to self_ask_search_qa whose answer's confidence is less is asked once"
        " more, in other words and of other pages; null: none is.",
        default=0.4,
    )
    unknown_below: Ratio | None = option(
        "An answer of search_qa or self_ask_search_qa, or of a part of it, whose confidence is less"
        " says that it does not know, and what was found; null: none does.",
        default=0.3,
    )


class CascadeOptions(Section):
    """The workflow that asks again where a first answer is not sure."""

    enabled: bool = option("Answer with the workflow cascade.", default=False)
    large_model: ModelName | None = option(
        "Name or alias of the model that is asked where the first answer is not sure; null: the"
        " same model is asked several times, and a vote is held.",
        default=None,
    )
    min_confidence: Ratio = option(
        "A first answer that is as sure as this is the answer; 0 takes every one whose confidence"
        " is known, 1 none.",
        default=0.4,
    )
    samples: _Samples = option("Further answers that a vote is held over.", default=4)
    temperature: _Temperature = option(
        "Of these further answers, which differ only by chance.", default=0.7
    )
