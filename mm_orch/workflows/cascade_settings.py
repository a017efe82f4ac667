"""When the workflow ``cascade`` asks again, and whom: the settings, and the decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mm_orch.consciousness.confidence import Confidence


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeSettings:
    """The slice of the configuration that the workflow needs.

    Attributes:
        is_enabled: it answers at all.
        large_model: configured name of the model that is asked where the first answer is not sure;
            None asks the same model several times.
        min_confidence: of a first answer that needs no more.
        num_samples: further answers that a vote is held over.
        temperature: of those.
    """

    is_enabled: bool = False
    large_model: str | None = None
    min_confidence: float = 0.4
    num_samples: int = 4
    temperature: float = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is done after the first answer.

    Attributes:
        way: take it, ask the larger model, or hold a vote over more answers of the same.
        reason: why, for people.
    """

    way: Literal["take", "ask_large", "vote"]
    reason: str


def decide(
    settings: CascadeSettings, *, model: str | None, confidence: Confidence | None
) -> Decision:
    """Return what to do after the first answer.

    Args:
        settings: of the workflow.
        model: that gave the first answer; None where there is none.
        confidence: of the first answer; None where it is not known.
    """
    if model is None:
        state = "There is no first answer"
    elif confidence is None:
        state = "Nothing is known of how sure the first answer is"
    else:
        kind = "calibrated" if confidence.is_calibrated else "not calibrated"
        sure = f"The first answer is {confidence.value:.2f} sure ({kind})"
        # 1 is how to ask for the dear way always, and a figure may be rounded up to it.
        if confidence.value >= settings.min_confidence < 1:
            return Decision(way="take", reason=f"{sure}; {settings.min_confidence:.2f} is enough.")
        is_never = settings.min_confidence >= 1
        short = "and none is enough" if is_never else f"below {settings.min_confidence:.2f}"
        state = f"{sure}, {short}"
    if settings.large_model not in {None, model}:
        return Decision(way="ask_large", reason=f"{state}: {settings.large_model} is asked.")
    return Decision(
        way="vote", reason=f"{state}: {settings.num_samples} more answers are asked for, to vote."
    )
