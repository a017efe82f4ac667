"""Whether asking again pays: right answers and costs of one answer, of a vote, and of the cascade.

usage: python -m benchmarks.cascade [--large SOURCE] [--name NAME] [--minutes N]

single      one answer of the model at temperature 0, with its log probabilities
always      cascade whose min_confidence is 1: a vote is held over every question
cascade     cascade as it is configured by default, but switched on

All answer the held-out questions of benchmarks/confidence, a chunk of them after another, each
chunk in turn, on servers of their own that live side by side. Costs are of the servers with their
workers: processor seconds, wall seconds with 16 questions at once, and tokens. Shares have
bootstrap intervals over questions, costs over chunks. Prints and keeps figures alone, no question.

With --large, a larger model (a source, as models.<name>.source) takes the place of the vote: always
asks it alone, cascade asks it where the first answer is not sure. With --minutes no chunk begins
after so many; each is a sample of all kinds of questions.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.confidence.answers import is_right
from benchmarks.confidence.asking import (
    BUILT_IN,
    Result,
    ask_all,
    ask_model,
    ask_workflow,
    built_in_source,
    serve,
)
from benchmarks.confidence.fit import digest
from benchmarks.confidence.questions import load_questions
from benchmarks.contenders import run_all
from benchmarks.results_file import report, write_table
from benchmarks.statistics import Verdict, bootstrap, show_ratio
from mm_orch.consciousness.calibration_error import (
    NUM_BINS,
    brier_score,
    expected_calibration_error,
    make_reliability_table,
    rank_quality,
)
from mm_orch.consciousness.confidence import measure_tokens
from mm_orch.consciousness.gauge import Gauge, load_calibrations
from mm_orch.workflows.cascade_settings import CascadeSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.confidence.questions import Question
    from benchmarks.contenders import Running
    from benchmarks.statistics import Ratio

    Ask = Callable[[int, Question], Result]

_NUM_CHUNKS = 12
_NUM_WARM_UP = 8
_WAYS = ("single", "always", "cascade")
_LARGE = "large"
_OWN = "own"
_GAUGE = Gauge(calibration_by_model=load_calibrations({_OWN: built_in_source()}))


_NAME_BY_FIGURE = {
    "num_questions": "questions",
    "single_accuracy_rate": "right, single",
    "always_accuracy_rate": "right, always",
    "cascade_accuracy_rate": "right, cascade",
    "gain_over_single_rate": "right, cascade less single",
    "gain_over_always_rate": "right, cascade less always",
    "gain_of_always_over_single_rate": "right, always less single",
    "tokens_over_always_ratio": "tokens, cascade over always",
    "processor_over_always_ratio": "processor time, cascade over always",
    "processor_over_single_ratio": "processor time, cascade over single",
    "ece_raw_rate": "calibration error of first answers, not calibrated",
    "ece_calibrated_rate": "calibration error of first answers, calibrated",
    "ece_of_cascade_rate": "calibration error of the cascade's answers",
    "brier_raw_rate": "Brier score of first answers, not calibrated",
    "brier_calibrated_rate": "Brier score of first answers, calibrated",
    "rank_raw_rate": "a right first answer is surer than a wrong one, not calibrated",
    "rank_calibrated_rate": "a right first answer is surer than a wrong one, calibrated",
}


@dataclass(slots=True)
class Run:
    """What one way has answered, and what each chunk took."""

    results: list[Result] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)

    @property
    def rights(self) -> list[bool]:
        """Whether each answer is right."""
        return [one.is_right for one in self.results]


def main() -> int:
    """Measure, print, write; return 0 when every bar is met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--large", help="source of a larger model")
    parser.add_argument("--name", default="cascade", help="of the results")
    parser.add_argument("--minutes", type=float, default=math.inf)
    options = parser.parse_args()
    questions = load_questions("held_out")
    own = {} if options.large is None else {"large_model": _LARGE}
    others = None if options.large is None else {_LARGE: {"source": options.large}}
    servers = [
        serve("single", {}),
        serve("always", {"enabled": True, "min_confidence": 1.0}, others),
        serve("cascade", {"enabled": True, **own}, others),
    ]
    ask_by_way = {
        "single": partial(_ask_single, BUILT_IN),
        "always": _ask_cascade if options.large is None else partial(_ask_single, _LARGE),
        "cascade": _ask_cascade,
    }
    with run_all(servers) as running:
        run_by_way = _measure(running, ask_by_way, questions, minutes=options.minutes)
    figures: dict[str, object] = {
        "num_questions": len(run_by_way["single"].results),
        "questions_digest": digest(questions),
        "large_model": options.large,
        "min_confidence": CascadeSettings().min_confidence,
        "num_samples": CascadeSettings().num_samples,
        "temperature": CascadeSettings().temperature,
        **_calibration_figures(options.name, run_by_way["single"]),
        **{f"{way}_accuracy_rate": _accuracy(run) for way, run in run_by_way.items()},
    }
    table = [_row(way, run) for way, run in run_by_way.items()]
    head = ["way", "right", "tokens", "processor ms", "wall ms", "asked again"]
    print(write_table(f"{options.name}_ways", head, table))
    verdicts = _compare(run_by_way, figures)
    print(write_table(f"{options.name}_figures", ["figure", "value, 95%"], _name(figures)))
    faults = [
        f"{way}: {sum(one.is_partial for one in run.results)} partial"
        for way, run in run_by_way.items()
        if any(one.is_partial for one in run.results)
    ]
    return report(options.name, figures, faults, verdicts)


