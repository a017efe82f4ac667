"""Whether asking again pays: right answers and costs of one answer, of a vote, and of the cascade.

usage: python -m benchmarks.cascade [--large SOURCE] [--name NAME]

single      chat_generate, one answer at temperature 0
always      cascade whose min_confidence is 1: every question is asked again, or of the larger model
cascade     cascade as it is configured by default, but switched on

All answer the held-out questions of benchmarks/confidence, a chunk of them after another, each
chunk in turn, on servers of their own that live side by side. Costs are of the servers with their
workers: processor seconds, wall seconds with eight questions at once, and tokens. Shares have
bootstrap intervals over questions, costs over chunks. Prints and keeps figures alone, no question.

With --large, always and cascade ask that model (a source, as models.<name>.source) where they ask
again, in place of a vote.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.confidence.answers import is_right
from benchmarks.confidence.asking import ask_all, ask_model, ask_workflow, built_in_source, serve
from benchmarks.confidence.fit import digest
from benchmarks.confidence.questions import load_questions
from benchmarks.contenders import run_all
from benchmarks.results_file import report, write_table
from benchmarks.statistics import Verdict, bootstrap
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
    from collections.abc import Sequence

    from benchmarks.confidence.asking import Result
    from benchmarks.confidence.questions import Question
    from benchmarks.contenders import Running
    from benchmarks.statistics import Ratio

_NUM_CHUNKS = 6
_NUM_WARM_UP = 8
_WAYS = ("single", "always", "cascade")
_LARGE = "large"
_WORKFLOW_BY_WAY = {"single": "chat_generate", "always": "cascade", "cascade": "cascade"}


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
    options = parser.parse_args()
    questions = load_questions("held_out")
    own = {} if options.large is None else {"large_model": _LARGE}
    others = None if options.large is None else {_LARGE: {"source": options.large}}
    servers = [
        serve("single", {}),
        serve("always", {"enabled": True, "min_confidence": 1.0, **own}, others),
        serve("cascade", {"enabled": True, **own}, others),
    ]
    with run_all(servers) as running:
        told = _ask_first(running[0], questions)
        run_by_way = _measure(running, questions)
    figures: dict[str, object] = {
        "num_questions": len(questions),
        "questions_digest": digest(questions),
        "large_model": options.large,
        "min_confidence": CascadeSettings().min_confidence,
        "num_samples": CascadeSettings().num_samples,
        "temperature": CascadeSettings().temperature,
        **_calibration_figures(options.name, told),
        **{f"{way}_accuracy_rate": _accuracy(run) for way, run in run_by_way.items()},
    }
    table = [_row(way, run) for way, run in run_by_way.items()]
    head = ["way", "right", "tokens", "processor ms", "wall ms", "asked again"]
    print(write_table(f"{options.name}_ways", head, table))
    verdicts = _compare(run_by_way, figures)
    faults = [
        f"{way}: {sum(one.is_partial for one in run.results)} partial"
        for way, run in run_by_way.items()
        if any(one.is_partial for one in run.results)
    ]
    return report(options.name, figures, faults, verdicts)


def _ask_first(running: Running, questions: Sequence[Question]) -> list[tuple[bool, float, float]]:
    """Return of each first answer whether it is right, and how sure: as it is, and calibrated."""
    calibrated = Gauge(calibration_by_model=load_calibrations({"own": built_in_source()}))
    answers = ask_all(lambda one: ask_model(running.process.port, one), questions)
    found = []
    for question, told in zip(questions, answers, strict=True):
        tokens = measure_tokens(told.logprobs)
        sure = calibrated.of_answer("own", told.logprobs)
        raw = 0.0 if tokens is None else tokens.normalised_probability
        found.append((is_right(question, told.text), raw, 0.0 if sure is None else sure.value))
    return found


def _measure(running: Sequence[Running], questions: Sequence[Question]) -> dict[str, Run]:
    run_by_way = {way: Run() for way in _WAYS}
    for one, way in zip(running, _WAYS, strict=True):
        _ask_chunk(one, way, questions[:_NUM_WARM_UP], Run())
    for number in range(_NUM_CHUNKS):
        chunk = questions[number::_NUM_CHUNKS]
        for one, way in zip(running, _WAYS, strict=True):
            _ask_chunk(one, way, chunk, run_by_way[way])
            print(f"chunk {number + 1} of {_NUM_CHUNKS}: {way}", file=sys.stderr, flush=True)
    return run_by_way


def _ask_chunk(running: Running, way: str, chunk: Sequence[Question], run: Run) -> None:
    process = running.process
    cpu_s, begin_s = process.cpu_s, time.monotonic()
    results = ask_all(
        lambda one: ask_workflow(process.port, one, _WORKFLOW_BY_WAY[way], seed=1), chunk
    )
    run.wall_s.append((time.monotonic() - begin_s) / len(chunk))
    run.cpu_s.append((process.cpu_s - cpu_s) / len(chunk))
    run.num_tokens.append(sum(one.num_tokens for one in results))
    run.results += results


def _calibration_figures(name: str, told: Sequence[tuple[bool, float, float]]) -> dict[str, object]:
    rights = [right for right, _, _ in told]
    figures: dict[str, object] = {"num_bins": NUM_BINS}
    for kind, place in (("raw", 1), ("calibrated", 2)):
        values = [one[place] for one in told]
        pairs = [(one[place], one[0]) for one in told]
        figures[f"ece_{kind}_rate"] = _error(pairs).rounded
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
        for one in make_reliability_table([one[2] for one in told], rights)
    ]
    print(write_table(f"{name}_reliability", head, rows))
    return figures


def _error(pairs: Sequence[tuple[float, bool]]) -> Ratio:
    def error(places: Sequence[int]) -> float:
        values, rights = zip(*[pairs[place] for place in places], strict=True)
        return expected_calibration_error(values, rights)

    return bootstrap(len(pairs), error)


def _accuracy(run: Run) -> list[float]:
    rights = run.rights
    return bootstrap(
        len(rights), lambda places: statistics.fmean(rights[place] for place in places)
    ).rounded


def _row(way: str, run: Run) -> list[object]:
    again = [one for one in run.results if "is enough" not in one.remarks.get("draft", "is enough")]
    return [
        way,
        round(statistics.fmean(run.rights), 3),
        round(statistics.fmean(one.num_tokens for one in run.results), 1),
        round(1000 * statistics.fmean(run.cpu_s)),
        round(1000 * statistics.fmean(run.wall_s)),
        round(len(again) / len(run.results), 3),
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
    confidences = [one.confidence or 0.0 for one in cascade.results]
    figures["ece_of_cascade_rate"] = _error(
        list(zip(confidences, cascade.rights, strict=True))
    ).rounded
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
