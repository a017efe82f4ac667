"""What ``--benchmark`` found, and its files: figures as JSON or CSV, and a page with plots."""

from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING

import msgspec

from mm_orch.benchmarking.objective import Objective
from mm_orch.benchmarking.summary import RunSummary, TurnSummary
from mm_orch.benchmarking.tables import row_of, row_of_turn, to_csv

if TYPE_CHECKING:
    from pathlib import Path


class ReportFormat(enum.Enum):
    """How the figures are written; the page with plots is always written too."""

    JSON = "json"
    CSV = "csv"


class LengthSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Chats of one length of question and of answer, one after another.

    Attributes:
        prompt_tokens: of the question alone; the server counts its chat template too.
        output_tokens: asked for.
    """

    prompt_tokens: int
    output_tokens: int
    run: RunSummary


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one ``--benchmark`` found.

    Attributes:
        date: day and time, UTC.
        version: of the program that measured.
        engine: that answered, or empty where the server does not say.
        precision: of its weights and where it computes, or empty.
        machine: where the load came from, and the server too where it was started here.
        versions: of what answered, as far as they are known.
        settings: of the measurement.
        server_settings: what the server's configuration sets, where it is known.
        ready_s: from the server's start until it took requests; None for one that ran already,
            and so are the two of memory.
        first_answer_s: how long the first request took.
        ready_memory_bytes: largest memory of the server's processes until it was ready.
        peak_memory_bytes: until the end.
        levels: one summary a number of clients, by that number.
        lengths: by prompt and output length.
        arrivals: Poisson arrivals, by their rate as a share of the most that clients got.
        turns: of the conversations.
        workloads: other workloads at one load each, the conversations first.
        notes: what a reader should know.
        faults: requests that failed.
    """

    date: str
    version: str
    model: str
    url: str
    engine: str
    precision: str
    machine: str
    versions: dict[str, str]
    settings: dict[str, str]
    server_settings: dict[str, str]
    objective: Objective
    ready_s: float | None
    first_answer_s: float
    ready_memory_bytes: int | None
    peak_memory_bytes: int | None
    levels: dict[int, RunSummary]
    lengths: tuple[LengthSummary, ...]
    arrivals: dict[float, RunSummary]
    turns: tuple[TurnSummary, ...]
    workloads: tuple[RunSummary, ...]
    notes: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def summaries(self) -> tuple[RunSummary, ...]:
        """Every run's summary."""
        lengths = (length.run for length in self.lengths)
        return (*self.levels.values(), *lengths, *self.arrivals.values(), *self.workloads)

    @property
    def is_cache_told(self) -> bool:
        """Whether the server states which prompt tokens came from its cache."""
        return any(one.is_cache_told for one in self.summaries)

    @property
    def best_goodput(self) -> RunSummary | None:
        """The rate of arrivals at which most requests a second met the objective.

        Clients that wait for their answers never ask for more than they get, so their number
        counts only where nothing else was measured.
        """
        loads = (self.arrivals or self.levels).values()
        return max(loads, key=lambda one: one.goodput_per_s or 0.0, default=None)


def write_report(
    report: Report, page: str, directory: Path, wanted: ReportFormat
) -> tuple[Path, Path]:
    """Write the figures and the page; return where they are.

    Args:
        report: what was measured.
        page: made of it.
        directory: made where it is not there.
        wanted: the figures' format.

    Raises:
        OSError: the directory cannot be made or written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    figures = directory / f"benchmark.{wanted.value}"
    content = to_json(report) if wanted is ReportFormat.JSON else to_csv(report.summaries)
    figures.write_text(content, encoding="utf-8")
    path = directory / "benchmark.html"
    path.write_text(page, encoding="utf-8")
    return figures, path


def to_json(report: Report) -> str:
    """Return the report as JSON: the facts, and one object a run."""
    facts = {
        name: msgspec.to_builtins(getattr(report, name))
        for name in report.__struct_fields__
        if name not in {"levels", "lengths", "arrivals", "turns", "workloads"}
    }
    runs = {
        "runs": [{"num_clients": n, **row_of(one)} for n, one in report.levels.items()],
        "lengths": [
            {
                "prompt_length": length.prompt_tokens,
                "output_length": length.output_tokens,
                **row_of(length.run),
            }
            for length in report.lengths
        ],
        "arrivals": [
            {"share_of_most": share, **row_of(one)} for share, one in report.arrivals.items()
        ],
        "turns": [row_of_turn(turn) for turn in report.turns],
        "other_workloads": [row_of(one) for one in report.workloads],
    }
    return json.dumps({**facts, **runs}, indent=2) + "\n"