def _ask_single(model: str, port: int, question: Question) -> Result:
    told = ask_model(port, question, model=model)
    tokens = measure_tokens(told.logprobs)
    sure = _GAUGE.of_answer(_OWN, told.logprobs)
    return Result(
        is_right=is_right(question, told.text),
        confidence=0.0 if sure is None else sure.value,
        raw_confidence=0.0 if tokens is None else tokens.normalised_probability,
        num_tokens=told.num_tokens,
    )


def _ask_cascade(port: int, question: Question) -> Result:
    return ask_workflow(port, question, "cascade", seed=1)


def _measure(
    running: Sequence[Running],
    ask_by_way: Mapping[str, Ask],
    questions: Sequence[Question],
    *,
    minutes: float,
) -> dict[str, Run]:
    end_s = time.monotonic() + 60 * minutes
    run_by_way = {way: Run() for way in _WAYS}
    for one, way in zip(running, _WAYS, strict=True):
        _ask_chunk(one, ask_by_way[way], questions[:_NUM_WARM_UP], Run())
    for number in range(_NUM_CHUNKS):
        if time.monotonic() > end_s:
            break
        chunk = questions[number::_NUM_CHUNKS]
        for one, way in zip(running, _WAYS, strict=True):
            _ask_chunk(one, ask_by_way[way], chunk, run_by_way[way])
            print(f"chunk {number + 1} of {_NUM_CHUNKS}: {way}", file=sys.stderr, flush=True)
    return run_by_way


def _ask_chunk(running: Running, ask: Ask, chunk: Sequence[Question], run: Run) -> None:
    process = running.process
    cpu_s, begin_s = process.cpu_s, time.monotonic()
    results = ask_all(lambda one: ask(process.port, one), chunk)
    run.wall_s.append((time.monotonic() - begin_s) / len(chunk))
    run.cpu_s.append((process.cpu_s - cpu_s) / len(chunk))
    run.num_tokens.append(sum(one.num_tokens for one in results))
    run.results += results


