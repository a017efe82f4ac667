"""Says how sure an answer is, by its tokens or by a vote, with what was fitted for its model."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mm_orch.consciousness.calibration import answer_figures, read_calibration, vote_figures
from mm_orch.consciousness.confidence import Confidence, measure_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mm_orch.consciousness.agreement import Vote
    from mm_orch.consciousness.calibration import ModelCalibration

logger = logging.getLogger(__name__)

CALIBRATIONS = Path(__file__).with_name("calibrations")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """Tells confidence; without a calibration of the model, a figure that is not calibrated.

    Attributes:
        unsure_below: what is less sure is called unsure; None for nothing.
        calibration_by_model: by configured name.
    """

    unsure_below: float | None = None
    calibration_by_model: Mapping[str, ModelCalibration] = field(default_factory=dict)

    def of_answer(self, model: str, logprobs: Sequence[float]) -> Confidence | None:
        """Return how sure one answer is, or None where nothing is known of its tokens.

        Args:
            model: that gave it.
            logprobs: natural logarithm of the probability of each of its tokens.
        """
        tokens = measure_tokens(logprobs)
        if tokens is None:
            return None
        calibration = self.calibration_by_model.get(model)
        if calibration is None or tokens.num_tokens > calibration.max_tokens:
            return self._tell(tokens.normalised_probability, is_calibrated=False)
        return self._tell(calibration.answer.apply(answer_figures(tokens)), is_calibrated=True)

    def of_vote(self, model: str, vote: Vote, first: Confidence | None) -> Confidence:
        """Return how sure the winner of a vote is.

        Args:
            model: that gave all answers.
            vote: in which the first answer's place is 0.
            first: how sure that one was; None where it was not among them, or is not known.
        """
        calibration = self.calibration_by_model.get(model)
        is_known = calibration is not None and calibration.num_votes == vote.num_answers
        if calibration is None or not is_known or first is None or not first.is_calibrated:
            return self._tell(vote.share, is_calibrated=False)
        figures = vote_figures(vote, first.value)
        return self._tell(calibration.vote.apply(figures), is_calibrated=True)

    def _tell(self, value: float, *, is_calibrated: bool) -> Confidence:
        is_unsure = self.unsure_below is not None and value < self.unsure_below
        return Confidence(value=value, is_calibrated=is_calibrated, is_unsure=is_unsure)


def load_calibrations(
    source_by_model: Mapping[str, str], directory: Path = CALIBRATIONS
) -> dict[str, ModelCalibration]:
    """Return, by name, the calibrations of those models that have one.

    A file that cannot be read is warned of and done without.

    Args:
        source_by_model: where the configured models are from.
        directory: of the files.
    """
    by_source = {one.source: one for one in _read_all(sorted(directory.glob("*.json")))}
    return {
        model: by_source[source] for model, source in source_by_model.items() if source in by_source
    }


def _read_all(paths: Iterable[Path]) -> Iterable[ModelCalibration]:
    for path in paths:
        try:
            yield read_calibration(path.read_bytes())
        except (OSError, ValueError) as error:
            logger.warning("Done without the calibration %s: %s", path.name, error)


def write_calibration(calibration: ModelCalibration, path: Path) -> None:
    """Write a file that :func:`load_calibrations` reads."""
    text = msgspec.json.format(msgspec.json.encode(calibration, order="sorted"))
    path.write_bytes(text + b"\n")