def _calibration_figures(name: str, run: Run) -> dict[str, object]:
    rights = run.rights
    raw = [one.raw_confidence for one in run.results]
    calibrated = [one.confidence for one in run.results]
    figures: dict[str, object] = {"num_bins": NUM_BINS}
    for kind, values in (("raw", raw), ("calibrated", calibrated)):
        figures[f"ece_{kind}_rate"] = _error(values, rights).rounded
        figures[f"brier_{kind}_rate"] = round(brier_score(values, rights), 3)
        figures[f"rank_{kind}_rate"] = round(rank_quality(values, rights), 3)
    head = ["confidence", "answers", "mean confidence", "right"]
    rows = [
        [
            f"{one.low:g} to {one.low + 1 / NUM_BINS:g}",
            one.num_answers,
            round(one.confidence, 3),
            round(one.accuracy, 3),
        ]
        for one in make_reliability_table(calibrated, rights)
    ]
    print(write_table(f"{name}_reliability", head, rows))
    return figures


def _error(confidences: Sequence[float], rights: Sequence[bool]) -> Ratio:
    """Return the calibration error, with its interval over questions."""

    def error(places: Sequence[int]) -> float:
        return expected_calibration_error(
            [confidences[place] for place in places], [rights[place] for place in places]
        )

    return bootstrap(len(rights), error)


def _accuracy(run: Run) -> list[float]:
    rights = run.rights
    return bootstrap(
        len(rights), lambda places: statistics.fmean(rights[place] for place in places)
    ).rounded


def _name(figures: Mapping[str, object]) -> list[list[object]]:
    """Return the rows of the figures that the table tells, with their intervals."""
    return [
        [name, show_ratio(value) if isinstance(value, list) else value]
        for key, name in _NAME_BY_FIGURE.items()
        if (value := figures[key]) is not None
    ]


def _row(way: str, run: Run) -> list[object]:
    drafts = [one.remarks.get("draft", "") for one in run.results]
    num_again = sum(bool(draft) and not draft.endswith("is enough.") for draft in drafts)
    return [
        way,
        round(statistics.fmean(run.rights), 3),
        round(statistics.fmean(one.num_tokens for one in run.results), 1),
        round(1000 * statistics.fmean(run.cpu_s)),
        round(1000 * statistics.fmean(run.wall_s)),
        round(num_again / len(run.results), 3),
    ]


def _compare(run_by_way: dict[str, Run], figures: dict[str, object]) -> dict[str, Verdict]:
    single, always, cascade = (run_by_way[way] for way in _WAYS)
    gain = _gain(cascade, single)
    figures["gain_over_single_rate"] = gain.rounded
    figures["gain_over_always_rate"] = _gain(cascade, always).rounded
    figures["gain_of_always_over_single_rate"] = _gain(always, single).rounded
    tokens = _cost(cascade.num_tokens, always.num_tokens)
    cpu = _cost(cascade.cpu_s, always.cpu_s)
    figures["tokens_over_always_ratio"] = tokens.rounded
    figures["processor_over_always_ratio"] = cpu.rounded
    figures["processor_over_single_ratio"] = _cost(cascade.cpu_s, single.cpu_s).rounded
    confidences = [one.confidence for one in cascade.results]
    figures["ece_of_cascade_rate"] = _error(confidences, cascade.rights).rounded
    return {
        "more right than single": _verdict(is_met=gain.low > 0, is_missed=gain.high <= 0),
        "cheaper than always": _verdict(is_met=cpu.high < 1, is_missed=cpu.low >= 1),
    }


def _verdict(*, is_met: bool, is_missed: bool) -> Verdict:
    if is_met:
        return Verdict.MET
    return Verdict.MISSED if is_missed else Verdict.NOT_SHOWN


def _gain(ours: Run, theirs: Run) -> Ratio:
    """Return how much greater the share of right answers is, with its interval over questions."""
    gains = [a - b for a, b in zip(ours.rights, theirs.rights, strict=True)]
    return bootstrap(len(gains), lambda places: statistics.fmean(gains[place] for place in places))


def _cost(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Return a ratio of sums, with its interval over chunks."""
    return bootstrap(
        len(ours),
        lambda places: (
            sum(ours[place] for place in places) / sum(theirs[place] for place in places)
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
